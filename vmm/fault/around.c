/*
 * Fault-around: one write maps pages for a group of tickets.
 *
 * Pages beyond the faulting one are best effort: they come only from the processor's frame caches,
 * evict nothing, and respect the limit of resident pages. Apart from that they are ordinary pages:
 * own, in the clock, charged.
 */
#include "cpu/machine.h"
#include "vmm/fault/fast_internal.h"
#include "vmm/fault/operation.h"
#include "vmm/page/page.h"

/* Pages that are taken, and enter the clock, together. */
#define TOGETHER (1U << AROUND_MOST)

/* Returns how many frames the processor's caches have for pages. */
static unsigned frames_at_hand(const struct pmm_cache *caches)
{
    unsigned frames = 0;

    for (unsigned content = 0; content < PMM_CACHES; content++) {
        uint32_t state = __atomic_load_n(&caches[content].state, __ATOMIC_RELAXED);

        frames += state == PMM_CACHE_HELD ? 0 : state - PMM_CACHE_EMPTY;
    }
    return frames;
}

/* Takes up to `wanted` frames from the processor's cache at once. Returns how many. */
static unsigned take_frames(struct pmm_cache *caches, enum pmm_cache_content content,
                            unsigned wanted, uint32_t *frames)
{
    struct pmm_cache *cache = &caches[content];
    uint32_t state = __atomic_exchange_n(&cache->state, PMM_CACHE_HELD, __ATOMIC_ACQUIRE);
    unsigned taken;

    CHECK(wanted <= TOGETHER);
    if (state == PMM_CACHE_HELD)
        return 0;
    taken = (unsigned)min_u64(wanted, state - PMM_CACHE_EMPTY);
    for (unsigned i = 0; i < taken; i++)
        frames[i] = cache->frames[state - PMM_CACHE_EMPTY - 1 - i];
    cache->by_kind[FRAME_ANONYMOUS] += taken;
    if (content == PMM_CACHE_ZERO)
        cache->hits += taken;
    else
        caches[PMM_CACHE_ZERO].missed += taken;
    __atomic_store_n(&cache->state, state - taken, __ATOMIC_RELEASE);
    return taken;
}

/* Clears the frames if need be, prepares them as the pages of entries from `from` on, and adds them
 * to the processor's clock as one chain. Interrupts are off. */
static void publish_frames(struct pmm_cache *caches, enum pmm_cache_content content,
                           const uint32_t *frames, unsigned count, struct pfn table, unsigned from)
{
    struct page_clock *clock = page_clock_beside(caches);
    struct frame *first = frame_record((struct pfn){frames[0]});
    struct frame *last = NULL;

    CHECK(count > 0 && count <= TOGETHER);
    for (unsigned i = 0; i < count; i++) {
        struct pfn page = {frames[i]};
        struct frame *record = frame_record(page);

        if (PMM_JUNK && content == PMM_CACHE_ANY)
            pmm_junk_check(page);
        pmm_check_free(page);
        if (content == PMM_CACHE_ANY)
            machine_clear_frame(frame_pointer(page));
        pmm_prepare_page(record, clock->record, table.index,
                         (from + i) * (unsigned)sizeof(struct pte), 0);
        if (last != NULL) {
            last->page.list_next = page.index;
            record->page.list_prev = frames[i - 1];
        }
        last = record;
    }
    spin_lock(&clock->lock);
    first->page.list_prev = clock->last;
    if (clock->last == UINT32_MAX)
        page_clock_begin(clock, (struct pfn){frames[0]});
    else
        frame_record((struct pfn){clock->last})->page.list_next = frames[0];
    clock->last = frames[count - 1];
    clock->size += count;
    spin_unlock_fast(&clock->lock);
}

