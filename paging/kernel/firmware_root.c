/*
 * The roots with the firmware's one-to-one mappings (rule A4), and the switch between four and five
 * levels, which runs in them.
 *
 * There is one for the kernel's number of levels and one for the firmware's, which may be the same.
 * Both are below 4 GiB, since CR3 has 32 bits while paging is turned on, also when another
 * processor starts. Both have the kernel's half beside the one-to-one mappings, so that code and
 * stack of the kernel stay where they are.
 */
#include "cpu/machine.h"
#include "cpu/registers.h"
#include "lib/bytes.h"
#include "paging/kernel/internal.h"
#include "paging/kernel/map.h"
#include "pmm/memory_map.h"

/* Mapped in any case: devices and firmware are below this address. */
#define ONE_TO_ONE_ALWAYS (4 * GIB)

extern const uint8_t levels_switch_start[], levels_switch_end[];

/* Maps a range one to one, rounded outward, under a table of level 4. Pages that are mapped already
 * are mapped to the same frames again. */
static void firmware_root_map_one_to_one(struct phys top, uint64_t start, uint64_t end)
{
    unsigned level = kernel_tables.gib_pages ? 3 : 2;
    uint64_t span = pte_span(level);

    CHECK(end <= lower_half_end(4));
    for (uint64_t at = round_down(start, span); at < end; at += span) {
        struct phys table = top;

        for (unsigned up = 4; up > level; up--) {
            struct pte *entry = &table_at(table)[pte_index(at, up)];

            if (!pte_present(*entry))
                entry->word = pool_take(1).address | PTE_P | PTE_RW | PTE_A;
            table.address = entry->word & PTE_FRAME_MASK;
        }
        table_at(table)[pte_index(at, level)].word = at | PTE_P | PTE_RW | PTE_A | PTE_D | PTE_PS;
    }
}

/* Maps the first 4 GiB with its devices, all RAM, and the other regions of runtime services. */
static void map_all_one_to_one(struct phys top, const struct bootinfo *info)
{
    const struct memory_map *map = memory_map();

    firmware_root_map_one_to_one(top, 0, ONE_TO_ONE_ALWAYS);
    for (uint32_t i = 0; i < map->count; i++) {
        if (map->ranges[i].end > ONE_TO_ONE_ALWAYS && memory_is_ram(map->ranges[i].kind))
            firmware_root_map_one_to_one(top, map->ranges[i].start, map->ranges[i].end);
    }
    for (uint32_t i = 0; i < info->region_count; i++) {
        const struct memory_region *region = &info->regions[i];

        if (region->runtime && region->start.address < FRAMES_END &&
            region->pages < FRAMES_END >> PAGE_SHIFT)
            firmware_root_map_one_to_one(top, region->start.address,
                                         region->start.address + region->pages * PAGE_SIZE);
    }
}

/* Fills a root of these levels: the one-to-one mappings below, the kernel's half above. */
static void fill_root(struct phys root, unsigned levels, struct phys one_to_one)
{
    struct pte *top = table_at(root);
    struct phys kernel = kernel_level_4();

    if (levels == 5) {
        top[0].word = one_to_one.address | PTE_P | PTE_RW | PTE_A;
        top[PTE_ENTRIES - 1].word = kernel.address | PTE_P | PTE_RW | PTE_A;
        return;
    }
    memcpy(top, table_at(one_to_one), PAGE_SIZE / 2);
    memcpy(top + PTE_ENTRIES / 2, table_at(kernel) + PTE_ENTRIES / 2, PAGE_SIZE / 2);
    /* The recursive slot would show the kernel's root; no code here reads tables through it. */
    top[pte_index(RECURSIVE_BASE_4, 4)] = pte_empty();
}

void build_firmware_roots(const struct bootinfo *info)
{
    uint64_t size = (uint64_t)(levels_switch_end - levels_switch_start);
    struct phys one_to_one = pool_take(1);

    CHECK(size <= PAGE_SIZE);
    map_all_one_to_one(one_to_one, info);
    kernel_tables.firmware_root = low_take();
    fill_root(kernel_tables.firmware_root, kernel_tables.levels, one_to_one);
    kernel_tables.firmware_own_root = kernel_tables.firmware_root;
    if (kernel_tables.levels != kernel_tables.firmware_levels) {
        kernel_tables.firmware_own_root = low_take();
        fill_root(kernel_tables.firmware_own_root, kernel_tables.firmware_levels, one_to_one);
    }
    kernel_tables.switch_page = low_take();
    memcpy(table_at(kernel_tables.switch_page), levels_switch_start, size);
}

/* Switches from one one-to-one root to the other. PCID and shadow stacks must be off while paging
 * is off. */
static void switch_levels(struct phys from, struct phys to, unsigned levels)
{
    void (*code)(uint64_t root, uint64_t cr4) =
        (void (*)(uint64_t, uint64_t))(uintptr_t)kernel_tables.switch_page.address;
    uint64_t cr4 = cr4_read();

    CHECK(to.address < 4 * GIB && kernel_tables.switch_page.address < 4 * GIB);
    machine_interrupts_off();
    machine_load_context(from, 0, false);
    if ((cr4 & (CR4_PCIDE | CR4_CET)) != 0) {
        cr4 &= ~(CR4_PCIDE | CR4_CET);
        cr4_write(cr4);
    }
    code(to.address, levels == 5 ? cr4 | CR4_LA57 : cr4 & ~CR4_LA57);
    CHECK(machine_root().address == to.address);
    CHECK(((cr4_read() & CR4_LA57) != 0) == (levels == 5));
}

void enter_kernel_levels(void)
{
    if (kernel_tables.levels != kernel_tables.firmware_levels)
        switch_levels(kernel_tables.firmware_own_root, kernel_tables.firmware_root,
                      kernel_tables.levels);
}

void kernel_map_enter_firmware(void)
{
    if (kernel_tables.levels != kernel_tables.firmware_levels)
        switch_levels(kernel_tables.firmware_root, kernel_tables.firmware_own_root,
                      kernel_tables.firmware_levels);
    else
        machine_load_root(kernel_tables.firmware_root);
}

struct phys kernel_map_firmware_root(void)
{
    return kernel_tables.firmware_root;
}

unsigned kernel_map_firmware_levels(void)
{
    return kernel_tables.firmware_levels;
}
