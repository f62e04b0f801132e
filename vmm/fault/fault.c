/*
 * How a fault is resolved.
 *
 * A walk ends at the lowest table on the address's path, at an entry there. The entry's state and
 * the access decide what happens; rights are checked before any work is done.
 *
 *   entry              read or fetch                      write
 *   -----------------  ---------------------------------  -------------------------------------
 *   empty, guard       violation                          violation
 *   withheld           violation                          violation
 *   ticket above leaf  fill: the zero table of that       make the path own and split, again
 *                      level, if the space allows; else
 *                      split down in place, again
 *   ticket             fill: the zero page                own path; a cleared page, own; and
 *                                                         neighbours, if the region has a hint
 *   ticket, shared,    split down in place, again         make the path own and split, again
 *   above leaf
 *   ticket, shared     fill: the section's page, shared   own path; the same
 *   ticket, private    fill: the section's page, COW      own path; a copy of it, own
 *   of a section
 *   zero table         spurious                           make the path own and split, again
 *   ticket, large      own path; a large page, own        the same
 *   pages hinted
 *   leaf above level 1 spurious                           own path; count 1: own again, else split
 *                                                         for all who share it, again
 *   leaf, zero page    spurious                           own path; a cleared page, own
 *   leaf, COW          spurious                           own path; count 1: own again, out of
 *                                                         the swap cache; else a copy, own
 *   leaf, own, shared  spurious                           own path; spurious
 *   swapped            fill: in transit, read, a COW      the same, then as a COW leaf
 *                      leaf in the swap cache
 *   in transit         wait, again                        wait, again
 *   corrupt            panic with values                  panic with values
 *
 * An access that the rights of the region or entry deny is a violation, too, as is ring 0 at a
 * user page that it may not access. Filling happens in place for all sharers of a table. Changing
 * needs a path of own tables, made from the root down (rule C7: memory is allocated before the
 * first lock).
 *
 * The steps: classify the entry; plan, which allocates memory without any lock; perform, under the
 * leaf table's lock, if the entry is unchanged; otherwise start over.
 */
#include "vmm/fault/fault.h"

#include "cpu/machine.h"
#include "paging/kernel/layout.h"
#include "vmm/fault/operation.h"
#include "vmm/page/large.h"
#include "vmm/page/page.h"
#include "vmm/page/transfer.h"

struct pfn fault_zero_page;

struct fault_constants fault_constants = {.frame_mask = PTE_FRAME_MASK,
                                          .leaf_mask = PTE_FRAME_MASK | PTE_P,
                                          .no_frame = ~PTE_FRAME_MASK,
                                          .direct_map = (uint8_t *)DIRECT_MAP_BASE,
                                          .records = FRAME_RECORDS_BASE,
                                          .descriptors = DESCRIPTORS_BASE};

/* ---- classify ---- */

static bool fault_rights_allow(struct rights rights, struct fault_access access)
{
    if (access.wire)
        return !rights.none;
    if (rights.none || (access.write && !rights.write) ||
        (access.execute && !rights.execute && pte_nx != 0))
        return false;
    return rights.user ? access.from_user || access.user_allowed : !access.from_user;
}

/* Reads the rights of the entry or its descriptor. Interrupts are off since the walk, which keeps
 * the ticket's descriptor alive. */
static void read_rights(struct fault_op *op, enum pte_state state)
{
    const struct descriptor *descriptor;

    op->rights = (struct rights){0};
    op->shared = false;
    if (state == PTE_LEAF || state == PTE_TABLE || state == PTE_SWAPPED || state == PTE_TRANSIT) {
        op->rights = pte_rights(op->place.entry);
    } else if (state == PTE_TICKET) {
        descriptor = descriptor_of(op->place.entry, descriptor_bound());
        if (descriptor == NULL)
            PANIC("entry %lx at %lx is a ticket of no descriptor", op->place.entry.word,
                  op->address);
        op->rights = descriptor->rights;
        op->page_level = descriptor->page_level;
        op->around = descriptor->around;
        op->shared = descriptor->shared;
        op->copies = descriptor->copies;
    }
}

static enum status check_rights(const struct fault_op *op, enum pte_state state)
{
    if (state == PTE_WITHHELD)
        return STATUS_DENIED;
    if (state == PTE_EMPTY || state == PTE_GUARD)
        return STATUS_NOT_FOUND;
    return fault_rights_allow(op->rights, op->access) ? OK : STATUS_DENIED;
}

