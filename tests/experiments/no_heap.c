/*
 * no-heap: can paging and the kernel's heap be decoupled?
 *
 * There is no heap below vmm/: tables and pages are frames, and objects of one size come from pools
 * of frames. A workload that maps, touches, forks and copies counts the calls of pools: faults make
 * none at all, and after a warm-up the frame allocator answers with all pools shut.
 */
#include "pmm/pool.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/user_pages.h"

#define START UINT64_C(0x400000000)
#define PAGES 1024U

static unsigned no_heap_touch(unsigned seed)
{
    unsigned done = 0;

    for (unsigned i = 0; i < PAGES; i++)
        done += word_write(START + i * 3 * PAGE_SIZE, seed + i);
    return done;
}

/* Makes every kind of fault while the pools fail every allocation. */
static void fault_without_pools(struct space *parent, struct space *child)
{
    uint64_t calls;
    unsigned done;

    pool_shut(true);
    calls = pool_calls();
    done = no_heap_touch(1);
    space_switch(child);
    done += no_heap_touch(2);
    space_switch(parent);
    calls = pool_calls() - calls;
    pool_shut(false);
    ktap_metric("heap_calls_in_faults", calls, "calls");
    ktap_metric("faults", done, "faults");
    ktap_check(done == 2 * PAGES && calls == 0,
               "%u of %u faults served with all pools shut, %lu calls", done, 2 * PAGES, calls);
}

static void frames_without_pools(void)
{
    uint64_t calls = pool_calls();
    unsigned done = 0;

    pool_shut(true);
    for (unsigned order = 0; order <= ORDER_HUGE; order++) {
        struct pfn first;

        if (pmm_alloc_order(order, FRAME_KERNEL, FRAME_CLEARED, &first) != OK)
            continue;
        pmm_free_order(first, order);
        done++;
    }
    pool_shut(false);
    calls = pool_calls() - calls;
    ktap_metric("heap_calls_in_allocator", calls, "calls");
    ktap_metric("orders", done, "orders");
    ktap_check(calls == 0 && done > 0, "%u orders of frames with all pools shut", done);
}

static void no_heap_run(const struct options *options)
{
    struct space *parent;
    struct space *child;
    uint64_t calls = pool_calls();

    (void)options;
    if (!start_space(&parent))
        return;
    if (SUCCEEDS(
            space_map(parent, &SPACE_AT(START, 4 * PAGES * PAGE_SIZE, RIGHTS_READ_WRITE), NULL)) &&
        no_heap_touch(0) == PAGES && SUCCEEDS(space_fork(parent, &child))) {
        ktap_metric("heap_calls_to_map_and_fork", pool_calls() - calls, "calls");
        ktap_check(pool_calls() > calls, "mapping and forking take objects from pools");
        fault_without_pools(parent, child);
        space_destroy(child);
    }
    frames_without_pools();
    end_space(parent);
}

EXPERIMENT(no_heap, 170) = {
    .theme = THEME_FRAMES,
    .name = "no-heap",
    .question = "Can paging and the kernel heap be decoupled?",
    .spaces = 2,
    .checks = 3,
    .run = no_heap_run,
    .answer =
        {
            .text = "Yes: {heap_calls_in_faults} heap calls in {faults} faults; "
                    "{heap_calls_in_allocator} in {orders} orders of frames; "
                    "{heap_calls_to_map_and_fork} to map and fork",
        },
};
