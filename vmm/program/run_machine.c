/* Programs: running them, system calls, and upcalls of violations. */
#include "vmm/program/program.h"

#include "cpu/cpu.h"
#include "cpu/machine.h"
#include "cpu/points.h"
#include "cpu/registers.h"
#include "cpu/trap/probe.h"
#include "lib/check.h"
#include "lib/print.h"
#include "vmm/fault/fault.h"

/* Bytes under the stack pointer that leaf functions use: System V AMD64 ABI, 3.2.2. */
#define RED_ZONE 128U

/* The program that each processor runs; NULL: none. */
static struct program *running[CPU_MAX];

static struct program *current_program(void)
{
    struct program *program = running[machine_cpu()];

    CHECK(program != NULL);
    return program;
}

/* ---- upcalls ---- */

/* The handler begins as if it had been called: a multiple of 16, less the return address. */
static bool upcall(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    struct program *program = running[machine_cpu()];
    uint64_t place = round_down(frame->rsp - RED_ZONE - sizeof(struct upcall_frame), 16);

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
    frame->rip = program->handler;
    frame->rsp = place - sizeof(uint64_t);
    frame->rdi = place;
    frame->rflags &= ~(RFLAGS_TF | RFLAGS_AC | RFLAGS_DF);
    return true;
}

/* The program may resume anywhere in its half, in ring 3, with user flags. Fields that it must not
 * control are corrected first. */
static enum trap_return upcall_return(struct trap_frame *frame)
{
    uint64_t interrupts = frame->rflags & RFLAGS_IF;
    bool whole = user_copy_in(&frame->r11, frame->rdi, sizeof(struct upcall_frame), NULL);

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

/* The program's space is the running one. Long calls run with the program's own interrupt flag
 * (rule P4). */
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

static enum trap_return on_system_call(struct trap_frame *frame)
{
    enum status status;

    switch (frame->rax) {
    case PROGRAM_NULL: return TRAP_RETURN_FAST;
    case PROGRAM_EXIT: return TRAP_UNRESOLVED;
    case PROGRAM_UPCALL_RETURN: return upcall_return(frame);
    case PROGRAM_SET_HANDLER: status = set_handler(frame->rdi); break;
    case PROGRAM_MAP: status = change_space(frame, program_map); break;
    case PROGRAM_UNMAP: status = change_space(frame, program_unmap); break;
    case PROGRAM_PROTECT: status = change_space(frame, protect); break;
    case PROGRAM_ADVISE: status = change_space(frame, program_advise); break;
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

    CHECK(running[cpu] == NULL);
    trap_system_call = on_system_call;
    fault_upcall = upcall;
    running[cpu] = program;
    if (before != program->space)
        space_switch(program->space);
    user_run(&program->frame);
    if (before != program->space)
        space_switch(before);
    running[cpu] = NULL;
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
