/*
 * Accesses of memory: the functions that the compiler calls, in place of ThreadSanitizer's runtime.
 *
 * An access is a point, before which another processor may run, if several processors use its word
 * of 8 bytes and one of them writes it. Plain accesses count like atomic ones, since races are
 * often on them. The runs so far show which words these are.
 */
#include "tests/host/explore/internal.h"

#include <string.h>

#include "paging/kernel/layout.h"
#include "pmm/frame.h"

#define WORD UINT64_C(8)

/* A word's byte has a bit for each processor that reads it and, from bit 3 on, for each that writes
 * it. */
#define WRITES_SHIFT 3U
#define ALL          7U

static struct region *region_of_access(uintptr_t at)
{
    for (unsigned i = 0; i < REGIONS; i++) {
        if (at - explorer->regions[i].base < explorer->regions[i].size)
            return &explorer->regions[i];
    }
    return NULL;
}

static bool is_shared(uint8_t users)
{
    unsigned writers = users >> WRITES_SHIFT;
    unsigned all = (users & ALL) | writers;

    return writers != 0 && (all & (all - 1)) != 0;
}

static void note_users(struct region *region, uintptr_t at, size_t size, bool write)
{
    uint8_t user = (uint8_t)(1U << (explorer->self + (write ? WRITES_SHIFT : 0)));
    size_t first = (at - region->base) / WORD;
    size_t last = (at - region->base + size - 1) / WORD;

    for (size_t i = first; i <= last && i < region->size / WORD; i++)
        region->users[i] |= user;
}

static void note_written(struct region *region, uintptr_t at, size_t size)
{
    size_t first = (at - region->base) / PAGE_SIZE;
    size_t last = (at - region->base + size - 1) / PAGE_SIZE;

    for (size_t i = first; i <= last && i < region->size / PAGE_SIZE; i++)
        region->written[i] = 1;
}

void explorer_access(const volatile void *address, size_t size, enum access_kind kind,
                     const void *code)
{
    uintptr_t at = (uintptr_t)address;
    bool write = kind != ACCESS_READ;
    struct region *region;

    if (explorer == NULL)
        return;
    region = region_of_access(at);
    if (region == NULL)
        return;
    if (write)
        note_written(region, at, size);
    /* Inside an instruction only accesses to tables and pages count; the model makes the others. */
    if (!explorer->running ||
        (explorer_self()->instruction > 0 && region >= &explorer->regions[REGIONS_WRITTEN]))
        return;
    explorer_count(code);
    note_users(region, at, size, write);
    if (explorer_self()->instruction > 0)
        return;
    if (explorer->settings.everywhere || is_shared(region->users[(at - region->base) / WORD]))
        explorer_point(code);
    if (kind == ACCESS_STORE)
        explorer_buffer(at, size);
    else if (kind == ACCESS_LOCKED)
        explorer_drain(explorer_self());
}

bool explorer_is_shared(uintptr_t at)
{
    const struct region *region = region_of_access(at);

    return region != NULL && is_shared(region->users[(at - region->base) / WORD]);
}

unsigned run_shared_words(void)
{
    unsigned shared = 0;

    for (unsigned i = 0; i < REGIONS; i++) {
        const struct region *region = &explorer->regions[i];

        for (size_t word = 0; word < region->size / WORD; word++)
            shared += is_shared(region->users[word]);
    }
    return shared;
}

/* ---- the compiler's calls ---- */

#define ACCESS_CALL(name, size, kind)                                                              \
    void name(void *at);                                                                           \
    void name(void *at)                                                                            \
    {                                                                                              \
        explorer_access(at, size, kind, CALLER);                                                   \
    }