/* ---- plan ---- */

/* Makes the path down to a level, or makes it own. The walk then starts over. */
static enum status make_path_to(struct fault_op *op, unsigned level, enum tree_purpose purpose)
{
    struct tree *tree = &op->space->tree;
    enum status status =
        tree_reserve_fill(&op->reserve.tables, tree_path_needs(tree, op->address, level, purpose));
    struct tlb_batch batch;

    if (status == STATUS_NO_MEMORY)
        return page_reclaim_some() ? STATUS_AGAIN : STATUS_NO_MEMORY;
    if (status != OK)
        return status;
    count_event(&op->space->faults.path);
    tlb_begin(&batch, tree);
    status = tree_make_path(tree, op->address, level, purpose, &op->reserve.tables, &batch);
    tlb_commit(&batch);
    if (status == STATUS_AGAIN)
        machine_relax(); /* another processor holds a table's lock, or is forking */
    return status == OK ? STATUS_AGAIN : status;
}

/* Makes the path that the access needs. A read that ends at a zero mapping needs no table below
 * it. */
static enum status fault_make_path(struct fault_op *op)
{
    return op->access.write ? make_path_to(op, 1, TREE_CHANGE)
                            : make_path_to(op, op->shared ? 1 : op->space->zero_levels, TREE_FILL);
}

/* ---- perform ---- */

static bool fault_same_place(const struct tree_place *a, const struct tree_place *b)
{
    return pfn_equal(a->table, b->table) && a->entry.word == b->entry.word &&
           a->level == b->level && a->own == b->own;
}

bool fault_lock_unchanged(struct fault_op *op)
{
    struct tree_place now;

    op->were_on = machine_interrupts_off();
    now = tree_walk(&op->space->tree, op->address);
    if (fault_same_place(&now, &op->place) && tree_lock(now.table)) {
        const struct pte *entries = frame_pointer(now.table);

        if (pte_read(&entries[now.index]).word == op->place.entry.word)
            return true;
        tree_unlock(now.table);
    }
    machine_interrupts_restore(op->were_on);
    machine_pause();
    return false;
}

void fault_unlock(struct fault_op *op)
{
    tree_unlock(op->place.table);
    machine_interrupts_restore(op->were_on);
}

/* Resolves a read of a ticket: maps zeros for its whole span, and keeps the right to write. */
static enum status fault_map_zeros(struct fault_op *op)
{
    if (!fault_lock_unchanged(op))
        return STATUS_AGAIN;
    tree_replace_entry(op->place.table, op->place.index,
                       zero_ladder_entry(op->place.level, op->rights));
    fault_unlock(op);
    fault_count(op, FAULT_ZERO_READ);
    return OK;
}

/* Flushes the page's changed translation, then drops the reference to the old page. */
static void fault_release_old_page(struct fault_op *op)
{
    struct tlb_batch batch;

    tlb_begin(&batch, &op->space->tree);
    tlb_add_page(&batch, op->address);
    tlb_release(&batch, (struct tlb_release){.entry = op->place.entry, .level = 1});
    tlb_commit(&batch);
}

/* The leaf table is locked with interrupts off, so that a processor that joins the space waits. */
bool fault_runs_elsewhere(const struct space *space)
{
    return (__atomic_load_n(&space->tree.processors, __ATOMIC_SEQ_CST) &
            ~(UINT64_C(1) << machine_cpu())) != 0;
}

/* None may write the new page while another still reads the old one; so the entry goes in transit,
 * and other faults on it wait. After the flush it becomes a COW leaf with one owner, and the fault
 * starts over. */
enum status fault_replace_in_transit(struct fault_op *op)
{
    struct pfn page = page_reserve_take(&op->reserve);

    CHECK(op->place.level == 1 && op->place.own && !pfn_is_none(page));
    transfer_begin_in(page, (struct tree_pointer){op->place.table, op->place.index}, op->rights,
                      SLOT_NONE);
    fault_unlock(op);
    /* holds: page(count of the entry, count of the transfer, FRAME_IO) */
    fault_release_old_page(op);
    transfer_end(page, &(struct transfer_end){.result = TRANSFER_LEAF});
    page_release(page);
    return STATUS_AGAIN;
}

