/*
 * stress: do processors that work in one address space ever see a wrong byte?
 *
 * One worker on each processor, all in the same address space, for `seconds=`. Each maps, touches,
 * unmaps, protects and blanks pages of its own; writes and closes pages that all share; reads and
 * writes blocks of zeroes; and forks the space, where parent and child then go on by themselves
 * (tests/experiments/stress/stress.h). Fewer pages may be resident than are in use, so that swap
 * goes on under all of it.
 *
 * At the end every page is checked, AUDIT compares all counts, and the ledger is even.
 */
#include "tests/experiments/stress/stress.h"
#include "cpu/machine.h"
#include "cpu/smp/lock_check.h"
#include "cpu/smp/shootdown.h"
#include "cpu/smp/thread.h"
#include "lib/bytes.h"
#include "tests/runner/experiment.h"
#include "tests/runner/tick.h"
#include "tests/runner/user_pages.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"

/* Resident pages for each worker; it uses about twice as many. */
#define RESIDENT 12U

static struct stress_worker workers[STRESS_WORKERS_MAX];

static unsigned stress_processors(void)
{
    unsigned count = 0;

    for (uint64_t at = machine_processors(); at != 0; at &= at - 1)
        count++;
    return count;
}

static void stress_work(void *argument)
{
    struct stress_worker *worker = argument;

    space_switch(worker->space);
    do { /* at least one step, however late the processor begins */
        stress_step(worker);
        worker->steps++;
        if (worker->steps % 16 == 0)
            thread_yield();
    } while (worker->wrong == NULL && machine_now_ns() < worker->end_ns);
    stress_check_all(worker);
    space_switch(NULL);
}

static unsigned stress_start_workers(struct space *space, const struct options *options)
{
    uint64_t end_ns = machine_now_ns() + options->seconds * UINT64_C(1000000000);
    uint64_t cpus = machine_processors();
    unsigned count = (unsigned)min_u64(stress_processors(), STRESS_WORKERS_MAX);
    unsigned started = 0;

    memset(workers, 0, sizeof(workers));
    stress_begin();
    for (; cpus != 0 && started < count; cpus &= cpus - 1, started++) {
        struct stress_worker *worker = &workers[started];

        worker->space = space;
        worker->number = started;
        worker->count = count;
        worker->end_ns = end_ns;
        worker->random = random_from(options->seed + started);
        if (thread_create((unsigned)__builtin_ctzll(cpus), stress_work, worker, &worker->thread) !=
            OK)
            break;
    }
    ktap_check(started == count, "%u workers, one on each processor", started);
    return started;
}

/* Waits for the workers, and logs the progress every few seconds. */
static void wait_for_workers(unsigned count, uint32_t seconds)
{
    uint64_t steps;

    for (uint32_t passed = 0; passed < seconds; passed += 5) {
        thread_sleep_us(UINT64_C(1000000) * (seconds - passed < 5 ? seconds - passed : 5));
        steps = 0;
        for (unsigned i = 0; i < count; i++)
            steps += __atomic_load_n(&workers[i].steps, __ATOMIC_RELAXED);
        ktap_note("%lu steps", steps);
    }
    for (unsigned i = 0; i < count; i++)
        thread_join(workers[i].thread);
}

static void stress_report(unsigned count, const struct fault_counts *faults)
{
    uint64_t steps = 0;
    uint64_t forks = 0;
    uint64_t protects = 0;
    uint64_t refused = 0;
    uint64_t closed = 0;

    for (unsigned i = 0; i < count; i++) {
        const struct stress_worker *worker = &workers[i];

        ktap_check(worker->wrong == NULL && worker->steps > 0, "worker %u: %lu steps, %s", i,
                   worker->steps, worker->wrong != NULL ? worker->wrong : "nothing wrong");
        if (worker->wrong != NULL)
            ktap_note("at %lx", worker->wrong_address);
        steps += worker->steps;
        forks += worker->forks;
        protects += worker->protects;
        refused += worker->refused;
        closed += worker->closed;
    }
    for (unsigned i = count; i < STRESS_WORKERS_MAX; i++)
        ktap_skip("no such processor", "worker %u", i);
    ktap_metric("workers", count, "threads");
    ktap_metric("steps", steps, "steps");
    ktap_metric("forks", forks, "forks");
    ktap_metric("protects", protects, "calls");
    ktap_metric("refused", refused, "accesses");
    ktap_metric("closed", closed, "areas");
    ktap_metric("shootdowns", shootdown_counts().sent, "requests");
    ktap_metric("cow_copies", faults->cow_copy, "faults");
    ktap_metric("swap_ins", faults->swap_in, "faults");
    ktap_metric("spurious", faults->spurious, "faults");
}