/* Fills up to TOGETHER tickets from one of the caches. Returns how many. */
static unsigned fill_together(struct pfn table, unsigned from, unsigned to,
                              const struct descriptor *descriptor, enum pmm_cache_content content)
{
    struct pmm_cache *caches = pmm_caches_of(machine_cpu());
    struct pte *entries = frame_pointer(table);
    uint32_t frames[TOGETHER];
    unsigned count = 0;

    while (count < TOGETHER && from + count < to &&
           pte_read(&entries[from + count]).word == descriptor->ticket.word)
        count++;
    if (count > 0)
        count = take_frames(caches, content, count, frames);
    if (count == 0)
        return 0;
    /* In a clock before an entry maps them. */
    publish_frames(caches, content, frames, count, table, from);
    for (unsigned i = 0; i < count; i++)
        __atomic_store_n(&entries[from + i].word,
                         phys_of((struct pfn){frames[i]}).address | descriptor->own_bits,
                         __ATOMIC_RELEASE);
    return count;
}

unsigned fault_fill_tickets(struct pfn table, unsigned from, unsigned to,
                            const struct descriptor *descriptor)
{
    bool zeroed = pmm_has_zeroed(pmm_caches_of(machine_cpu()));
    unsigned at = from;
    unsigned filled;

    CHECK(frame_record(table)->lock == 1 && to <= PTE_ENTRIES && !descriptor->rights.none);
    do {
        filled = zeroed ? fill_together(table, at, to, descriptor, PMM_CACHE_ZERO) : 0;
        zeroed = filled > 0;
        if (!zeroed)
            filled = fill_together(table, at, to, descriptor, PMM_CACHE_ANY);
        at += filled;
    } while (filled > 0 && at < to);
    frame_record(table)->table.held = (uint16_t)(frame_record(table)->table.held + at - from);
    return at - from;
}

unsigned fault_resident_room(unsigned wanted)
{
    uint64_t limit = resident_limit;
    uint64_t resident;

    if (limit == UINT64_MAX)
        return wanted;
    resident = page_resident();
    return resident < limit ? (unsigned)min_u64(wanted, limit - resident) : 0;
}

/* Fills the group's tickets from the written one upwards, then the adjacent ones below it. The
 * table is locked. Returns how many. */
static unsigned fill_group(struct pfn table, unsigned index, const struct descriptor *descriptor)
{
    const struct pte *entries = frame_pointer(table);
    unsigned pages = 1U << descriptor->around;
    unsigned first = index & ~(pages - 1);
    unsigned most = fault_resident_room(pages);
    unsigned from = index;
    unsigned filled = fault_fill_tickets(
        table, index, index + (unsigned)min_u64(most, first + pages - index), descriptor);

    while (filled > 0 && from > first && index - from < most - filled &&
           pte_read(&entries[from - 1]).word == descriptor->ticket.word)
        from--;
    if (from < index)
        filled += fault_fill_tickets(table, from, index, descriptor);
    return filled;
}

static unsigned try_group(struct fault_op *op)
{
    unsigned filled;

    if (!fault_lock_unchanged(op))
        return 0;
    filled = fill_group(op->place.table, op->place.index,
                        descriptor_of(op->place.entry, descriptor_bound()));
    fault_unlock(op);
    return filled;
}

bool fault_write_around(struct pte *leaf, const struct descriptor *descriptor)
{
    struct pfn table = frame_of_pointer(leaf);
    unsigned index = (unsigned)((uintptr_t)leaf / sizeof(*leaf) % PTE_ENTRIES);
    unsigned filled;

    CHECK(descriptor->around > 0 && descriptor->around <= AROUND_MOST);
    /* The slow way refills the caches: otherwise a program that frees a page and writes again would
     * get groups of one page for ever. */
    filled = frames_at_hand(pmm_caches_of(machine_cpu())) < 1U << descriptor->around
                 ? 0
                 : fill_group(table, index, descriptor);
    tree_unlock(table);
    if (filled == 0)
        return false;
    machine_count(FAULT_FIRST_WRITE);
    __atomic_add_fetch(&space_current()->faults.around, filled - 1, __ATOMIC_RELAXED);
    return true;
}

bool fault_give_around(struct fault_op *op)
{
    unsigned filled;

    if (frames_at_hand(pmm_caches_of(machine_cpu())) < TOGETHER)
        (void)pmm_refill();
    filled = try_group(op);
    if (filled == 0 && pmm_refill())
        filled = try_group(op);
    if (filled == 0)
        return false;
    fault_count(op, FAULT_FIRST_WRITE);
    __atomic_add_fetch(&op->space->faults.around, filled - 1, __ATOMIC_RELAXED);
    return true;
}
