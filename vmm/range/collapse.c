/* Collapse: merges small pages into large ones. */
#include "vmm/range/collapse.h"

#include "cpu/machine.h"
#include "vmm/fault/fault.h"
#include "vmm/page/large.h"
#include "vmm/page/page.h"
#include "vmm/range/internal.h"

/* Tries for one large page: each small page may have to be read, and some twice, if they are
 * evicted for others. */
#define TRIES (2 * PTE_ENTRIES)

/* Longest wait for pages that others hold, as in a disk transfer. */
#define IN_USE_NS UINT64_C(20000000)

static struct collapse_counts counts;

/* ---- one large page ---- */

/* Returns true if each table on the path has one reference: then making the path own copies
 * nothing. Returns false if a table is missing or shared. */
static bool collapse_is_alone(const struct space *space, uint64_t address, unsigned level)
{
    bool were_on = machine_interrupts_off();
    struct pfn table = space->tree.root;
    bool alone = true;

    for (unsigned at = space->tree.levels; alone && at >= level; at--) {
        struct pte entry =
            pte_read((const struct pte *)frame_pointer(table) + pte_index(address, at));

        alone = pte_state(entry, at) == PTE_TABLE && pte_class(entry) != PTE_SHARED &&
                !zero_ladder_has(pte_frame(entry)) && frame_record(pte_frame(entry))->count == 1;
        table = pte_frame(entry);
    }
    machine_interrupts_restore(were_on);
    return alone;
}

/* Makes the path's tables own where this space has the only reference left. */
static enum status collapse_own_tables(struct space *space, uint64_t address, unsigned level)
{
    struct tree_reserve reserve = {0};
    struct tlb_batch batch;
    enum status status;

    do {
        status =
            tree_reserve_fill(&reserve, tree_path_needs(&space->tree, address, level, TREE_CHANGE));
        if (status != OK)
            break;
        tlb_begin(&batch, &space->tree);
        status = tree_make_path(&space->tree, address, level, TREE_CHANGE, &reserve, &batch);
        tlb_commit(&batch);
        if (status == STATUS_AGAIN)
            machine_relax();
    } while (status == STATUS_AGAIN && collapse_is_alone(space, address, level + 1));
    tree_reserve_drain(&reserve);
    return status;
}

/* Allocates the target block. Returns STATUS_BUSY on success: the caller retries with it. */
static enum status collapse_alloc_block(struct tree_merge *merge)
{
    CHECK(pfn_is_none(merge->block));
    if (large_alloc(merge->level, FRAME_UNCLEARED, &merge->block) == OK)
        return STATUS_BUSY;
    count_event(&counts.no_block);
    return STATUS_NO_MEMORY;
}

/* Swaps in an evicted page by a read fault. Its new frame will not be adjacent to the others, so
 * the merge needs a block to copy to, which is allocated first. */
static enum status collapse_swap_in(struct space *space, struct tree_merge *merge)
{
    struct fault_access access = {.from_user = merge->rights.user, .user_allowed = true};
    enum status status;

    CHECK_MSG(merge->missing - merge->address < pte_span(merge->level),
              "a page is missing at %lx, not in the large page at %lx", merge->missing,
              merge->address);
    if (pfn_is_none(merge->block))
        return collapse_alloc_block(merge);
    count_event(&counts.brought_in);
    status = fault_resolve(space, merge->missing, access);
    return status == OK ? STATUS_BUSY : status;
}

/* Acts on the result of a merge. Returns STATUS_BUSY if the caller should retry. */
static enum status collapse_follow(struct space *space, struct tree_merge *merge,
                                   enum tree_merged found)
{
    switch (found) {
    case TREE_MERGED: count_event(&counts.in_place); return OK;
    case TREE_MERGE_COPIED:
        CHECK(!pfn_is_none(merge->block));
        count_event(&counts.copied);
        merge->block = PFN_NONE;
        return OK;
    case TREE_MERGE_NOTHING: return OK;
    case TREE_MERGE_MISSING: return collapse_swap_in(space, merge);
    case TREE_MERGE_NO_BLOCK: return collapse_alloc_block(merge);
    case TREE_MERGE_IN_USE: machine_relax(); return STATUS_BUSY;
    case TREE_MERGE_SHARED:
    case TREE_MERGE_UNFIT: break;
    }
    return STATUS_AGAIN;
}

