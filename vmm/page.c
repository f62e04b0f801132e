/* The pages of programs. */
#include "vmm/page.h"

#include "cpu/machine.h"
#include "cpu/spin.h"
#include "swapdisk/area.h"
#include "vmm/reclaim.h"

/* Pages evicted together when one is wanted: they share one flush and few commands. */
#define EVICT_TOGETHER 16U

static struct {
    uint8_t lock;
    uint32_t first; /* under the hand; UINT32_MAX: empty */
    uint64_t size;
    uint64_t limit;
    uint64_t tied; /* pages tied to slots */
} clock_list = {.first = UINT32_MAX, .limit = UINT64_MAX};

static bool lock_clock(void)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&clock_list.lock);
    return were_on;
}

static void unlock_clock(bool were_on)
{
    spin_unlock(&clock_list.lock);
    machine_interrupts_restore(were_on);
}

void page_set_limit(uint64_t frames)
{
    CHECK(frames > EVICT_TOGETHER);
    clock_list.limit = frames;
}

uint64_t page_limit(void)
{
    return clock_list.limit;
}

uint64_t page_clock_size(void)
{
    return clock_list.size;
}

bool page_try_alloc(enum frame_clear clear, struct pfn *page)
{
    return clock_list.size < clock_list.limit && pmm_alloc(FRAME_ANONYMOUS, clear, page) == OK;
}

bool page_make_room(void)
{
    unsigned evicted = 0;
    enum status status = reclaim_pages(EVICT_TOGETHER, &evicted);

    /* An error of the disk says that some could not go; what counts here is whether others did. */
    (void)status;
    return evicted > 0;
}

enum status page_alloc(enum frame_clear clear, struct pfn *page)
{
    for (;;) {
        enum status status;
        unsigned evicted;

        if (page_try_alloc(clear, page))
            return OK;
        status = reclaim_pages(EVICT_TOGETHER, &evicted);
        if (evicted == 0)
            return status == OK ? STATUS_NO_MEMORY : status;
    }
}

/* ---- the clock: a ring through the records ---- */

/* Behind all others. holds: the clock's lock */
static void link_page(struct pfn page)
{
    struct frame *record = frame_record(page);

    CHECK(record->kind == FRAME_ANONYMOUS && record->link_next == UINT32_MAX);
    if (clock_list.first == UINT32_MAX) {
        record->link_next = record->link_prev = page.index;
        clock_list.first = page.index;
    } else {
        struct frame *first = frame_record((struct pfn){clock_list.first});

        record->link_next = clock_list.first;
        record->link_prev = first->link_prev;
        frame_record((struct pfn){first->link_prev})->link_next = page.index;
        first->link_prev = page.index;
    }
    clock_list.size++;
}

void page_publish(struct pfn page)
{
    bool were_on = lock_clock();

    link_page(page);
    unlock_clock(were_on);
}

static void unlink_page(struct pfn page)
{
    struct frame *record = frame_record(page);

    CHECK(clock_list.size > 0);
    if (record->link_next == page.index) {
        clock_list.first = UINT32_MAX;
    } else {
        frame_record((struct pfn){record->link_prev})->link_next = record->link_next;
        frame_record((struct pfn){record->link_next})->link_prev = record->link_prev;
        if (clock_list.first == page.index)
            clock_list.first = record->link_next;
    }
    record->link_next = record->link_prev = UINT32_MAX;
    clock_list.size--;
}

void page_withdraw(struct pfn page)
{
    bool were_on = lock_clock();

    if (frame_record(page)->link_next != UINT32_MAX)
        unlink_page(page);
    unlock_clock(were_on);
}

void page_next_to_go(struct pfn page)
{
    bool were_on = lock_clock();

    if (frame_record(page)->link_next != UINT32_MAX) {
        unlink_page(page);
        link_page(page);
        clock_list.first = page.index;
    }
    unlock_clock(were_on);
}

struct pfn page_clock_next(void)
{
    bool were_on = lock_clock();
    struct pfn page = {clock_list.first};
    bool held = false;

    /* One whose last pointer has just gone is on its way out of the clock, and is passed over. */
    for (uint64_t left = clock_list.size; left > 0 && !held; left--) {
        page.index = clock_list.first;
        clock_list.first = frame_record(page)->link_next;
        held = tree_try_hold(page);
    }
    unlock_clock(were_on);
    return held ? page : PFN_NONE;
}

/* ---- ties and ends ---- */

void page_tie(struct pfn page, struct slot slot)
{
    struct frame *record = frame_record(page);

    CHECK((record->flags & FRAME_TIED) == 0);
    record->slot_or_base = slot.index;
    __atomic_or_fetch(&record->flags, FRAME_TIED, __ATOMIC_RELAXED);
    __atomic_add_fetch(&clock_list.tied, 1, __ATOMIC_RELAXED);
}

/* What is left to do once the flag is off. */
static void end_tie(struct pfn page)
{
    struct frame *record = frame_record(page);
    struct slot slot = {record->slot_or_base};

    record->slot_or_base = UINT32_MAX;
    __atomic_sub_fetch(&clock_list.tied, 1, __ATOMIC_RELAXED);
    swap_release(slot);
}

void page_untie(struct pfn page)
{
    struct frame *record = frame_record(page);

    CHECK((record->flags & FRAME_TIED) != 0);
    __atomic_and_fetch(&record->flags, (uint8_t)~FRAME_TIED, __ATOMIC_RELAXED);
    end_tie(page);
}

bool page_untie_alone(struct pfn page)
{
    if (!tree_claim(page, FRAME_TIED))
        return false;
    end_tie(page);
    return true;
}

static void page_gone(struct pfn page)
{
    const struct frame *record = frame_record(page);

    CHECK_MSG(record->count == 0 && (record->flags & FRAME_IO) == 0,
              "page %x goes with count %u, flags %x", page.index, record->count, record->flags);
    page_withdraw(page);
    if ((record->flags & FRAME_TIED) != 0)
        page_untie(page);
    pmm_free(page);
}

void page_release(struct pfn page)
{
    if (tree_release(page) == 0)
        page_gone(page);
}

const struct tree_hooks *page_hooks(void)
{
    static const struct tree_hooks hooks = {
        .slot_hold = swap_hold, .slot_release = swap_release, .page_gone = page_gone};

    return &hooks;
}

void page_audit(const struct tree_census *census)
{
    struct pmm_usage usage = pmm_usage();
    uint64_t tables = 0;

    for (unsigned level = 1; level < ARRAY_COUNT(census->tables); level++)
        tables += census->tables[level];
    CHECK_MSG(usage.by_kind[FRAME_TABLE] == tables, "%lu table frames, %lu reachable tables",
              usage.by_kind[FRAME_TABLE], tables);
    CHECK_MSG(usage.by_kind[FRAME_ANONYMOUS] == clock_list.size,
              "%lu anonymous frames, %lu in the clock", usage.by_kind[FRAME_ANONYMOUS],
              clock_list.size);
    CHECK_MSG(swap_references() == census->swapped + clock_list.tied,
              "slots have %lu counts, %lu entries and %lu ties name them", swap_references(),
              census->swapped, clock_list.tied);
    pmm_audit();
    swap_audit();
}