#ifdef LOCK_CHECKS
/* Where the linker has put the image, in front of everything. */
extern const char image_base[];

/* Prints the longest holds and times with interrupts off. boot/lock-checks compares them with
 * docs/locking.md; it has the names of the locks from the image. */
static void stress_report_locks(void)
{
    struct lock_check_longest off = lock_check_longest_off();
    uint64_t tick = ticks_per_instruction();

    if (tick == 0)
        return;
    for (unsigned i = 0; i < LOCK_CHECK_CLASSES; i++) {
        struct lock_check_longest hold = lock_check_longest_hold(i);

        if (hold.ticks != 0 && i < LOCK_CHECK_LEVELS)
            ktap_note("longest hold: table of level %u for %lu", LOCK_CHECK_LEVELS - 1 - i,
                      hold.ticks / tick);
        else if (hold.ticks != 0)
            ktap_note("longest hold: image+%lx for %lu",
                      (uintptr_t)hold.what - (uintptr_t)image_base, hold.ticks / tick);
    }
    ktap_note("longest with interrupts off: until image+%lx for %lu",
              (uintptr_t)off.what - (uintptr_t)image_base, off.ticks / tick);
}
#endif

/* Returns the pages that a space with this many workers, and a fork by each, commits. */
static uint64_t stress_promises(unsigned count)
{
    uint64_t space = STRESS_SHARED + STRESS_BLOCKS * (STRESS_BLOCK_BYTES / PAGE_SIZE) +
                     (uint64_t)count * STRESS_OWN_PAGES;

    return (1 + (uint64_t)count) * space;
}

static void stress_run(const struct options *options)
{
    uint64_t limit = resident_limit;
    struct fault_counts faults;
    struct space *space;
    unsigned count;
    bool shared_right = true;

    if (!start_space(&space))
        return;
    count = stress_processors();
    page_set_limit(pmm_usage().by_kind[FRAME_ANONYMOUS] + (count + 1) * RESIDENT);
    if (!experiment_may_promise(stress_promises(count))) {
        experiment_skip_rest("overcommit=never does not promise enough");
        page_set_limit(limit);
        end_space(space);
        return;
    }
    ktap_check(
        space_map(space,
                  &SPACE_AT(STRESS_SHARED_START, STRESS_SHARED * PAGE_SIZE, RIGHTS_READ_WRITE),
                  NULL) == OK &&
            space_map(space,
                      &SPACE_AT(STRESS_BLOCKS_START, STRESS_BLOCKS * STRESS_BLOCK_BYTES,
                                RIGHTS_READ_WRITE),
                      NULL) == OK,
        "the shared pages and the blocks are mapped");
#ifdef LOCK_CHECKS
    lock_check_measure();
#endif
    count = stress_start_workers(space, options);
    wait_for_workers(count, options->seconds);
    page_set_limit(limit);
    faults = space_faults(space);
    stress_report(count, &faults);
#ifdef LOCK_CHECKS
    stress_report_locks();
#endif
    for (unsigned page = 0; page < STRESS_SHARED; page++) {
        for (unsigned i = 0; i < count; i++) {
            uint64_t value;

            shared_right = shared_right && word_read(stress_shared_word(page, i), &value) &&
                           value == workers[i].own_count[page];
        }
    }
    ktap_check(shared_right, "every shared page holds the last of each worker");
    space_audit();
    ktap_check(true, "all counts agree");
    end_space(space);
}

EXPERIMENT(stress, 410) = {
    .theme = THEME_RANDOM,
    .name = "stress",
    .question = "Do all processors together, in one address space, ever see a wrong byte?",
    .spaces = 1 + STRESS_WORKERS_MAX,
    .regions = EXPERIMENT_REGIONS_ANY,
    .checks = STRESS_WORKERS_MAX + 4,
    .only_by_name = true,
    .run = stress_run,
    .answer =
        {
            .text = "No wrong byte",
        },
};
