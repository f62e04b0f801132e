/* The TLB batch. */
#include "paging/tlb.h"

#include "cpu/cpu.h"
#include "cpu/machine.h"
#include "paging/tree.h"

static struct tlb_counts counts;

/* The open batch of each processor: one at a time, so that none is forgotten. */
static struct tlb_batch *open_batch[CPU_MAX];

static void count(uint64_t *counter, uint64_t by)
{
    __atomic_add_fetch(counter, by, __ATOMIC_RELAXED);
}

/* The processors that run the tree. The changes of its entries are locked instructions, so that
 * one that is not seen here loads its root after them. */
static uint64_t processors_of(const struct tlb_batch *batch)
{
    return batch->tree != NULL ? __atomic_load_n(&batch->tree->processors, __ATOMIC_SEQ_CST) : 0;
}

/* Flushes what was added, and waits for whoever has to have answered. */
static void flush(struct tlb_batch *batch)
{
    struct machine_flush how = {.count = batch->page_count, .pages = batch->pages};
    uint64_t answers = batch->tables ? UINT64_MAX : batch->grace ? processors_of(batch) : 0;
    uint64_t where = 0;

    if (batch->everything) {
        how.kind = MACHINE_FLUSH_ALL;
        where = UINT64_MAX;
        count(&counts.everything, 1);
    } else if (batch->whole_space) {
        how.kind = MACHINE_FLUSH_SPACE;
        where = processors_of(batch);
        count(&counts.spaces, 1);
    } else if (batch->page_count > 0) {
        how.kind = MACHINE_FLUSH_PAGES;
        where = processors_of(batch);
        count(&counts.pages, batch->page_count);
    }
    if ((where | answers) != 0)
        machine_flush_on(where, answers, &how);
    batch->answered = true;
}

static void drop_releases(struct tlb_batch *batch)
{
    CHECK_MSG(batch->answered, "frames are let go of before the processors have answered");
    for (unsigned i = 0; i < batch->release_count; i++)
        tree_drop(&batch->releases[i]);
    batch->release_count = 0;
}

void tlb_begin(struct tlb_batch *batch, const struct tree *tree)
{
    CHECK_MSG(open_batch[machine_cpu()] == NULL, "a TLB batch was left open");
    open_batch[machine_cpu()] = batch;
    batch->tree = tree;
    batch->answered = true;
    batch->grace = false;
    batch->tables = false;
    batch->everything = false;
    batch->whole_space = false;
    batch->page_count = 0;
    batch->release_count = 0;
    batch->open = true;
}

void tlb_add_page(struct tlb_batch *batch, uint64_t address)
{
    CHECK(batch->open && batch->tree != NULL);
    batch->answered = false;
    if (batch->page_count == TLB_PAGES_MAX)
        batch->whole_space = true;
    else
        batch->pages[batch->page_count++] = round_down(address, PAGE_SIZE);
}

void tlb_add_range(struct tlb_batch *batch, uint64_t start, uint64_t end)
{
    CHECK(batch->open && start <= end);
    if ((end - start) / PAGE_SIZE > TLB_PAGES_MAX) {
        tlb_add_space(batch);
        return;
    }
    for (uint64_t at = start; at < end; at += PAGE_SIZE)
        tlb_add_page(batch, at);
}

void tlb_add_space(struct tlb_batch *batch)
{
    CHECK(batch->open && batch->tree != NULL);
    batch->answered = false;
    batch->whole_space = true;
}

void tlb_add_everything(struct tlb_batch *batch)
{
    CHECK(batch->open);
    batch->answered = false;
    batch->everything = true;
}

void tlb_add_grace(struct tlb_batch *batch)
{
    CHECK(batch->open && batch->tree != NULL);
    batch->answered = false;
    batch->grace = true;
}

void tlb_make_room(struct tlb_batch *batch)
{
    CHECK(batch->open);
    /* What was added stays added: entries of the same range may still be on their way. */
    flush(batch);
    drop_releases(batch);
}

void tlb_release(struct tlb_batch *batch, struct tlb_release release)
{
    CHECK(batch->open);
    if (!tlb_has_room(batch))
        tlb_make_room(batch);
    batch->answered = false;
    batch->tables = batch->tables || pte_state(release.entry, release.level) == PTE_TABLE;
    batch->releases[batch->release_count++] = release;
}

void tlb_commit(struct tlb_batch *batch)
{
    CHECK(batch->open && open_batch[machine_cpu()] == batch);
    flush(batch);
    open_batch[machine_cpu()] = NULL;
    batch->open = false;
    drop_releases(batch);
}

struct tlb_counts tlb_counts(void)
{
    return counts;
}
