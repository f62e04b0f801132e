/*
 * The fast path's faults that take a page: a write to a ticket, to the zero page, or to a shared
 * COW page.
 *
 * Each continues after the walk of fast.c, under the leaf table's lock, and is reached by a jump
 * instead of a call. None may use more than the nine registers that the entry has saved. This
 * determines the order of steps, and is why some values are read again instead of kept.
 */
#include "vmm/fault/fast_internal.h"

#include "cpu/machine.h"
#include "cpu/points.h"
#include "vmm/page/page.h"

INLINE struct pmm_cache *own_caches(void)
{
    return pmm_caches_of(machine_cpu());
}

/* Returns the own entry, without its frame, that replaces a COW entry. */
INLINE uint64_t own_word(uint64_t cow)
{
    return (cow & (PTE_US | PTE_NX | PTE_MAY_WRITE)) | PTE_P | PTE_A | PTE_RW | CLASS(PTE_OWN);
}

/* As frame_pfn, with the constant in memory. */
INLINE struct pfn pfn_of_table(const struct frame *table)
{
    return (struct pfn){(uint32_t)(((uintptr_t)table - fault_constants.records) / sizeof(*table))};
}

/* Takes a frame and prepares it as a page that is about to be written: sets its back pointer and
 * adds it to the processor's clock. FRAME_DIRTY is set at once, so that a later copy of the page
 * need not fold D into the record by a locked instruction. Reclaim may find the page before the
 * entry maps it, and skips it. The clock's lock is taken first, so that a held lock can still end
 * the path. */
INLINE enum fast_result fast_take_page(const struct pte *leaf, const struct frame *table,
                                       struct pmm_cache *caches, enum pmm_cache_content content,
                                       enum frame_clear clear, struct pfn *page)
{
    struct page_clock *clock = page_clock_beside(caches);
    struct frame *record;
    uint32_t last;

    *page = PFN_NONE;
    if (UNLIKELY(!spin_try(&clock->lock)))
        return FAST_SLOW_PATH;
    if (UNLIKELY(!pmm_take(caches, content, FRAME_ANONYMOUS, clear, page))) {
        spin_unlock_fast(&clock->lock);
        return FAST_REFILL;
    }
    CODE_POINT(POINT_MAP);
    record = record_at(page->index);
    if (UNLIKELY(!pmm_is_free(record)))
        return FAST_DAMAGED;
    pmm_prepare_page(record, clock->record, pfn_of_table(table).index, leaf_place(leaf),
                     FRAME_DIRTY);
    last = clock->last;
    record->page.list_prev = last;
    if (UNLIKELY(last == UINT32_MAX))
        page_clock_begin(clock, *page);
    else
        record_at(last)->page.list_next = page->index;
    clock->last = page->index;
    clock->size++;
    spin_unlock_fast(&clock->lock);
    return FAST_RESOLVED;
}

/* Panics and prints the frame's values. */
OUT_OF_LINE bool damaged(struct pfn page)
{
    pmm_check_free(page);
    return false;
}

/* Ends the path, since no page could be taken. */
INLINE bool fail_allocation(struct trap_frame *frame, struct frame *table, enum fast_result result,
                            struct pfn page)
{
    return result == FAST_DAMAGED ? damaged(page) : fault_give_up(frame, table, result);
}

INLINE uint64_t entry_of(struct pfn page, uint64_t word)
{
    return phys_of(page).address | word;
}

INLINE void install(struct pte *leaf, uint64_t word)
{
    __atomic_store_n(&leaf->word, word, __ATOMIC_RELEASE);
}

/* Returns true if other processors run the space too: then the fast path may not change a present
 * translation. A processor that joins waits for this one (space.c). */
INLINE bool fast_runs_elsewhere(void)
{
    uint64_t processors = __atomic_load_n(&space_current()->tree.processors, __ATOMIC_RELAXED);

    return (processors & (processors - 1)) != 0;
}

