/*
 * Accesses that may fault, and where they go on when they do.
 *
 * A landing finds the vector in r8, the error code in r9 and for #PF CR2 in r10; the stack pointer
 * and all other registers are as the faulting instruction found them (probe_fix_up in
 * cpu/trap/probe.c).
 *
 * Registers: System V AMD64 ABI. Spec: Intel SDM volume 2, STAC and CLAC.
 */

/* An entry of the exception table. The linker script keeps the section; both offsets are relative
 * to their own place, so that the image may move. */
.macro MAY_FAULT instruction, landing
        .pushsection .extable, "a"
        .balign 4
        .long   \instruction - .
        .long   \landing - .
        .popsection
.endm

.macro OPEN_USER_MEMORY
        cmpb    $0, trap_smap(%rip)
        je      77f
        stac
77:
.endm

.macro CLOSE_USER_MEMORY
        cmpb    $0, trap_smap(%rip)
        je      78f
        clac
78:
.endm

.macro FUNCTION name
        .globl  \name
        .hidden \name
        .type   \name, @function
        .balign 16
\name:
.endm

.macro END name
        .size   \name, . - \name
.endm

        .hidden trap_smap
        .text

/* bool name(uint64_t address, T *value, struct trap_info *info) */
.macro READ name, move, register
FUNCTION \name
1:      \move   (%rdi), \register
        \move   \register, (%rsi)
        movl    $1, %eax
        ret
        MAY_FAULT 1b, probe_landing
END \name
.endm

.macro READ_USER name, move, register
FUNCTION \name
        OPEN_USER_MEMORY
1:      \move   (%rdi), \register
        CLOSE_USER_MEMORY
        \move   \register, (%rsi)
        movl    $1, %eax
        ret
        MAY_FAULT 1b, probe_user_landing
END \name
.endm

/* bool name(uint64_t address, T value, struct trap_info *info) */
.macro WRITE name, move, register
FUNCTION \name
1:      \move   \register, (%rdi)
        movl    $1, %eax
        ret
        MAY_FAULT 1b, probe_landing
END \name
.endm

.macro WRITE_USER name, move, register
FUNCTION \name
        OPEN_USER_MEMORY
1:      \move   \register, (%rdi)
        CLOSE_USER_MEMORY
        movl    $1, %eax
        ret
        MAY_FAULT 1b, probe_user_landing
END \name
.endm

        READ    probe_read8, movb, %al
        READ    probe_read64, movq, %rax
        WRITE   probe_write8, movb, %sil
        WRITE   probe_write64, movq, %rsi
        READ_USER probe_user_read8, movb, %al
        READ_USER probe_user_read64, movq, %rax
        WRITE_USER probe_user_write8, movb, %sil
        WRITE_USER probe_user_write64, movq, %rsi

/* bool probe_user_copy(void *to, const void *from, size_t size, struct trap_info *info)
 * Words first, then the odd bytes; r11 keeps info, since rcx counts. */
FUNCTION probe_user_copy
        movq    %rcx, %r11
        OPEN_USER_MEMORY
        movq    %rdx, %rcx
        shrq    $3, %rcx
1:      rep movsq
        movl    %edx, %ecx
        andl    $7, %ecx
2:      rep movsb
        CLOSE_USER_MEMORY
        movl    $1, %eax
        ret
        MAY_FAULT 1b, probe_user_copy_landing
        MAY_FAULT 2b, probe_user_copy_landing
END probe_user_copy

/* bool probe_fetch(uint64_t address, struct trap_info *info)
 * The address is on the stack above the return address, where probe_fix_up compares it. A
 * processor reports a non-canonical target at the call (Intel) or at the target (AMD). */
FUNCTION probe_fetch
        pushq   %rbp
        movq    %rsp, %rbp
        pushq   %rsi
        pushq   %rdi
1:      call    *%rdi
        .globl  probe_fetch_return
        .hidden probe_fetch_return
probe_fetch_return:
        movl    $1, %eax
        leave
        ret
        MAY_FAULT 1b, probe_fetch_landing

        .globl  probe_fetch_landing
        .hidden probe_fetch_landing
probe_fetch_landing:
        movq    8(%rsp), %rdx
        leave
        jmp     probe_landing
END probe_fetch

        .type   probe_user_copy_landing, @function
probe_user_copy_landing:
        movq    %r11, %rdx
probe_user_landing:
        CLOSE_USER_MEMORY
probe_landing:
        testq   %rdx, %rdx
        jz      1f
        movb    %r8b, (%rdx)
        movq    %r9, 8(%rdx)
        movq    %r10, 16(%rdx)
1:      xorl    %eax, %eax
        ret
END probe_user_copy_landing

        .section .note.GNU-stack, "", @progbits
