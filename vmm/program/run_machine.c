/* Programs: running them, system calls, and upcalls of violations. */
#include "vmm/program/program.h"

#include "cpu/cpu.h"
#include "cpu/interrupts/local_apic.h"
#include "cpu/machine.h"
#include "cpu/percpu.h"
#include "cpu/points.h"
#include "cpu/registers.h"
#include "cpu/smp/thread.h"
#include "cpu/trap/probe.h"
#include "lib/check.h"
#include "lib/print.h"
#include "vmm/fault/fault.h"
#include "vmm/space/stack.h"

/* Returns the program that this processor runs, or NULL. */
static struct program *running_program(void)
{
    return thread_programs[machine_cpu()];
}

static struct program *current_program(void)
{
    struct program *program = running_program();

    CHECK(program != NULL);
    return program;
}

/* ---- upcalls ---- */

/* Lets the program go on at a handler, whose frame has been copied to this place. The handler
 * begins as if it had been called: a multiple of 16, less the return address. */
static void enter_handler(struct trap_frame *frame, uint64_t handler, uint64_t place)
{
    frame->rip = handler;
    frame->rsp = place - sizeof(uint64_t);
    frame->rdi = place;
    frame->rflags &= ~(RFLAGS_TF | RFLAGS_AC | RFLAGS_DF);
}

static bool upcall(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    struct program *program = running_program();
    uint64_t place = round_down(frame->rsp - STACK_RED_ZONE - sizeof(struct upcall_frame), 16);

    (void)error;
    CODE_POINT(POINT_UPCALL);
    if (program == NULL)
        return false;
    frame->vector = address;
    if (program->handler == 0 ||
        !user_copy_out(place, &frame->r11, sizeof(struct upcall_frame), NULL)) {
        frame->vector = TRAP_PF;
        program->reason = fault_last_reason();
        return false;
    }
    program->upcalls++;
    program->upcall_frame = place;
    enter_handler(frame, program->handler, place);
    return true;
}

/* Starts the program's notice handler if the level has changed since its last notice. If the
 * program's stack has no room for the frame, the next trap tries again. */
static bool tell_notice(struct trap_frame *frame)
{
    struct program *program = running_program();
    uint64_t place = round_down(frame->rsp - STACK_RED_ZONE - sizeof(struct upcall_frame), 16);
    uint64_t vector = frame->vector;
    uint64_t error = frame->error;
    enum pmm_pressure level;

    if (program == NULL || program->notice_frame != 0 || !notice_pending(&program->notice, &level))
        return false;
    frame->vector = level;
    frame->error = 0;
    if (user_copy_out(place, &frame->r11, sizeof(struct upcall_frame), NULL)) {
        notice_told(&program->notice, level);
        program->notices++;
        program->notice_frame = place;
        enter_handler(frame, program->notice_handler, place);
    }
    frame->vector = vector;
    frame->error = error;
    return program->notice_frame == place;
}

static void tell_after_fault(struct trap_frame *frame)
{
    (void)tell_notice(frame);
}

/* Handles the interrupt of a notice. If it interrupted ring 0, the program is told later, when its
 * slow page fault or its sleep ends. */
static bool on_notice_interrupt(struct trap_frame *frame)
{
    local_apic_end();
    if (trap_from_user(frame))
        (void)tell_notice(frame);
    return true;
}

/* Interrupts all processors after a change of the level, since any may run a program with a notice
 * handler. A processor that takes no interrupt starts the handler later. */
static void interrupt_programs(void)
{
    bool were_on = machine_interrupts_off();

    for (uint64_t at = machine_processors(); at != 0 && local_apic_present(); at &= at - 1)
        (void)local_apic_send(cpu_table[__builtin_ctzll(at)].apic_id, ICR_FIXED | VECTOR_NOTICE);
    machine_interrupts_restore(were_on);
}

/* Lets slow page faults end with a look for notices, while there are members. */
static void tell_after_faults(bool any)
{
    __atomic_store_n(&fault_notice, any ? tell_after_fault : NULL, __ATOMIC_RELAXED);
}

static void hear_notices(struct program *program)
{
    if (program->notice_handler != 0 && !program->notice.joined) {
        trap_set_handler(VECTOR_NOTICE, on_notice_interrupt);
        notice_on_change(interrupt_programs);
        notice_on_members(tell_after_faults);
        notice_join(&program->notice);
    } else if (program->notice_handler == 0 && program->notice.joined) {
        notice_leave(&program->notice);
    }
}

