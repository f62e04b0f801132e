/*
 * Keys at the end of a run: the log, the answers, another run, power off.
 *
 * Only if the machine would be halted and has a screen and keys; a crash has ended before.
 * Fails with: nothing. Context: thread, after the verdict.
 */
#ifndef TESTS_RUNNER_END_KEYS_H
#define TESTS_RUNNER_END_KEYS_H

/* Takes keys until one of them ends the run. Returns at once where none are offered. */
void end_keys(void);

#endif
