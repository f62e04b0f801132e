/* The stacks of programs: which programs use a space, and where each one's stack pointer is. */
#include "cpu/smp/thread.h"
#include "lib/check.h"
#include "vmm/program/program.h"
#include "vmm/space/stack.h"

/* Stack pointers of one space: each program has one, and perhaps the frames of two handlers. */
#define POINTERS_MAX 96U
#define POINTERS_OF  3U

/* The programs that run, or keep their stack. Protector: the mutex, which a trim holds to its end,
 * so that no program of the space starts meanwhile. */
static struct mutex programs_lock;
static struct program *programs;

static void list_program(struct program *program)
{
    if (program->users++ > 0)
        return;
    program->next = programs;
    programs = program;
}

static void unlist_program(struct program *program)
{
    struct program **at = &programs;

    CHECK(program->users > 0);
    if (--program->users > 0)
        return;
    while (*at != program) {
        CHECK(*at != NULL);
        at = &(*at)->next;
    }
    *at = program->next;
}

void program_keep_stack(struct program *program)
{
    mutex_lock(&programs_lock);
    list_program(program);
    mutex_unlock(&programs_lock);
}

void program_forget_stack(struct program *program)
{
    mutex_lock(&programs_lock);
    unlist_program(program);
    mutex_unlock(&programs_lock);
}

void program_starts(struct program *program)
{
    mutex_lock(&programs_lock);
    list_program(program);
    program->runs = true;
    mutex_unlock(&programs_lock);
}

void program_stops(struct program *program)
{
    mutex_lock(&programs_lock);
    program->runs = false;
    unlist_program(program);
    mutex_unlock(&programs_lock);
}

/* Collects the pointers of a space's programs. STATUS_BUSY: one runs, so that its pointer is not
 * known; `caller` is in a system call with this stack pointer. */
static enum status collect_pointers(const struct space *space, const struct program *caller,
                                    uint64_t callers, uint64_t *pointers, unsigned *count)
{
    for (const struct program *at = programs; at != NULL; at = at->next) {
        if (at->space != space)
            continue;
        if (at->runs && at != caller)
            return STATUS_BUSY;
        if (*count + POINTERS_OF > POINTERS_MAX)
            return STATUS_LIMIT;
        pointers[(*count)++] = at == caller ? callers : at->frame.rsp;
        if (at->notice_frame != 0)
            pointers[(*count)++] = at->notice_frame;
        if (at->upcall_frame != 0)
            pointers[(*count)++] = at->upcall_frame;
    }
    return OK;
}

enum status program_trim_stacks(struct space *space, const struct program *caller, uint64_t callers,
                                uint64_t *pages)
{
    uint64_t pointers[POINTERS_MAX];
    unsigned count = 0;
    enum status status;

    mutex_lock(&programs_lock);
    status = collect_pointers(space, caller, callers, pointers, &count);
    if (status == OK)
        status = space_trim_stacks(space, pointers, count, pages);
    mutex_unlock(&programs_lock);
    return status;
}
