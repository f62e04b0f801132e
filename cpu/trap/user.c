/* Ring 3: entering it, and ending a program's run. */
#include "cpu/trap/user.h"

#include "cpu/fpu.h"
#include "cpu/percpu.h"
#include "cpu/registers.h"
#include "lib/check.h"

/* Flags that SYSCALL clears (SDM volume 3, 5.8.8). */
#define SYSCALL_CLEARS (RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_NT | RFLAGS_AC)

/* SYSCALL loads CS and SS from STAR[47:32] and the next; SYSRET from STAR[63:48] + 16 and + 8. */
#define STAR_SYSCALL_SHIFT 32U
#define STAR_SYSRET_SHIFT  48U

_Static_assert(SELECTOR_KERNEL_DATA == SELECTOR_KERNEL_CODE + 8, "SYSCALL");
_Static_assert(SELECTOR_USER_CODE == SELECTOR_USER_DATA + 8, "SYSRET");

extern const char trap_system_call_entry[];

void user_enter(struct trap_frame *frame, void *rsp0);
_Noreturn void user_leave(uint64_t stack);

static enum trap_return no_system_call(struct trap_frame *frame)
{
    (void)frame;
    return TRAP_UNRESOLVED;
}

enum trap_return (*trap_system_call)(struct trap_frame *frame) = no_system_call;

void user_init(void)
{
    msr_write(IA32_STAR, (uint64_t)SELECTOR_KERNEL_CODE << STAR_SYSCALL_SHIFT |
                             (uint64_t)(SELECTOR_USER_DATA - 8) << STAR_SYSRET_SHIFT);
    msr_write(IA32_LSTAR, (uint64_t)(uintptr_t)trap_system_call_entry);
    msr_write(IA32_FMASK, SYSCALL_CLEARS);
    msr_write(IA32_EFER, msr_read(IA32_EFER) | EFER_SCE);
}

struct trap_frame user_frame(uint64_t rip, uint64_t rsp, uint64_t argument)
{
    return (struct trap_frame){.rdi = argument,
                               .rip = rip,
                               .cs = SELECTOR_USER_CODE,
                               .rflags = RFLAGS_FIXED | RFLAGS_IF,
                               .rsp = rsp,
                               .ss = SELECTOR_USER_DATA};
}

/* Returns whether IRETQ may return to the frame. To a non-canonical address it faults in ring 0 on
 * some processors (SDM volume 2, IRET). */
static bool may_return_to(const struct trap_frame *frame)
{
    return frame->cs == SELECTOR_USER_CODE && frame->ss == SELECTOR_USER_DATA &&
           frame->rip < cpu_user_end();
}

void user_run(struct trap_frame *frame)
{
    bool were_on = machine_interrupts_off();
    struct cpu *cpu = cpu_self();
    uint64_t kernel_stack = cpu->kernel_stack;
    struct fpu_state fpu;

    CHECK(may_return_to(frame));
    frame->rflags = (frame->rflags & (USER_FLAGS | RFLAGS_IF)) | RFLAGS_FIXED;
    if (!were_on)
        frame->rflags &= ~RFLAGS_IF;
    fpu_begin(&fpu);
    user_enter(frame, (char *)&cpu->tss + offsetof(struct tss, rsp));
    fpu_end();
    cpu->kernel_stack = kernel_stack;
    cpu->tss.rsp[0] = kernel_stack;
    machine_interrupts_restore(were_on);
}

/* Ends user_run. The lowest word that user_enter pushed is the address of the caller's frame. */
void user_exit(const struct trap_frame *frame)
{
    uint64_t stack = cpu_self()->kernel_stack;

    CHECK_MSG(trap_from_user(frame) && (uint64_t)(uintptr_t)(frame + 1) == stack,
              "a program's frame at %lx is not on its stack, %lx", (uint64_t)(uintptr_t)frame,
              stack);
    **(struct trap_frame **)(uintptr_t)stack = *frame;
    user_leave(stack);
}
