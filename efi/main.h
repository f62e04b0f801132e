/*
 * What efi/ starts once the machine is taken over: implemented by the layer above,
 * tests/runner/main.c.
 *
 * Context: thread, in the upper half, interrupts off, pmm/ ready, consoles attached, the log begun
 * (its version line is printed). info stays valid for the whole run.
 */
#ifndef EFI_MAIN_H
#define EFI_MAIN_H

#include "lib/bootinfo.h"
#include "lib/ktap.h"

/* Runs everything and returns the verdict, its line already printed. */
enum verdict faultline_main(const struct bootinfo *info);

#endif
