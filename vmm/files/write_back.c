/*
 * Write-back: the dirty pages of a section go to its source.
 *
 * Pages are taken in batches. All leaves of a page become tickets, which folds their D bits into
 * the record, and one flush of everything follows: only then no processor writes through a
 * translation whose D bit was seen already, and the page is clean from the moment at which its mark
 * is cleared (rule W1). Then it is written; whoever writes to it meanwhile comes by a new fault and
 * sets a new D bit.
 *
 * A recall may miss a leaf. The page's count tells: such a page is written whether it is marked or
 * not, and the leaf keeps its D bit for the next time.
 */
#include "vmm/files/write_back.h"

#include "cpu/machine.h"
#include "vmm/page/page.h"

#define TOGETHER 32U

/* Pages that are written together; each is held. */
struct batch {
    struct section *section;
    unsigned count;
    struct {
        struct pfn page;
        uint64_t at;
        unsigned recalled; /* leaves, whose counts are the batch's until the flush */
    } pages[TOGETHER];
};

/* Counts of a page that nothing maps: the section's own entry and the batch's hold. */
#define COUNT_UNMAPPED 2U

/* Returns the state of the section's entry at a place, and the bytes that it spans. */
static enum pte_state state_at(const struct section *section, uint64_t at, uint64_t *span)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = plain_walk(&section->tree, at);

    machine_interrupts_restore(were_on);
    *span = pte_span(place.level);
    return place.level > 1 ? PTE_EMPTY : pte_state(place.entry, 1);
}

/* Brings a page to memory, also from a slot, and holds it. */
static enum status bring_held(struct section *section, uint64_t at, struct pfn *page)
{
    struct section_place place = {.section = section, .at = at};
    struct page_reserve reserve = {.page = PFN_NONE};
    enum status status;

    do {
        status = section_bring(NULL, &place, SECTION_READ, &reserve, page);
    } while (status == STATUS_AGAIN);
    page_reserve_drain(&reserve);
    return status;
}

/* Recalls the leaves of all pages of the batch, then flushes everything once. */
static void recall_batch(struct batch *batch)
{
    unsigned recalled = 0;
    struct tlb_batch flush;

    CHECK(batch->count <= TOGETHER);
    for (unsigned i = 0; i < batch->count; i++) {
        batch->pages[i].recalled =
            section_recall(batch->section->family, batch->pages[i].at, batch->pages[i].page);
        recalled += batch->pages[i].recalled;
    }
    if (recalled > 0) {
        tlb_begin(&flush, NULL);
        tlb_add_everything(&flush);
        tlb_commit(&flush);
    }
    for (unsigned i = 0; i < batch->count; i++) {
        for (; batch->pages[i].recalled > 0; batch->pages[i].recalled--)
            page_release(batch->pages[i].page);
    }
}

/* Takes the page's mark; returns whether it has to be written. */
static bool take_dirty(struct pfn page)
{
    struct frame *record = frame_record(page);
    bool marked = (__atomic_fetch_and(&record->flags, (uint8_t)~FRAME_DIRTY, __ATOMIC_ACQ_REL) &
                   FRAME_DIRTY) != 0;

    return marked || __atomic_load_n(&record->count, __ATOMIC_ACQUIRE) > COUNT_UNMAPPED;
}

/* Writes the batch's dirty pages, and lets all of them go. */
static enum status write_batch(struct batch *batch)
{
    const struct section *section = batch->section;
    enum status first = OK;

    recall_batch(batch);
    for (unsigned i = 0; i < batch->count; i++) {
        struct pfn page = batch->pages[i].page;
        enum status status = OK;

        CHECK((frame_record(page)->flags & FRAME_SHARED) != 0);
        if (take_dirty(page))
            status = section->pager->put(section->source, batch->pages[i].at / PAGE_SIZE, page);
        if (status != OK)
            __atomic_or_fetch(&frame_record(page)->flags, FRAME_DIRTY, __ATOMIC_RELEASE);
        first = first == OK ? status : first;
        page_release(page);
    }
    batch->count = 0;
    return first;
}

/* Adds the page at a place, if the section has one, and writes a full batch. */
static enum status take_page(struct batch *batch, uint64_t at)
{
    enum status status = bring_held(batch->section, at, &batch->pages[batch->count].page);

    CHECK(batch->count < TOGETHER && at % PAGE_SIZE == 0);
    if (status != OK) /* it was cut off, or cannot be read from its slot */
        return status == STATUS_RANGE ? OK : status;
    batch->pages[batch->count++].at = at;
    return batch->count == TOGETHER ? write_batch(batch) : OK;
}

enum status section_write_back(struct section *section, uint64_t from, uint64_t to)
{
    struct batch batch = {.section = section};
    enum status first = OK;
    enum status status;

    CHECK(section->pager->put != NULL && section->pager->flush != NULL);
    from = round_down(from, PAGE_SIZE);
    to = min_u64(to, round_up(section_size(section), PAGE_SIZE));
    while (from < to) {
        uint64_t span;

        status = OK;
        if (state_at(section, from, &span) != PTE_EMPTY)
            status = take_page(&batch, from);
        first = first == OK ? status : first;
        from = round_down(from, span) + span;
    }
    status = write_batch(&batch);
    first = first == OK ? status : first;
    status = section->pager->flush(section->source);
    return first == OK ? status : first;
}
