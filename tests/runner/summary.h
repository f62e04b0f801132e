/*
 * The summary with which every log begins: what this machine is, and what will be used of it.
 *
 * Context: thread, after the handover. Owns nothing.
 */
#ifndef TESTS_RUNNER_SUMMARY_H
#define TESTS_RUNNER_SUMMARY_H

#include "lib/bootinfo.h"

/* Version, firmware, processor and features, clock, memory by kind, address map. */
void summary_print_machine(const struct bootinfo *info);

/* Disks, with why each may or may not be written; after disks_scan(). */
void summary_print_disks(void);

#endif
