/*
 * The end of a run: exit, power off, reset or halt.
 *
 * State: finish_start once the options are known, end_run_relocated once in the upper half, then
 * one of the two that do not return. An end that fails falls through to the next: the debug-exit
 * port, the firmware's reset, halting for ever. Fails with: nothing. Context: any, also in a crash.
 * Spec: UEFI 2.10, 8.5.1 (ResetSystem); QEMU's isa-debug-exit and fw_cfg devices.
 */
#ifndef EFI_END_RUN_H
#define EFI_END_RUN_H

#include <stdbool.h>

#include "lib/bootinfo.h"
#include "lib/ktap.h"

/* Values for the debug-exit port. QEMU's exit status is twice the value, plus 1. */
#define EXIT_CODE_PASS    0x10U
#define EXIT_CODE_FAIL    0x11U
#define EXIT_CODE_CRASH   0x12U
#define EXIT_CODE_SKIPPED 0x13U

/* Stores the options, detects the debug-exit port, and makes crash reports end the run. */
void finish_start(const struct bootinfo *info);

/* Makes later calls of the firmware switch to its own root; called once in the upper half. */
void end_run_relocated(void);

/* Returns how the run will end, for the log. */
const char *finish_description(void);

/* Returns whether the run will end with a machine that stays on. */
bool finish_halts(void);

/* Makes the run end in another way than the options say. A reboot is then a warm reset, which keeps
 * the contents of memory. */
void finish_choose(enum exit_method way);

/* Ends the run after its verdict line. */
_Noreturn void finish_run(enum verdict verdict);

/* Ends the run with the verdict crash: the function for crash_set_finisher. */
void finish_crash(void);

#endif
