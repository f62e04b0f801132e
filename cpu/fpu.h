/*
 * The x87, SSE and AVX registers of ring-3 programs. The kernel itself uses none of them.
 *
 * user_run gives each run of a program the architecture's initial state. The registers stay in the
 * processor until a thread switch saves them, with XSAVE where CPUID has it, else with FXSAVE.
 * AVX-512, AMX and other components are off: XCR0 enables only the components that fit struct
 * fpu_state.
 *
 * Units: bytes. Owns: nothing; user_run lends the memory.
 * State: fpu_init on each processor; then fpu_begin -> fpu_switch* -> fpu_end for each run.
 * Fails with: nothing. Context: interrupts off.
 * Spec: Intel SDM volume 1, 10.5 (FXSAVE), 13 (XSAVE).
 */
#ifndef CPU_FPU_H
#define CPU_FPU_H

#include <stdbool.h>
#include <stdint.h>

/* SDM volume 1, 13.4: the legacy region, the header, the AVX component. */
struct fpu_state {
    uint8_t legacy[512];
    uint64_t header[8];
    uint8_t avx[256];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct fpu_state) == 832, "SDM volume 1, 13.4");

/* Sets CR4.OSFXSR, OSXMMEXCPT, OSXSAVE and XCR0, as CPUID allows. */
void fpu_init(void);

/* Returns whether programs may use AVX. */
bool fpu_has_avx(void);

/* Loads the initial state for the running thread's program. A switch saves into *state. */
void fpu_begin(struct fpu_state *state);

/* Ends the run; the registers are not saved. */
void fpu_end(void);

/* Switches vector registers between threads. Sets *left to the state of the old thread, or to NULL
 * if it runs no program, and saves its registers there. Loads those of the next thread; `next` is
 * NULL if it runs no program. */
void fpu_switch(struct fpu_state **left, struct fpu_state *next);

#endif
