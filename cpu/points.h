/*
 * Points of interest in code: addresses that a tool can find, at no cost when they are passed.
 *
 * CODE_POINT emits no instruction. It puts its own address and number into a section of the image
 * (.points); if the compiler copies the code, each copy has an entry. Stepping (cpu/trap/step.h)
 * recognizes a point by its address. Assembly has its own macro for it.
 *
 * Owns: nothing. Context: any.
 */
#ifndef CPU_POINTS_H
#define CPU_POINTS_H

/* Parts of a page fault; each point begins one. */
#define POINT_ENTRY    0 /* from the vector: registers saved */
#define POINT_DECODE   1 /* the error code, the space, the access */
#define POINT_FIND     2 /* the walk, the entry, its rights */
#define POINT_ALLOCATE 3 /* a frame */
#define POINT_CLEAR    4 /* its content: zeroes */
#define POINT_COPY     5 /* its content: a copy */
#define POINT_MAP      6 /* the entry, and the page's record */
#define POINT_FLUSH    7 /* the translation, and the page of the old entry */
#define POINT_SLOW     8 /* the slow path, as a whole */
#define POINT_UPCALL   9 /* a violation, to the program's handler */
#define POINT_RETURN   10
#define POINTS         11

#ifndef __ASSEMBLER__

#include <stdint.h>

#define CODE_POINT(number)                                                                         \
    __asm__ volatile("771: .pushsection .points, \"a\", @progbits\n\t"                             \
                     ".balign 4\n\t"                                                               \
                     ".long 771b - .\n\t"                                                          \
                     ".long %c0\n\t"                                                               \
                     ".popsection"                                                                 \
                     :                                                                             \
                     : "i"(number))

struct code_point {
    int32_t place; /* from this field's own address */
    uint32_t number;
};

_Static_assert(sizeof(struct code_point) == 8, "CODE_POINT writes it");

/* Interrupts were on and are off now; they are about to be on; they were on for a moment: the build
 * that checks locks measures how long they are off (cpu/smp/lock_check.h). */
#ifdef LOCK_CHECKS
void lock_check_interrupts_off(void);
void lock_check_interrupts_on(void);
void lock_check_interrupts_opened(void);
#define INTERRUPTS_CHECK(step) lock_check_interrupts_##step()
#else
#define INTERRUPTS_CHECK(step) ((void)0)
#endif

#endif

#endif
