/* Runs the heap's programs for the experiments. */
#include "tests/experiments/heap/heap_run.h"

#include "cpu/clock/time.h"
#include "cpu/trap/probe.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_code.h"
#include "tests/runner/user_pages.h"

/* The background program may work between two phases until no free page is dirty. */
#define IDLE_US    1000U
#define IDLE_TURNS 1000U

/* The background program's stack is the lower half of what user_code_install maps. */
#define BACKGROUND_STACK (USER_CODE_STACK - 2 * PAGE_SIZE)

struct heap_job heap_run_job;

_Static_assert(HEAP_PROGRAM_JOB >= USER_CODE_BUFFER + USER_CODE_BUFFER_SIZE, "beside the buffer");

static const char *heap_entry(void (*entry)(void))
{
    return (const char *)(uintptr_t)entry;
}

static void heap_run_background(void *argument)
{
    struct heap_run *run = argument;

    thread_set_low();
    (void)program_run(&run->background);
}

/* Maps code, job and heap, and copies the job. */
static enum status heap_run_map(struct space *space)
{
    enum status status = user_code_install(space);

    if (status == OK)
        status = space_map(space,
                           &SPACE_AT(HEAP_PROGRAM_JOB, round_up(sizeof(heap_run_job), PAGE_SIZE),
                                     RIGHTS_READ_WRITE),
                           NULL);
    if (status == OK)
        status = space_map(
            space, &SPACE_AT(HEAP_PROGRAM_ARENA, heap_run_job.arena_size, RIGHTS_READ_WRITE), NULL);
    if (status == OK && !user_copy_out(HEAP_PROGRAM_JOB, &heap_run_job, sizeof(heap_run_job), NULL))
        status = STATUS_NO_MEMORY;
    return status;
}

bool heap_run_start(struct heap_run *run, enum heap_policy_kind kind)
{
    *run = (struct heap_run){.kind = kind};
    heap_run_job.kind = kind;
    heap_run_job.tick_khz = max_u64(time_source()->hz / 1000, 1);
    if (!start_space(&run->space))
        return false;
    if (!SUCCEEDS(heap_run_map(run->space)))
        return false;
    run->program = user_code_program(run->space, heap_entry(heap_program_churn), 0);
    run->background = program_new(
        run->space, user_code_address(heap_entry(heap_program_background)), BACKGROUND_STACK, 0);
    return heap_policies[kind].step_pages == 0 ||
           SUCCEEDS(thread_create(machine_cpu(), heap_run_background, run, &run->thread));
}

static void take_sample(const struct heap_run *run, struct heap_sample *sample)
{
    struct fault_counts faults = space_faults(run->space);
    struct space_view view = {0};
    struct heap heap = {0};

    if (space_query(run->space, HEAP_PROGRAM_ARENA, &view) != OK ||
        !user_copy_in(&heap, HEAP_PROGRAM_ARENA, sizeof(heap), NULL))
        ktap_note("%s: no heap to look at", heap_policies[run->kind].name);
    *sample = (struct heap_sample){.resident = view.resident,
                                   .live = heap.live_bytes,
                                   .dirty_free = heap.dirty_free,
                                   .given_back = heap.given_back,
                                   .faults = faults.first_write + faults.zero_to_private};
}

bool heap_run_phase(struct heap_run *run, struct heap_sample *sample)
{
    enum program_end end = program_run(&run->program);
    char words[128];

    if (end != PROGRAM_EXITED || run->program.exit_code == HEAP_PROGRAM_BROKEN) {
        (void)program_end_words(&run->program, end, words, sizeof(words));
        ktap_note("%s: %s", heap_policies[run->kind].name, words);
        return false;
    }
    run->ended = run->program.exit_code == HEAP_PROGRAM_DONE;
    take_sample(run, sample);
    for (unsigned i = 0;
         run->rests && run->thread != NULL && sample->dirty_free > 0 && i < IDLE_TURNS; i++) {
        thread_sleep_us(IDLE_US);
        take_sample(run, sample);
    }
    return !run->ended;
}

/* The level is low as long as less than a 64th of memory is free above twice the reserve. */
void heap_run_squeeze(struct heap_run *run, bool low)
{
    struct pmm_usage usage = pmm_usage();
    uint64_t margin = usage.total / 128;

    if (low && run->reserve == 0) {
        run->reserve = pmm_reserve();
        pmm_set_reserve((usage.by_kind[FRAME_FREE] - margin) / 2);
    } else if (!low && run->reserve != 0) {
        pmm_set_reserve(run->reserve);
        run->reserve = 0;
    }
}

void heap_run_end(struct heap_run *run)
{
    static const uint64_t stop = 1;

    heap_run_squeeze(run, false);
    if (run->thread != NULL) {
        (void)user_copy_out(HEAP_PROGRAM_JOB + offsetof(struct heap_job, stop), &stop, sizeof(stop),
                            NULL);
        thread_join(run->thread);
    }
    (void)user_copy_in(&heap_run_job, HEAP_PROGRAM_JOB, sizeof(heap_run_job), NULL);
    if (run->space != NULL)
        end_space(run->space);
}

void heap_run_metric(const struct heap_run *run, const char *name, uint64_t value, const char *unit)
{
    char whole[48];

    (void)print_to(whole, sizeof(whole), "%s.%s", heap_policies[run->kind].name, name);
    ktap_metric(whole, value, unit);
}
