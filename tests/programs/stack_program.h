/*
 * Programs of ring 3 that dip into their stack, for the experiment stack-trim.
 *
 * As tests/programs/heap_program.h: no data of their own, a job at a fixed address.
 *
 * Units: bytes, pages. Owns: the job. Context: ring 3.
 */
#ifndef TESTS_PROGRAMS_STACK_PROGRAM_H
#define TESTS_PROGRAMS_STACK_PROGRAM_H

#include "vmm/program/program.h"

#define STACK_PROGRAM_JOB UINT64_C(0x900000) /* struct stack_job */

/* What the program does at the deepest point of its dip. */
enum stack_bottom { STACK_BOTTOM_NOTHING, STACK_BOTTOM_TRIM, STACK_BOTTOM_STOP };

struct stack_job {
    uint64_t pages;     /* of the dip */
    uint64_t bottom;    /* enum stack_bottom */
    int64_t trimmed;    /* pages that the trim freed, or a status */
    uint64_t red_wrong; /* words of the red zone that the trim has changed */
};

/* Exits with 0 before the dip, then with the number of words of its frames that have changed.
 * STACK_BOTTOM_STOP exits in the dip as well, with 0. */
_Noreturn void stack_program_dip(void);

/* Trims with a red zone that reaches into the page below the stack pointer; exits with
 * red_wrong. */
_Noreturn void stack_program_red_zone(void);

#endif