void fault_map_page(struct fault_op *op)
{
    rmap_reference(op->reserve.page, op->place.table, op->place.index);
    page_publish(op->reserve.page);
    tree_replace_entry(op->place.table, op->place.index,
                       pte_leaf(op->reserve.page, 1, PTE_OWN, op->rights));
    fault_unlock(op);
    /* holds: page(published) */
    op->reserve.page = PFN_NONE;
}

/* As fault_map_page, for an entry that was present: flushes, then drops the old target. */
static enum status replace_page(struct fault_op *op)
{
    if (fault_runs_elsewhere(op->space))
        return fault_replace_in_transit(op);
    fault_map_page(op);
    fault_release_old_page(op);
    return OK;
}

/* Resolves a write to a ticket or to the zero page: a cleared page, own. */
static enum status map_cleared_page(struct fault_op *op)
{
    bool was_zero_page = pte_present(op->place.entry);
    enum status status;

    if (!was_zero_page && op->around > 0 && fault_give_around(op))
        return OK;
    status = page_reserve_fill(&op->reserve, FRAME_CLEARED);
    if (status != OK)
        return status;
    if (!fault_lock_unchanged(op))
        return STATUS_AGAIN;
    if (was_zero_page) {
        fault_count(op, FAULT_ZERO_TO_PRIVATE);
        return replace_page(op);
    }
    fault_map_page(op);
    fault_count(op, FAULT_FIRST_WRITE);
    return OK;
}

/* A page in the swap cache leaves it first, which succeeds only if no other entry has found it
 * there. */
enum status fault_reuse_page(struct fault_op *op)
{
    struct pte *entries = frame_pointer(op->place.table);
    struct pfn page = pte_frame(op->place.entry);

    if ((frame_record(page)->flags & FRAME_SWAP_CACHED) != 0 && !swap_cache_remove_alone(page))
        return STATUS_AGAIN;
    pte_make_own(&entries[op->place.index]);
    fault_count(op, FAULT_COW_REUSE);
    return OK;
}

static enum status write_cow_page(struct fault_op *op)
{
    struct pfn shared = pte_frame(op->place.entry);
    bool alone = fault_is_last_owner(shared);
    enum status status = alone ? OK
                         : page_await_transfer(shared)
                             ? STATUS_AGAIN
                             : page_reserve_fill(&op->reserve, FRAME_UNCLEARED);

    if (status != OK)
        return status;
    if (!fault_lock_unchanged(op))
        return STATUS_AGAIN;
    if (fault_is_last_owner(shared)) {
        status = fault_reuse_page(op);
        fault_unlock(op);
        return status;
    }
    /* Shared again meanwhile, or it became COW again, and the flush after that is still to come. */
    if (pfn_is_none(op->reserve.page) || (frame_record(shared)->flags & FRAME_IO) != 0) {
        fault_unlock(op);
        return STATUS_AGAIN;
    }
    machine_copy_frame(frame_pointer(op->reserve.page), frame_pointer(shared));
    op->reserve.cleared = false;
    fault_count(op, FAULT_COW_COPY);
    return replace_page(op);
}

/* Counts a spurious fault: the entry allows the access already, since another processor was faster
 * or the TLB was stale. */
static enum status note_spurious(struct fault_op *op)
{
    count_event(&op->space->faults.spurious);
    machine_flush_page(op->address);
    return OK;
}

static enum status perform_leaf(struct fault_op *op)
{
    struct pte entry = op->place.entry;

    if (!op->access.write || pte_class(entry) != PTE_COW)
        return note_spurious(op);
    if (pfn_equal(pte_frame(entry), tree_zero_page()))
        return map_cleared_page(op);
    return write_cow_page(op);
}

static enum status fault_perform(struct fault_op *op, enum pte_state state)
{
    switch (state) {
    case PTE_TICKET: return op->shared ? fault_map_shared(op) : map_cleared_page(op);
    case PTE_LEAF: return perform_leaf(op);
    case PTE_SWAPPED: return swap_in(op);
    case PTE_TRANSIT: machine_relax(); return STATUS_AGAIN;
    default: PANIC("state %s reached the end of a fault", pte_state_name(state));
    }
}

/* ---- large pages ---- */

