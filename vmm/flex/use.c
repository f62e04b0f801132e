/* Whether processors have used the pages of an entry that was removed (rule H5). */
#include "vmm/flex/internal.h"

#define USED (PTE_A | PTE_D)

/* The tables from the removed entry down to the one that is looked at. */
struct descent {
    unsigned depth;
    struct pfn tables[TREE_LEVELS_MAX];
    unsigned next[TREE_LEVELS_MAX];
};

/* Returns the bits of a leaf; goes down into a table. */
static uint64_t use_of_entry(struct descent *at, struct pte entry, unsigned level)
{
    enum pte_state state = pte_state(entry, level);

    if (state == PTE_LEAF)
        return entry.word & USED;
    if (state == PTE_TABLE) {
        CHECK(at->depth < TREE_LEVELS_MAX);
        at->tables[at->depth] = pte_frame(entry);
        at->next[at->depth++] = 0;
    }
    return 0;
}

/* The flush is over and the entry not dropped, so that its tables stay and no processor sets a bit
 * in them any more. Stops once both bits are found. */
void taking_add_use(struct tlb_later *later, const struct tlb_release *release)
{
    struct taking *taking = (struct taking *)later;
    struct descent at = {.depth = 0};

    if (taking->used == USED)
        return;
    taking->used |= use_of_entry(&at, release->entry, release->level);
    while (at.depth > 0 && taking->used != USED) {
        unsigned top = at.depth - 1;
        const struct frame *record = frame_record(at.tables[top]);
        const struct pte *entries = frame_pointer(at.tables[top]);

        CHECK(record->kind == FRAME_TABLE);
        if (at.next[top] == PTE_ENTRIES || record->table.held == 0)
            at.depth--;
        else
            taking->used |= use_of_entry(&at, pte_read(&entries[at.next[top]++]), record->level);
    }
}
