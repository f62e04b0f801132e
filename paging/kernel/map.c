/* The kernel's half: mapping primitives and the windows that grow after the handover. */
#include "paging/kernel/map.h"

#include "cpu/features.h"
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "paging/kernel/internal.h"
#include "pmm/memory_map.h"
#include "pmm/pmm.h"

/* The PAT bit of a large page is bit 12, since bit 7 is PS. */
#define PTE_PAT_LARGE (UINT64_C(1) << 12)

/* Alignment of device mappings, which allows large pages. */
#define DEVICE_ALIGNMENT (2 * MIB)

extern const uint8_t zero_ladder[];
extern const uint8_t image_base[];

struct kernel_tables kernel_tables;

struct phys pool_take(uint64_t pages)
{
    struct phys taken = {kernel_tables.pool_next};
    struct pfn frame;

    if (pages * PAGE_SIZE > kernel_tables.pool_end - kernel_tables.pool_next) {
        if (pages == 1 && pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &frame) == OK)
            return phys_of(frame);
        PANIC("too little memory: %lu more pages for the kernel's tables, %lu left", pages,
              (kernel_tables.pool_end - kernel_tables.pool_next) / PAGE_SIZE);
    }
    kernel_tables.pool_next += pages * PAGE_SIZE;
    memset(table_at(taken), 0, pages * PAGE_SIZE);
    return taken;
}

/* Returns the table below an entry; makes it if there is none. */
static struct phys next_table(struct pte *entry, uint64_t user)
{
    struct phys table;

    if (pte_present(*entry)) {
        CHECK_MSG((entry->word & PTE_PS) == 0, "a large page %lx where a table is wanted",
                  entry->word);
        return (struct phys){entry->word & PTE_FRAME_MASK};
    }
    table = pool_take(1);
    entry->word = table.address | PTE_P | PTE_RW | PTE_A | user;
    return table;
}

static unsigned largest_level(uint64_t address, uint64_t physical, uint64_t size, bool large)
{
    unsigned level = !large ? 1 : kernel_tables.gib_pages ? 3 : 2;

    while (level > 1 &&
           (((address | physical) & (pte_span(level) - 1)) != 0 || size < pte_span(level)))
        level--;
    return level;
}

void map_range(struct phys root, uint64_t address, struct phys physical, uint64_t size,
               uint64_t flags, bool large)
{
    CHECK((address | physical.address | size) % PAGE_SIZE == 0);
    while (size > 0) {
        unsigned leaf = largest_level(address, physical.address, size, large);
        struct phys table = root;
        struct pte *entry;

        for (unsigned level = kernel_tables.levels; level > leaf; level--)
            table = next_table(&table_at(table)[pte_index(address, level)], 0);
        entry = &table_at(table)[pte_index(address, leaf)];
        CHECK_MSG(entry->word == 0, "%lx is mapped already, as %lx", address, entry->word);
        if (leaf > 1)
            entry->word = physical.address | PTE_PS | (flags & ~PTE_PAT) |
                          ((flags & PTE_PAT) != 0 ? PTE_PAT_LARGE : 0);
        else
            entry->word = physical.address | flags;
        address += pte_span(leaf);
        physical.address += pte_span(leaf);
        size -= pte_span(leaf);
    }
}

void *kernel_map_device(struct phys base, uint64_t size, enum device_caching caching)
{
    uint64_t offset = base.address % DEVICE_ALIGNMENT;
    uint64_t start = round_down(base.address, PAGE_SIZE);
    uint64_t address = kernel_tables.device_next + offset;
    uint64_t flags = caching == DEVICE_UNCACHED ? PTE_PCD | PTE_PWT : PTE_PAT;
    uint64_t end;

    if (size == 0 || __builtin_add_overflow(base.address, size - 1, &end) ||
        end > (UINT64_C(1) << cpu_features()->physical_bits) - 1)
        return NULL;
    end = round_up(end + 1, PAGE_SIZE);
    if (memory_map_touches_ram(start, end) ||
        end - start > DEVICE_WINDOW_BASE + WINDOW_SIZE - address - DEVICE_ALIGNMENT)
        return NULL;
    map_range(kernel_tables.root, round_down(address, PAGE_SIZE), (struct phys){start}, end - start,
              MAP_WRITE | flags, true);
    kernel_tables.device_next = round_up(address + (end - start), DEVICE_ALIGNMENT);
    return (void *)(uintptr_t)address;
}

enum status kernel_map_stack(unsigned pages, uint64_t *top)
{
    uint64_t bottom = kernel_tables.stack_next + PAGE_SIZE;
    uint64_t size = pages * PAGE_SIZE;

    if (size > STACK_WINDOW_BASE + WINDOW_SIZE - bottom)
        return STATUS_LIMIT;
    for (uint64_t at = bottom; at < bottom + size; at += PAGE_SIZE)
        map_range(kernel_tables.root, at, pool_take(1), PAGE_SIZE, MAP_WRITE, false);
    kernel_tables.stack_next = bottom + size;
    *top = bottom + size;
    return OK;
}

enum status kernel_map_page(uint64_t address, struct pfn frame)
{
    CHECK(address >= TOP_WINDOW_BASE && address < STACK_WINDOW_BASE + WINDOW_SIZE);
    map_range(kernel_tables.root, address, phys_of(frame), PAGE_SIZE, MAP_WRITE, false);
    return OK;
}

void kernel_map_share_half(struct pfn top_table)
{
    const struct pte *from = table_at(kernel_tables.root);
    struct pte *to = frame_pointer(top_table);

    for (unsigned i = PTE_ENTRIES / 2; i < PTE_ENTRIES; i++)
        to[i] = from[i];
    to[recursive_index(kernel_tables.levels)] = recursive_entry_for(phys_of(top_table));
}

void kernel_map_check_half(struct pfn top_table)
{
    const struct pte *kernel = table_at(kernel_tables.root);
    const struct pte *top = frame_pointer(top_table);
    unsigned slot = recursive_index(kernel_tables.levels);

    for (unsigned i = PTE_ENTRIES / 2; i < PTE_ENTRIES; i++) {
        uint64_t wanted = i == slot ? recursive_entry_for(phys_of(top_table)).word : kernel[i].word;

        /* The hardware sets D in the recursive slot. */
        CHECK_MSG(((top[i].word ^ wanted) & ~PTE_D) == 0,
                  "entry %u of root %x is %lx, the kernel's is %lx", i, top_table.index,
                  top[i].word, wanted);
    }
}

struct phys kernel_map_root(void)
{
    return kernel_tables.root;
}

unsigned kernel_map_levels(void)
{
    return kernel_tables.levels;
}

struct pfn kernel_map_zero_frame(void)
{
    return pfn_of((struct phys){kernel_tables.image.address +
                                (uint64_t)((uintptr_t)zero_ladder - (uintptr_t)image_base)});
}
