/*
 * The switch between four and five levels of page tables, in a page below 4 GiB.
 *
 * void levels_switch(root, cr4), System V: root in rdi, below 4 GiB; the new CR4 in rsi.
 *
 * CR4.LA57 cannot change in long mode (SDM volume 3, 4.1.1), so this leaves it: compatibility mode,
 * paging off, CR4 and CR3, paging on, and back to the caller. paging/kernel/firmware_root.c copies
 * the code from levels_switch_start to levels_switch_end to a page that both roots map one to one
 * and executable, and calls the copy; both map the caller, its stack and its GDT in the same
 * places. The linked original is never executed.
 *
 * Interrupts are off. An NMI or a machine check between the two writes of CR0 finds no gate that
 * it can use, and resets the machine: the switch is made while nothing else runs.
 */
#define CR0_PG      0x80000000
#define CODE_64     0x08
#define DATA        0x10
#define CODE_32     0x18

    .section .rodata.levels_switch, "a"
    .balign 64
    .globl levels_switch_start, levels_switch_end
    .hidden levels_switch_start, levels_switch_end
levels_switch_start:
    push    %rbx
    push    %rbp
    push    %r12
    push    %r13
    push    %r14
    push    %r15
    pushfq
    cli
    /* 32-bit code destroys the upper halves of registers, so they are saved in the page. */
    mov     %rsp, saved_rsp(%rip)
    sgdt    saved_gdt(%rip)
    mov     %cs, saved_cs(%rip)
    mov     %ss, saved_ss(%rip)
    mov     %ds, saved_ds(%rip)
    mov     %es, saved_es(%rip)
    lea     own_gdt(%rip), %rax
    mov     %rax, own_gdt_base(%rip)
    lea     in_32(%rip), %rax
    mov     %eax, to_32(%rip)
    lea     in_64(%rip), %rax
    mov     %eax, to_64(%rip)
    lea     levels_switch_start(%rip), %rbx
    lgdt    own_gdt_pointer(%rip)
    ljmp    *to_32(%rip)

    .code32
in_32:
    mov     $DATA, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    mov     %cr0, %eax
    and     $~CR0_PG, %eax
    mov     %eax, %cr0
    mov     %edi, %cr3
    mov     %esi, %cr4
    /* EFER.LME is still set, so this enters long mode again. */
    or      $CR0_PG, %eax
    mov     %eax, %cr0
    ljmp    *(to_64 - levels_switch_start)(%ebx)

    .code64
in_64:
    lgdt    saved_gdt(%rip)
    mov     saved_ss(%rip), %ss
    mov     saved_ds(%rip), %ds
    mov     saved_es(%rip), %es
    mov     saved_rsp(%rip), %rsp
    popfq
    pop     %r15
    pop     %r14
    pop     %r13
    pop     %r12
    pop     %rbp
    pop     %rbx
    pop     %rax
    movzwl  saved_cs(%rip), %ecx
    push    %rcx
    push    %rax
    lretq

    .balign 8
/* Null, 64-bit code, data, 32-bit code: SDM volume 3, 3.4.5. All accessed already. */
own_gdt:
    .quad   0
    .quad   0x00af9b000000ffff
    .quad   0x00cf93000000ffff
    .quad   0x00cf9b000000ffff
own_gdt_pointer:
    .word   4 * 8 - 1
own_gdt_base:
    .quad   0
saved_gdt:
    .word   0
    .quad   0
    .balign 8
to_32:
    .long   0
    .word   CODE_32
    .balign 8
to_64:
    .long   0
    .word   CODE_64
    .balign 8
saved_rsp:
    .quad   0
saved_cs:
    .word   0
saved_ss:
    .word   0
saved_ds:
    .word   0
saved_es:
    .word   0
levels_switch_end:

    .section .note.GNU-stack, "", @progbits
