/*
 * The trampoline: from where a start-up interrupt begins another processor, to the kernel.
 *
 * C copies it to a page below 1 MiB (cpu/smp/start.c) and fills in the fields of
 * cpu/smp/start_layout.h. A processor comes here in real mode with CS at that page. It goes
 * through protected mode, in segments that begin at the page too, to long mode on tables in which
 * the page is mapped one to one, and on to the kernel's half, which those tables have as well.
 *
 * Spec: Intel SDM volume 3, 8.4.3 (MP initialization), 9.8.5 (entering long mode).
 */
#include "cpu/smp/start_layout.h"

#define CR0_PE       0x1
#define CR0_CD_NW    0x60000000
#define IA32_EFER    0xc0000080

        .section .rodata.start, "a"
        .globl  start_trampoline
        .hidden start_trampoline
        .balign 16
start_trampoline:
        .code16
        cli
        cld
        movw    %cs, %ax
        movw    %ax, %ds
        lgdtl   START_GDT_POINTER
        movl    %cr0, %eax
        orl     $CR0_PE, %eax
        movl    %eax, %cr0
        ljmpl   *START_FAR_32

        .code32
        .globl  start_trampoline_32
        .hidden start_trampoline_32
start_trampoline_32:
        movl    $START_DATA_32, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    START_CR4, %eax
        movl    %eax, %cr4
        movl    START_CR3, %eax
        movl    %eax, %cr3
        movl    $IA32_EFER, %ecx
        movl    START_EFER, %eax
        xorl    %edx, %edx
        wrmsr
        movl    START_STACK, %esi       /* while addresses are relative to the page */
        movl    START_STACK + 4, %edi
        movl    START_ARGUMENT, %ebp
        movl    START_ARGUMENT + 4, %ebx
        movl    START_CR0, %eax
        movl    %eax, %cr0
        ljmpl   *START_FAR_64

        .code64
        .globl  start_trampoline_64
        .hidden start_trampoline_64
start_trampoline_64:
        shlq    $32, %rdi
        movl    %esi, %esi
        leaq    (%rdi, %rsi), %rsp
        movq    %rbx, %rdi
        shlq    $32, %rdi
        movl    %ebp, %ebp
        orq     %rbp, %rdi
        xorl    %ebp, %ebp
        movq    start_trampoline + START_ENTRY(%rip), %rax
        call    *%rax
        ud2
        .globl  start_trampoline_end
        .hidden start_trampoline_end
start_trampoline_end:

        .section .note.GNU-stack, "", @progbits
