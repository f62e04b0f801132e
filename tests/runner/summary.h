/*
 * The summaries of the log: at its start the machine and the parts that the run uses, at its end
 * counts of the run.
 *
 * Context: thread, after the handover. Owns nothing.
 */
#ifndef TESTS_RUNNER_SUMMARY_H
#define TESTS_RUNNER_SUMMARY_H

#include "lib/bootinfo.h"

/* Logs version, firmware, processor and features, clock, memory by kind, address map. */
void summary_print_machine(const struct bootinfo *info);

/* Logs how often loads of CR3 kept cached translations, if the processor has PCIDs. */
void summary_print_pcids(void);

/* Logs each disk, and why it may or may not be written; after disks_scan(). */
void summary_print_disks(void);

#endif
