/*
 * The way into every trap and back: the only code between the vector and C.
 *
 * It builds a struct trap_frame (cpu/trap/entry.h). The processor aligns the stack to 16 bytes
 * before it pushes, and the frame is 192 bytes long: the alignment that the ABI requires of a call.
 * Interrupts are off from the gate to IRETQ: all gates are interrupt gates.
 *
 * Spec: Intel SDM volume 3, 6.14 (64-bit exceptions); System V AMD64 ABI (caller- and callee-saved
 * registers).
 */

#include "cpu/gs.h"
#include "cpu/points.h"
#include "cpu/trap/entry.h"

#define FRAME_LOW       FRAME_R11 /* bytes of the frame below r11 */

#define RPL             3       /* the ring in a selector */
#define VECTOR_NMI      2
#define VECTOR_GP       13
#define VECTOR_PF       14
#define EXCEPTIONS      32      /* TRAP_EXCEPTIONS: vectors below are exceptions */
#define IA32_GS_BASE    0xc0000101

#define VECTOR_SYSTEM_CALL  256         /* USER_SYSTEM_CALL of cpu/trap/user.h */
#define TRAP_RETURN_FAST    1           /* enum trap_return */
#define SELECTOR_USER_DATA  0x1b        /* of cpu/cpu.h */
#define SELECTOR_USER_CODE  0x23

/* Records its own address in .points: see cpu/points.h. */
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
        addq    $(FRAME_RIP - FRAME_VECTOR), %rsp
        iretq
.endm

/*
 * The fast path of a page fault: 33 instructions in and out, 34 with CLAC, and two SWAPGS more from
 * ring 3. Ring 3 has its own copy of the path, which saves a test on the way out.
 *
 * CR2 is saved in the frame before any instruction that could fault, because a fault inside the
 * handler overwrites it. An NMI that comes before the save restores CR2 (trap.c). The callee-saved
 * registers are not pushed: C preserves them, and an unresolved fault stores them into the frame.
 *
 * A fault in ring 0 relies on GS being the kernel's: between SWAPGS and IRETQ the code accesses
 * only memory that is always mapped.
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
        movq    FRAME_ERROR(%rsp), %rsi
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
        testb   $RPL, FRAME_CS - FRAME_ERROR(%rsp)
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
        STORE_CALLEE_SAVED
        movq    $0, FRAME_SWAP_GS(%rsp)
        jmp     trap_dispatch_frame
        .size   trap_page_fault_unresolved, . - trap_page_fault_unresolved

/* Completes the frame above the vector and error code on the stack, and loads the kernel's GS.
 *
 * Code in ring 3 runs with the program's GS, code in ring 0 with the kernel's, with two exceptions:
 * an NMI or machine check between a ring crossing and its SWAPGS, and a fault of IRETQ. Exceptions
 * in ring 0 therefore test the base: the kernel's is in the upper half, and a program cannot load
 * an address there while CR4.FSGSBASE is off. */
.macro SAVE_ALL
        cld
        cmpb    $0, trap_smap(%rip)
        je      61f
        clac
61:     pushq   %rdi
        movq    %cr2, %rdi
        PUSH_CALLER_SAVED_BUT_RDI
        PUSH_CALLEE_SAVED
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

/* Undoes SAVE_ALL. A handler may have changed CS, so that GS is chosen by the frame's CS. */
.macro RESTORE_ALL
        testb   $RPL, FRAME_CS(%rsp)
        jnz     64f
        cmpq    $0, FRAME_SWAP_GS(%rsp)
        je      65f
64:     swapgs
65:     addq    $FRAME_R15, %rsp
        POP_CALLEE_SAVED
        POP_CALLER_SAVED
.endm

/* The common entry of all vectors without an entry of their own. */
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
 * An NMI. If its handler faults, the IRETQ of that fault unblocks the next NMI, whose frame the
 * processor pushes to the same address at the top of the same stack. The handler therefore works
 * and returns with a copy of the pushed frame, and a nested NMI is counted and dropped: a handler
 * already runs.
 *
 *   top - 40   the frame that the processor pushes
 *   top - 48   1 while a handler runs (traps_init clears it)
 *   top - 56   scratch: saved RAX
 *   top - 104  the copy; the rest of the trap frame is below it
 *
 * An NMI between the clearing of the mark and the IRETQ is recognized by its RIP.
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

/* One entry per vector, 16 bytes apart. An entry pushes 0 if the processor pushes no error code. */
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
 * System calls. SYSCALL saves only RIP and RFLAGS, in rcx and r11, and keeps the program's stack
 * pointer: the code must not push before it has loaded RSP0. The flag mask turns interrupts off.
 * The frame is a trap frame, and an unresolved call ends the run as an unresolved trap does.
 *
 * SYSRET to an address that is not canonical faults in ring 0 with the program's stack pointer on
 * some processors (SDM volume 2, SYSRET). An address beyond the program's half therefore becomes a
 * #GP of the program.
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
        jne     system_call_return_all
        movq    FRAME_RIP(%rsp), %rcx
        cmpq    trap_user_end(%rip), %rcx
        jae     system_call_bad_return
        addq    $FRAME_LOW, %rsp
        POP_CALLER_SAVED
        movq    FRAME_RIP - FRAME_VECTOR(%rsp), %rcx
        movq    FRAME_RFLAGS - FRAME_VECTOR(%rsp), %r11
        movq    FRAME_RSP - FRAME_VECTOR(%rsp), %rsp
        swapgs
        sysretq
system_call_return_all:
        testl   %eax, %eax
        jz      system_call_unresolved
        addq    $FRAME_LOW, %rsp
        POP_CALLER_SAVED
        swapgs
        LEAVE
system_call_bad_return:
        movq    $VECTOR_GP, FRAME_VECTOR(%rsp)
system_call_unresolved:
        movq    $0, FRAME_CR2(%rsp)
        movq    $0, FRAME_SWAP_GS(%rsp)
        STORE_CALLEE_SAVED
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
