/*
 * Shared by the files that build the kernel's tables.
 *
 * Units: bytes. Owns: the one struct kernel_tables. Context: the handover, then any thread.
 */
#ifndef PAGING_KERNEL_INTERNAL_H
#define PAGING_KERNEL_INTERNAL_H

#include "lib/bootinfo.h"
#include "lib/units.h"
#include "paging/kernel/layout.h"
#include "paging/pte.h"

/* Rights and kinds of kernel mappings; class 0 marks them as not the tree's. */
#define MAP_READ    (PTE_P | PTE_A | PTE_D | PTE_G | pte_nx)
#define MAP_WRITE   (MAP_READ | PTE_RW)
#define MAP_EXECUTE (PTE_P | PTE_A | PTE_G)

/* RAM in the top 4 GiB of the physical address width is refused (rule E7). Frame numbers have 32
 * bits, and the last value is PFN_NONE. */
#define FRAMES_END ((UINT64_C(1) << 44) - PAGE_SIZE)

struct kernel_tables {
    struct phys root;
    struct phys firmware_root;     /* one to one, of the kernel's levels */
    struct phys firmware_own_root; /* one to one, of the firmware's levels */
    struct phys switch_page;       /* where the code of the switch is called, one to one */
    unsigned levels;
    unsigned firmware_levels;
    bool gib_pages;
    uint64_t access_base; /* base of physical memory: 0 before the handover */
    uint64_t pool_start;  /* frames for tables, image and records, before pmm/ serves */
    uint64_t pool_next;
    uint64_t pool_end;
    uint64_t low_next; /* pages below 4 GiB */
    uint64_t low_end;
    uint64_t device_next; /* first free addresses of the windows */
    uint64_t stack_next;
    struct phys records; /* the frame records */
    uint64_t records_size;
    struct phys image; /* the moved image */
    uint64_t image_size;
};

extern struct kernel_tables kernel_tables;

/* Takes zeroed pages from the early pool; panics when it is exhausted. */
struct phys pool_take(uint64_t pages);

/* Takes one of the zeroed pages reserved below 4 GiB. */
struct phys low_take(void);

/* Steps of the handover in other files: make the window of top tables, backed by the zero page;
 * make the roots with one-to-one mappings; switch to the kernel's number of levels, which loads
 * that one-to-one root if the number differs from the firmware's. */
void make_top_window(void);
void build_firmware_roots(const struct bootinfo *info);
void enter_kernel_levels(void);

/* Maps [address, address + size) to physical, with the largest pages that fit when large is set.
 * Nothing is mapped there yet. */
void map_range(struct phys root, uint64_t address, struct phys physical, uint64_t size,
               uint64_t flags, bool large);

/* Returns the address of a table for the running processor. */
static inline struct pte *table_at(struct phys table)
{
    return (struct pte *)(uintptr_t)(kernel_tables.access_base + table.address);
}

/* Returns the level-4 table with the windows: the root, or the table of the root's last entry. */
static inline struct phys kernel_level_4(void)
{
    if (kernel_tables.levels == 4)
        return kernel_tables.root;
    return (struct phys){table_at(kernel_tables.root)[PTE_ENTRIES - 1].word & PTE_FRAME_MASK};
}

/* Returns the recursive slot's entry for a top table. */
static inline struct pte recursive_entry_for(struct phys top)
{
    return (struct pte){top.address | PTE_P | PTE_RW | PTE_A | pte_nx};
}

#endif
