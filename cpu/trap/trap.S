/*
 * The way into every trap and back: the only code between the vector and C.
 *
 * The frame that it builds is struct trap_frame of cpu/trap/trap.h. The processor aligns the stack
 * to 16 bytes before it pushes, and the frame is 192 bytes, so that C is called as its ABI wants.
 * Interrupts are off from the gate to IRETQ: all gates are interrupt gates.
 *
 * Spec: Intel SDM volume 3, 6.14 (64-bit exceptions); System V AMD64 ABI (caller- and callee-saved
 * registers).
 */

#include "cpu/gs.h"
#include "cpu/points.h"

#define FRAME_LOW       64      /* bytes of the frame below r11 */
#define FRAME_SWAP_GS   8
#define FRAME_R15       16
#define FRAME_R14       24
#define FRAME_R13       32
#define FRAME_R12       40
#define FRAME_RBP       48
#define FRAME_RBX       56
#define FRAME_VECTOR    136
#define FRAME_CS        160

#define RPL             3       /* the ring in a selector */
#define VECTOR_NMI      2
#define VECTOR_GP       13
#define VECTOR_PF       14
#define EXCEPTIONS      32      /* vectors below are the processor's own */
#define IA32_GS_BASE    0xc0000101

#define FRAME_RIP           152
#define VECTOR_SYSTEM_CALL  256         /* USER_SYSTEM_CALL of cpu/trap/user.h */
#define TRAP_RETURN_FAST    1           /* enum trap_return */
#define SELECTOR_USER_DATA  0x1b        /* of cpu/cpu.h */
#define SELECTOR_USER_CODE  0x23

/* Notes its own address in .points: see cpu/points.h. */
.macro CODE_POINT number
771:
        .pushsection .points, "a", @progbits
        .balign 4
        .long   771b - .
        .long   \number
        .popsection
.endm

.macro PUSH_CALLER_SAVED_BUT_RDI
        pushq   %rsi
        pushq   %rdx
        pushq   %rcx
        pushq   %rax
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
.endm

.macro POP_CALLER_SAVED
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rax
        popq    %rcx
        popq    %rdx
        popq    %rsi
        popq    %rdi
.endm

/* Returns to the interrupted code. The stack pointer is at the vector, and GS is set. */
.macro LEAVE
        addq    $16, %rsp               /* vector, error code */
        iretq
.endm

/*
 * The fast path of a page fault: 33 instructions there and back, 34 with CLAC; from ring 3 two
 * SWAPGS more, by a copy of the path, so that the way back has nothing to ask.
 *
 * CR2 is read before anything that could fault, and kept in the frame, so that a fault inside the
 * handler does no harm. An NMI between the fault and the reading puts CR2 back (trap.c). The
 * registers that C preserves stay in the processor; when the fault is not resolved they still hold
 * what they held, and the frame is completed from them.
 *
 * From ring 0 GS is the kernel's: between SWAPGS and IRETQ nothing touches memory that could be
 * missing.
 */
.macro PAGE_FAULT_PATH smap, user
        cld
        .if \smap
        clac
        .endif
        .if \user
        swapgs
        .endif
        pushq   $VECTOR_PF
        pushq   %rdi
        movq    %cr2, %rdi
        PUSH_CALLER_SAVED_BUT_RDI
        subq    $(FRAME_LOW - 8), %rsp
        pushq   %rdi                    /* frame->cr2, and the first argument */
        movq    144(%rsp), %rsi         /* frame->error */
        movq    %rsp, %rdx
        call    *trap_page_fault(%rip)
        CODE_POINT POINT_RETURN
        testb   %al, %al
        jz      trap_page_fault_unresolved
        addq    $FRAME_LOW, %rsp
        POP_CALLER_SAVED
        .if \user
        swapgs
        .endif
        LEAVE
.endm

.macro PAGE_FAULT_STUB name, smap
        .globl  \name
        .hidden \name
        .type   \name, @function
        .balign 64
\name:
        CODE_POINT POINT_ENTRY
        testb   $RPL, 16(%rsp)          /* CS, above the error code and RIP */
        jnz     7f
        PAGE_FAULT_PATH \smap, 0
        .balign 64
