/*
 * The handover: from the firmware's tables to the kernel's, and the image to its own address.
 *
 * Everything here runs on the firmware's one-to-one mappings, so a physical address is a pointer.
 */
#include "cpu/cpu.h"
#include "cpu/features.h"
#include "cpu/machine.h"
#include "cpu/registers.h"
#include "lib/bytes.h"
#include "paging/kernel/internal.h"
#include "paging/kernel/map.h"
#include "paging/zero_ladder.h"
#include "pmm/memory_map.h"

/* Elf64_Rela, and the one type that a position-independent image has (ELF gABI; AMD64 psABI 4.4).
 */
struct elf_rela {
    uint64_t offset;
    uint64_t info;
    int64_t addend;
};

_Static_assert(sizeof(struct elf_rela) == 24, "Elf64_Rela is 24 bytes");

#define R_X86_64_RELATIVE 8U

/* Pages left in the early pool for mappings before pmm/ serves: consoles, stacks. */
#define POOL_RESERVE 128U

/* The boot processor's kernel stack. */
#define BOOT_STACK_PAGES 8U

/* Pages below 4 GiB for the roots with one-to-one mappings and for the switch of levels. */
#define LOW_PAGES 3U

extern uint8_t image_base[];
extern uint8_t image_end[];
extern uint8_t image_text_start[], image_text_end[];
extern uint8_t image_data_start[], image_data_end[];
extern const struct elf_rela image_rela_start[], image_rela_end[];

_Noreturn void handover_jump(uint64_t firmware_root, uint64_t kernel_root, uint64_t stack_top,
                             uint64_t displacement, void (*entry)(void *), void *argument);

static struct {
    void (*entry)(struct bootinfo *info);
    struct bootinfo *info;
} continuation;

static uint64_t image_offset(const void *place)
{
    return (uint64_t)((uintptr_t)place - (uintptr_t)image_base);
}

/* Chooses a few pages below 4 GiB, from the smallest range that has them, so that large ranges stay
 * whole. */
static void choose_low_pages(void)
{
    const struct memory_map *map = memory_map();
    const struct memory_range *best = NULL;
    enum status status;

    for (uint32_t i = 0; i < map->count; i++) {
        const struct memory_range *range = &map->ranges[i];
        uint64_t size = range->end - range->start;

        if (range->kind == MEMORY_USABLE && range->start >= MIB && size >= LOW_PAGES * PAGE_SIZE &&
            range->start + LOW_PAGES * PAGE_SIZE <= 4 * GIB &&
            (best == NULL || size < best->end - best->start))
            best = range;
    }
    if (best == NULL)
        PANIC("too little memory: no %u usable pages between 1 MiB and 4 GiB", LOW_PAGES);
    kernel_tables.low_next = best->start;
    kernel_tables.low_end = best->start + LOW_PAGES * PAGE_SIZE;
    status = memory_map_reserve(kernel_tables.low_next, kernel_tables.low_end);
    CHECK(status == OK);
}

struct phys low_take(void)
{
    struct phys taken = {kernel_tables.low_next};

    CHECK(kernel_tables.low_next < kernel_tables.low_end);
    kernel_tables.low_next += PAGE_SIZE;
    memset(table_at(taken), 0, PAGE_SIZE);
    return taken;
}

/* Chooses the largest usable range for image, tables and records. Memory of the loader and of boot
 * services is not touched: this code, its stack and its data are still in it. */
static void choose_pool(void)
{
    const struct memory_map *map = memory_map();
    const struct memory_range *best = NULL;

    for (uint32_t i = 0; i < map->count; i++) {
        const struct memory_range *range = &map->ranges[i];

        if (range->kind == MEMORY_USABLE && !range->kernel && range->start >= MIB &&
            (best == NULL || range->end - range->start > best->end - best->start))
            best = range;
    }
    if (best == NULL)
        PANIC("too little memory: no usable range above 1 MiB");
    kernel_tables.pool_start = kernel_tables.pool_next = best->start;
    kernel_tables.pool_end = best->end;
}

