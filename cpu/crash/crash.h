/*
 * Crash reports: describes a fatal trap or panic in the log, then ends the run as 'crash'.
 *
 * The report is diagnostic lines of the log: the decoded trap, registers, the code at RIP, a
 * backtrace with function names, the entry states along the walk to the fault's address. It reads
 * memory through probes only, so that damaged memory cannot stop it. A fault inside the report
 * gives a short second one; a third ends the run without printing.
 *
 * Owns: the hooks and the list of guard pages. Fails with: nothing; nothing here returns, but the
 * setters. Context: any, including stacks that are nearly used up (#DF has its own).
 * panic_at of lib/check.h, trap_unhandled and trap_stop_if_asked of cpu/trap/trap.h are here too.
 */
#ifndef CPU_CRASH_CRASH_H
#define CPU_CRASH_CRASH_H

#include <stdbool.h>
#include <stdint.h>

/* Prints the entry states along the walk to an address, as lines that begin with "# "; from
 * paging/. Without it the report leaves them out. */
void crash_set_walk_printer(void (*printer)(uint64_t address));

/* Sets the function that keeps the log of a crash, on a disk for example. It runs after the verdict
 * line and returns a few words that say what it did. It is called with all other processors stopped
 * and interrupts off, at most once, and not if the crash came from the code that it needs: the text
 * of image_keeper_start to image_keeper_end. Without it nothing is kept. */
void crash_set_log_keeper(const char *(*keeper)(void));

/* Calls that function if it may run, and prints what it did. A crash does this by itself; a run
 * that ends in another way after crash_take_over must call it. */
void crash_keep_log(void);

/* Ends the machine after the verdict line; from efi/. Without it the processor halts. */
void crash_set_finisher(void (*finisher)(void));

/* Names an unmapped range [low, high) below a stack, so that a fault there is reported as that
 * stack's overflow. name is kept by reference: "stack of cpu 0". */
void crash_add_guard(uint64_t low, uint64_t high, const char *name);

/* Stops the other processors without a report, so that the caller can end the log and the run. Does
 * not return on a second processor that calls it, or while another one reports a crash. */
void crash_take_over(void);

/* Returns whether a crash is being reported, or crash_take_over was called, on any processor. */
bool crash_begun(void);

/* Prints the calls that led here, as "# " lines: at most 32 frames. */
void crash_print_backtrace(void);

#endif
