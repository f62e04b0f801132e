/*
 * void thread_switch(uint64_t *save, uint64_t load)
 *                    rdi             rsi
 * Leaves one thread's stack for another's: callee-saved registers are kept on the old stack.
 * Interrupts are off. Registers: System V AMD64 ABI.
 */
        .text
        .globl  thread_switch
        .hidden thread_switch
        .type   thread_switch, @function
thread_switch:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret
        .size   thread_switch, . - thread_switch

        .section .note.GNU-stack, "", @progbits