/* Maps all RAM, writable and not executable, and the image read-only (rule A2). */
static void map_direct(void)
{
    const struct memory_map *map = memory_map();
    uint64_t image_start = kernel_tables.image.address;
    uint64_t image_stop = image_start + kernel_tables.image_size;

    for (uint32_t i = 0; i < map->count; i++) {
        const struct memory_range *range = &map->ranges[i];
        uint64_t cuts[] = {range->start, image_start, image_stop, range->end};

        if (!memory_is_ram(range->kind))
            continue;
        for (unsigned piece = 0; piece < 3; piece++) {
            uint64_t from = max_u64(cuts[piece], range->start);
            uint64_t to = min_u64(cuts[piece + 1], range->end);

            if (from < to)
                map_range(kernel_tables.root, DIRECT_MAP_BASE + from, (struct phys){from},
                          to - from, piece == 1 ? MAP_READ : MAP_WRITE, true);
        }
    }
}

/* Visits the pages of frame records for all RAM and returns their bytes. One page of records covers
 * 512 KiB, so neighbouring ranges may share one. map_them: also maps the pages. */
static uint64_t visit_records(bool map_them)
{
    const struct memory_map *map = memory_map();
    uint64_t mapped_to = 0;
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < map->count; i++) {
        const struct memory_range *range = &map->ranges[i];
        uint64_t from = range->start / PAGE_SIZE * sizeof(struct frame);
        uint64_t to = range->end / PAGE_SIZE * sizeof(struct frame);

        if (!memory_is_ram(range->kind))
            continue;
        from = max_u64(round_down(from, PAGE_SIZE), mapped_to);
        to = round_up(to, PAGE_SIZE);
        if (from >= to)
            continue;
        if (map_them)
            map_range(kernel_tables.root, FRAME_RECORDS_BASE + from,
                      (struct phys){kernel_tables.records.address + bytes}, to - from, MAP_WRITE,
                      true);
        bytes += to - from;
        mapped_to = to;
    }
    return bytes;
}

/* Maps all records in one range of memory, which the ledger counts as its own kind. */
static void map_records(void)
{
    kernel_tables.records_size = visit_records(false);
    kernel_tables.records = pool_take(kernel_tables.records_size / PAGE_SIZE);
    (void)visit_records(true);
}

static void handover_map_image(void)
{
    const struct {
        const uint8_t *start;
        const uint8_t *end;
        uint64_t flags;
    } parts[] = {
        {image_base, image_text_start, MAP_READ},
        {image_text_start, image_text_end, MAP_EXECUTE},
        {image_text_end, image_data_start, MAP_READ},
        {image_data_start, image_data_end, MAP_WRITE},
        {image_data_end, image_end, MAP_READ},
    };

    for (unsigned i = 0; i < ARRAY_COUNT(parts); i++) {
        uint64_t from = image_offset(parts[i].start);
        uint64_t size = image_offset(parts[i].end) - from;

        if (size > 0)
            map_range(kernel_tables.root, IMAGE_BASE + from,
                      (struct phys){kernel_tables.image.address + from}, size, parts[i].flags,
                      false);
    }
}

/* Makes the top entry of every window now: the kernel's half never changes at that level later
 * (rule A3). The recursive slot maps the top table itself; it is not for programs and never
 * executable. */
static void make_top_entries(void)
{
    struct pte *top = table_at(kernel_tables.root);

    if (kernel_tables.levels == 5)
        top[PTE_ENTRIES - 1].word = pool_take(1).address | PTE_P | PTE_RW | PTE_A;
    for (uint64_t window = TOP_WINDOW_BASE; window <= STACK_WINDOW_BASE; window += WINDOW_SIZE) {
        struct pte *entry = &table_at(kernel_level_4())[pte_index(window, 4)];

        if (window != RECURSIVE_BASE_4 && !pte_present(*entry))
            entry->word = pool_take(1).address | PTE_P | PTE_RW | PTE_A;
    }
    top[recursive_index(kernel_tables.levels)] = recursive_entry_for(kernel_tables.root);
}