/* Collapses one large page of this level at an address. It lies in the region. */
static enum status collapse_page(struct space *space, const struct region *region, uint64_t address,
                                 unsigned level)
{
    const struct descriptor *descriptor = region->what.descriptor;
    struct tree_merge merge = {.address = address,
                               .level = level,
                               .rights = descriptor->rights,
                               .ticket = descriptor->ticket,
                               .block = PFN_NONE,
                               .progress = &space->calls};
    uint64_t end = machine_now_ns() + IN_USE_NS;
    unsigned tries = 0;
    enum status status;

    CHECK((level == 2 || level == 3) && address % pte_span(level) == 0);
    CHECK(region->what.kind == REGION_PRIVATE && !region->what.wired);
    if (!collapse_is_alone(space, address, level)) {
        count_event(&counts.refused);
        return STATUS_AGAIN;
    }
    status = collapse_own_tables(space, address, level - 1);
    if (status != OK)
        return status;
    __atomic_store_n(&space->has_large, true, __ATOMIC_SEQ_CST);
    do {
        enum tree_merged found = tree_merge(&space->tree, &merge);

        status = collapse_follow(space, &merge, found);
        if (found == TREE_MERGE_IN_USE && machine_now_ns() >= end)
            break;
        tries += found != TREE_MERGE_IN_USE;
    } while (status == STATUS_BUSY && tries < TRIES);
    if (!pfn_is_none(merge.block))
        pmm_free_order(merge.block, frame_record(merge.block)->level);
    if (status == STATUS_BUSY)
        status = STATUS_AGAIN;
    if (status == STATUS_AGAIN)
        count_event(&counts.refused);
    return status;
}

/* ---- ranges ---- */

/* Orders the statuses by severity: a disk error above a missing block, that above a page in use. */
static unsigned status_severity(enum status status)
{
    return status == OK ? 0 : status == STATUS_AGAIN ? 1 : status == STATUS_NO_MEMORY ? 2 : 3;
}

static enum status more_severe(enum status a, enum status b)
{
    return status_severity(b) > status_severity(a) ? b : a;
}

/* Returns the level at which the walk of an address ends. */
static unsigned walk_end_level(const struct space *space, uint64_t address)
{
    bool were_on = machine_interrupts_off();
    unsigned level = tree_walk(&space->tree, address).level;

    machine_interrupts_restore(were_on);
    CHECK(level >= 1 && level <= space->tree.levels);
    return level;
}

/* Collapses pages of this level in [start, end), where tables of the level below exist. */
static enum status collapse_level(struct space *space, const struct region *region, uint64_t start,
                                  uint64_t end, unsigned level)
{
    uint64_t span = pte_span(level);
    enum status status = OK;

    for (uint64_t at = round_up(start, span); at < end && end - at >= span;) {
        unsigned ends = walk_end_level(space, at);

        if (ends == level - 1)
            status = more_severe(status, collapse_page(space, region, at, level));
        span = pte_span(ends < level ? level : ends);
        at = round_down(at, span) + span;
        span = pte_span(level);
    }
    return status;
}

enum status collapse_range(struct space *space, uint64_t start, uint64_t end)
{
    const struct region *region = region_find(space, start);
    enum status status = OK;

    if (resident_limit != UINT64_MAX) { /* as in large_alloc */
        count_event(&counts.no_block);
        return STATUS_NO_MEMORY;
    }
    for (; region != NULL && region->node.start < end; region = region_next(space, region)) {
        uint64_t from = max_u64(region->node.start, start);
        uint64_t to = min_u64(region->node.end, end);

        /* Only in private memory does a ticket mean zeros; wired pages keep their frames. */
        if (region->what.kind != REGION_PRIVATE || region->what.wired ||
            region->what.descriptor->rights.none)
            continue;
        status = more_severe(status, collapse_level(space, region, from, to, 2));
        /* 512 contiguous 2 MiB pages are rare; not finding them is no error. */
        (void)collapse_level(space, region, from, to, 3);
    }
    return status;
}

struct collapse_counts collapse_counts(void)
{
    return counts;
}
