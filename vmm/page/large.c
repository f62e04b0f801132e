/* Large pages. */
#include "vmm/page/large.h"

#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "cpu/smp/thread.h"
#include "pmm/pmm.h"
#include "vmm/page/page.h"
#include "vmm/page/shrinker.h"

/* Attempts to split the first page of the list, while others use its tables, before giving up. */
#define SPLIT_TRIES 64U

/* UINT32_MAX ends the list. */
static struct {
    uint8_t lock;
    uint32_t first;
    uint64_t frames;
    uint64_t splits;
} list = {.first = UINT32_MAX};

static bool lock_list(void)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&list.lock);
    return were_on;
}

static void unlock_list(bool were_on)
{
    spin_unlock(&list.lock);
    machine_interrupts_restore(were_on);
}

static uint64_t large_frames_of(struct pfn page)
{
    const struct frame *record = frame_record(page);

    CHECK_MSG(record->kind == FRAME_ANONYMOUS && (record->flags & FRAME_BLOCK) != 0,
              "frame %x of kind %u, flags %x is no large page", page.index, record->kind,
              record->flags);
    return UINT64_C(1) << record->level;
}

enum status large_alloc(unsigned level, enum frame_clear clear, struct pfn *page)
{
    unsigned order = 9 * (level - 1);
    enum status status;

    CHECK(level == 2 || level == 3);
    if (resident_limit != UINT64_MAX)
        return STATUS_NO_MEMORY; /* a limit counts single pages */
    status = pmm_alloc_order(order, FRAME_ANONYMOUS, clear, page);
    while (status != OK && shrinkers_free(PTE_ENTRIES, true) > 0) /* may be parts of a block */
        status = pmm_alloc_order(order, FRAME_ANONYMOUS, clear, page);
    return status;
}

void large_publish(struct pfn page)
{
    struct frame *record = frame_record(page);
    uint64_t frames = large_frames_of(page);
    bool were_on = lock_list();

    CHECK(record->page.list_prev == UINT32_MAX && record->page.list_next == UINT32_MAX);
    CHECK((record->flags & FRAME_WIRED) == 0);
    record->page.list_prev = UINT32_MAX;
    record->page.list_next = list.first;
    if (list.first != UINT32_MAX)
        frame_record((struct pfn){list.first})->page.list_prev = page.index;
    list.first = page.index;
    list.frames += frames;
    unlock_list(were_on);
}

void large_withdraw(struct pfn page)
{
    struct frame *record = frame_record(page);
    uint64_t frames = large_frames_of(page);
    bool were_on = lock_list();

    CHECK(list.frames >= frames);
    CHECK_MSG(record->page.list_prev != UINT32_MAX || list.first == page.index,
              "large page %x is not in the list", page.index);
    if (record->page.list_prev == UINT32_MAX)
        list.first = record->page.list_next;
    else
        frame_record((struct pfn){record->page.list_prev})->page.list_next = record->page.list_next;
    if (record->page.list_next != UINT32_MAX)
        frame_record((struct pfn){record->page.list_next})->page.list_prev = record->page.list_prev;
    record->page.list_next = record->page.list_prev = UINT32_MAX;
    list.frames -= frames;
    unlock_list(were_on);
}

/* Large pages are held only through the list: then the count is stable. Refuses a wired page. */
bool large_take(struct pfn page)
{
    if (page_is_wired(page))
        return false;
    large_withdraw(page);
    if (__atomic_load_n(&frame_record(page)->count, __ATOMIC_ACQUIRE) == 1)
        return true;
    large_publish(page);
    return false;
}

/* Removes the page from the list, or unwires it; true if it was wired. */
static bool large_leave(struct pfn page)
{
    bool wired = page_is_wired(page);

    if (wired)
        page_forget_wire(page);
    else
        large_withdraw(page);
    return wired;
}

void large_gone(struct pfn page)
{
    (void)large_leave(page);
    pmm_free_order(page, frame_record(page)->level);
}

/* Takes the page out of the list first: others find it only there, so its count falls then. */
bool large_split_parts(struct pfn page, unsigned order, unsigned to, uint32_t entries,
                       uint32_t holds)
{
    struct frame *record = frame_record(page);
    bool wired = large_leave(page);

    CHECK_MSG(order == to + 9 && record->level == order, "page %x of order %u split from %u to %u",
              page.index, record->level, order, to);
    if (__atomic_load_n(&record->count, __ATOMIC_ACQUIRE) != entries + holds) {
        if (wired)
            page_mark_wired(page);
        else
            large_publish(page);
        return false;
    }
    CHECK((record->flags & (FRAME_IO | FRAME_SWAP_CACHED)) == 0);
    record->count = 1;
    pmm_split(page, order, to);
    record->count = 1 + holds;
    for (unsigned i = 0; i < PTE_ENTRIES; i++) {
        struct pfn part = {page.index + (i << to)};

        if (wired)
            page_mark_wired(part);
        else if (to == 0)
            page_publish(part);
        else
            large_publish(part);
    }
    __atomic_add_fetch(&list.splits, 1, __ATOMIC_RELAXED);
    return true;
}

/* Returns the list's first page with a hold; PFN_NONE: there is none, or it is being freed. */
static struct pfn hold_first(void)
{
    bool were_on = lock_list();
    struct pfn page = {list.first};

    if (!pfn_is_none(page) && !tree_try_hold(page))
        page = PFN_NONE;
    unlock_list(were_on);
    return page;
}

/* Splits the first page of the list. STATUS_NOT_FOUND: the list is empty. */
static enum status large_split_first(struct tree_reserve *reserve)
{
    struct pfn page = hold_first();
    enum status status = tree_reserve_fill(reserve, 1);
    struct tlb_batch batch;

    if (!pfn_is_none(page) && status == OK) {
        tlb_begin(&batch, NULL);
        status = tree_split_held(page, reserve, &batch);
        tlb_commit(&batch);
    }
    if (pfn_is_none(page))
        return STATUS_NOT_FOUND;
    page_release(page);
    return status;
}

/* Only one thread splits at a time: two that split the same page would each count the other's hold
 * as a user. Retries if a table is locked or an entry is being removed, which lasts only a
 * moment. */
bool large_split_one(void)
{
    static struct mutex splitters;
    struct tree_reserve reserve = {0};
    uint64_t before = large_splits();
    enum status status = STATUS_AGAIN;

    mutex_lock(&splitters);
    for (unsigned tries = 0; tries < SPLIT_TRIES && status == STATUS_AGAIN; tries++) {
        status = large_splits() != before ? OK : large_split_first(&reserve);
        if (status == STATUS_AGAIN)
            machine_relax();
    }
    mutex_unlock(&splitters);
    tree_reserve_drain(&reserve);
    return status == OK;
}

uint64_t large_frames(void)
{
    return __atomic_load_n(&list.frames, __ATOMIC_RELAXED);
}

uint64_t large_splits(void)
{
    return __atomic_load_n(&list.splits, __ATOMIC_RELAXED);
}
