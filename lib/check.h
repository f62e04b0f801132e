/*
 * CHECK and PANIC: assertions that are always on, and their messages.
 *
 * CHECK is O(1), always on, and names a mistake of the calling code. PANIC is for corruption:
 * its message carries the values that were found. Neither returns. AUDIT functions, which walk
 * everything, are beside the structures that they walk; tests call them.
 *
 * Context: any. In the kernel the end is cpu/crash/crash.c; in host tests, the test's own.
 */
#ifndef LIB_CHECK_H
#define LIB_CHECK_H

#define PRINTF_LIKE(format_at, first_at) __attribute__((format(printf, format_at, first_at)))

_Noreturn void panic_at(const char *file, int line, const char *format, ...) PRINTF_LIKE(3, 4);

#define PANIC(...) panic_at(__FILE__, __LINE__, __VA_ARGS__)

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0))                                                     \
            panic_at(__FILE__, __LINE__, "check failed: %s", #condition);                          \
    } while (0)

/* As CHECK, with the values that explain the failure. */
#define CHECK_MSG(condition, ...)                                                                  \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0))                                                     \
            panic_at(__FILE__, __LINE__, __VA_ARGS__);                                             \
    } while (0)

#endif
