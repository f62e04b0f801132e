/*
 * stack-trim: what about the stack below the stack pointer?
 *
 * A program dips 4 MiB into a region that is mapped as a stack, returns, and trims: the pages below
 * its red zone are free, and come again at the next dip. Then a child runs on the stack of a
 * stopped parent, below it, as after vfork: a trim by the child, and one by the kernel while both
 * are stopped, keep its frames.
 *
 * Figures: the pages that came back, those that stayed, and the faults of the next dip.
 */
#include "cpu/trap/probe.h"
#include "lib/bytes.h"
#include "tests/programs/stack_program.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_code.h"
#include "tests/runner/user_pages.h"
#include "vmm/space/stack.h"

#define STACK_TOP   UINT64_C(0x40000000)
#define STACK_BYTES (8 * MIB)
#define DIP_PAGES   1024U
#define CHILD_PAGES 32U

/* Distance of the child's stack pointer below its parent's. */
#define CHILD_BELOW (64 * KIB)

static const char *stack_entry(void (*entry)(void))
{
    return (const char *)(uintptr_t)entry;
}

static struct program stack_program(struct space *space, void (*entry)(void), uint64_t rsp)
{
    return program_new(space, user_code_address(stack_entry(entry)), rsp, 0);
}

static bool set_stack_job(uint64_t pages, enum stack_bottom bottom)
{
    const struct stack_job job = {.pages = pages, .bottom = bottom};

    return user_copy_out(STACK_PROGRAM_JOB, &job, sizeof(job), NULL);
}

static struct stack_job stack_job_read(void)
{
    struct stack_job job = {0};

    if (!user_copy_in(&job, STACK_PROGRAM_JOB, sizeof(job), NULL))
        ktap_note("the job cannot be read");
    return job;
}

/* Runs a program to its next exit; returns its number, or UINT64_MAX. */
static uint64_t run_to_exit(struct program *program)
{
    enum program_end end = program_run(program);
    char words[128];

    if (end == PROGRAM_EXITED)
        return program->exit_code;
    (void)program_end_words(program, end, words, sizeof(words));
    ktap_note("%s", words);
    return UINT64_MAX;
}

static uint64_t stack_resident(struct space *space)
{
    struct space_view view = {0};

    return space_query(space, STACK_TOP - STACK_BYTES, &view) == OK ? view.resident : 0;
}

/* ---- a dip ---- */

static void dip_and_trim(struct space *space)
{
    struct program program = stack_program(space, stack_program_dip, STACK_TOP);
    struct program trimming = stack_program(space, stack_program_red_zone, STACK_TOP);
    struct stack_job job;
    uint64_t before;
    uint64_t kept;
    uint64_t faults;
    bool ok;

    ok = set_stack_job(DIP_PAGES, STACK_BOTTOM_NOTHING) && run_to_exit(&program) == 0 &&
         run_to_exit(&program) == 0;
    before = stack_resident(space);
    ktap_check(ok && before >= DIP_PAGES, "after a dip of %u pages %lu are resident", DIP_PAGES,
               before);
    ok = run_to_exit(&trimming) == 0;
    job = stack_job_read();
    kept = stack_resident(space);
    ktap_metric("dipped", before, "pages");
    ktap_metric("returned", before - kept, "pages");
    ktap_metric("kept", kept, "pages");
    ktap_check(ok && job.trimmed == (int64_t)(before - kept) && kept <= 4,
               "the trim frees %ld pages, %lu stay", job.trimmed, kept);
    ktap_check(ok && job.red_wrong == 0, "%lu words of the red zone have changed", job.red_wrong);
    faults = space_faults(space).first_write;
    ok = run_to_exit(&program) == 0;
    faults = space_faults(space).first_write - faults;
    ktap_metric("faults", faults, "faults");
    ktap_check(ok && faults <= before - kept && stack_resident(space) == before,
               "the next dip takes %lu faults, for no more than the pages that came back", faults);
}

/* ---- a child on its parent's stack ---- */

/* Returns whether a parent that was stopped at the start of its dip still finishes it. */
static bool parent_goes_on(struct program *parent)
{
    return set_stack_job(CHILD_PAGES, STACK_BOTTOM_NOTHING) && run_to_exit(parent) == 0;
}

static void child_below_parent(struct space *space)
{
    struct program parent = stack_program(space, stack_program_dip, STACK_TOP - MIB);
    struct program child;
    uint64_t pages = 0;
    enum status status;
    bool ok;

    program_keep_stack(&parent);
    ok = set_stack_job(CHILD_PAGES, STACK_BOTTOM_TRIM) && run_to_exit(&parent) == 0;
    child = stack_program(space, stack_program_dip, parent.frame.rsp - CHILD_BELOW);
    ok = ok && run_to_exit(&child) == 0 && run_to_exit(&child) == 0;
    ktap_check(ok && stack_job_read().trimmed > 0,
               "a child that trims below its parent keeps its frames, %ld pages come back",
               stack_job_read().trimmed);

    program_keep_stack(&child);
    ok = set_stack_job(CHILD_PAGES, STACK_BOTTOM_STOP) && run_to_exit(&child) == 0;
    status = program_trim_stacks(space, NULL, 0, &pages);
    ktap_check(ok && status == OK && run_to_exit(&child) == 0,
               "the kernel trims while both are stopped: %s, the child's frames are whole",
               status_name(status));
    program_forget_stack(&child);
    ktap_check(parent_goes_on(&parent), "the parent goes on");
    program_forget_stack(&parent);
}

static void stack_trim_run(const struct options *options)
{
    struct space *space;
    enum status status;

    (void)options;
    if (!start_space(&space))
        return;
    status = user_code_install(space);
    if (status == OK)
        status = space_map(space, &SPACE_AT(STACK_PROGRAM_JOB, PAGE_SIZE, RIGHTS_READ_WRITE), NULL);
    if (status == OK)
        status = space_map(space,
                           &SPACE_AT(STACK_TOP - STACK_BYTES, STACK_BYTES, RIGHTS_READ_WRITE,
                                     .flags = SPACE_STACK),
                           NULL);
    if (ktap_check(status == OK, "a stack is mapped: %s", status_name(status))) {
        dip_and_trim(space);
        child_below_parent(space);
    }
    end_space(space);
}

EXPERIMENT(stack_trim, 216) = {
    .theme = THEME_FRAMES,
    .name = "stack-trim",
    .question = "What about the stack below the stack pointer?",
    .checks = 8,
    .run = stack_trim_run,
    .answer =
        {
            .text = "{returned} of {dipped} pages came back; {faults} faults at the next dip; the "
                    "red zone stays, and so do the frames of a child below its parent",
            .shipped = "a call trims regions that are mapped as stacks",
            .limit = "programs that run on another processor: then a trim is refused",
        },
};
