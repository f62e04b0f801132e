/*
 * Where the log of a run is kept beside the serial line: in the log area of the swap disk.
 *
 * The log of a run that ends well is on the disk before its verdict line is printed, so that a
 * failure to write it counts. That of a crash or of a deadline is written behind it.
 *
 * Owns: nothing. State: keep_log_ready, then keep_log once. Fails with: see keep_log.
 * Context: thread.
 */
#ifndef TESTS_RUNNER_KEEP_LOG_H
#define TESTS_RUNNER_KEEP_LOG_H

#include "lib/options.h"
#include "lib/status.h"

/* Lets a crash keep the log, from here until keep_log. The swap area is open. */
void keep_log_ready(const struct options *options);

/* Writes the log, with the lines that ktap_end() is going to print, after swap_settle. A failure is
 * one of the run. Returns OK, STATUS_NOT_FOUND if there is no place for it, or the failure. */
enum status keep_log(void);

#endif
