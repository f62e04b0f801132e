/* Trap dispatch: which handlers are tried, and in which order. */
#include "cpu/trap/trap.h"

#include "cpu/cpu.h"
#include "cpu/interrupts/local_apic.h"
#include "cpu/interrupts/pic.h"
#include "cpu/machine.h"
#include "cpu/points.h"
#include "cpu/registers.h"
#include "cpu/trap/entry.h"
#include "cpu/trap/probe.h"
#include "cpu/trap/user.h"
#include "lib/check.h"

/* cpu/trap/entry.h */
#define AT(field, offset)                                                                          \
    _Static_assert(offsetof(struct trap_frame, field) == (offset), "cpu/trap/trap.S builds it")
AT(cr2, FRAME_CR2);
AT(swap_gs, FRAME_SWAP_GS);
AT(r15, FRAME_R15);
AT(r14, FRAME_R14);
AT(r13, FRAME_R13);
AT(r12, FRAME_R12);
AT(rbp, FRAME_RBP);
AT(rbx, FRAME_RBX);
AT(r11, FRAME_R11);
AT(r10, FRAME_R10);
AT(r9, FRAME_R9);
AT(r8, FRAME_R8);
AT(rax, FRAME_RAX);
AT(rcx, FRAME_RCX);
AT(rdx, FRAME_RDX);
AT(rsi, FRAME_RSI);
AT(rdi, FRAME_RDI);
AT(vector, FRAME_VECTOR);
AT(error, FRAME_ERROR);
AT(rip, FRAME_RIP);
AT(cs, FRAME_CS);
AT(rflags, FRAME_RFLAGS);
AT(rsp, FRAME_RSP);
AT(ss, FRAME_SS);
_Static_assert(sizeof(struct trap_frame) == FRAME_SIZE, "cpu/trap/trap.S builds it");
_Static_assert(TRAP_RETURN_FAST == 1, "cpu/trap/trap.S compares with it");

#define PIC_VECTORS 16U

/* The local APIC's spurious vector, which wants no end-of-interrupt: SDM volume 3, 11.9. */
#define APIC_SPURIOUS_VECTOR 255U

bool (*trap_page_fault)(uint64_t address, uint64_t error,
                        struct trap_frame *frame) = trap_page_fault_none;

static bool (*handlers[TRAP_VECTORS])(struct trap_frame *frame);
static struct trap_counts counts_of[CPU_MAX]; /* each its processor's own */
uint64_t trap_nmis_nested;

bool trap_page_fault_none(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    (void)address;
    (void)error;
    (void)frame;
    return false;
}

void trap_set_handler(unsigned vector, bool (*handler)(struct trap_frame *frame))
{
    CHECK(vector < TRAP_VECTORS);
    CHECK(vector != TRAP_PF);
    handlers[vector] = handler;
}

struct trap_counts trap_counts(void)
{
    struct trap_counts counts = counts_of[machine_cpu()];

    counts.nested_nmis = __atomic_load_n(&trap_nmis_nested, __ATOMIC_RELAXED);
    return counts;
}

/* Acknowledges an unexpected interrupt at the controller that has it in service. */
static void acknowledge_stray(unsigned vector)
{
    struct trap_counts *counts = &counts_of[machine_cpu()];

    if (vector != APIC_SPURIOUS_VECTOR && local_apic_serves(vector)) {
        local_apic_end();
        counts->stray++;
    } else if (vector - PIC_VECTOR < PIC_VECTORS && pic_end_stray(vector)) {
        counts->stray++;
    } else {
        counts->spurious++;
    }
}

/* Returns whether a fix-up or program may expect the trap: not a page fault with an impossible
 * error code. */
static bool may_be_expected(const struct trap_frame *frame)
{
    return frame->vector != TRAP_PF || trap_page_fault_valid(frame->error);
}

/* Returns whether the program caused the trap. It does not cause NMI, #DF and #MC, which only occur
 * while it runs, nor a page fault with an impossible error code. */
static bool is_of_program(const struct trap_frame *frame)
{
    return trap_from_user(frame) && frame->vector != TRAP_NMI && frame->vector != TRAP_DF &&
           frame->vector != TRAP_MC && may_be_expected(frame);
}

static void dispatch(struct trap_frame *frame)
{
    bool (*handler)(struct trap_frame * frame) = handlers[frame->vector];

    if (frame->vector == TRAP_NMI)
        trap_stop_if_asked(frame);
    if (handler != NULL && handler(frame))
        return;
    if (frame->vector >= TRAP_EXCEPTIONS)
        acknowledge_stray((unsigned)frame->vector);
    else if (is_of_program(frame))
        user_exit(frame);
    else if (!may_be_expected(frame) || !probe_fix_up(frame))
        trap_unhandled(frame);
}

/* Called by cpu/trap/trap.S for every trap but a resolved page fault. An NMI or a machine check may
 * come between a page fault and the reading of its CR2: their handlers preserve the register. */
void trap_dispatch(struct trap_frame *frame);

void trap_dispatch(struct trap_frame *frame)
{
    if ((frame->rflags & RFLAGS_IF) != 0)
        INTERRUPTS_CHECK(off);
    dispatch(frame);
    if ((frame->rflags & RFLAGS_IF) != 0)
        INTERRUPTS_CHECK(on);
    if ((frame->vector == TRAP_NMI || frame->vector == TRAP_MC) && cr2_read() != frame->cr2)
        cr2_write(frame->cr2);
}
