/*
 * The window of top tables, and reads through the recursive slot.
 *
 * The window has one page for each possible space, 256 MiB in all. Pages of unused spaces map the
 * zero page. One leaf table full of zero pages serves every directory entry, so that four frames
 * back the whole window. A group of 512 spaces gets its own leaf table while one of them exists.
 * The first group always has its own, so that a system with few spaces never changes a directory
 * entry. No page of the window is global, writable or executable.
 */
#include "cpu/machine.h"
#include "cpu/trap/probe.h"
#include "lib/bytes.h"
#include "paging/kernel/internal.h"
#include "paging/kernel/map.h"
#include "pmm/pmm.h"

#define GROUPS (SPACES_MAX / PTE_ENTRIES)

#define WINDOW_LEAF  (PTE_P | PTE_A | pte_nx)
#define WINDOW_TABLE (PTE_P | PTE_A)

_Static_assert(GROUPS <= PTE_ENTRIES, "the window has one directory");

static struct {
    struct phys directory;
    struct phys shared; /* the leaf table of groups without a space */
    uint16_t used[GROUPS];
} window;

static struct pte *group_entry(uint32_t space)
{
    CHECK(space < SPACES_MAX);
    return &table_at(window.directory)[space / PTE_ENTRIES];
}

static struct phys windows_leaf_table(uint32_t space)
{
    return (struct phys){group_entry(space)->word & PTE_FRAME_MASK};
}

static void windows_put(uint32_t space, struct phys page)
{
    table_at(windows_leaf_table(space))[space % PTE_ENTRIES].word = page.address | WINDOW_LEAF;
}

void make_top_window(void)
{
    struct phys upper = {table_at(kernel_level_4())[pte_index(TOP_WINDOW_BASE, 4)].word &
                         PTE_FRAME_MASK};
    struct phys zero = phys_of(kernel_map_zero_frame());
    struct phys first;

    window.directory = pool_take(1);
    window.shared = pool_take(1);
    first = pool_take(1);
    for (unsigned i = 0; i < PTE_ENTRIES; i++)
        table_at(window.shared)[i].word = zero.address | WINDOW_LEAF;
    memcpy(table_at(first), table_at(window.shared), PAGE_SIZE);
    table_at(upper)[pte_index(TOP_WINDOW_BASE, 3)].word = window.directory.address | WINDOW_TABLE;
    for (unsigned group = 0; group < GROUPS; group++)
        table_at(window.directory)[group].word =
            (group == 0 ? first : window.shared).address | WINDOW_TABLE;
}

enum status kernel_map_window_show(uint32_t space, struct pfn top_table)
{
    struct pfn table;

    if (windows_leaf_table(space).address == window.shared.address) {
        enum status status = pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &table);

        if (status != OK)
            return status;
        machine_copy_frame(frame_pointer(table), table_at(window.shared));
        group_entry(space)->word = phys_of(table).address | WINDOW_TABLE;
    }
    window.used[space / PTE_ENTRIES]++;
    windows_put(space, phys_of(top_table));
    return OK;
}

struct pfn kernel_map_window_hide(uint32_t space)
{
    struct pfn table = pfn_of(windows_leaf_table(space));

    CHECK(window.used[space / PTE_ENTRIES] > 0);
    windows_put(space, phys_of(kernel_map_zero_frame()));
    if (--window.used[space / PTE_ENTRIES] > 0 || space < PTE_ENTRIES)
        return PFN_NONE;
    group_entry(space)->word = window.shared.address | WINDOW_TABLE;
    return table;
}

struct pte kernel_map_window_read(uint32_t space, unsigned index)
{
    uint64_t address = top_window_address(space);

    CHECK(space < SPACES_MAX && index < PTE_ENTRIES);
    machine_flush_page(address);
    return pte_read((const struct pte *)(uintptr_t)address + index);
}

bool kernel_map_recursive_read(uint64_t address, struct pte *entry)
{
    return probe_read64(address, &entry->word, NULL);
}
