/* Proves that no frame of the kernel is both writable and executable (rules A2, A4). */
#include "cpu/features.h"
#include "paging/kernel/internal.h"
#include "paging/kernel/map.h"

/* Executable ranges of physical memory: the image's text is one. */
#define RANGES_MAX 16U

struct proof {
    unsigned range_count;
    struct {
        uint64_t start;
        uint64_t end;
    } ranges[RANGES_MAX];
    bool collecting; /* in the first pass; the second compares writable leaves */
    uint64_t leaves;
};

struct leaf {
    uint64_t address;
    uint64_t physical;
    uint64_t size;
    bool writable;
    bool executable;
};

static void wx_proof_add_leaf(struct proof *proof, const struct leaf *leaf)
{
    uint64_t end = leaf->physical + leaf->size;

    proof->leaves++;
    if (!leaf->executable)
        return;
    CHECK_MSG(leaf->address >= IMAGE_BASE, "%lx outside the image is executable", leaf->address);
    CHECK_MSG(!leaf->writable, "%lx is writable and executable", leaf->address);
    if (proof->range_count > 0 && proof->ranges[proof->range_count - 1].end == leaf->physical) {
        proof->ranges[proof->range_count - 1].end = end;
        return;
    }
    CHECK_MSG(proof->range_count < RANGES_MAX, "more than %u executable ranges", RANGES_MAX);
    proof->ranges[proof->range_count].start = leaf->physical;
    proof->ranges[proof->range_count++].end = end;
}

static void wx_proof_compare(const struct proof *proof, const struct leaf *leaf)
{
    if (!leaf->writable)
        return;
    for (unsigned i = 0; i < proof->range_count; i++)
        CHECK_MSG(leaf->physical >= proof->ranges[i].end ||
                      leaf->physical + leaf->size <= proof->ranges[i].start,
                  "%lx can write to executable frame %lx", leaf->address, leaf->physical);
}

/* Checks the recursive slot's entry. The slot shows the tables themselves: writable, as in the
 * direct map, and never executable. Where a large page ends the walk, it shows part of that page
 * with at most its rights. So the slot adds no access that the rest of the walk misses; and walking
 * it would not end. */
static void check_recursive_slot(struct pte entry)
{
    CHECK_MSG(((entry.word ^ recursive_entry_for(kernel_tables.root).word) & ~PTE_D) == 0,
              "the recursive slot is %lx, the root %lx", entry.word, kernel_tables.root.address);
    CHECK((entry.word & PTE_NX) != 0 && (entry.word & PTE_US) == 0);
}

static void wx_proof_visit_table(struct proof *proof, struct phys table, unsigned level,
                                 unsigned first, const struct leaf *above)
{
    for (unsigned i = first; i < PTE_ENTRIES; i++) {
        struct pte entry = table_at(table)[i];
        uint64_t word = entry.word;
        struct leaf leaf = {
            .address = above->address + i * pte_span(level),
            .physical = word & PTE_FRAME_MASK & ~(pte_span(level) - 1),
            .size = pte_span(level),
            .writable = above->writable && (word & PTE_RW) != 0,
            .executable = above->executable && (word & PTE_NX) == 0,
        };

        if (!pte_present(entry))
            continue;
        /* The same once more, as in the window of top tables, shows the same with the same rights.
         */
        if (level > 1 && i > first && word == table_at(table)[i - 1].word)
            continue;
        if (level == kernel_tables.levels && i == recursive_index(level)) {
            check_recursive_slot(entry);
            continue;
        }
        if (level > 1 && (word & PTE_PS) == 0)
            wx_proof_visit_table(proof, (struct phys){word & PTE_FRAME_MASK}, level - 1, 0, &leaf);
        else if (proof->collecting)
            wx_proof_add_leaf(proof, &leaf);
        else
            wx_proof_compare(proof, &leaf);
    }
}

uint64_t kernel_map_prove_rights(void)
{
    struct proof proof = {.collecting = true};
    unsigned levels = kernel_tables.levels;
    /* Adding the index's span to this gives the canonical address of the upper half. */
    struct leaf top = {.address = UINT64_C(0) - PTE_ENTRIES * pte_span(levels),
                       .writable = true,
                       .executable = true};

    for (unsigned i = 0; i < PTE_ENTRIES / 2; i++)
        CHECK_MSG(table_at(kernel_tables.root)[i].word == 0,
                  "the kernel's root maps %lx for programs", i * pte_span(levels));
    if (!cpu_features()->nx)
        return 0;
    wx_proof_visit_table(&proof, kernel_tables.root, levels, PTE_ENTRIES / 2, &top);
    proof.collecting = false;
    wx_proof_visit_table(&proof, kernel_tables.root, levels, PTE_ENTRIES / 2, &top);
    return proof.leaves;
}
