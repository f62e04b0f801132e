/* Tables that stay for the next range. */
#include "vmm/range/spare_tables.h"

#include "vmm/space/internal.h"

/* What space->kept says beside the address. */
#define LEVEL_MASK UINT64_C(7)

bool spare_tables_free(struct space *space)
{
    uint64_t level = space->kept & LEVEL_MASK;
    uint64_t start = space->kept - level;
    struct tlb_batch batch;
    struct tree_run run;
    bool given;

    if (space->kept == 0)
        return false;
    __atomic_store_n(&space->kept, 0, __ATOMIC_RELAXED);
    if (!tree_run_find(&run, &space->tree, start, start + pte_span((unsigned)level)) ||
        !tree_run_is_there(&run))
        return false;
    tlb_begin(&batch, &space->tree);
    given = tree_run_give_back(&run, &batch);
    tlb_commit(&batch);
    return given;
}

void spare_tables_keep_other(struct space *space, const struct tree_run *run)
{
    (void)spare_tables_free(space);
    __atomic_store_n(&space->kept, round_down(run->start, pte_span(run->bottom + 1)) | run->bottom,
                     __ATOMIC_RELAXED);
}

bool spare_tables_free_all(void)
{
    struct space *space;
    bool given = false;

    while (!given && (space = space_lock_one_that_keeps(false)) != NULL) {
        given = spare_tables_free(space);
        space_unlock(space);
    }
    return given;
}

void kept_all_give_back(void)
{
    struct space *space;

    while (spare_tables_free_all()) {
        /* one more */
    }
    while ((space = space_lock_one_that_keeps(true)) != NULL) {
        region_give_spare(space);
        space_unlock(space);
    }
}