/* Returns true if a ticket becomes a large page: the region hints it, and the ticket's span
 * suffices. This includes reads, since the first write would have to split zeros. */
static bool wants_large(const struct fault_op *op, enum pte_state state)
{
    return state == PTE_TICKET && op->page_level > 1 && op->place.level >= op->page_level &&
           op->rights.write && !op->takes_small;
}

/* Falls back to small pages if there is no free block: splits the ticket further. */
static enum status map_large_page(struct fault_op *op)
{
    unsigned level = op->page_level;
    struct pfn page;

    if (op->place.level > level || !op->place.own)
        return make_path_to(op, level, TREE_CHANGE);
    if (large_alloc(level, FRAME_CLEARED, &page) != OK) {
        op->takes_small = true;
        return STATUS_AGAIN;
    }
    if (!fault_lock_unchanged(op)) {
        pmm_free_order(page, frame_record(page)->level);
        return STATUS_AGAIN;
    }
    __atomic_store_n(&op->space->has_large, true, __ATOMIC_SEQ_CST); /* before a fork can see it */
    rmap_reference(page, op->place.table, op->place.index);
    large_publish(page);
    tree_replace_entry(op->place.table, op->place.index,
                       pte_leaf(page, level, PTE_OWN, op->rights));
    fault_unlock(op);
    count_event(&op->space->faults.large);
    return OK;
}

/* Resolves a write to a large page: the last owner gets it whole, a shared one is split. */
static enum status write_large_page(struct fault_op *op)
{
    const struct frame *record = frame_record(pte_frame(op->place.entry));
    bool alone;

    if (!op->place.own)
        return make_path_to(op, op->place.level, TREE_CHANGE);
    if (pte_class(op->place.entry) != PTE_COW)
        return note_spurious(op);
    if (__atomic_load_n(&record->count, __ATOMIC_ACQUIRE) > 1)
        return fault_make_path(op);
    if (!fault_lock_unchanged(op))
        return STATUS_AGAIN;
    alone = __atomic_load_n(&record->count, __ATOMIC_ACQUIRE) == 1;
    if (alone)
        pte_make_own((struct pte *)frame_pointer(op->place.table) + op->place.index);
    fault_unlock(op);
    if (!alone)
        return STATUS_AGAIN;
    fault_count(op, FAULT_COW_REUSE);
    return OK;
}

/* Returns true if a read turns the ticket into zeros at its own level. */
static bool may_map_zeros(const struct fault_op *op, enum pte_state state)
{
    return state == PTE_TICKET && !op->access.write && !op->shared &&
           op->place.level <= op->space->zero_levels;
}

/* Makes one attempt at a fault: classifies, plans, performs. */
static enum status fault_attempt(struct fault_op *op)
{
    bool were_on = machine_interrupts_off();
    enum pte_state state;
    enum status status;

    op->place = tree_walk(&op->space->tree, op->address);
    state = pte_state(op->place.entry, op->place.level);
    read_rights(op, state);
    machine_interrupts_restore(were_on);
    if (state == PTE_CORRUPT)
        PANIC("entry %lx of level %u at %lx is corrupt", op->place.entry.word, op->place.level,
              op->address);
    status = check_rights(op, state);
    if (status != OK)
        return status;
    if (op->place.level > 1 && !op->access.write && pte_present(op->place.entry))
        return note_spurious(op);
    if (op->place.level > 1 && state == PTE_LEAF)
        return write_large_page(op);
    if (wants_large(op, state))
        return map_large_page(op);
    if (may_map_zeros(op, state))
        return fault_map_zeros(op);
    if (op->place.level > 1 || (op->access.write && !op->place.own))
        return fault_make_path(op);
    return fault_perform(op, state);
}

enum status fault_resolve(struct space *space, uint64_t address, struct fault_access access)
{
    struct fault_op op = {
        .space = space, .address = address, .access = access, .reserve = {.page = PFN_NONE}};
    enum status status;

    CHECK(address < lower_half_end(space->tree.levels));
    do {
        status = fault_attempt(&op);
    } while (status == STATUS_AGAIN);

    page_reserve_drain(&op.reserve);
    if (status == STATUS_DENIED || status == STATUS_NOT_FOUND)
        count_event(&space->faults.violations);
    else if (status != OK)
        count_event(&space->faults.failed);
    return status;
}
