/* One instruction between two readings of the time-stamp counter; see cpu/clock/measure.h. */

    .macro measured name, instruction:vararg
    .globl \name
    .hidden \name
    .type \name, @function
\name:
    rdtsc
    shl     $32, %rdx
    or      %rdx, %rax
    mov     %rax, %rsi
    \instruction
    rdtsc
    shl     $32, %rdx
    or      %rdx, %rax
    sub     %rsi, %rax
    ret
    .size \name, . - \name
    .endm

    .macro nops
    .rept 1000
    nop
    .endr
    .endm

    .text
    measured measure_nothing
    measured measure_nops, nops
    measured measure_read, movb (%rdi), %cl
    /* An encoding of three bytes: c6 07 01. */
    measured measure_write, movb $1, (%rdi)

    .section .note.GNU-stack, "", @progbits
