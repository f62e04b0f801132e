/* Spare tables: empty tables kept for the next map call. */
#include "vmm/range/spare_tables.h"

#include "vmm/page/shrinker.h"
#include "vmm/range/internal.h"

/* Mask of the level in space->kept; the other bits are the address. */
#define LEVEL_MASK UINT64_C(7)

_Static_assert(LEVEL_MASK < PAGE_SIZE, "the level fits beside the address of a table");

unsigned spare_tables_free(struct space *space)
{
    uint64_t level = space->kept & LEVEL_MASK;
    uint64_t start = space->kept - level;
    struct tlb_batch batch;
    struct tree_run run;
    unsigned freed;

    if (space->kept == 0)
        return 0;
    __atomic_store_n(&space->kept, 0, __ATOMIC_RELAXED);
    if (!tree_run_find(&run, &space->tree, start, start + pte_span((unsigned)level)) ||
        !tree_run_is_there(&run))
        return 0;
    tlb_begin(&batch, &space->tree);
    freed = tree_run_give_back(&run, &batch);
    tlb_commit(&batch);
    return freed;
}

void spare_tables_keep_other(struct space *space, const struct tree_run *run)
{
    CHECK(run->bottom >= 1 && run->bottom <= LEVEL_MASK);
    (void)spare_tables_free(space);
    __atomic_store_n(&space->kept, round_down(run->start, pte_span(run->bottom + 1)) | run->bottom,
                     __ATOMIC_RELAXED);
}

static bool has_spare_tables(const struct space *space)
{
    return __atomic_load_n(&space->kept, __ATOMIC_RELAXED) != 0;
}

/* Frees the spare tables of spaces that are not locked, space by space. */
static uint64_t spare_tables_shrink(uint64_t pages)
{
    uint64_t freed = 0;
    struct space *space;

    while (freed < pages && (space = space_lock_one_that_keeps(has_spare_tables)) != NULL) {
        freed += spare_tables_free(space);
        space_unlock(space);
    }
    return freed;
}

SHRINKER(spare_tables, spare_tables_shrink, false);
