/*
 * The prompt on the serial line after a run (prompt=1): looks at tables, regions, frames, slots,
 * descriptors and counters, and runs other experiments.
 *
 * It comes after the verdict and changes nothing of it: a command's line begins with "# > " and
 * each line that it prints with "# | ", so the log stays valid. A space with a few pages is made
 * for it.
 *
 * Fails with: nothing; without a serial port it returns at once. Context: thread, after the verdict
 * and before the end of the run.
 */
#ifndef TESTS_RUNNER_PROMPT_H
#define TESTS_RUNNER_PROMPT_H

#include "tests/runner/experiment.h"

/* Takes commands until `quit`. Experiments run by `run`, with swap in RAM: the disk is closed. */
void prompt_take_commands(const struct options *options,
                          void (*run)(const struct experiment *experiment,
                                      const struct options *options));

#endif
