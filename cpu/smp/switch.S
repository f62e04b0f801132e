/*
 * void thread_switch(uint64_t *save, uint64_t load)
 *                    rdi             rsi
 * Switches from one thread's stack to another's; callee-saved registers stay on the old stack.
 * Interrupts are off.
 */
#include "cpu/trap/entry.h"

        .text
        .globl  thread_switch
        .hidden thread_switch
        .type   thread_switch, @function
thread_switch:
        PUSH_CALLEE_SAVED
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp
        POP_CALLEE_SAVED
        ret
        .size   thread_switch, . - thread_switch

        .section .note.GNU-stack, "", @progbits
