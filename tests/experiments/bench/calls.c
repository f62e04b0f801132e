/*
 * Rows of bench that are measured from the kernel: the first touch of a page of 2 MiB, a late
 * (spurious) fault, mapping and unmapping 1 GiB, pages that become one of 2 MiB, and mapping with
 * pages in place.
 */
#include "cpu/cpu.h"
#include "cpu/machine.h"
#include "cpu/registers.h"
#include "cpu/trap/trap.h"
#include "tests/experiments/bench/bench.h"
#include "tests/runner/user_pages.h"
#include "vmm/fault/fault.h"
#include "vmm/page/large.h"
#include "vmm/space/end.h"

#define START UINT64_C(0x6c0000000)

/* Large pages that are touched in all, one mapping after the other. */
#define LARGES 8U
#define LARGE  (2 * MIB)

#define CALLS     64U
#define POPULATED 4096U
#define POPULATES 8U

/* Measures the first touch of a large page. Most of it is clearing: 512 times the cost of clearing
 * 4 KiB. */
static void touch_large(struct space *space)
{
    bench_time_readings();
    for (unsigned i = 0; i < LARGES; i++) {
        uint64_t began;

        if (space_map(space, &SPACE_AT(START, LARGE, RIGHTS_READ_WRITE, .page_level = 2), NULL) !=
            OK)
            break;
        began = machine_ticks();
        if (fault_resolve(space, START, (struct fault_access){.write = true, .from_user = true}) ==
            OK)
            bench_add(machine_ticks() - began);
        CHECK(space_faults(space).large > i && space_unmap(space, START, LARGE) == OK);
    }
    bench_end_row("large_touch");
}

/* Times a store from ring 3 that the entry already allows, each at another instruction: the
 * handler's work without delivery and return. */
static void late_fault(struct space *space)
{
    bool were_on = machine_interrupts_off();

    CHECK(space_map(space, &SPACE_AT(START, PAGE_SIZE, RIGHTS_READ_WRITE), NULL) == OK &&
          word_write(START, 1));
    bench_time_readings();
    for (unsigned i = 0; i < CALLS; i++) {
        struct trap_frame frame = {.cr2 = START,
                                   .error = PF_P | PF_WR | PF_US,
                                   .rip = 0x1000 + i,
                                   .cs = SELECTOR_USER_CODE};
        uint64_t began = machine_ticks();
        bool resolved = trap_page_fault(START, frame.error, &frame);

        bench_add(machine_ticks() - began);
        CHECK(resolved);
    }
    bench_end_row("spurious");
    CHECK(space_unmap(space, START, PAGE_SIZE) == OK);
    machine_interrupts_restore(were_on);
}

static void map_gib(struct space *space)
{
    uint64_t start = round_up(START, GIB);

    bench_time_readings();
    for (unsigned i = 0; i < CALLS; i++) {
        uint64_t began = machine_ticks();
        bool done = space_map(space, &SPACE_AT(start, GIB, RIGHTS_READ_WRITE), NULL) == OK &&
                    space_unmap(space, start, GIB) == OK;

        bench_add(machine_ticks() - began);
        CHECK(done);
    }
    bench_end_row("map_unmap_1g");
}

/* Measures a mapping with SPACE_POPULATED; the figure is its cost divided by its pages. */
static void map_populated(struct space *space)
{
    const uint64_t size = POPULATED * PAGE_SIZE;

    bench_time_readings();
    for (unsigned i = 0; i < POPULATES; i++) {
        uint64_t began = machine_ticks();

        if (space_map(space, &SPACE_AT(START, size, RIGHTS_READ_WRITE, .flags = SPACE_POPULATED),
                      NULL) != OK)
            break;
        bench_add((machine_ticks() - began) / POPULATED);
        CHECK(space_unmap(space, START, size) == OK);
    }
    bench_end_row("populate_page");
}

/* Measures one call that merges 512 pages into one of 2 MiB. */
static void bench_calls_merge_once(struct space *space)
{
    uint64_t began = machine_ticks();
    bool done = space_advise(space, START, LARGE, SPACE_COLLAPSE) == OK;

    bench_add(machine_ticks() - began);
    CHECK(done && leaf_state(space, START) == PTE_EMPTY);
}

/* Measures merges: pages left by a split are merged in place, pages that were filled one by one are
 * copied. */
static void merge(struct space *space)
{
    bench_time_readings();
    CHECK(space_map(space, &SPACE_AT(START, LARGE, RIGHTS_READ_WRITE, .page_level = 2), NULL) ==
              OK &&
          word_write(START, 1));
    for (unsigned i = 0; i < LARGES && large_split_one(); i++)
        bench_calls_merge_once(space);
    CHECK(space_unmap(space, START, LARGE) == OK);
    bench_end_row("merge_in_place");
    for (unsigned i = 0; i < LARGES; i++) {
        CHECK(space_map(space, &SPACE_AT(START, LARGE, RIGHTS_READ_WRITE), NULL) == OK);
        for (unsigned page = PTE_ENTRIES; page-- > 0;)
            CHECK(word_write(START + page * PAGE_SIZE, 1));
        bench_calls_merge_once(space);
        CHECK(space_unmap(space, START, LARGE) == OK);
    }
    bench_end_row("merge_copied");
}

void bench_kernel_rows(void)
{
    struct space *space;

    space_finish_ends();
    if (!start_space(&space))
        return;
    touch_large(space);
    late_fault(space);
    map_gib(space);
    merge(space);
    map_populated(space);
    end_space(space);
}
