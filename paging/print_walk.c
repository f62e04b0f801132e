/* Prints a walk, for crash reports. */
#include "paging/print_walk.h"

#include "lib/print.h"
#include "paging/zero_ladder.h"
#include "pmm/frame.h"
#include "pmm/memory_map.h"

static void print_entry(struct pte entry, unsigned level, bool of_kernel)
{
    static const char *const classes[] = {"kernel", "own", "COW", "shared"};

    print("#   level %u: %016lx", level, entry.word);
    if (pte_present(entry)) {
        print(" %s, frame %lx, %s%s%s%s%s",
              of_kernel || pte_class(entry) == PTE_CLASS_NONE ? classes[0]
                                                              : classes[pte_class(entry)],
              (entry.word & PTE_FRAME_MASK) >> PAGE_SHIFT,
              (entry.word & PTE_RW) != 0 ? "writable" : "read-only",
              (entry.word & PTE_US) != 0 ? ", user" : "",
              (entry.word & PTE_NX) != 0 ? ", no-execute" : "",
              (entry.word & PTE_A) != 0 ? ", accessed" : "",
              (entry.word & PTE_D) != 0 ? ", dirty" : "");
        if (!of_kernel && pte_state(entry, level) == PTE_CORRUPT)
            print(", CORRUPT");
    } else {
        print(" %s", pte_state_name(pte_state(entry, level)));
    }
    print("\n");
}

void tree_print_walk(struct phys root, unsigned levels, uint64_t address)
{
    bool of_kernel = address >> 63 != 0;
    uint64_t table = root.address;

    for (unsigned level = levels; level >= 1; level--) {
        struct pte entry;

        if (!memory_map_touches_ram(table, table + PAGE_SIZE)) {
            print("#   level %u: the table would be at %lx, which is no RAM\n", level, table);
            return;
        }
        entry = pte_read((const struct pte *)phys_pointer((struct phys){table}) +
                         pte_index(address, level));
        print_entry(entry, level, of_kernel);
        if (level == 1 || (entry.word & (PTE_P | PTE_PS)) != PTE_P ||
            zero_ladder_has(pte_frame(entry)))
            return;
        table = entry.word & PTE_FRAME_MASK;
    }
}
