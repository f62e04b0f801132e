/* The TLB batch. */
#include "paging/tlb.h"

#include "cpu/cpu.h"
#include "cpu/machine.h"
#include "paging/tree.h"

static struct tlb_counts counts;

/* The open batch of each processor: one at a time, so that none is forgotten. */
static struct tlb_batch *open_batch[CPU_MAX];

static void flush(const struct tlb_batch *batch)
{
    if (batch->everything) {
        counts.everything++;
        machine_flush_all();
    } else if (batch->whole_space) {
        counts.spaces++;
        machine_flush_space();
    } else {
        counts.pages += batch->page_count;
        for (unsigned i = 0; i < batch->page_count; i++)
            machine_flush_page(batch->pages[i]);
    }
}

static void drop_releases(struct tlb_batch *batch)
{
    for (unsigned i = 0; i < batch->release_count; i++)
        tree_drop(&batch->releases[i]);
    batch->release_count = 0;
}

void tlb_begin(struct tlb_batch *batch)
{
    CHECK_MSG(open_batch[machine_cpu()] == NULL, "a TLB batch was left open");
    open_batch[machine_cpu()] = batch;
    batch->everything = false;
    batch->whole_space = false;
    batch->page_count = 0;
    batch->release_count = 0;
    batch->open = true;
}

void tlb_add_page(struct tlb_batch *batch, uint64_t address)
{
    CHECK(batch->open);
    if (batch->page_count == TLB_PAGES_MAX)
        batch->whole_space = true;
    else
        batch->pages[batch->page_count++] = round_down(address, PAGE_SIZE);
}

void tlb_add_range(struct tlb_batch *batch, uint64_t start, uint64_t end)
{
    CHECK(batch->open && start <= end);
    if ((end - start) / PAGE_SIZE > TLB_PAGES_MAX) {
        batch->whole_space = true;
        return;
    }
    for (uint64_t at = start; at < end; at += PAGE_SIZE)
        tlb_add_page(batch, at);
}

void tlb_add_space(struct tlb_batch *batch)
{
    CHECK(batch->open);
    batch->whole_space = true;
}

void tlb_add_everything(struct tlb_batch *batch)
{
    CHECK(batch->open);
    batch->everything = true;
}

void tlb_release(struct tlb_batch *batch, struct tlb_release release)
{
    CHECK(batch->open);
    if (batch->release_count == TLB_RELEASES_MAX) {
        /* What was added stays added: entries of the same range may still be on their way. */
        flush(batch);
        drop_releases(batch);
    }
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
