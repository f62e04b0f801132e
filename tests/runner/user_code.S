/*
 * Payloads: code that runs in ring 3, wherever it is copied. See tests/runner/user_code.h.
 *
 * Registers: a system call keeps all but rax, rcx and r11 (vmm/program/program.h).
 */

#define PROGRAM_NULL            0
#define PROGRAM_EXIT            1
#define PROGRAM_UPCALL_RETURN   2
#define PROGRAM_SET_HANDLER     3
#define PROGRAM_MAP             4
#define PROGRAM_UNMAP           5
#define PROGRAM_MAP_WRITE       1

#define PAGE_SIZE       4096
#define STORE_LENGTH    3
#define UPCALL_RIP      88

/* The linker script keeps them in read-only data: this image's ring 0 does not execute them. */
        .section .user_code, "a", @progbits
        .balign 16

.macro USER_CODE name
        .globl  \name
        .hidden \name
        .type   \name, @object
        .balign 16
\name:
.endm

.macro END name
        .size   \name, . - \name
.endm

.macro EXIT
        movl    $PROGRAM_EXIT, %eax
        syscall
.endm

USER_CODE user_code_exit
        EXIT
END user_code_exit

/* rbx: address, r12: rounds left, r13: step, r14: where the ticks go, r15: first reading, rbp: the
 * status of the last call */
.macro MEASURE name, instruction:vararg
USER_CODE \name
        movq    %rdi, %rbx
        movq    %rsi, %r12
        movq    %rdx, %r13
        movq    %rcx, %r14
        xorl    %ebp, %ebp
1:      movq    %rbx, %rdi
        rdtsc
        shlq    $32, %rdx
        orq     %rdx, %rax
        movq    %rax, %r15
        \instruction
        rdtsc
        shlq    $32, %rdx
        orq     %rdx, %rax
        subq    %r15, %rax
        movq    %rax, (%r14)
        addq    $8, %r14
        addq    %r13, %rbx
        decq    %r12
        jnz     1b
        movq    %rbp, %rdi
        EXIT
END \name
.endm

.macro NULL_CALL
        xorl    %eax, %eax
        syscall
.endm

.macro RANGE_CALL
        movq    %r9, %rsi
        movq    %r10, %rdx
        movq    %r8, %rax
        syscall
        movq    %rax, %rbp
.endm

.macro MAP_AND_UNMAP
        movl    $PAGE_SIZE, %esi
        movl    $PROGRAM_MAP_WRITE, %edx
        movl    $PROGRAM_MAP, %eax
        syscall
        movl    $PROGRAM_UNMAP, %eax
        syscall
.endm

        MEASURE user_code_measure_read, movb (%rdi), %cl
        /* An encoding of three bytes: c6 07 01. */
        MEASURE user_code_measure_write, movb $1, (%rdi)
        MEASURE user_code_measure_nothing
        MEASURE user_code_measure_call, NULL_CALL
        MEASURE user_code_measure_map, MAP_AND_UNMAP
        MEASURE user_code_measure_range_call, RANGE_CALL

USER_CODE user_code_read
        movq    (%rdi), %rdi
        EXIT
END user_code_read

USER_CODE user_code_write
        movb    $1, (%rdi)
        xorl    %edi, %edi
        EXIT
END user_code_write

USER_CODE user_code_jump
        jmp     *%rdi
END user_code_jump

USER_CODE user_code_skip_handler
        addq    $STORE_LENGTH, UPCALL_RIP(%rdi)
        movl    $PROGRAM_UPCALL_RETURN, %eax
        syscall
END user_code_skip_handler

USER_CODE user_code_counts
        movq    %rdi, %r12
        movq    %rsi, %rdi
        movl    $PROGRAM_SET_HANDLER, %eax
        syscall
        xorl    %ebx, %ebx
        movq    %r12, %rdi
        movb    $1, (%rdi)
        movb    $1, (%rdi)
        /* What C may change and the handler does change must come back. */
        movl    $7, %r11d
        movl    $8, %ecx
        movl    $9, %eax
        movb    $1, (%rdi)
        cmpl    $7, %r11d
        jne     1f
        cmpl    $8, %ecx
        jne     1f
        cmpl    $9, %eax
        jne     1f
        cmpq    %r12, %rdi
        jne     1f
        movq    %rbx, %rdi
        EXIT
1:      movq    $-1, %rdi
        EXIT
END user_code_counts

USER_CODE user_code_count_handler
        incq    %rbx
        addq    $STORE_LENGTH, UPCALL_RIP(%rdi)
        movl    $1, %r11d
        movl    $1, %ecx
        movl    $PROGRAM_UPCALL_RETURN, %eax
        syscall
END user_code_count_handler

USER_CODE user_code_hlt
        hlt
END user_code_hlt

USER_CODE user_code_ud2
        ud2
END user_code_ud2

USER_CODE user_code_map
        movq    %rdi, %rbx
        movl    $PAGE_SIZE, %esi
        movl    $PROGRAM_MAP_WRITE, %edx
        movl    $PROGRAM_MAP, %eax
        syscall
        testq   %rax, %rax
        jnz     1f
        movq    %rbx, (%rbx)
        movq    (%rbx), %r12
        movq    %rbx, %rdi
        movl    $PAGE_SIZE, %esi
        movl    $PROGRAM_UNMAP, %eax
        syscall
        testq   %rax, %rax
        jnz     1f
        movq    %r12, %rdi
        EXIT
1:      movq    %rax, %rdi
        EXIT
END user_code_map

USER_CODE user_code_call
        movq    %rsi, %rax
        syscall
        movq    %rax, %rdi
        EXIT
END user_code_call

        .section .note.GNU-stack, "", @progbits
