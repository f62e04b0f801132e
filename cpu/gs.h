/*
 * Per-CPU fields reached through GS in ring 0: offsets into struct cpu, for C and assembly.
 *
 * In ring 0 GS always points to the running processor's struct cpu, and IA32_KERNEL_GS_BASE holds
 * the program's base; SWAPGS exchanges them at every crossing between the rings.
 * Spec: Intel SDM volume 2, SWAPGS.
 */
#ifndef CPU_GS_H
#define CPU_GS_H

#define GS_SELF         0  /* the struct's own address */
#define GS_NUMBER       8  /* machine_cpu(): 32 bits */
#define GS_KERNEL_STACK 16 /* the top of the stack that a trap or system call from ring 3 gets */
#define GS_USER_STACK   24 /* scratch: a program's stack pointer while SYSCALL changes stacks */
#define GS_SPACE        32 /* machine_space() */
#define GS_TOP          40 /* machine_top() */
#define GS_THREAD       48 /* machine_thread() */
#define GS_COUNTS       56 /* machine_count(): MACHINE_COUNTS words */

#endif
