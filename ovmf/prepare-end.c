/* How the host programs end, their messages, and the machine's functions that the shared code
 * needs. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cpu/machine.h"
#include "ovmf/prepare-swap.h"

static const char *created[2];

void remove_at_quit(const char *path)
{
    created[created[0] != NULL] = path;
}

void keep_created(void)
{
    created[0] = created[1] = NULL;
}

void check_streams(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            quit(EXIT_SYSTEM, "standard input, output or error is closed");
    }
}

void flush_words(const char *state)
{
    if (fflush(stdout) != 0 || ferror(stdout) != 0)
        quit(EXIT_SYSTEM, "%s, cannot write to standard output: %s", state, strerror(errno));
}

_Noreturn void quit(int status, const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "%s: ", program_name);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    for (unsigned i = 0; i < 2; i++) {
        if (created[i] != NULL)
            unlink(created[i]);
    }
    exit(status);
}

/* Ends the program on a panic of the shared code. */
_Noreturn void panic_at(const char *file, int line, const char *format, ...)
{
    char message[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    quit(EXIT_SYSTEM, "%s:%d: %s", file, line, message);
}

uint64_t machine_ticks(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}