static void stop_hearing(struct program *program)
{
    if (program->notice.joined)
        notice_leave(&program->notice);
}

/* Resumes the program from its frame: anywhere in its half, in ring 3, with user flags. Corrects
 * fields that it must not control. */
static enum trap_return upcall_return(struct trap_frame *frame)
{
    uint64_t interrupts = frame->rflags & RFLAGS_IF;
    struct program *program = running_program();
    uint64_t place = frame->rdi;
    bool whole = user_copy_in(&frame->r11, place, sizeof(struct upcall_frame), NULL);

    if (program != NULL && program->notice_frame == place)
        program->notice_frame = 0;
    else if (program != NULL)
        program->upcall_frame = 0;

    frame->cs = SELECTOR_USER_CODE;
    frame->ss = SELECTOR_USER_DATA;
    frame->rflags = (frame->rflags & USER_FLAGS) | RFLAGS_FIXED | interrupts;
    if (whole && frame->rip < cpu_user_end())
        return TRAP_RETURN_ALL;
    frame->vector = USER_SYSTEM_CALL;
    frame->error = 0;
    return TRAP_UNRESOLVED;
}

/* ---- system calls ---- */

static enum status set_handler(uint64_t handler)
{
    if (handler >= cpu_user_end())
        return STATUS_RANGE;
    current_program()->handler = handler;
    return OK;
}

/* Decodes the rights that a program requests; false if it sets unknown bits. */
static bool parse_rights(uint64_t flags, struct rights *rights)
{
    *rights = (struct rights){.write = (flags & PROGRAM_MAP_WRITE) != 0,
                              .execute = (flags & PROGRAM_MAP_EXECUTE) != 0,
                              .user = true};
    if (flags == PROGRAM_MAP_NONE)
        *rights = (struct rights){.none = true};
    return flags <= (PROGRAM_MAP_WRITE | PROGRAM_MAP_EXECUTE) || flags == PROGRAM_MAP_NONE;
}

/* Maps memory for a program. Builds no struct space_request: its rights would give every system
 * call a stack frame. */
static enum status program_map(struct space *space, const struct trap_frame *frame)
{
    struct rights rights;

    return parse_rights(frame->rdx, &rights)
               ? space_map_small_pages(space, frame->rdi, frame->rsi, rights)
               : STATUS_RANGE;
}

__attribute__((noinline)) static enum status protect(struct space *space,
                                                     const struct trap_frame *frame)
{
    struct rights rights;

    return parse_rights(frame->rdx, &rights) ? space_protect(space, frame->rdi, frame->rsi, rights)
                                             : STATUS_RANGE;
}

__attribute__((noinline)) static enum status program_advise(struct space *space,
                                                            const struct trap_frame *frame)
{
    return frame->rdx > SPACE_RANDOM
               ? STATUS_RANGE
               : space_advise(space, frame->rdi, frame->rsi, (enum space_advice)frame->rdx);
}

static enum status program_unmap(struct space *space, const struct trap_frame *frame)
{
    return space_unmap(space, frame->rdi, frame->rsi);
}

/* Performs a call on the program's space, which is the running one. Long calls run with the
 * program's own interrupt flag (rule P4). */
static inline enum status change_space(const struct trap_frame *frame,
                                       enum status (*change)(struct space *space,
                                                             const struct trap_frame *frame))
{
    enum status status;

    machine_interrupts_restore((frame->rflags & RFLAGS_IF) != 0);
    status = change(space_current(), frame);
    (void)machine_interrupts_off();
    return status;
}

static enum status set_notice(uint64_t handler)
{
    if (handler >= cpu_user_end())
        return STATUS_RANGE;
    current_program()->notice_handler = handler;
    hear_notices(current_program());
    return OK;
}

/* Sleeps; a notice that came meanwhile is told at the end. */
static enum trap_return program_sleep(struct trap_frame *frame)
{
    frame->rax = (uint64_t)(int64_t)STATUS_RANGE;
    if (frame->rdi > PROGRAM_SLEEP_MOST)
        return TRAP_RETURN_FAST;
    thread_sleep_us(frame->rdi);
    frame->rax = OK;
    return tell_notice(frame) ? TRAP_RETURN_ALL : TRAP_RETURN_FAST;
}