7:      PAGE_FAULT_PATH \smap, 1
        .size   \name, . - \name
.endm

        .text

        .globl  trap_entry_start
        .hidden trap_entry_start
trap_entry_start:

        .hidden trap_page_fault
        PAGE_FAULT_STUB trap_page_fault_stub, 0
        PAGE_FAULT_STUB trap_page_fault_stub_smap, 1

        .type   trap_page_fault_unresolved, @function
trap_page_fault_unresolved:
        movq    %r15, FRAME_R15(%rsp)
        movq    %r14, FRAME_R14(%rsp)
        movq    %r13, FRAME_R13(%rsp)
        movq    %r12, FRAME_R12(%rsp)
        movq    %rbp, FRAME_RBP(%rsp)
        movq    %rbx, FRAME_RBX(%rsp)
        movq    $0, FRAME_SWAP_GS(%rsp)
        jmp     trap_dispatch_frame
        .size   trap_page_fault_unresolved, . - trap_page_fault_unresolved

/* From the vector and error code on the stack to the complete frame.
 *
 * GS is the program's when ring 3 was interrupted, and the kernel's in ring 0; but an exception,
 * unlike an interrupt, may also come in ring 0 where GS is the program's: an NMI or a machine check
 * between a crossing and its SWAPGS, a fault of IRETQ. There the base itself decides: the kernel's
 * is in the upper half, and a program cannot load such a one, since CR4.FSGSBASE is off. */
.macro SAVE_ALL
        cld
        cmpb    $0, trap_smap(%rip)
        je      61f
        clac
61:     pushq   %rdi
        movq    %cr2, %rdi
        PUSH_CALLER_SAVED_BUT_RDI
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        pushq   $0                      /* frame->swap_gs */
        pushq   %rdi                    /* frame->cr2 */
        testb   $RPL, FRAME_CS(%rsp)
        jnz     62f
        cmpq    $EXCEPTIONS, FRAME_VECTOR(%rsp)
        jae     63f
        movl    $IA32_GS_BASE, %ecx
        rdmsr
        testl   %edx, %edx
        js      63f
        movq    $1, FRAME_SWAP_GS(%rsp)
62:     swapgs
63:
.endm

/* Back to the vector on the stack. A handler may have changed CS, and GS follows it. */
.macro RESTORE_ALL
        testb   $RPL, FRAME_CS(%rsp)
        jnz     64f
        cmpq    $0, FRAME_SWAP_GS(%rsp)
        je      65f
64:     swapgs
65:     addq    $FRAME_R15, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        POP_CALLER_SAVED
.endm

/* All other vectors meet here. */
        .type   trap_common, @function
trap_common:
        SAVE_ALL
trap_dispatch_frame:
        movq    %rsp, %rdi
        .hidden trap_dispatch
        call    trap_dispatch
        RESTORE_ALL
        LEAVE
        .size   trap_common, . - trap_common

/*
 * An NMI. A fault in its handler, and the IRETQ of that, lets the next NMI in, which the processor
 * pushes to the same place at the top of the same stack. So the handler works and returns with a
 * copy of what was pushed, and an NMI that finds one under way is counted and dropped: the handler
 * is looking at the machine already.
 *
 *   top - 40   what the processor pushes
 *   top - 48   1 while a handler is under way (traps_init clears it)
 *   top - 56   a register, for a moment
 *   top - 104  the copy, the rest of the frame below it
 *
 * Between the clearing of the mark and the IRETQ another one may come: it is known by its RIP.
 */
        .globl  trap_nmi_stub
        .hidden trap_nmi_stub
        .type   trap_nmi_stub, @function
        .balign 16
trap_nmi_stub:
        cmpq    $0, -8(%rsp)
        jne     trap_nmi_nested
        movq    %rax, -16(%rsp)
        leaq    trap_nmi_return(%rip), %rax
        cmpq    %rax, (%rsp)
        movq    -16(%rsp), %rax
        je      trap_nmi_nested
        movq    $1, -8(%rsp)
        subq    $24, %rsp
        .rept   5
        pushq   56(%rsp)
        .endr
        pushq   $0
        pushq   $VECTOR_NMI
        SAVE_ALL
        movq    %rsp, %rdi
        call    trap_dispatch
        RESTORE_ALL
        addq    $16, %rsp
        movq    $0, 56(%rsp)
