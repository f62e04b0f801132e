/*
 * Into ring 3 and back: user_enter is left by IRETQ and comes back by user_leave.
 *
 * Registers: System V AMD64 ABI; callee-saved registers are on the stack, and RSP0 points below
 * them, so that traps from ring 3 start there. The offsets are those of struct trap_frame in
 * cpu/trap/trap.h.
 */

#include "cpu/gs.h"

#define FRAME_R15       16
#define FRAME_R14       24
#define FRAME_R13       32
#define FRAME_R12       40
#define FRAME_RBP       48
#define FRAME_RBX       56
#define FRAME_R11       64
#define FRAME_R10       72
#define FRAME_R9        80
#define FRAME_R8        88
#define FRAME_RAX       96
#define FRAME_RCX       104
#define FRAME_RDX       112
#define FRAME_RSI       120
#define FRAME_RDI       128
#define FRAME_RIP       152
#define FRAME_CS        160
#define FRAME_RFLAGS    168
#define FRAME_RSP       176
#define FRAME_SS        184

        .text

/* void user_enter(struct trap_frame *frame, void *rsp0) Interrupts are off. The registers for
 * user_leave are on the stack, the frame's address lowest, and traps and system calls start below
 * it. */
        .globl  user_enter
        .hidden user_enter
        .type   user_enter, @function
        .balign 16
user_enter:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        pushq   %rdi                    /* the stack pointer is a multiple of 16 now */
        movq    %rsp, %gs:GS_KERNEL_STACK
        movq    %rsp, (%rsi)
        pushq   FRAME_SS(%rdi)
        pushq   FRAME_RSP(%rdi)
        pushq   FRAME_RFLAGS(%rdi)
        pushq   FRAME_CS(%rdi)
        pushq   FRAME_RIP(%rdi)
        movq    FRAME_R15(%rdi), %r15
        movq    FRAME_R14(%rdi), %r14
        movq    FRAME_R13(%rdi), %r13
        movq    FRAME_R12(%rdi), %r12
        movq    FRAME_RBP(%rdi), %rbp
        movq    FRAME_RBX(%rdi), %rbx
        movq    FRAME_R11(%rdi), %r11
        movq    FRAME_R10(%rdi), %r10
        movq    FRAME_R9(%rdi), %r9
        movq    FRAME_R8(%rdi), %r8
        movq    FRAME_RAX(%rdi), %rax
        movq    FRAME_RCX(%rdi), %rcx
        movq    FRAME_RDX(%rdi), %rdx
        movq    FRAME_RSI(%rdi), %rsi
        movq    FRAME_RDI(%rdi), %rdi
        swapgs
        iretq
        .size   user_enter, . - user_enter

/* _Noreturn void user_leave(uint64_t stack): returns from user_enter. */
        .globl  user_leave
        .hidden user_leave
        .type   user_leave, @function
        .balign 16
user_leave:
        leaq    8(%rdi), %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret
        .size   user_leave, . - user_leave

        .section .note.GNU-stack, "", @progbits
