/*
 * Into ring 3 and back: user_enter ends in IRETQ, and user_leave returns to its caller.
 *
 * Callee-saved registers are on the stack, and RSP0 points below them: traps from ring 3 start
 * there.
 */

#include "cpu/gs.h"
#include "cpu/trap/entry.h"

        .text

/* void user_enter(struct trap_frame *frame, void *rsp0): loads all registers from the frame.
 * Interrupts are off. Leaves the registers for user_leave on the stack, the frame's address lowest;
 * traps and system calls start below it. */
        .globl  user_enter
        .hidden user_enter
        .type   user_enter, @function
        .balign 16
user_enter:
        PUSH_CALLEE_SAVED
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
        POP_CALLEE_SAVED
        ret
        .size   user_leave, . - user_leave

        .section .note.GNU-stack, "", @progbits
