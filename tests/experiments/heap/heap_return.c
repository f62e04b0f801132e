/*
 * heap-return: how do pages come back after free()?
 *
 * A program in ring 3 takes and frees blocks of many sizes: live blocks are many in each fourth
 * phase, and few in the three that follow. The same run of requests goes once with each policy of
 * lib/heap. Twice memory becomes short while few blocks are live, and the program is told.
 *
 * Figures, for each policy: resident pages and live bytes, on average over the phases and at the
 * end; the pages that were given back; and the faults beyond those of a heap that gives none back.
 */
#include "lib/bytes.h"
#include "tests/experiments/heap/heap_run.h"
#include "tests/runner/experiment.h"

#define PHASES   12U
#define REQUESTS 1000U
#define HIGH     450U
#define LOW      50U
#define ARENA    (8 * MIB)
#define CYCLE    4U

/* Memory is short in the third phase of the second and third cycle. */
#define SHORT_FROM(cycle) ((cycle)*CYCLE + 2)

static struct heap_sample samples[HEAP_POLICIES][PHASES + 1];

static bool return_is_short(unsigned phase)
{
    return phase == SHORT_FROM(1) || phase == SHORT_FROM(2);
}

/* Runs all phases; returns how many there were. */
static unsigned return_phases(struct heap_run *run)
{
    unsigned phase = 0;

    for (bool more = true; more && phase <= PHASES; phase += more) {
        heap_run_squeeze(run, return_is_short(phase));
        more = heap_run_phase(run, &samples[run->kind][phase]);
    }
    return phase;
}

/* ---- what each policy must do ---- */

static bool never_keeps_all(const struct heap_sample *of)
{
    bool ok = of[PHASES - 1].given_back == 0;

    for (unsigned i = 1; i < PHASES; i++)
        ok = ok && of[i].resident >= of[i - 1].resident;
    return ok;
}

static bool at_once_keeps_nothing(const struct heap_sample *of)
{
    bool ok = true;

    for (unsigned i = 0; i < PHASES; i++)
        ok = ok && of[i].dirty_free == 0;
    return ok && of[PHASES - 1].resident < of[PHASES - CYCLE].resident;
}

/* Between the phases there is time for all free pages. */
static bool background_keeps_nothing_for_long(const struct heap_sample *of)
{
    return at_once_keeps_nothing(of);
}

static bool notice_keeps_until_told(const struct heap_sample *of)
{
    return of[SHORT_FROM(1) - 1].given_back == 0 && of[SHORT_FROM(1)].given_back > 0 &&
           of[SHORT_FROM(1)].resident < of[SHORT_FROM(1) - 1].resident &&
           of[SHORT_FROM(2) - 1].given_back == of[SHORT_FROM(1)].given_back &&
           of[SHORT_FROM(2)].given_back > of[SHORT_FROM(1)].given_back;
}

static bool return_as_promised(enum heap_policy_kind kind, const struct heap_sample *of)
{
    switch (kind) {
    case HEAP_NEVER: return never_keeps_all(of);
    case HEAP_AT_ONCE: return at_once_keeps_nothing(of);
    case HEAP_BACKGROUND: return background_keeps_nothing_for_long(of);
    default: return notice_keeps_until_told(of);
    }
}

/* Returns whether a policy has the same live bytes at each sample as the first one. */
static bool same_live(enum heap_policy_kind kind)
{
    bool same = true;

    for (unsigned i = 0; i < PHASES; i++)
        same = same && samples[kind][i].live == samples[HEAP_NEVER][i].live;
    return same;
}

static void return_print(const struct heap_run *run)
{
    const struct heap_sample *of = samples[run->kind];
    uint64_t resident = 0;
    uint64_t live = 0;

    for (unsigned i = 0; i < PHASES; i++) {
        resident += of[i].resident;
        live += of[i].live;
        ktap_note("%s: phase %u: %lu resident pages, %lu live bytes", heap_policies[run->kind].name,
                  i, of[i].resident, of[i].live);
    }
    heap_run_metric(run, "resident", resident / PHASES, "pages");
    heap_run_metric(run, "live", live / PHASES, "bytes");
    heap_run_metric(run, "resident_end", of[PHASES - 1].resident, "pages");
    heap_run_metric(run, "given_back", of[PHASES - 1].given_back, "pages");
    heap_run_metric(run, "faults", of[PHASES - 1].faults, "faults");
    heap_run_metric(run, "refaults", of[PHASES - 1].faults - samples[HEAP_NEVER][PHASES - 1].faults,
                    "faults");
    heap_run_metric(run, "notices", heap_run_job.notices, "notices");
}

static void return_kind(enum heap_policy_kind kind, uint64_t seed)
{
    const char *name = heap_policies[kind].name;
    const struct heap_sample *of = samples[kind];
    struct heap_run run;
    unsigned phases = 0;

    memset(&heap_run_job, 0, sizeof(heap_run_job));
    heap_run_job.arena_size = ARENA;
    heap_run_job.seed = seed;
    heap_run_job.phases = PHASES;
    heap_run_job.requests = REQUESTS;
    heap_run_job.high = HIGH;
    heap_run_job.low = LOW;
    if (heap_run_start(&run, kind)) {
        run.rests = true;
        phases = return_phases(&run);
    }
    heap_run_end(&run);
    ktap_check(run.ended && phases == PHASES && heap_run_job.wrong_words == 0 &&
                   heap_run_job.refused == 0,
               "%s: %u phases, %lu words lost", name, phases, heap_run_job.wrong_words);
    ktap_check(return_as_promised(kind, of), "%s: pages go back when they should", name);
    ktap_check(same_live(kind) && heap_run_job.notices >= 4,
               "%s: the same blocks are live, and each of %lu changes is told", name,
               heap_run_job.notices);
    ktap_check(of[PHASES - 1].faults - samples[HEAP_NEVER][PHASES - 1].faults <=
                   of[PHASES - 1].given_back,
               "%s: no more pages fault again than went back", name);
    return_print(&run);
}

static void heap_return_run(const struct options *options)
{
    for (enum heap_policy_kind kind = 0; kind < HEAP_POLICIES; kind++)
        return_kind(kind, options->seed);
}

EXPERIMENT(heap_return, 212) = {
    .theme = THEME_FRAMES,
    .name = "heap-return",
    .question = "How do pages come back after free()?",
    .checks = 4 * HEAP_POLICIES,
    .run = heap_return_run,
    .answer =
        {
            .text = "At once: {at-once.refaults} refaults; the notice: {on-notice.refaults}; never "
                    "keeps {never.resident_end} pages for {never.live} live bytes, at once "
                    "{at-once.resident_end}",
            .shipped = "each heap chooses; the kernel offers don't-need and the notice",
            .limit = "programs with other lives of blocks",
        },
};