/* Relocates the copy: words that point into the image now point into the copy. Works on current
 * values, not on addends, so that changes since the start are kept. */
static void relocate_copy(uint8_t *copy, uint64_t old_base)
{
    for (const struct elf_rela *rela = image_rela_start; rela < image_rela_end; rela++) {
        uint64_t *word = (uint64_t *)(void *)(copy + rela->offset);

        if ((uint32_t)rela->info != R_X86_64_RELATIVE)
            continue;
        CHECK(rela->offset < kernel_tables.image_size);
        if (*word >= old_base && *word < old_base + kernel_tables.image_size)
            *word += IMAGE_BASE - old_base;
    }
}

/* The first code at the new address, on the new stack. */
static void handover_relocated(void *unused)
{
    (void)unused;
    kernel_tables.access_base = DIRECT_MAP_BASE;
    machine_flush_all();
    continuation.entry(continuation.info);
    PANIC("the kernel's entry returned");
}

static void describe_machine(const struct bootinfo *info)
{
    const struct cpu_features *cpu = cpu_features();
    uint64_t limit = min_u64((UINT64_C(1) << cpu->physical_bits) - 4 * GIB, FRAMES_END);
    enum status status;

    kernel_tables.firmware_levels = (cpu_read_cr4() & CR4_LA57) != 0 ? 5 : 4;
    kernel_tables.levels = kernel_tables.firmware_levels;
    if (info->options.la57 != LA57_AUTO)
        kernel_tables.levels = info->options.la57 == LA57_ON ? 5 : 4;
    CHECK(kernel_tables.levels == 4 || cpu->la57);
    kernel_tables.gib_pages = cpu->pages_1g;
    kernel_tables.device_next = DEVICE_WINDOW_BASE;
    kernel_tables.stack_next = STACK_WINDOW_BASE;
    kernel_tables.image_size = image_offset(image_end);
    if (!cpu->nx)
        pte_nx = 0;
    status = memory_map_build(info->regions, info->region_count, limit);
    if (status != OK)
        PANIC("the firmware's memory map of %u entries: %s", info->region_count,
              status_name(status));
}

void kernel_map_enter(struct bootinfo *info, void (*entry)(struct bootinfo *info))
{
    uint64_t old_base = (uintptr_t)image_base;
    uint64_t displacement = IMAGE_BASE - old_base;
    uint64_t stack_top;
    enum status status;

    machine_interrupts_off();
    cpu_prepare_paging();
    describe_machine(info);
    choose_low_pages();
    choose_pool();
    kernel_tables.image = pool_take(kernel_tables.image_size / PAGE_SIZE);
    kernel_tables.root = pool_take(1);
    make_top_entries();
    map_direct();
    map_records();
    handover_map_image();
    status = kernel_map_stack(BOOT_STACK_PAGES, &stack_top);
    CHECK(status == OK);
    make_top_window();
    build_firmware_roots(info);

    kernel_tables.pool_end =
        min_u64(kernel_tables.pool_end, kernel_tables.pool_next + POOL_RESERVE * PAGE_SIZE);
    status = memory_map_reserve(kernel_tables.pool_start, kernel_tables.pool_end);
    CHECK(status == OK);
    status = memory_map_reserve_metadata(
        kernel_tables.records.address, kernel_tables.records.address + kernel_tables.records_size);
    CHECK(status == OK);
    continuation.entry = (void (*)(struct bootinfo *))((uintptr_t)entry + displacement);
    continuation.info = (struct bootinfo *)((uintptr_t)info + displacement);

    enter_kernel_levels();

    /* From here on the old copy's data must not change: the new copy has been made. */
    memcpy(table_at(kernel_tables.image), image_base, kernel_tables.image_size);
    relocate_copy((uint8_t *)table_at(kernel_tables.image), old_base);
    zero_ladder_build(table_at(phys_of(kernel_map_zero_frame())), kernel_map_zero_frame());
    handover_jump(kernel_tables.firmware_root.address, kernel_tables.root.address, stack_top,
                  displacement, (void (*)(void *))((uintptr_t)handover_relocated + displacement),
                  NULL);
}
