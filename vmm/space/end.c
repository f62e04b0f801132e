/*
 * The ends of spaces. No processor runs an ended space, and nothing finds it but the reverse map of
 * its pages, as while any tree is dropped.
 */
#include "vmm/space/end.h"
#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "pmm/pool.h"
#include "vmm/page/reclaim.h"
#include "vmm/page/shrinker.h"
#include "vmm/space/commit.h"
#include "vmm/space/region.h"

/* Entries, or regions, of one step beside other work, and of one without: at least a leaf table,
 * which is dropped at once. */
#define END_STEP PTE_ENTRIES
#define END_MANY (4 * PTE_ENTRIES)

/* Guarded by the lock, except `work`. */
static struct {
    uint8_t lock;
    LIST_HEAD(, space_record) waiting; /* those that no step has taken */
    unsigned count;                    /* all of them, also those that steps have taken */
    unsigned steps;                    /* under way */
    uint64_t steps_ended;
    unsigned work;
} ends = {.work = SPACE_END_WORK};

void space_set_end_work(unsigned entries)
{
    __atomic_store_n(&ends.work, entries, __ATOMIC_RELAXED);
}

unsigned space_ends(void)
{
    return __atomic_load_n(&ends.count, __ATOMIC_RELAXED);
}

static bool ends_lock(void)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&ends.lock);
    return were_on;
}

static void ends_unlock(bool were_on)
{
    spin_unlock(&ends.lock);
    machine_interrupts_restore(were_on);
}

/* Drops some of the tree, then of the regions (rule T4), then frees the space. Returns true if it
 * is freed. */
static bool end_some(struct space_record *record, unsigned entries)
{
    struct space *space = &record->space;

    CHECK(space->tree.processors == 0);
    if (!pfn_is_none(space->tree.root) &&
        !tree_destroy_some(&space->tree, &record->dropper, entries))
        return false;
    return region_remove_some(space, entries);
}

/* Begins a step: takes a space out of the list. Returns NULL if there is none. */
static struct space_record *take_ended(void)
{
    bool were_on = ends_lock();
    struct space_record *record = LIST_FIRST(&ends.waiting);

    if (record != NULL) {
        LIST_REMOVE(record, link);
        ends.steps++;
    }
    ends_unlock(were_on);
    return record;
}

static void put_ended(struct space_record *record, bool over)
{
    bool were_on = ends_lock();

    CHECK_MSG(ends.steps > 0 && ends.count >= ends.steps, "%u ended spaces, %u steps", ends.count,
              ends.steps);
    if (over)
        ends.count--;
    else
        LIST_INSERT_HEAD(&ends.waiting, record, link);
    ends.steps--;
    ends.steps_ended++;
    ends_unlock(were_on);
}

static bool perform_step(unsigned entries)
{
    struct space_record *record = take_ended();
    bool over;

    if (record == NULL)
        return false;
    over = end_some(record, entries);
    if (over)
        space_record_free(record);
    put_ended(record, over);
    return true;
}

bool space_ends_step(void)
{
    return perform_step(END_STEP);
}

/* Waits until a step of another processor ends, if one is under way. A step waits for nothing.
 * Returns false if there is none. */
static bool await_step(void)
{
    bool were_on = ends_lock();
    uint64_t ended = ends.steps_ended;
    bool any = ends.steps > 0;

    ends_unlock(were_on);
    while (any && __atomic_load_n(&ends.steps_ended, __ATOMIC_ACQUIRE) == ended)
        machine_relax();
    return any;
}

/* What another processor frees counts, too. */
static uint64_t ends_shrink(uint64_t pages)
{
    uint64_t freed = 0;

    while (freed < pages && perform_step(END_STEP))
        freed += END_STEP;
    return freed > 0 || await_step() ? max_u64(freed, 1) : 0;
}

SHRINKER(ends, ends_shrink, true);

void space_finish_ends(void)
{
    while (perform_step(END_MANY) || await_step())
        machine_relax();
}

/* Adds a space to the list, and wakes a processor that has nothing else to do. */
static void end_later(struct space_record *record)
{
    bool were_on = ends_lock();

    CHECK(ends.count < UINT32_MAX);
    LIST_INSERT_HEAD(&ends.waiting, record, link);
    ends.count++;
    ends_unlock(were_on);
    thread_wake_idle();
}

void space_end(struct space *space, bool at_once)
{
    struct space_record *record = space_record_of(space);
    unsigned work = at_once ? END_MANY : __atomic_load_n(&ends.work, __ATOMIC_RELAXED);

    CHECK(RB_EMPTY(&space->mappings));
    space_number_give(&space->tree);
    commit_uncharge(space->committed);
    wire_uncharge(space->wired);
    record->dropper.depth = 0;
    while (!end_some(record, work)) {
        if (!at_once) {
            end_later(record);
            return;
        }
        machine_relax();
    }
    space_record_free(record);
}
