/* The background reclaimer: its marks, and what one step does. */
#include "lib/check.h"
#include "vmm/page/managed.h"
#include "vmm/page/shrinker.h"
#include "vmm/reclaimer/internal.h"

/* Pages of one batch: they share a flush and few disk commands. */
#define TOGETHER VICTIMS_MAX

struct reclaimer_counts reclaimer_counted;

static struct reclaimer_marks marks;
static bool evicts;         /* below low, and not yet at high */
static uint64_t clean_then; /* clean evictions when `ahead` pages were clean last */
static uint64_t cleaned_then;

void reclaimer_set_marks(struct reclaimer_marks wanted)
{
    CHECK_MSG(wanted.low <= wanted.high, "marks %lu and %lu", wanted.low, wanted.high);
    marks = wanted;
    evicts = false;
    clean_then = reclaim_counts().clean;
    cleaned_then = reclaimer_counted.cleaned;
}

/* Frees pages that no program uses, or evicts one batch. Returns false if no page could go: faults
 * find out why. */
static bool evict_batch(void)
{
    struct reclaim_round round;
    unsigned evicted = 0;

    if (shrinkers_free(TOGETHER, true) > 0)
        return true;
    reclaim_round_begin(&round);
    /* After an error (a full area) only clean pages are looked for: each call looks at some. */
    while (round.looks > 0 && evicted == 0) {
        enum status status = reclaim_some(&round, TOGETHER, &evicted);

        (void)status;
    }
    reclaimer_counted.evicted += evicted;
    return evicted > 0;
}

/* Returns how many pages are to be written behind: evictions of clean pages use up those that were
 * written before. */
static uint64_t pages_to_clean(void)
{
    uint64_t used = reclaim_counts().clean - clean_then;
    uint64_t cleaned = reclaimer_counted.cleaned - cleaned_then;

    if (used >= cleaned) {
        clean_then = reclaim_counts().clean;
        cleaned_then = reclaimer_counted.cleaned;
        return marks.ahead;
    }
    return marks.ahead > cleaned - used ? marks.ahead - (cleaned - used) : 0;
}

bool reclaimer_step(void)
{
    uint64_t room = page_room();
    uint64_t wanted;

    if (managed_policy != NULL || marks.high == 0)
        return false;
    reclaimer_counted.steps++;
    evicts = room < marks.low || (evicts && room < marks.high);
    if (evicts)
        return evict_batch();
    if (room > 2 * marks.high)
        return false;
    wanted = pages_to_clean();
    return wanted > 0 && write_behind((unsigned)min_u64(wanted, TOGETHER)) > 0;
}

struct reclaimer_counts reclaimer_counts(void)
{
    return reclaimer_counted;
}
