/*
 * The log in KTAP version 1, for programs and for people.
 *
 * Top level: one test per experiment; inside it, indented by four spaces, its checks. Figures are
 * diagnostic lines `# metric <experiment>.<name>=<number> <unit>`. The last line of a run is
 * `# verdict: pass|fail|crash|skipped`; a log without it was cut off, which is a failure.
 * docs/log.md specifies it.
 *
 * State: begin -> (suite begin -> (check | skip)* -> suite end)* -> end; each step checks the one
 * before it. A plan that is not met is a failure of that suite.
 * Context: thread, one at a time. Cannot fail.
 * Spec: the Linux kernel's KTAP specification, version 1.
 */
#ifndef LIB_KTAP_H
#define LIB_KTAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/check.h"

struct print_sink;

enum verdict { VERDICT_PASS, VERDICT_FAIL, VERDICT_CRASH, VERDICT_SKIPPED };

/* Prints the version line. Diagnostics may follow it before the plan. */
void ktap_begin(void);

/* Prints the plan: how many experiments follow. */
void ktap_plan(unsigned experiments);

/* Begin an experiment that has this many checks, and end it. */
void ktap_suite_begin(const char *name, unsigned checks);
void ktap_suite_end(void);

/* Prints an experiment that cannot run here as skipped, instead of begin and end. */
void ktap_suite_skip(const char *name, const char *reason);

/* Prints a check and its result. Returns ok, so that a caller can stop on failure. */
bool ktap_check(bool ok, const char *format, ...) PRINTF_LIKE(2, 3);

/* Prints a check that this machine cannot make. */
void ktap_skip(const char *reason, const char *format, ...) PRINTF_LIKE(2, 3);

/* Sets a function that is called after each check and at both ends of an experiment, in the context
 * of the call; NULL: none. It shows the run and prints nothing. */
void ktap_watch(void (*watcher)(void));

/* Returns how many checks of the current experiment are planned and not made yet. */
unsigned ktap_checks_left(void);

/* Prints a diagnostic line; the text has no newline. */
void ktap_note(const char *format, ...) PRINTF_LIKE(1, 2);

/* Records a failure outside of all experiments, such as at closing; the verdict is then `fail`. */
void ktap_fail(const char *format, ...) PRINTF_LIKE(1, 2);

/* Tells the log how many ticks an instruction takes. From then on a figure in ticks is printed in
 * instructions. 0: ticks are time, and stay ticks. */
void ktap_count_instructions(uint64_t ticks_per_instruction);

/* Returns whether figures of cost are instructions. */
bool ktap_counts_instructions(void);

/* Prints a figure of the current experiment. The unit `ticks` follows ktap_count_instructions(). */
void ktap_metric(const char *name, uint64_t value, const char *unit);

/* Prints a figure given in hundredths, with two decimals. ktap_figure() does not return it. */
void ktap_metric_hundredths(const char *name, uint64_t hundredths, const char *unit);

/* Looks up a figure that the current experiment has printed; its name has `length` letters. Returns
 * false if there is none. The value and the unit are those that were printed. */
bool ktap_figure(const char *name, size_t length, uint64_t *value, const char **unit);

/* Returns the reason of the experiment's first skipped check; NULL if it skipped none. */
const char *ktap_skip_reason(void);

/* Returns how many checks of the current experiment were made and not skipped. */
unsigned ktap_checks_made(void);

/* Returns whether the current experiment has made all planned checks and none has failed. */
bool ktap_suite_ok(void);

/* Returns the name of the experiment that runs, or NULL between experiments. */
const char *ktap_suite(void);

/* Begins each line that follows the verdict line; a failure among them counts. */
#define KTAP_AFTER_END "# ! "

/* The most bytes that ktap_end() prints. */
#define KTAP_END_SIZE 16384U

/* Prints to one sink what ktap_end() would print, and ends nothing: for a copy of the log that has
 * to be whole before the verdict is out. A plan that is not met is a failure, as in ktap_end(). */
void ktap_rehearse_end(struct print_sink *sink);

/* Prints the failures, the totals and the verdict line, and returns the verdict. Lines that follow
 * begin with KTAP_AFTER_END, unless the caller has chosen a beginning. */
enum verdict ktap_end(void);

/* Forgets the log that has ended, so that another one can begin. */
void ktap_forget(void);

/* Returns the verdict so far; skipped while no experiment ran. */
enum verdict ktap_verdict(void);

/* Ends the log from anywhere: the experiment that runs, the failures so far, 'Bail out!' with the
 * reason, then the verdict line: 'crash', or 'fail' for a run that was refused or cut short. */
void ktap_bail_out(enum verdict verdict, const char *format, ...) PRINTF_LIKE(2, 3);

/* Counts one finished piece of work: a line of the log, or a command of a disk. A watchdog tells a
 * slow run from a stuck one by this count. Fast paths do not call it. Context: any. */
void progress_note(void);

/* Returns the count, which never falls. */
uint64_t progress_count(void);

#endif