/* ---- the faults that take a page ---- */

/* Resolves a write to a ticket. */
INLINE bool write_ticket(struct trap_frame *frame, struct pte *leaf, struct frame *table,
                         uint64_t own_bits, struct pmm_cache *caches,
                         enum pmm_cache_content content)
{
    struct pfn page;
    enum fast_result result = fast_take_page(leaf, table, caches, content, FRAME_CLEARED, &page);

    if (UNLIKELY(result != FAST_RESOLVED))
        return fail_allocation(frame, table, result, page);
    if (content != PMM_CACHE_ZERO)
        machine_clear_frame(direct(phys_of(page).address));
    install(leaf, entry_of(page, own_bits));
    table->table.held++;
    machine_count(FAULT_FIRST_WRITE);
    return fast_unlock_table(table);
}

static GOES_ON bool first_write_zeroed(struct trap_frame *frame, struct pte *leaf,
                                       struct frame *table, uint64_t own_bits)
{
    return write_ticket(frame, leaf, table, own_bits, own_caches(), PMM_CACHE_ZERO);
}

GOES_ON bool fault_first_write(struct trap_frame *frame, struct pte *leaf, struct frame *table,
                               uint64_t own_bits)
{
    struct pmm_cache *caches = own_caches();

    CODE_POINT(POINT_ALLOCATE);
    if (UNLIKELY(resident_limit != UINT64_MAX))
        return fault_give_up(frame, table, FAST_SLOW_PATH);
    if (UNLIKELY(pmm_has_zeroed(caches)))
        return first_write_zeroed(frame, leaf, table, own_bits);
    return write_ticket(frame, leaf, table, own_bits, caches, PMM_CACHE_ANY);
}

/* Resolves a write to a COW entry of the zero page. */
INLINE bool replace_zero_page(struct trap_frame *frame, struct pte *leaf, struct frame *table,
                              uint64_t word, uint64_t address, struct pmm_cache *caches,
                              enum pmm_cache_content content)
{
    struct pfn page;
    enum fast_result result = fast_take_page(leaf, table, caches, content, FRAME_CLEARED, &page);

    if (UNLIKELY(result != FAST_RESOLVED))
        return fail_allocation(frame, table, result, page);
    if (content != PMM_CACHE_ZERO)
        machine_clear_frame(direct(phys_of(page).address));
    install(leaf, entry_of(page, own_word(word)));
    table->table.held++;
    CODE_POINT(POINT_FLUSH);
    machine_flush_page(address);
    machine_count(FAULT_ZERO_TO_PRIVATE);
    return fast_unlock_table(table);
}

static GOES_ON bool write_zero_page_zeroed(struct trap_frame *frame, struct pte *leaf,
                                           struct frame *table, uint64_t word, uint64_t address)
{
    return replace_zero_page(frame, leaf, table, word, address, own_caches(), PMM_CACHE_ZERO);
}

GOES_ON bool fault_write_zero_page(struct trap_frame *frame, struct pte *leaf, struct frame *table,
                                   uint64_t word, uint64_t address)
{
    struct pmm_cache *caches = own_caches();

    CODE_POINT(POINT_ALLOCATE);
    if (UNLIKELY(fast_runs_elsewhere()) || UNLIKELY(resident_limit != UINT64_MAX))
        return fault_give_up(frame, table, FAST_SLOW_PATH);
    if (UNLIKELY(pmm_has_zeroed(caches)))
        return write_zero_page_zeroed(frame, leaf, table, word, address);
    return replace_zero_page(frame, leaf, table, word, address, caches, PMM_CACHE_ANY);
}

/* The page's back pointer was the replaced entry: moves it to the next table of the ring, if that
 * maps the page as a leaf, as tables that share all their pages do. As in rmap_choose_another the
 * back pointer is stored before the entry is read. */
