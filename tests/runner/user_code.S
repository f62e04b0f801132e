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
#define PROGRAM_PROTECT         6
#define PROGRAM_MAP_WRITE       1

#define PAGE_SIZE       4096
#define STORE_LENGTH    3
#define UPCALL_ADDRESS  72
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
 * status of the last call. `address` loads RDI. */
.macro MEASURE_AT name, address, instruction:vararg
USER_CODE \name
        movq    %rdi, %rbx
        movq    %rsi, %r12
        movq    %rdx, %r13
        movq    %rcx, %r14
        xorl    %ebp, %ebp
1:      \address
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

.macro OF_REGISTER
        movq    %rbx, %rdi
.endm

/* From the word that the ticks will replace. */
.macro OF_LIST
        movq    (%r14), %rdi
.endm

.macro MEASURE name, instruction:vararg
        MEASURE_AT \name, OF_REGISTER, \instruction
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

/* As RANGE_CALL, without the call: the cost of the loads. */
.macro RANGE_NO_CALL
        movq    %r9, %rsi
        movq    %r10, %rdx
        movq    %r8, %rax
        movq    %rbp, %rbp
.endm

.macro MAP_AND_UNMAP touch:vararg
        movl    $PAGE_SIZE, %esi
        movl    $PROGRAM_MAP_WRITE, %edx
        movl    $PROGRAM_MAP, %eax
        syscall
        \touch
        movl    $PROGRAM_UNMAP, %eax
        syscall
.endm

        MEASURE user_code_measure_read, movb (%rdi), %cl
        /* An encoding of three bytes: c6 07 01. */
        MEASURE user_code_measure_write, movb $1, (%rdi)
        MEASURE user_code_measure_nothing
        MEASURE user_code_measure_call, NULL_CALL
        MEASURE_AT user_code_measure_listed_read, OF_LIST, movb (%rdi), %cl
        MEASURE_AT user_code_measure_listed_write, OF_LIST, movb $1, (%rdi)
        MEASURE user_code_measure_map, MAP_AND_UNMAP
        MEASURE user_code_measure_map_touch, MAP_AND_UNMAP movb $1, (%rdi)
        MEASURE user_code_measure_range_call, RANGE_CALL
        MEASURE user_code_measure_range_no_call, RANGE_NO_CALL

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

USER_CODE user_code_allow_handler
        pushq   %rdi
        movq    UPCALL_ADDRESS(%rdi), %rdi
        andq    $-PAGE_SIZE, %rdi
        movl    $PAGE_SIZE, %esi
        movl    $PROGRAM_MAP_WRITE, %edx
        movl    $PROGRAM_PROTECT, %eax
        syscall
        popq    %rdi
        movl    $PROGRAM_UPCALL_RETURN, %eax
        syscall
END user_code_allow_handler

USER_CODE user_code_counts
        movq    %rdi, %r12
        movq    %rsi, %rdi
        movl    $PROGRAM_SET_HANDLER, %eax
        syscall
        xorl    %ebx, %ebx
        movq    %r12, %rdi
        movb    $1, (%rdi)
        movb    $1, (%rdi)
        /* Registers that C may change and the handler does change must be restored. */
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

/* The pattern of vector register n: RDI + n in both words. */
.macro PATTERN n
        leaq    \n(%rdi), %rax
        movq    %rax, %xmm\n
        punpcklqdq %xmm\n, %xmm\n
.endm

.macro PATTERN_HIGH n
        vinsertf128 $1, %xmm\n, %ymm\n, %ymm\n
.endm

/* Counts in rbx each word of a vector register that is not its pattern. */
.macro COMPARE n
        leaq    \n(%rdi), %rax
        movq    %xmm\n, %rcx
        cmpq    %rax, %rcx
        setne   %cl
        movzbl  %cl, %ecx
        addq    %rcx, %rbx
        psrldq  $8, %xmm\n
        movq    %xmm\n, %rcx
        cmpq    %rax, %rcx
        setne   %cl
        movzbl  %cl, %ecx
        addq    %rcx, %rbx
.endm

.macro LOW_HALF n
        vextractf128 $1, %ymm\n, %xmm\n
.endm

.macro EACH_VECTOR what
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        \what   \n
        .endr
.endm

/* rbx: differences, rsi: rounds left, r8: AVX or not, r9: MXCSR at [rsp - 8], the x87 at - 16 */
USER_CODE user_code_vectors
        movq    %rdx, %r8
        xorl    %ebx, %ebx
1:      EACH_VECTOR PATTERN
        testq   %r8, %r8
        jz      2f
        EACH_VECTOR PATTERN_HIGH
2:      movl    %edi, %r9d              /* rounding and flush to zero: bits 13 to 15 */
        andl    $0xe000, %r9d
        orl     $0x1f80, %r9d
        movl    %r9d, -8(%rsp)
        ldmxcsr -8(%rsp)
        fninit
        movq    %rdi, -16(%rsp)
        fildq   -16(%rsp)
        xorl    %eax, %eax
        syscall
        fistpq  -16(%rsp)
        cmpq    %rdi, -16(%rsp)
        setne   %cl
        movzbl  %cl, %ecx
        addq    %rcx, %rbx
        stmxcsr -8(%rsp)
        cmpl    %r9d, -8(%rsp)
        setne   %cl
        movzbl  %cl, %ecx
        addq    %rcx, %rbx
        movl    $0x1f80, -8(%rsp)
        ldmxcsr -8(%rsp)
        EACH_VECTOR COMPARE
        testq   %r8, %r8
        jz      3f
        EACH_VECTOR PATTERN
        EACH_VECTOR PATTERN_HIGH
        xorl    %eax, %eax
        syscall
        EACH_VECTOR LOW_HALF
        EACH_VECTOR COMPARE
3:      decq    %rsi
        jnz     1b
        movq    %rbx, %rdi
        EXIT
END user_code_vectors

USER_CODE user_code_vectors_initial
        movq    %rsp, %rbx
        andq    $-16, %rbx
        subq    $512, %rbx
        fxsave  (%rbx)
        movl    24(%rbx), %edi          /* MXCSR */
        movzwl  (%rbx), %eax            /* FCW */
        shlq    $32, %rax
        orq     %rax, %rdi
        movzbl  4(%rbx), %eax           /* FTW: which x87 registers are in use */
        shlq    $48, %rax
        orq     %rax, %rdi
        xorl    %ecx, %ecx
1:      orq     160(%rbx, %rcx, 8), %rdx
        incl    %ecx
        cmpl    $32, %ecx
        jb      1b
        testq   %rdx, %rdx
        jz      2f
        notq    %rdi
2:      EXIT
END user_code_vectors_initial

        .section .note.GNU-stack, "", @progbits
