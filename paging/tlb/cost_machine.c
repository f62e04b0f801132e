/* Measures the cost of TLB flushes, in page tables of its own. */
#include "paging/tlb/cost.h"

#include "cpu/features.h"
#include "cpu/machine.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "pmm/pmm.h"

/* The address of the pages: one leaf table of a private root. */
#define START UINT64_C(0x40000000)

/* Pages that are flushed one by one; they follow the working set. */
#define DROPPED TLB_PAGES_MAX

#define LEVELS_MAX 5U

/* Measurements, of which the shortest counts: an interrupt only makes one longer. */
#define ROUNDS 32U

/* The tables of all levels; the root is the last. */
struct scratch {
    unsigned count;
    struct pfn tables[LEVELS_MAX];
};

static void cost_free(struct scratch *scratch)
{
    while (scratch->count > 0)
        pmm_free(scratch->tables[--scratch->count]);
}

static enum status cost_alloc(struct scratch *scratch)
{
    for (unsigned level = 1; level <= kernel_map_levels(); level++) {
        enum status status =
            pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &scratch->tables[scratch->count]);

        if (status != OK) {
            cost_free(scratch);
            return status;
        }
        scratch->count++;
    }
    return OK;
}

/* Maps the zero page at every address, readable by the kernel. */
static void cost_fill(const struct scratch *scratch)
{
    uint64_t nx = cpu_features()->nx ? PTE_NX : 0;

    _Static_assert(TLB_COST_WORKING_SET + DROPPED <= PTE_ENTRIES, "in one leaf table");
    for (unsigned i = 0; i < TLB_COST_WORKING_SET + DROPPED; i++) {
        struct pte *leaf = frame_pointer(scratch->tables[0]);

        leaf[pte_index(START, 1) + i].word =
            phys_of(kernel_map_zero_frame()).address | PTE_P | PTE_A | nx;
    }
    for (unsigned level = 2; level <= scratch->count; level++) {
        struct pte *table = frame_pointer(scratch->tables[level - 1]);

        table[pte_index(START, level)].word =
            phys_of(scratch->tables[level - 2]).address | PTE_P | PTE_RW | PTE_A;
    }
    kernel_map_share_half(scratch->tables[scratch->count - 1]);
}

static void cost_touch(unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++)
        (void)*(volatile const uint64_t *)(uintptr_t)(START + i * PAGE_SIZE);
}

static void flush_nothing(void)
{
}

static void drop_pages(void)
{
    for (unsigned i = 0; i < DROPPED; i++)
        machine_flush_page(START + (TLB_COST_WORKING_SET + i) * PAGE_SIZE);
}

/* Returns the ticks of a flush and of the next access to each page of the working set. All pages
 * are cached before. */
static uint64_t ticks_of(void (*drop)(void))
{
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t began;

        cost_touch(0, TLB_COST_WORKING_SET + DROPPED);
        began = machine_ticks();
        drop();
        cost_touch(0, TLB_COST_WORKING_SET);
        least = min_u64(least, machine_ticks() - began);
    }
    return least;
}

static uint64_t ticks_above(uint64_t ticks, uint64_t floor)
{
    return ticks > floor ? ticks - floor : 0;
}

enum status tlb_cost_measure(struct tlb_cost *cost)
{
    struct scratch scratch = {0};
    enum status status = cost_alloc(&scratch);
    uint64_t nothing;
    bool were_on;

    if (status != OK)
        return status;
    cost_fill(&scratch);
    were_on = machine_interrupts_off();
    CHECK(machine_root().address == kernel_map_root().address);
    machine_load_root(phys_of(scratch.tables[scratch.count - 1]));
    nothing = ticks_of(flush_nothing);
    cost->pages = ticks_above(ticks_of(drop_pages), nothing);
    cost->page_count = DROPPED;
    cost->miss_count = TLB_COST_WORKING_SET;
    cost->whole = ticks_above(ticks_of(machine_flush_space), nothing);
    machine_load_root(kernel_map_root());
    machine_interrupts_restore(were_on);
    cost_free(&scratch);
    return OK;
}