INLINE bool name_next(struct frame *record, const struct frame *table, const struct pte *leaf,
                      uint64_t word)
{
    struct tree_ring_lock *ring = tree_ring_lock_of(table);
    uint32_t next;
    bool found = false;

    if (UNLIKELY(!spin_try(&ring->lock)))
        return false;
    if (UNLIKELY(ring != tree_ring_lock_of(table))) {
        spin_unlock_fast(&ring->lock);
        return false;
    }
    next = table->table.ring_next;
    if (__builtin_expect(next != UINT32_MAX, 1)) {
        const uint64_t *other = direct(((uint64_t)next << PAGE_SHIFT) + leaf_place(leaf));

        __atomic_exchange_n(&record->page.back_table, next, __ATOMIC_SEQ_CST);
        found =
            ((__atomic_load_n(other, __ATOMIC_SEQ_CST) ^ word) & fault_constants.leaf_mask) == 0;
        if (UNLIKELY(!found))
            record->page.back_table = pfn_of_table(table).index; /* whose lock is held here */
    }
    spin_unlock_fast(&ring->lock);
    return found;
}

/* Handles the rare cases: no such entry in the next table, or no reference left. */
OUT_OF_LINE bool let_go_slowly(struct frame *table, const struct pte *leaf, struct pfn shared)
{
    tree_repoint(shared, pfn_of_table(table), leaf_index(leaf));
    spin_unlock_fast(&table->lock);
    page_release(shared);
    return true;
}

OUT_OF_LINE bool gone(struct pfn page)
{
    page_hooks()->page_free_last(page);
    return true;
}

/* As rmap_points_into, but this processor has executed INVLPG since it stored the entry. That
 * serializes, and so is the fence (SDM volume 3, 9.3: buffered writes are drained). */
INLINE bool points_into_flushed(const struct frame *record, struct pfn table)
{
    return __atomic_load_n(&record->page.back_table, __ATOMIC_RELAXED) == table.index;
}

/* Drops the copied page's reference, after the flush. */
INLINE bool fast_let_go(struct frame *table, const struct pte *leaf, uint64_t word)
{
    struct frame *record = record_of(word & fault_constants.frame_mask);

    /* The D of the removed entry is folded into the record (rule E8). */
    if (UNLIKELY((record->flags & FRAME_DIRTY) == 0) && (word & PTE_D) != 0)
        __atomic_or_fetch(&record->flags, FRAME_DIRTY, __ATOMIC_RELAXED);
    if (points_into_flushed(record, pfn_of_table(table)) &&
        UNLIKELY(!name_next(record, table, leaf, word)))
        return let_go_slowly(table, leaf, pte_frame((struct pte){word}));
    spin_unlock_fast(&table->lock);
    if (UNLIKELY(__atomic_sub_fetch(&record->count, 1, __ATOMIC_ACQ_REL) == 0))
        return gone(pte_frame((struct pte){word}));
    return true;
}

/* Resolves a write to a COW entry with other references: this entry gets a copy. */
GOES_ON bool fault_copy_page(struct trap_frame *frame, struct pte *leaf, struct frame *table,
                             uint64_t address)
{
    struct pfn page;
    enum fast_result result;
    uint64_t word;

    CODE_POINT(POINT_ALLOCATE);
    if (UNLIKELY(fast_runs_elsewhere()) || UNLIKELY(resident_limit != UINT64_MAX))
        return fault_give_up(frame, table, FAST_SLOW_PATH);
    result = fast_take_page(leaf, table, own_caches(), PMM_CACHE_ANY, FRAME_UNCLEARED, &page);
    if (UNLIKELY(result != FAST_RESOLVED))
        return fail_allocation(frame, table, result, page);
    word = pte_read(leaf).word;
    machine_copy_frame(direct(phys_of(page).address), direct(word & fault_constants.frame_mask));
    install(leaf, entry_of(page, own_word(word)));
    machine_count(FAULT_COW_COPY);
    CODE_POINT(POINT_FLUSH);
    machine_flush_page(address);
    return fast_let_go(table, leaf, word);
}
