/*
 * The summary with which every log begins: what this machine is, and what will be used of it; and
 * what the run did to the machine, at its end.
 *
 * Context: thread, after the handover. Owns nothing.
 */
#ifndef TESTS_RUNNER_SUMMARY_H
#define TESTS_RUNNER_SUMMARY_H

#include "lib/bootinfo.h"

/* Version, firmware, processor and features, clock, memory by kind, address map. */
void summary_print_machine(const struct bootinfo *info);

/* How often loads of CR3 kept what was cached, where the processor has PCIDs; for the end of a
 * run. */
void summary_print_pcids(void);

/* Disks, with why each may or may not be written; after disks_scan(). */
void summary_print_disks(void);

#endif
