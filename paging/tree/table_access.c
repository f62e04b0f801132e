/* The three methods to reach page tables: direct map, recursive slot, window. */
#include "paging/tree/table_access.h"

#include "cpu/machine.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"

enum table_access table_access_chosen = TABLES_DIRECT;

void table_access_choose(enum table_access way)
{
    CHECK(way <= TABLES_WINDOW);
    table_access_chosen = way;
    machine_flush_all();
}

const char *table_access_name(enum table_access way)
{
    static const char *const names[] = {"direct", "recursive", "window"};

    CHECK(way < ARRAY_COUNT(names));
    return names[way];
}

static bool is_loaded(const struct tree *tree)
{
    return machine_root().address == phys_of(tree->root).address;
}

enum table_access table_access_for(const struct tree *tree)
{
    return table_access_chosen == TABLES_RECURSIVE && !is_loaded(tree) ? TABLES_DIRECT
                                                                       : table_access_chosen;
}

struct pte table_access_read_other(enum table_access way, const struct tree *tree, struct pfn table,
                                   unsigned level, uint64_t address)
{
    struct pte entry;

    CHECK(level >= 1 && level <= tree->levels);
    if (way == TABLES_RECURSIVE) {
        CHECK_MSG(is_loaded(tree), "the recursive slot shows another root than %x",
                  tree->root.index);
        if (kernel_map_recursive_read(recursive_address(tree->levels, address, level), &entry))
            return entry;
    } else if (way == TABLES_WINDOW && level == tree->levels) {
        return kernel_map_window_read(tree->number, pte_index(address, level));
    }
    return pte_read(table_access_direct(table, level, address));
}

struct pte *table_access_slot(const struct tree *tree, unsigned level, uint64_t address)
{
    CHECK_MSG(is_loaded(tree), "the recursive slot shows another root than %x", tree->root.index);
    return (struct pte *)(uintptr_t)recursive_address(tree->levels, address, level);
}

void table_access_changed(struct tlb_batch *batch)
{
    if (table_access_chosen != TABLES_RECURSIVE)
        return;
    machine_flush_space();
    tlb_add_space(batch);
}
