/*
 * snapshot: how many restores a second?
 *
 * A fuzzer runs a program again and again from one state: it forks the program, lets the child
 * dirty k pages, and drops the child. What does such a restore cost, and how does it grow with k,
 * if only the dirtied pages and the tables above them are copied and dropped?
 *
 * For k from 1 to 4,096 the parent has 4,096 pages of which the child writes k, spread evenly. Two
 * figures of time, restores a second and ticks for each, the pages that each copies, and what a
 * dirtied page adds. The checks: in every child each page that is about to be written reads as the
 * parent left it, and after the last drop the parent has all its pages as they were; no frame stays
 * behind.
 */
#include "cpu/machine.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/null_fault.h"
#include "tests/runner/user_pages.h"
#include "vmm/space/end.h"

#define START UINT64_C(0x8000000000)
#define PAGES 4096U

/* Pages that all restores of one figure dirty together, about. */
#define WORK       1024U
#define ROUNDS_MAX 128U
#define ROUNDS_MIN 2U

static const unsigned dirtied[] = {1, 4, 16, 64, 256, 1024, 4096};

static uint64_t snapshot_page_at(unsigned number)
{
    return START + number * PAGE_SIZE;
}

static uint64_t snapshot_word_of(unsigned number)
{
    return UINT64_C(0x5a00000000) + number;
}

/* Runs in the child: checks that each page has the snapshot's content, then overwrites it. */
static bool dirty(unsigned count, unsigned round)
{
    unsigned step = PAGES / count;
    bool ok = true;

    for (unsigned i = 0; i < PAGES && ok; i += step) {
        uint64_t value = 0;

        ok = word_read(snapshot_page_at(i) + 8, &value) && value == snapshot_word_of(i) &&
             word_write(snapshot_page_at(i) + 8, round);
    }
    return ok;
}

/* Makes one restore; sets the number of pages that it copied. */
static bool restore(struct space *parent, unsigned count, unsigned round, uint64_t *copied)
{
    struct space *child;
    bool ok;

    if (!SUCCEEDS(space_fork(parent, &child)))
        return false;
    space_switch(child);
    ok = dirty(count, round);
    *copied = space_faults(child).cow_copy;
    space_switch(parent);
    space_destroy(child);
    space_finish_ends(); /* a restore pays for the whole end of its child */
    return ok;
}

static bool parent_is_whole(unsigned pages)
{
    uint64_t value;

    for (unsigned i = 0; i < pages; i++) {
        if (!word_read(snapshot_page_at(i) + 8, &value) || value != snapshot_word_of(i))
            return false;
    }
    return true;
}

/* Returns the median of some times, which are put in order. */
static uint64_t snapshot_median(uint64_t *ticks, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        uint64_t moving = ticks[i];
        unsigned to = i;

        for (; to > 0 && ticks[to - 1] > moving; to--)
            ticks[to] = ticks[to - 1];
        ticks[to] = moving;
    }
    return ticks[count / 2];
}

/* Returns the ticks of one restore, 0 when it failed: the median, since an interrupt of the disk or
 * of the clock falls into some. */
static uint64_t snapshot_measure(struct space *parent, unsigned count)
{
    unsigned rounds = (unsigned)max_u64(ROUNDS_MIN, min_u64(ROUNDS_MAX, WORK / count));
    uint64_t samples[ROUNDS_MAX] = {0};
    uint64_t ns = machine_now_ns();
    uint64_t copied = 0;
    uint64_t ticks;
    char name[32];
    bool ok = true;

    for (unsigned round = 0; round < rounds && ok; round++) {
        samples[round] = machine_ticks();
        ok = restore(parent, count, round, &copied);
        samples[round] = machine_ticks() - samples[round];
    }
    ns = max_u64(machine_now_ns() - ns, 1);
    ticks = snapshot_median(samples, rounds);
    print_to(name, sizeof(name), "restores.%u", count);
    ktap_metric(name, rounds * UINT64_C(1000000000) / ns, "per-second");
    print_to(name, sizeof(name), "restore.%u", count);
    null_fault_metric(name, ticks);
    print_to(name, sizeof(name), "copied.%u", count);
    ktap_metric(name, copied, "pages");
    return ok ? ticks : 0;
}

static bool snapshot_make_parent(struct space **parent)
{
    bool ok =
        start_space(parent) &&
        SUCCEEDS(space_map(*parent, &SPACE_AT(START, PAGES * PAGE_SIZE, RIGHTS_READ_WRITE), NULL));

    for (unsigned i = 0; i < PAGES && ok; i++)
        ok = word_write(snapshot_page_at(i) + 8, snapshot_word_of(i));
    return ok;
}

static void snapshot_try_all(struct space *parent)
{
    struct ledger before = ledger_take();
    uint64_t first = 0;
    uint64_t ticks = 0;

    for (unsigned i = 0; i < ARRAY_COUNT(dirtied); i++) {
        ticks = snapshot_measure(parent, dirtied[i]);
        if (i == 0)
            first = ticks;
        ktap_check(ticks > 0, "%u pages: each child begins with what the parent has", dirtied[i]);
    }
    if (ticks > first)
        null_fault_metric("a_dirtied_page", (ticks - first) / (PAGES - 1));
    ktap_check(parent_is_whole(PAGES), "the parent has all its pages as they were");
    ktap_check(ledger_even(&before), "no frame and no table stays behind");
}

static void snapshot_run(const struct options *options)
{
    struct space *parent = NULL;
    bool made;

    (void)options;
    null_fault_measure();
    made = pmm_usage().by_kind[FRAME_FREE] > 3 * PAGES && snapshot_make_parent(&parent);
    if (made) {
        snapshot_try_all(parent);
    } else {
        experiment_skip_rest("there is no memory for %u pages twice", PAGES);
    }
    if (parent != NULL) {
        space_audit();
        end_space(parent);
    }
}

EXPERIMENT(snapshot, 360) = {
    .theme = THEME_PAGES,
    .name = "snapshot",
    .question = "How many restores a second?",
    .spaces = 2,
    .checks = ARRAY_COUNT(dirtied) + 2,
    .run = snapshot_run,
    .answer =
        {
            .text = "A restore with {copied.1} page dirtied copies it alone; with all dirtied it "
                    "copies {copied.4096}",
            .counted = "{restore.1} instructions with {copied.1} page dirtied; each further one is "
                       "a copy: {copied.4096} of 4,096",
            .limit = "seconds on hardware",
        },
};
