/*
 * The answer of an experiment: one sentence for readers, made from the experiment's own figures.
 *
 * A sentence is text with figures in braces: `{name}` is the value of the figure `name`, and `{a -
 * b}`, `{a + b}` and `{a / b}` are computed from two figures. A quotient is rounded to a whole
 * number; `{a / b : 2}` has two decimals. A value in instructions above 9,999 is rounded to three
 * digits, because counts that long differ a little from run to run. So an answer has no typed
 * number that a change of the code could make wrong; tests/boot/log.py refuses one.
 *
 * The head of a sentence, up to its first `;`, has at most 48 letters and is true alone: terminal
 * and screen show only the head. The whole sentence has at most 160. It has no full stop.
 *
 * Owns: nothing. Context: thread, inside an experiment. docs/log.md has the lines.
 */
#ifndef TESTS_RUNNER_ANSWER_H
#define TESTS_RUNNER_ANSWER_H

#include <stdbool.h>

struct answer {
    const char *text;    /* without costs, true on every machine; NULL: all of it is cost */
    const char *counted; /* instead of `text` where ticks count instructions; NULL: use `text` */
    const char *shipped; /* the shipped code's choice, where designs are compared; or NULL */
    const char *limit;   /* a conclusion that the figures do not allow; or NULL */
};

/* Prints the lines of the answer; a failed check, or one not made, leaves no answer. Returns NULL,
 * or the braces of the sentence whose figure is missing though the experiment skipped no check. */
const char *answer_print(const struct answer *answer);

#endif