__attribute__((noinline)) static enum status lend_memory(struct space *space,
                                                         const struct trap_frame *frame)
{
    (void)space;
    return program_lend(current_program(), frame);
}

__attribute__((noinline)) static enum status revoke_memory(struct space *space,
                                                           const struct trap_frame *frame)
{
    (void)space;
    return program_revoke(current_program(), frame);
}

/* Trims the stacks of the running space; returns the pages that were freed, or a status. */
static enum status trim_stacks(const struct trap_frame *frame)
{
    struct program *program = current_program();
    uint64_t pages = 0;
    enum status status = program_trim_stacks(program->space, program, frame->rsp, &pages);

    return status == OK ? (enum status)pages : status;
}

static enum trap_return on_system_call(struct trap_frame *frame)
{
    enum status status;

    switch (frame->rax) {
    case PROGRAM_NULL: return TRAP_RETURN_FAST;
    case PROGRAM_EXIT: return TRAP_UNRESOLVED;
    case PROGRAM_UPCALL_RETURN: return upcall_return(frame);
    case PROGRAM_SLEEP: return program_sleep(frame);
    case PROGRAM_SET_HANDLER: status = set_handler(frame->rdi); break;
    case PROGRAM_MAP: status = change_space(frame, program_map); break;
    case PROGRAM_UNMAP: status = change_space(frame, program_unmap); break;
    case PROGRAM_PROTECT: status = change_space(frame, protect); break;
    case PROGRAM_ADVISE: status = change_space(frame, program_advise); break;
    case PROGRAM_PRESSURE: status = (enum status)pmm_pressure(); break;
    case PROGRAM_SET_NOTICE: status = set_notice(frame->rdi); break;
    case PROGRAM_TRIM: status = trim_stacks(frame); break;
    case PROGRAM_LEND:
    case PROGRAM_GIVE: status = change_space(frame, lend_memory); break;
    case PROGRAM_REVOKE: status = change_space(frame, revoke_memory); break;
    default: status = STATUS_UNSUPPORTED; break;
    }
    frame->rax = (uint64_t)(int64_t)status;
    return TRAP_RETURN_FAST;
}

/* ---- running ---- */

struct program program_new(struct space *space, uint64_t rip, uint64_t rsp, uint64_t argument)
{
    return (struct program){.space = space, .frame = user_frame(rip, rsp, argument)};
}

static enum program_end program_end_of(struct program *program)
{
    const struct trap_frame *frame = &program->frame;

    if (frame->vector == USER_SYSTEM_CALL && frame->rax == PROGRAM_EXIT) {
        program->exit_code = frame->rdi;
        return PROGRAM_EXITED;
    }
    return frame->vector == TRAP_PF ? PROGRAM_VIOLATION : PROGRAM_TRAPPED;
}

enum program_end program_run(struct program *program)
{
    struct space *before = space_current();
    unsigned cpu = machine_cpu();

    CHECK(thread_programs[cpu] == NULL);
    trap_system_call = on_system_call;
    fault_upcall = upcall;
    program_starts(program);
    thread_programs[cpu] = program;
    hear_notices(program);
    if (before != program->space)
        space_switch(program->space);
    (void)tell_notice(&program->frame);
    user_run(&program->frame);
    if (before != program->space)
        space_switch(before);
    stop_hearing(program);
    thread_programs[cpu] = NULL;
    program_stops(program);
    return program_end_of(program);
}

size_t program_end_words(const struct program *program, enum program_end end, char *buffer,
                         size_t size)
{
    const struct trap_frame *frame = &program->frame;
    char words[128];

    switch (end) {
    case PROGRAM_EXITED: return print_to(buffer, size, "it exited with %lx", program->exit_code);
    case PROGRAM_VIOLATION:
        trap_page_fault_words(frame->error, words, sizeof(words));
        return print_to(buffer, size, "%s, at 0x%lx from 0x%lx: %s", words, frame->cr2, frame->rip,
                        status_name(program->reason));
    default:
        return print_to(
            buffer, size, "%s, %s, error %lx, at 0x%lx",
            frame->vector < TRAP_VECTORS ? trap_mnemonic((unsigned)frame->vector) : "system call",
            frame->vector < TRAP_VECTORS ? trap_name((unsigned)frame->vector) : "refused",
            frame->error, frame->rip);
    }
}
