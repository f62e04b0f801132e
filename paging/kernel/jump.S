/*
 * The jump from the image's load address to its final address.
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

/* The zero ladder: the zero page, which backs all reads of fresh memory, and behind it the zero
 * tables of levels 1 to 4 (rule C8, paging/zero_ladder.h). */
    .section .rodata.zero_ladder, "a"
    .balign 4096
    .globl zero_ladder
    .hidden zero_ladder
zero_ladder:
    .skip 5 * 4096
    .section .note.GNU-stack, "", @progbits
