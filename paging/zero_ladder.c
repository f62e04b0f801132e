/* Builds and names the zero ladder. */
#include "paging/zero_ladder.h"

#include "pmm/pmm.h"

struct pfn zero_ladder_first = PFN_NONE;

void zero_ladder_build(void *frames, struct pfn first)
{
    static const struct rights all = {.write = true, .execute = true, .user = true};
    struct pte *entries = frames;

    for (unsigned level = 1; level < ZERO_LADDER_FRAMES; level++) {
        struct pfn below = {first.index + level - 1};
        struct pte entry =
            level == 1 ? pte_leaf(below, 1, PTE_COW, all) : pte_link(below, PTE_COW, all);

        for (unsigned i = 0; i < PTE_ENTRIES; i++)
            entries[level * PTE_ENTRIES + i] = entry;
    }
}

void zero_ladder_init(struct pfn first)
{
    zero_ladder_first = first;
    for (unsigned level = 0; level < ZERO_LADDER_FRAMES; level++) {
        struct pfn frame = {first.index + level};

        pmm_retype(frame, FRAME_ZERO);
        frame_record(frame)->count = COUNT_SATURATED;
        frame_record(frame)->level = (uint8_t)level;
    }
}
