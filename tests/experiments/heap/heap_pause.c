/*
 * heap-pause: a burst of collection when memory is short, or a background task?
 *
 * The program of heap-return has a request at fixed intervals, and rests in between. Memory
 * becomes short twice. One policy gives all free pages back in the handler of the notice, another
 * one a few at a time in a thread of low priority, which runs while the program rests. The latency
 * of a request counts from the time when it was due, and so has all delays. Its pause is the
 * latency beyond that of the same request with a heap that gives nothing back.
 *
 * Figures, for each policy: the pause that 99.9 % of the requests do not exceed, the share of the
 * busy time that giving back takes, and the most pages that go back in one stretch.
 */
#include "lib/bytes.h"
#include "tests/experiments/heap/heap_run.h"
#include "tests/runner/experiment.h"

#define PHASES    8U
#define REQUESTS  500U
#define HIGH      450U
#define LOW       50U
#define ARENA     (8 * MIB)
#define PERIOD_US 100U

_Static_assert(PHASES *REQUESTS <= HEAP_PROGRAM_TIMES, "each request has a latency");

static const enum heap_policy_kind pause_kinds[] = {HEAP_NEVER, HEAP_AT_ONCE, HEAP_ON_NOTICE,
                                                    HEAP_BACKGROUND};

/* The latencies with HEAP_NEVER, which comes first. */
static uint32_t base_times[HEAP_PROGRAM_TIMES];

/* Makes pauses of the latencies. */
static void subtract_base(uint32_t *times, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        times[i] = times[i] > base_times[i] ? times[i] - base_times[i] : 0;
}

/* Sorts by Shell's method, with gaps of 3^n / 2. */
static void sort_times(uint32_t *times, uint64_t count)
{
    for (uint64_t gap = 1093; gap > 0; gap /= 3) {
        for (uint64_t i = gap; i < count; i++) {
            uint32_t value = times[i];
            uint64_t at = i;

            for (; at >= gap && times[at - gap] > value; at -= gap)
                times[at] = times[at - gap];
            times[at] = value;
        }
    }
}

static unsigned pause_phases(struct heap_run *run)
{
    struct heap_sample sample;
    unsigned phase = 0;

    for (bool more = true; more && phase <= PHASES; phase += more) {
        heap_run_squeeze(run, phase == 3 || phase == 6);
        more = heap_run_phase(run, &sample);
    }
    return phase;
}

static bool pause_as_promised(const struct heap_run *run)
{
    const struct heap_policy *policy = &heap_policies[run->kind];
    uint64_t longest = heap_run_job.longest_stretch;

    if (policy->step_pages != 0)
        return longest > 0 && longest <= policy->step_pages;
    if (policy->on_notice)
        return longest > heap_policies[HEAP_BACKGROUND].step_pages;
    return run->kind == HEAP_NEVER ? longest == 0 : longest > 0;
}

static void pause_kind(enum heap_policy_kind kind, uint64_t seed)
{
    const char *name = heap_policies[kind].name;
    struct heap_run run;
    unsigned phases = 0;
    uint64_t count;
    uint64_t last;

    memset(&heap_run_job, 0, sizeof(heap_run_job));
    heap_run_job.arena_size = ARENA;
    heap_run_job.seed = seed;
    heap_run_job.phases = PHASES;
    heap_run_job.requests = REQUESTS;
    heap_run_job.high = HIGH;
    heap_run_job.low = LOW;
    heap_run_job.period_us = PERIOD_US;
    if (heap_run_start(&run, kind))
        phases = pause_phases(&run);
    heap_run_end(&run);
    count = heap_run_job.time_count;
    ktap_check(run.ended && phases == PHASES && count == PHASES * REQUESTS &&
                   heap_run_job.wrong_words == 0 && heap_run_job.refused == 0,
               "%s: %lu requests, %lu words lost", name, count, heap_run_job.wrong_words);
    ktap_check(pause_as_promised(&run), "%s: %lu pages in the longest stretch", name,
               heap_run_job.longest_stretch);
    if (count == 0)
        return;
    if (kind == HEAP_NEVER)
        memcpy(base_times, heap_run_job.times, sizeof(base_times));
    else
        subtract_base(heap_run_job.times, count);
    sort_times(heap_run_job.times, count);
    last = count - 1 - count / 1000;
    heap_run_metric(&run, "p999", heap_run_job.times[last], "ticks");
    heap_run_metric(&run, "longest", heap_run_job.times[count - 1], "ticks");
    heap_run_metric(&run, "median", heap_run_job.times[count / 2], "ticks");
    heap_run_metric(&run, "stretch", heap_run_job.longest_stretch, "pages");
    heap_run_metric(&run, "giving_back", heap_run_job.giving_back, "ticks");
    heap_run_metric(&run, "share",
                    heap_run_job.giving_back * 1000 /
                        max_u64(heap_run_job.busy + heap_run_job.aside, 1),
                    "per_mille");
}

static void heap_pause_run(const struct options *options)
{
    for (unsigned i = 0; i < ARRAY_COUNT(pause_kinds); i++)
        pause_kind(pause_kinds[i], options->seed);
}

EXPERIMENT(heap_pause, 214) = {
    .theme = THEME_FRAMES,
    .name = "heap-pause",
    .question = "A burst of collection, or a background task?",
    .checks = 2 * ARRAY_COUNT(pause_kinds),
    .run = heap_pause_run,
    .answer =
        {
            .text = "In the background: {background.stretch} pages at a time; a burst takes "
                    "{on-notice.stretch} in one pause of the program",
            .shipped = "each heap chooses; threads of low priority and the notice are there",
            .limit = "programs that never rest: the background task then waits",
        },
};