trap_nmi_return:
        iretq
trap_nmi_nested:
        .hidden trap_nmis_nested
        lock incq trap_nmis_nested(%rip)
        iretq
        .size   trap_nmi_stub, . - trap_nmi_stub

/* One entry a vector, 16 bytes apart. Those for which the processor pushes no error code push 0. */
        .globl  trap_stubs
        .hidden trap_stubs
        .type   trap_stubs, @function
        .hidden trap_smap
        .balign 16
trap_stubs:
        .set    vector, 0
        .rept   256
        .balign 16
        .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
        .else
        pushq   $0
        .endif
        pushq   $vector
        jmp     trap_common
        .set    vector, vector + 1
        .endr
        .balign 16
        .size   trap_stubs, . - trap_stubs

/*
 * System calls. SYSCALL saves nothing but RIP and RFLAGS, in rcx and r11, and keeps the program's
 * stack pointer: until RSP0 is loaded nothing may be pushed, and interrupts are off by the flag
 * mask. The frame is that of a trap, so that one that nothing resolves ends like any other.
 *
 * SYSRET to an address that is not canonical faults in ring 0 with the program's stack pointer on
 * some processors (SDM volume 2, SYSRET): the address is compared before, and one beyond the
 * program's half becomes a #GP of the program.
 */
        .globl  trap_system_call_entry
        .hidden trap_system_call_entry
        .type   trap_system_call_entry, @function
        .hidden trap_system_call
        .hidden trap_user_end
        .balign 64
trap_system_call_entry:
        swapgs
        movq    %rsp, %gs:GS_USER_STACK
        movq    %gs:GS_KERNEL_STACK, %rsp
        pushq   $SELECTOR_USER_DATA
        pushq   %gs:GS_USER_STACK
        pushq   %r11
        pushq   $SELECTOR_USER_CODE
        pushq   %rcx
        pushq   $0                      /* frame->error */
        pushq   $VECTOR_SYSTEM_CALL
        pushq   %rdi
        PUSH_CALLER_SAVED_BUT_RDI
        subq    $FRAME_LOW, %rsp
        movq    %rsp, %rdi
        call    *trap_system_call(%rip)
        cmpl    $TRAP_RETURN_FAST, %eax
        jne     system_call_otherwise
        movq    FRAME_RIP(%rsp), %rcx
        cmpq    trap_user_end(%rip), %rcx
        jae     system_call_too_far
        addq    $FRAME_LOW, %rsp
        POP_CALLER_SAVED
        movq    16(%rsp), %rcx          /* rip */
        movq    32(%rsp), %r11          /* rflags */
        movq    40(%rsp), %rsp
        swapgs
        sysretq
system_call_otherwise:
        testl   %eax, %eax
        jz      system_call_unresolved
        addq    $FRAME_LOW, %rsp
        POP_CALLER_SAVED
        swapgs
        LEAVE
system_call_too_far:
        movq    $VECTOR_GP, FRAME_VECTOR(%rsp)
system_call_unresolved:
        movq    $0, (%rsp)              /* frame->cr2 */
        movq    $0, FRAME_SWAP_GS(%rsp)
        movq    %r15, FRAME_R15(%rsp)
        movq    %r14, FRAME_R14(%rsp)
        movq    %r13, FRAME_R13(%rsp)
        movq    %r12, FRAME_R12(%rsp)
        movq    %rbp, FRAME_RBP(%rsp)
        movq    %rbx, FRAME_RBX(%rsp)
        movq    %rsp, %rdi
        .hidden user_exit
        call    user_exit
        .size   trap_system_call_entry, . - trap_system_call_entry

        .globl  trap_return_stub
        .hidden trap_return_stub
        .type   trap_return_stub, @function
trap_return_stub:
        iretq
        .size   trap_return_stub, . - trap_return_stub

        .globl  trap_entry_end
        .hidden trap_entry_end
trap_entry_end:

        .section .note.GNU-stack, "", @progbits
