/*
 * A piece of a test in a process of its own: for panics that leave locks held, and for code that
 * keeps state for ever.
 *
 * Context: host tests. Fails by ending the process with words.
 */
#ifndef TESTS_HOST_FAKE_CHILD_H
#define TESTS_HOST_FAKE_CHILD_H

#include <stdbool.h>
#include <stddef.h>

#define CHILD_OUTPUT 16384U

struct child_end {
    bool panicked;
    char panic[512];           /* the panic's words */
    char output[CHILD_OUTPUT]; /* the output of lib/print.h */
    size_t length;
};

/* Runs body(context) in a fork of this process, so that its changes in memory are lost. The result
 * is valid until the next call. */
const struct child_end *child_run(void (*body)(void *context), void *context);

#endif
