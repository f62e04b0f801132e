/*
 * The jump from where the firmware put the image to where the kernel wants it.
 *
 * void handover_jump(firmware_root, kernel_root, stack_top, displacement, entry, argument)
 *                    rdi            rsi          rdx        rcx           r8     r9
 *
 * The firmware root maps both the old and the new address, so the code can go on in the new copy
 * before the old one disappears. No stack is used in between.
 */
    .text
    .globl handover_jump
    .hidden handover_jump
    .type handover_jump, @function
handover_jump:
    cli
    cld
    mov     %rdi, %cr3
    lea     1f(%rip), %rax
    add     %rcx, %rax
    jmp     *%rax
1:  mov     %rsi, %cr3
    mov     %rdx, %rsp
    xor     %ebp, %ebp
    mov     %r9, %rdi
    call    *%r8
    ud2
    .size handover_jump, . - handover_jump

/* The zero page: whoever reads fresh memory reads this (RULES.md C8). */
    .section .rodata.zero_page, "a"
    .balign 4096
    .globl zero_page
    .hidden zero_page
zero_page:
    .skip 4096
    .section .note.GNU-stack, "", @progbits
