/*
 * Traps: from the vector to a C handler, and back.
 *
 * A page fault takes the fast path: only the registers that C may change are saved, and
 * trap_page_fault is asked. If it says no, and for all other vectors, the frame is completed, and
 * the order is: the vector's own handler, stray interrupts, the exception table (cpu/trap/probe.h),
 * the crash report (trap_unhandled).
 *
 * A handler may change CS of a frame: GS follows it, since the exit code tests the frame's CS.
 *
 * Owns: the handlers' table and the counts. Interrupts are off in every handler; the direction
 * flag and EFLAGS.AC are clear.
 * Fails with: nothing. An NMI may come anywhere, also while one is handled. A fault inside a
 * handler is a trap like any other: CR2 was read before. Context: handlers run on the interrupted
 * stack; #DF, NMI and #MC on their own. Spec: Intel SDM volume 3, 6.10 to 6.15
 * (exceptions), 4.7 (page-fault error code).
 */
#ifndef CPU_TRAP_TRAP_H
#define CPU_TRAP_TRAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRAP_VECTORS 256U

/* Vectors: SDM volume 3, table 6-1. */
#define TRAP_DE         0U
#define TRAP_DB         1U
#define TRAP_NMI        2U
#define TRAP_BP         3U
#define TRAP_UD         6U
#define TRAP_DF         8U
#define TRAP_TS         10U
#define TRAP_NP         11U
#define TRAP_SS         12U
#define TRAP_GP         13U
#define TRAP_PF         14U
#define TRAP_MC         18U
#define TRAP_EXCEPTIONS 32U /* the architecture's; above it are interrupts */

/* Page-fault error code: SDM volume 3, 4.7. */
#define PF_P     (UINT64_C(1) << 0)  /* the entry was present: rights; else it was not */
#define PF_WR    (UINT64_C(1) << 1)  /* a write */
#define PF_US    (UINT64_C(1) << 2)  /* from ring 3 */
#define PF_RSVD  (UINT64_C(1) << 3)  /* a reserved bit in an entry; TCG leaves P out */
#define PF_ID    (UINT64_C(1) << 4)  /* an instruction fetch */
#define PF_PK    (UINT64_C(1) << 5)  /* a protection key */
#define PF_SS    (UINT64_C(1) << 6)  /* a shadow-stack access */
#define PF_HLAT  (UINT64_C(1) << 7)  /* during a hypervisor-managed walk */
#define PF_SGX   (UINT64_C(1) << 15) /* an enclave's rules */
#define PF_KNOWN (PF_P | PF_WR | PF_US | PF_RSVD | PF_ID | PF_PK | PF_SS | PF_HLAT | PF_SGX)

/* The registers on the stack in every trap, lowest address first (cpu/trap/entry.h). On the fast
 * path of a page fault only the part from r11 on is filled; the registers before it are still in
 * the processor. */
struct trap_frame {
    uint64_t cr2;     /* read at entry; meaningful for #PF */
    uint64_t swap_gs; /* not 0: ring 0 was interrupted with the program's GS, which comes back */
    uint64_t r15, r14, r13, r12, rbp, rbx;
    uint64_t r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint64_t vector;
    uint64_t error; /* 0 where the vector has none */
    uint64_t rip, cs, rflags, rsp, ss;
};

struct cpu_stacks;

/* Starts traps on the first processor: loads its GDT, TSS and IDT, sets CR0 and CR4, masks the PIC.
 * Once it returns, traps reach cpu/trap/trap.c. Interrupts stay off. */
void traps_init(const struct cpu_stacks *stacks);

/* Does the same on another processor, which has loaded GS already and shares IDT and PIC. */
void traps_init_other(unsigned number, const struct cpu_stacks *stacks);

/* Returns whether traps_init has run. */
bool traps_ready(void);

/* Makes an NMI return at once: a second report would begin in the middle of the first. */
void traps_disarm_nmi(void);

/* Resolves a page fault: true = go on where it happened. Address and error code are those of the
 * frame. On the fast path: see struct trap_frame.
 * Until it is set nothing is resolved. Setting it is one store of a pointer. */
extern bool (*trap_page_fault)(uint64_t address, uint64_t error, struct trap_frame *frame);

/* How a system call ends: user_run returns (cpu/trap/user.h); SYSRET, with rax and the registers
 * that SYSRET keeps from the frame; or IRETQ, with all caller-saved registers from the frame. */
enum trap_return { TRAP_UNRESOLVED, TRAP_RETURN_FAST, TRAP_RETURN_ALL };

/* Serves a system call: the frame is filled from r11 on, as on the fast path of a page fault; rip
 * and rflags are the program's. Until it is set nothing is resolved. */
extern enum trap_return (*trap_system_call)(struct trap_frame *frame);

/* The initial value of trap_page_fault: resolves nothing. */
bool trap_page_fault_none(uint64_t address, uint64_t error, struct trap_frame *frame);

/* Sets the handler of a vector other than #PF, or none with NULL. It returns true when the
 * interrupted code may go on, false to pass the trap on. The frame is complete and may be
 * changed. An interrupt's handler does its own end-of-interrupt. */
void trap_set_handler(unsigned vector, bool (*handler)(struct trap_frame *frame));

/* Unexpected interrupts. */
struct trap_counts {
    uint64_t spurious;    /* the PIC's vectors 7 and 15 without a request, the local APIC's 255 */
    uint64_t stray;       /* real ones, acknowledged and dropped */
    uint64_t nested_nmis; /* dropped while one was handled; of all processors */
};

struct trap_counts trap_counts(void);

/* ---- defined in cpu/crash/crash.c, as panic_at of lib/check.h is ---- */

/* Reports a trap that nothing handles, and ends the run. */
_Noreturn void trap_unhandled(const struct trap_frame *frame);

/* Stops this processor if another one reports a crash. Called for an NMI. */
void trap_stop_if_asked(const struct trap_frame *frame);

/* ---- words; pure, in cpu/trap/describe.c ---- */

/* Return a vector's names, such as "#PF" and "page fault"; "interrupt" for vectors without a name.
 * Never NULL. */
const char *trap_mnemonic(unsigned vector);
const char *trap_name(unsigned vector);

/* Returns whether the processor pushes an error code for the vector. */
bool trap_has_error(unsigned vector);

/* Writes a page-fault error code in words: "write, by the kernel, to a page that is not present".
 * Returns the text's whole length as snprintf does. Names an unknown bit as such, with its
 * value. */
size_t trap_page_fault_words(uint64_t error, char *buffer, size_t size);

/* Returns whether every bit of a page-fault error code is known and the combination is possible. */
bool trap_page_fault_valid(uint64_t error);

/* Writes the error code of #TS, #NP, #SS or #GP in words: "selector 0x28 of the GDT". */
size_t trap_selector_words(uint64_t error, char *buffer, size_t size);

#endif