#define PLAIN(size)                                                                                \
    ACCESS_CALL(__tsan_read##size, size, ACCESS_READ)                                              \
    ACCESS_CALL(__tsan_write##size, size, ACCESS_STORE)                                            \
    ACCESS_CALL(__tsan_unaligned_read##size, size, ACCESS_READ)                                    \
    ACCESS_CALL(__tsan_unaligned_write##size, size, ACCESS_STORE)                                  \
    ACCESS_CALL(__tsan_volatile_read##size, size, ACCESS_READ)                                     \
    ACCESS_CALL(__tsan_volatile_write##size, size, ACCESS_STORE)                                   \
    ACCESS_CALL(__tsan_unaligned_volatile_read##size, size, ACCESS_READ)                           \
    ACCESS_CALL(__tsan_unaligned_volatile_write##size, size, ACCESS_STORE)

PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

void __tsan_init(void);
void __tsan_read_range(void *at, size_t size);
void __tsan_write_range(void *at, size_t size);
void __tsan_func_entry(void *caller);
void __tsan_func_exit(void);
void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_signal_fence(int order);

void __tsan_init(void)
{
}

void __tsan_func_entry(void *caller)
{
    (void)caller;
}

void __tsan_func_exit(void)
{
}

void __tsan_read_range(void *at, size_t size)
{
    explorer_access(at, size, ACCESS_READ, CALLER);
}

void __tsan_write_range(void *at, size_t size)
{
    explorer_access(at, size, ACCESS_STORE, CALLER);
}

/* Replaces memset: the compiler turns loops that clear memory into calls of it. */
void *__wrap_memset(void *at, int byte, size_t size);
void *__real_memset(void *at, int byte, size_t size);

void *__wrap_memset(void *at, int byte, size_t size)
{
    explorer_access(at, size, ACCESS_STORE, CALLER);
    return __real_memset(at, byte, size);
}

/* Handles a fence. Only the full fence is an instruction on x86. */
void __tsan_atomic_thread_fence(int order)
{
    if (order == __ATOMIC_SEQ_CST && explorer_runs())
        explorer_drain(explorer_self());
}

void __tsan_atomic_signal_fence(int order)
{
    (void)order;
}

/* Returns the kind of a store: a sequentially consistent one is compiled to an exchange. */
static enum access_kind kind_of_store(int order)
{
    return order == __ATOMIC_SEQ_CST ? ACCESS_LOCKED : ACCESS_STORE;
}

/* Replaces the atomic exchange of a lock byte that another processor holds. */
static void look_at_try(const volatile void *at, uint64_t old, uint64_t with)
{
    if (old == 1 && with == 1)
        explorer_failed_try(at, CALLER);
}

#define LOAD_AND_STORE(bits, type)                                                                 \
    type __tsan_atomic##bits##_load(const volatile type *at, int order);                           \
    void __tsan_atomic##bits##_store(volatile type *at, type value, int order);                    \
    type __tsan_atomic##bits##_exchange(volatile type *at, type value, int order);                 \
    type __tsan_atomic##bits##_load(const volatile type *at, int order)                            \
    {                                                                                              \
        (void)order;                                                                               \
        explorer_access(at, sizeof(*at), ACCESS_READ, CALLER);                                     \
        return *at;                                                                                \
    }                                                                                              \
    void __tsan_atomic##bits##_store(volatile type *at, type value, int order)                     \
    {                                                                                              \
        explorer_access(at, sizeof(*at), kind_of_store(order), CALLER);                            \
        *at = value;                                                                               \
    }                                                                                              \
    type __tsan_atomic##bits##_exchange(volatile type *at, type value, int order)                  \
    {                                                                                              \
        type old;                                                                                  \
                                                                                                   \
        (void)order;                                                                               \
        explorer_access(at, sizeof(*at), ACCESS_LOCKED, CALLER);                                   \
        old = *at;                                                                                 \
        *at = value;                                                                               \
        if ((bits) == 8)                                                                           \
            look_at_try(at, old, value);                                                           \
        return old;                                                                                \
    }

#define FETCH(bits, type, name, result)                                                            \
    type __tsan_atomic##bits##_fetch_##name(volatile type *at, type value, int order);             \
    type __tsan_atomic##bits##_fetch_##name(volatile type *at, type value, int order)              \
    {                                                                                              \
        type old;                                                                                  \
                                                                                                   \
        (void)order;                                                                               \
        explorer_access(at, sizeof(*at), ACCESS_LOCKED, CALLER);                                   \
        old = *at;                                                                                 \
        *at = (type)(result);                                                                      \
        return old;                                                                                \
    }

#define COMPARE_EXCHANGE(bits, type, strength)                                                     \
    int __tsan_atomic##bits##_compare_exchange_##strength(volatile type *at, type *expected,       \
                                                          type value, int order, int otherwise);   \
    int __tsan_atomic##bits##_compare_exchange_##strength(volatile type *at, type *expected,       \
                                                          type value, int order, int otherwise)    \
    {                                                                                              \
        type old;                                                                                  \
                                                                                                   \
        (void)order;                                                                               \
        (void)otherwise;                                                                           \
        explorer_access(at, sizeof(*at), ACCESS_LOCKED, CALLER);                                   \
        old = *at;                                                                                 \
        if (old == *expected) {                                                                    \
            *at = value;                                                                           \
            return 1;                                                                              \
        }                                                                                          \
        *expected = old;                                                                           \
        return 0;                                                                                  \
    }

#define COMPARE_EXCHANGE_VALUE(bits, type)                                                         \
    type __tsan_atomic##bits##_compare_exchange_val(volatile type *at, type expected, type value,  \
                                                    int order, int otherwise);                     \
    type __tsan_atomic##bits##_compare_exchange_val(volatile type *at, type expected, type value,  \
                                                    int order, int otherwise)                      \
    {                                                                                              \
        type old;                                                                                  \
                                                                                                   \
        (void)order;                                                                               \
        (void)otherwise;                                                                           \
        explorer_access(at, sizeof(*at), ACCESS_LOCKED, CALLER);                                   \
        old = *at;                                                                                 \
        if (old == expected)                                                                       \
            *at = value;                                                                           \
        return old;                                                                                \
    }

#define ATOMIC(bits, type)                                                                         \
    LOAD_AND_STORE(bits, type)                                                                     \
    FETCH(bits, type, add, old + value)                                                            \
    FETCH(bits, type, sub, old - value)                                                            \
    FETCH(bits, type, and, old &value)                                                             \
    FETCH(bits, type, or, old | value)                                                             \
    FETCH(bits, type, xor, old ^ value)                                                            \
    FETCH(bits, type, nand, ~(old & value))                                                        \
    COMPARE_EXCHANGE(bits, type, strong)                                                           \
    COMPARE_EXCHANGE(bits, type, weak)                                                             \
    COMPARE_EXCHANGE_VALUE(bits, type)

ATOMIC(8, uint8_t)
ATOMIC(16, uint16_t)
ATOMIC(32, uint32_t)
ATOMIC(64, uint64_t)
