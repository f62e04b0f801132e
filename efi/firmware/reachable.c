/* Whether a physical address that a table of the firmware names may be accessed as a device. */
#include "efi/firmware/reachable.h"

#include "lib/check.h"
#include "lib/ktap.h"
#include "paging/kernel/map.h"
#include "paging/pte.h"

/* Intel SDM volume 3, tables 4-14 to 4-20: the address in an entry. */
#define ENTRY_ADDRESS UINT64_C(0x000ffffffffff000)

#define INDEX_BITS 9U
#define PAGE_BITS  12U

/* Levels whose entries may map a large page. */
#define LARGE_LEVEL_MAX 3U

bool reachable_is_device(const struct bootinfo *info, struct phys start, uint64_t size)
{
    uint64_t end;

    if (size == 0 || __builtin_add_overflow(start.address, size, &end))
        return false;
    for (uint32_t i = 0; i < info->region_count; i++) {
        const struct memory_region *region = &info->regions[i];
        uint64_t first = region->start.address;

        if (region->kind == MEMORY_DEVICE || region->kind == MEMORY_RESERVED || region->pages == 0)
            continue;
        if (first < end &&
            (start.address < first || (start.address - first) / PAGE_SIZE < region->pages))
            return false;
    }
    return true;
}

/* Returns the size of the page that maps an address to itself, writable; 0: none does. */
static uint64_t mapped_page_size(const struct reachable *reachable, uint64_t address)
{
    struct phys table = reachable->root;

    for (unsigned level = reachable->levels; level >= 1; level--) {
        unsigned shift = PAGE_BITS + INDEX_BITS * (level - 1);
        uint64_t size = UINT64_C(1) << shift;
        uint64_t index = address >> shift & ((1U << INDEX_BITS) - 1);
        uint64_t entry = reachable->read((struct phys){table.address + index * sizeof(entry)});

        if ((entry & PTE_P) == 0 || (entry & PTE_RW) == 0)
            return 0;
        if (level == 1 || (level <= LARGE_LEVEL_MAX && (entry & PTE_PS) != 0))
            return (entry & ENTRY_ADDRESS & ~(size - 1)) == (address & ~(size - 1)) ? size : 0;
        table.address = entry & ENTRY_ADDRESS;
    }
    return 0;
}

bool reachable_is_mapped(const struct reachable *reachable, struct phys start, uint64_t size)
{
    /* The lower half: above it, an address is not canonical. */
    uint64_t limit = UINT64_C(1) << (PAGE_BITS + INDEX_BITS * reachable->levels - 1);
    uint64_t at = start.address;
    uint64_t end;

    CHECK(reachable->levels == 4 || reachable->levels == 5);
    if (size == 0 || __builtin_add_overflow(at, size, &end) || end > limit)
        return false;
    while (at < end) {
        uint64_t page = mapped_page_size(reachable, at);

        if (page == 0)
            return false;
        at = (at & ~(page - 1)) + page;
    }
    return true;
}

bool reachable_device(const struct reachable *reachable, struct phys start, uint64_t size)
{
    return reachable_is_device(reachable->info, start, size) &&
           reachable_is_mapped(reachable, start, size);
}

volatile void *reachable_map_local_apic(const struct bootinfo *info, uint64_t base)
{
    volatile void *registers;

    if (base == 0)
        return NULL;
    if (!reachable_is_device(info, (struct phys){base}, PAGE_SIZE)) {
        ktap_note("the local APIC is not used: there is memory at %lx", base);
        return NULL;
    }
    registers = kernel_map_device((struct phys){base}, PAGE_SIZE, DEVICE_UNCACHED);
    if (registers == NULL)
        PANIC("the local APIC at %lx cannot be mapped", base);
    return registers;
}
