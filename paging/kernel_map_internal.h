/*
 * Between the files that build the kernel's tables: kernel_map.c, kernel_map_handover.c,
 * kernel_map_proof.c.
 *
 * Units: bytes. Owns: the one struct kernel_tables. Context: the handover, then any thread.
 */
#ifndef PAGING_KERNEL_MAP_INTERNAL_H
#define PAGING_KERNEL_MAP_INTERNAL_H

#include "lib/units.h"
#include "paging/layout.h"
#include "paging/pte.h"

/* Rights and kinds of kernel mappings; class 0 marks them as not the tree's. */
#define MAP_READ    (PTE_P | PTE_A | PTE_D | PTE_G | pte_nx)
#define MAP_WRITE   (MAP_READ | PTE_RW)
#define MAP_EXECUTE (PTE_P | PTE_A | PTE_G)

struct kernel_tables {
    struct phys root;
    struct phys firmware_root;
    unsigned levels;
    bool gib_pages;
    uint64_t access_base; /* where physical memory is seen: 0 before the handover */
    uint64_t pool_start;  /* frames for tables, image and records, before pmm/ serves */
    uint64_t pool_next;
    uint64_t pool_end;
    uint64_t device_next; /* first free addresses of the windows */
    uint64_t stack_next;
    struct phys image; /* the moved image */
    uint64_t image_size;
};

extern struct kernel_tables kernel_tables;

/* Takes zeroed pages from the early pool; panics when it is exhausted. */
struct phys pool_take(uint64_t pages);

/* Maps [address, address + size) to physical, with the largest pages that fit when large is set.
 * Nothing is mapped there yet. */
void map_range(struct phys root, uint64_t address, struct phys physical, uint64_t size,
               uint64_t flags, bool large);

/* A table as the running processor sees it. */
static inline struct pte *table_at(struct phys table)
{
    return (struct pte *)(uintptr_t)(kernel_tables.access_base + table.address);
}

#endif
