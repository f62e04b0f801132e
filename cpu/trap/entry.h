/*
 * The trap entry: the layout of struct trap_frame and the macros that save registers, for assembly;
 * the labels and data that cpu/trap/trap.S shares with C. For cpu/ only.
 *
 * cpu/trap/trap.c asserts that each offset is that of the field. Owns: nothing. Fails with:
 * nothing. Context: any. Spec: System V AMD64 ABI (which registers the callee saves).
 */
#ifndef CPU_TRAP_ENTRY_H
#define CPU_TRAP_ENTRY_H

#define FRAME_CR2     0
#define FRAME_SWAP_GS 8
#define FRAME_R15     16 /* from here the callee-saved registers */
#define FRAME_R14     24
#define FRAME_R13     32
#define FRAME_R12     40
#define FRAME_RBP     48
#define FRAME_RBX     56
#define FRAME_R11     64 /* from here the caller-saved registers; the fast path fills the rest */
#define FRAME_R10     72
#define FRAME_R9      80
#define FRAME_R8      88
#define FRAME_RAX     96
#define FRAME_RCX     104
#define FRAME_RDX     112
#define FRAME_RSI     120
#define FRAME_RDI     128
#define FRAME_VECTOR  136
#define FRAME_ERROR   144
#define FRAME_RIP     152 /* from here the words that the processor pushes */
#define FRAME_CS      160
#define FRAME_RFLAGS  168
#define FRAME_RSP     176
#define FRAME_SS      184
#define FRAME_SIZE    192

#ifdef __ASSEMBLER__
/* clang-format off */

/* The two are each other's inverse. */
.macro PUSH_CALLEE_SAVED
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
.endm

.macro POP_CALLEE_SAVED
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
.endm

/* Completes a frame on the stack that was filled from r11 on. */
.macro STORE_CALLEE_SAVED
        movq    %r15, FRAME_R15(%rsp)
        movq    %r14, FRAME_R14(%rsp)
        movq    %r13, FRAME_R13(%rsp)
        movq    %r12, FRAME_R12(%rsp)
        movq    %rbp, FRAME_RBP(%rsp)
        movq    %rbx, FRAME_RBX(%rsp)
.endm

/* clang-format on */
#else

#include <stdint.h>

#define TRAP_STUB_SIZE 16U

extern const char trap_stubs[]; /* TRAP_VECTORS entries, TRAP_STUB_SIZE bytes apart */

/* Entries that replace those of trap_stubs. */
extern const char trap_page_fault_stub[];
extern const char trap_page_fault_stub_smap[];
extern const char trap_nmi_stub[];

extern const char trap_return_stub[]; /* nothing but IRETQ */

/* Bounds of the entry code, for the backtrace. */
extern const char trap_entry_start[];
extern const char trap_entry_end[];

/* Below the top of the NMI stack: the word that trap_nmi_stub sets while it runs. */
#define NMI_MARK       48U

/* NMIs that arrived while one was handled, on all processors. */
extern uint64_t trap_nmis_nested;

#endif

#endif
