/*
 * The C library's three that are best written as string instructions. By words first and the rest
 * by bytes: near the fastest on hardware, and eight times fewer steps under an emulator.
 *
 * Registers: System V AMD64 ABI. The direction flag is clear on entry and on return.
 */
        .text

        .globl  memcpy
        .hidden memcpy
        .type   memcpy, @function
memcpy:
        movq    %rdi, %rax
.Lforward:
        movq    %rdx, %rcx
        shrq    $3, %rcx
        rep movsq
        movl    %edx, %ecx
        andl    $7, %ecx
        rep movsb
        ret
        .size   memcpy, . - memcpy

        .globl  memmove
        .hidden memmove
        .type   memmove, @function
memmove:
        movq    %rdi, %rax
        movq    %rdi, %rcx
        subq    %rsi, %rcx
        cmpq    %rdx, %rcx
        jae     .Lforward               /* to is below from, or past its end: forward is safe */
        leaq    -1(%rdi, %rdx), %rdi
        leaq    -1(%rsi, %rdx), %rsi
        movl    %edx, %ecx
        andl    $7, %ecx
        std
        rep movsb                       /* the odd bytes at the top, then whole words downwards */
        subq    $7, %rdi
        subq    $7, %rsi
        movq    %rdx, %rcx
        shrq    $3, %rcx
        rep movsq
        cld
        ret
        .size   memmove, . - memmove

        .globl  memset
        .hidden memset
        .type   memset, @function
memset:
        movq    %rdi, %r8
        movzbl  %sil, %eax
        movabsq $0x0101010101010101, %rcx
        imulq   %rcx, %rax
        movq    %rdx, %rcx
        shrq    $3, %rcx
        rep stosq
        movl    %edx, %ecx
        andl    $7, %ecx
        rep stosb
        movq    %r8, %rax
        ret
        .size   memset, . - memset

        .section .note.GNU-stack, "", @progbits
