/*
 * Runs a piece of a test in a process of its own: for panics that leave locks held, and for code
 * that keeps state for ever.
 *
 * Context: host tests. Fails by ending the process with a message.
 */
#ifndef TESTS_HOST_FAKE_CHILD_H
#define TESTS_HOST_FAKE_CHILD_H

#include <stdbool.h>
#include <stddef.h>

#define CHILD_OUTPUT 16384U

struct child_end {
    bool panicked;
    char panic[512];           /* the panic's message */
    char output[CHILD_OUTPUT]; /* the output of lib/print.h */
    size_t length;
};

/* Runs body(context) in a fork of this process, so that its changes in memory are lost. The result
 * is valid until the next call. */
const struct child_end *child_run(void (*body)(void *context), void *context);

/* Runs bodies in this way, up to the first that does not panic. Returns how many have panicked. */
unsigned child_count_panics(void (*const bodies[])(void *context), unsigned count);

#endif
