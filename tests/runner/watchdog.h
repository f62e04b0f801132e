/*
 * The watchdog: a run that does not go on ends as a crash, which says where every processor was.
 *
 * Progress is a line of the log. Every processor looks at it once a second, so that one which is
 * stuck with interrupts off is noticed by the others, and reached by their NMI. A machine of one
 * processor that has interrupts off for ever is for whoever watches it from outside.
 *
 * Units: seconds. Owns: the processors' once-a-second call. Context: thread.
 */
#ifndef TESTS_RUNNER_WATCHDOG_H
#define TESTS_RUNNER_WATCHDOG_H

#include <stdint.h>

/* 0: none. */
void watchdog_start(uint32_t seconds);

#endif
