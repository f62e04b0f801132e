/* Ring 3: entering it, and what ends a program's run. */
#include "cpu/user.h"

#include "cpu/percpu.h"
#include "cpu/registers.h"
#include "lib/check.h"

void user_enter(const struct trap_frame *frame, uint64_t *stack, void *rsp0);
_Noreturn void user_leave(uint64_t stack);

struct trap_frame user_frame(uint64_t rip, uint64_t rsp, uint64_t argument)
{
    return (struct trap_frame){.rdi = argument,
                               .rip = rip,
                               .cs = SELECTOR_USER_CODE,
                               .rflags = RFLAGS_FIXED | RFLAGS_IF,
                               .rsp = rsp,
                               .ss = SELECTOR_USER_DATA};
}

/* IRETQ to a non-canonical address faults in ring 0 on some processors: SDM volume 2, IRET. */
static bool may_return_to(const struct trap_frame *frame)
{
    return frame->cs == SELECTOR_USER_CODE && frame->ss == SELECTOR_USER_DATA &&
           frame->rip < cpu_user_end();
}

void user_run(struct trap_frame *frame)
{
    bool were_on = machine_interrupts_off();
    struct cpu *cpu = cpu_self();
    uint64_t rsp0 = cpu->tss.rsp[0];

    CHECK(may_return_to(frame) && cpu->user.frame == NULL);
    frame->rflags = (frame->rflags & (USER_FLAGS | RFLAGS_IF)) | RFLAGS_FIXED;
    cpu->user.frame = frame;
    user_enter(frame, &cpu->user.stack, (char *)&cpu->tss + offsetof(struct tss, rsp));
    cpu->user.frame = NULL;
    cpu->tss.rsp[0] = rsp0;
    machine_interrupts_restore(were_on);
}

void user_exit(const struct trap_frame *frame)
{
    struct cpu *cpu = cpu_self();

    CHECK(trap_from_user(frame) && cpu->user.frame != NULL);
    *cpu->user.frame = *frame;
    user_leave(cpu->user.stack);
}
