/* The summary at the start of every log. */
#include "tests/runner/summary.h"

#include "build/version.h"
#include "cpu/clock/time.h"
#include "cpu/features.h"
#include "efi/processors.h"
#include "lib/ktap.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "paging/tlb/pcid.h"
#include "pmm/memory_map.h"
#include "pmm/pmm.h"
#include "swapdisk/disks.h"
#include "tests/runner/tick.h"

static void print_memory(const struct bootinfo *info)
{
    const struct memory_map *map = memory_map();
    struct pmm_usage usage = pmm_usage();
    uint64_t bytes[MEMORY_KINDS] = {0};
    uint64_t kernel = 0;
    uint64_t metadata = 0;

    for (uint32_t i = 0; i < map->count; i++) {
        bytes[map->ranges[i].kind] += map->ranges[i].end - map->ranges[i].start;
        if (map->ranges[i].metadata)
            metadata += map->ranges[i].end - map->ranges[i].start;
        else if (map->ranges[i].kernel)
            kernel += map->ranges[i].end - map->ranges[i].start;
    }
    ktap_note("memory: %u firmware descriptors, %u ranges", info->region_count, map->count);
    if (info->regions_dropped > 0)
        ktap_note("memory: %u descriptors did not fit and are not used", info->regions_dropped);
    for (unsigned kind = 0; kind < MEMORY_KINDS; kind++) {
        if (bytes[kind] > 0)
            ktap_note("memory: %8lu KiB %s", bytes[kind] / KIB,
                      memory_kind_name((enum memory_kind)kind));
    }
    ktap_note("memory: %lu KiB taken by image and tables, %lu KiB by frame records and the "
              "allocator's metadata",
              kernel / KIB, metadata / KIB);
    ktap_note("memory: %lu KiB free to use", usage.by_kind[FRAME_FREE] * PAGE_SIZE / KIB);
    if (info->options.memory_limit != 0)
        ktap_note("memory: %lu KiB more are left out, as mem=%lu KiB says",
                  pmm_left_out() * PAGE_SIZE / KIB, info->options.memory_limit / KIB);
}

static void print_window(const char *what, uint64_t start, uint64_t size)
{
    ktap_note("map: %016lx %s, %lu GiB", start, what, size / GIB);
}

static void print_address_map(void)
{
    unsigned levels = kernel_map_levels();

    ktap_note("map: %016lx programs, %u-level paging%s", UINT64_C(0), levels,
              levels == kernel_map_firmware_levels() ? ", as the firmware had it" : "");
    print_window("direct map", DIRECT_MAP_BASE, DIRECT_MAP_SIZE);
    print_window("frame records", FRAME_RECORDS_BASE, WINDOW_SIZE);
    print_window("top tables", TOP_WINDOW_BASE, WINDOW_SIZE);
    print_window("recursive slot", recursive_base(levels), pte_span(levels));
    print_window("descriptors", DESCRIPTORS_BASE, WINDOW_SIZE);
    print_window("devices", DEVICE_WINDOW_BASE, WINDOW_SIZE);
    print_window("kernel stacks", STACK_WINDOW_BASE, WINDOW_SIZE);
    ktap_note("map: %016lx image", IMAGE_BASE);
}

static void print_tick(void)
{
    uint64_t ticks = ticks_per_instruction();

    ktap_count_instructions(ticks);
    if (ticks != 0)
        ktap_note("clock: an emulator counts instructions, %lu ticks each: times are exact counts",
                  ticks);
    else
        ktap_note("clock: a tick is time: costs differ from run to run, do not quote them");
}

void summary_print_machine(const struct bootinfo *info)
{
    const struct time_source *time = time_source();

    ktap_note("Faultline %s", FAULTLINE_VERSION);
    ktap_note("firmware: %s", info->firmware);
    ktap_note("started from: %s", info->boot_source);
    ktap_note("seed: %lu", info->options.seed);
    cpu_features_print();
    ktap_note("clock: TSC at %lu kHz by %s, spread %lu ppm over %u measurements", time->hz / 1000,
              time_source_name(time->kind), time->spread_ppm, time->measurements);
    if (time->refused_hz != 0)
        ktap_note("clock: %lu kHz by %s is not believable", time->refused_hz / 1000,
                  time_source_name(time->refused));
    print_tick();
    processors_print();
    print_memory(info);
    print_address_map();
}

void summary_print_pcids(void)
{
    struct pcid_counts counts = pcid_counts();

    if (machine_has_contexts())
        ktap_note("pcid: %lu loads of a root kept the translations, %lu flushed them", counts.kept,
                  counts.flushed);
}

void summary_print_disks(void)
{
    if (disks_count() == 0)
        ktap_note("disks: none found");
    for (unsigned i = 0; i < disks_count(); i++) {
        const struct disk_report *disk = disks_report(i);

        if (disk->bytes == 0)
            ktap_note("disk %s: %s", disk->place, disk->reason);
        else
            ktap_note("disk %s: '%s', serial '%s', %lu MiB: %s%s", disk->place, disk->model,
                      disk->serial, disk->bytes / MIB, disk->chosen ? "will be written: " : "",
                      disk->reason);
    }
}
