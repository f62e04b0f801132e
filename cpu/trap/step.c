/* Stepping through page faults by DR0 and the trap flag. */
#include "cpu/trap/step.h"

#include "cpu/features.h"
#include "cpu/percpu.h"
#include "cpu/registers.h"
#include "cpu/trap/entry.h"
#include "cpu/trap/user.h"
#include "lib/check.h"

/* DR6: the cause, and the bits that are always 1. DR7: DR0 enabled for execution, and likewise. SDM
 * volume 3, 17.2.3 and 17.2.4. */
#define DR6_B0    (UINT64_C(1) << 0)
#define DR6_BS    (UINT64_C(1) << 14)
#define DR6_CLEAR UINT64_C(0xffff0ff0)
#define DR7_L0    (UINT64_C(1) << 0)
#define DR7_FIXED (UINT64_C(1) << 10)

extern const struct code_point image_points_start[];
extern const struct code_point image_points_end[];

static void (*visitor)(uint64_t rip);

/* Handles #DB. RF lets the instruction at the breakpoint run, and TF stops after it. */
static bool on_debug(struct trap_frame *frame)
{
    uint64_t why;

    __asm__ volatile("movq %%dr6, %0" : "=r"(why));
    __asm__ volatile("movq %0, %%dr6" : : "r"(DR6_CLEAR));
    if ((why & (DR6_B0 | DR6_BS)) == 0)
        return false;
    if (trap_from_user(frame)) {
        frame->rflags &= ~RFLAGS_TF;
        return true;
    }
    visitor(frame->rip);
    frame->rflags |= RFLAGS_TF | RFLAGS_RF;
    return true;
}

void step_begin(void (*visit)(uint64_t rip))
{
    const char *entry = cpu_features()->smap ? trap_page_fault_stub_smap : trap_page_fault_stub;

    CHECK(visitor == NULL && visit != NULL);
    visitor = visit;
    trap_set_handler(TRAP_DB, on_debug);
    __asm__ volatile("movq %0, %%dr6" : : "r"(DR6_CLEAR));
    __asm__ volatile("movq %0, %%dr0" : : "r"(entry));
    __asm__ volatile("movq %0, %%dr7" : : "r"(DR7_FIXED | DR7_L0) : "memory");
}

void step_end(void)
{
    __asm__ volatile("movq %0, %%dr7" : : "r"(DR7_FIXED) : "memory");
    trap_set_handler(TRAP_DB, NULL);
    visitor = NULL;
}

unsigned step_point_at(uint64_t rip)
{
    for (const struct code_point *at = image_points_start; at < image_points_end; at++) {
        if ((uint64_t)(uintptr_t)&at->place + (uint64_t)(int64_t)at->place == rip)
            return at->number;
    }
    return POINTS;
}
