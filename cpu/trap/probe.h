/*
 * Accesses that may fault: each returns a description of the fault instead of a crash.
 *
 * Each faulting instruction has an entry in the exception table (section .extable): two 32-bit
 * offsets, each relative to its own place, of the instruction and of where to go on. A page fault
 * is offered to trap_page_fault first; only faults that it does not resolve are returned here. So
 * with a fault handler in place a probe of demand-zero memory succeeds.
 *
 * Units: bytes, virtual addresses. Owns: nothing.
 * Fails with: false, and info (which may be NULL) has the processor's report. Where the
 * result is true, info is untouched.
 * Context: any, also in a crash, once traps_init has run.
 * Rules: A5 (user memory only between STAC and CLAC, where SMAP is on).
 */
#ifndef CPU_TRAP_PROBE_H
#define CPU_TRAP_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In place of a vector: the range is not user memory, and nothing was touched. */
#define PROBE_REFUSED 255U

struct trap_info {
    uint8_t vector;   /* TRAP_PF; TRAP_GP (or TRAP_SS) for a non-canonical address */
    uint64_t error;   /* as the processor pushed it */
    uint64_t address; /* CR2 of a TRAP_PF, else 0 */
};

_Static_assert(offsetof(struct trap_info, error) == 8, "cpu/trap/probe.S fills it");
_Static_assert(offsetof(struct trap_info, address) == 16, "cpu/trap/probe.S fills it");

bool probe_read8(uint64_t address, uint8_t *value, struct trap_info *info);
bool probe_read64(uint64_t address, uint64_t *value, struct trap_info *info);
bool probe_write8(uint64_t address, uint8_t value, struct trap_info *info);
bool probe_write64(uint64_t address, uint64_t value, struct trap_info *info);

/* Calls the address. Returns true if the code there has returned, false if its first instruction
 * faulted, at its fetch or by itself. A later fault is not caught. The code may change the
 * registers that a C function may change. */
bool probe_fetch(uint64_t address, struct trap_info *info);

/* As the above, for user memory. A test may try any address. */
bool probe_user_read8(uint64_t address, uint8_t *value, struct trap_info *info);
bool probe_user_read64(uint64_t address, uint64_t *value, struct trap_info *info);
bool probe_user_write8(uint64_t address, uint8_t value, struct trap_info *info);
bool probe_user_write64(uint64_t address, uint64_t value, struct trap_info *info);

/* Copies between the kernel and a program's memory. A range that is not wholly in the lower half
 * is refused before anything is touched. On a fault a first part may have been copied. */
bool user_copy_in(void *to, uint64_t user, size_t size, struct trap_info *info);
bool user_copy_out(uint64_t user, const void *from, size_t size, struct trap_info *info);

/* ---- for cpu/trap/trap.c ---- */

struct trap_frame;

/* If the frame's instruction has a fix-up address, continues there and returns true. */
bool probe_fix_up(struct trap_frame *frame);

#endif
