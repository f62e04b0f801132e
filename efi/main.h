/*
 * The call from efi/ to the layer above, after the handover; tests/runner/main.c implements it.
 *
 * Context: thread, in the upper half, interrupts off, pmm/ ready, consoles attached, the log begun
 * (its version line is printed). info stays valid for the whole run.
 */
#ifndef EFI_MAIN_H
#define EFI_MAIN_H

#include "lib/bootinfo.h"
#include "lib/ktap.h"

/* Returns the name of the experiment at a place, from 0, and its question; NULL behind the last.
 * For the menu: context boot services, before the handover. */
const char *faultline_experiment(unsigned place, const char **question);

/* Returns whether every item of run= matches an experiment; logs those that do not. Context: as
 * above. */
bool faultline_knows(const struct options *options);

/* Runs the experiments and returns the verdict, whose line is already printed. */
enum verdict faultline_main(const struct bootinfo *info);

#endif
