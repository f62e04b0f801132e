/*
 * Ring 3: into a program and back out of it, as one call.
 *
 * user_run is entered like a function: it loads all registers from a frame and goes to ring 3.
 * Page faults, interrupts and system calls that the kernel resolves return to the program. Any
 * other trap ends the call: the frame then holds the registers and the vector, and the caller
 * decides how the program goes on.
 *
 * Owns: RSP0 and the MSRs of SYSCALL of each processor. State: user_init once a processor; then
 * user_run -> in ring 3 -> returned; one at a time on a processor, from a thread.
 * Fails with: nothing. A frame that names ring 0, or an address that IRETQ would refuse in ring 0,
 * is a CHECK.
 * Context: thread. Traps from ring 3 run on the stack below user_run's own frames.
 * Spec: Intel SDM volume 3, 5.8.8 (SYSCALL, SYSRET), 6.12.1 (stack switch), 6.14.2 (IRETQ).
 */
#ifndef CPU_TRAP_USER_H
#define CPU_TRAP_USER_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/trap/trap.h"

/* The vector of a frame that a system call ended which no handler resolved. */
#define USER_SYSTEM_CALL 256U

/* Flags that a program may have set: CF to OF without TF and IOPL, AC, ID. IF is set for it. */
#define USER_FLAGS UINT64_C(0x240cd5)

/* Returns a frame for ring 3 with interrupts on and all registers zero but these. If user_run is
 * called with interrupts off, they are off in the program too. */
struct trap_frame user_frame(uint64_t rip, uint64_t rsp, uint64_t argument);

/* Runs ring 3 from the frame until a trap ends the run, which the frame then describes. The x87
 * and vector registers begin in their initial state (cpu/fpu.h) and are lost at the end. */
void user_run(struct trap_frame *frame);

/* Returns whether the trap came from ring 3. */
static inline bool trap_from_user(const struct trap_frame *frame)
{
    return (frame->cs & 3) == 3;
}

/* ---- for cpu/ ---- */

/* Prepares this processor for SYSCALL: once, in traps_init. */
void user_init(void);

/* Makes the interrupted user_run return with this frame. */
_Noreturn void user_exit(const struct trap_frame *frame);

#endif
