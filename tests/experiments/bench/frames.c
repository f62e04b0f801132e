/* Rows of bench about single frames, from the kernel: allocated and freed through the cache. */
#include "cpu/machine.h"
#include "pmm/pmm.h"
#include "tests/experiments/bench/bench.h"

static void frame_row(void)
{
    bench_time_readings();
    for (unsigned i = 0; i < BENCH_SAMPLES; i++) {
        uint64_t began = machine_ticks();
        struct pfn frame;

        if (pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &frame) != OK)
            break;
        pmm_free(frame);
        bench_add(machine_ticks() - began);
    }
    bench_end_row("frame_cached");
}

/* Measures a frame that is allocated cleared and is zero again when it is freed, as a table is. */
static void clean_frame_row(void)
{
    bench_time_readings();
    for (unsigned i = 0; i < BENCH_SAMPLES; i++) {
        uint64_t began = machine_ticks();
        struct pfn frame;

        if (pmm_alloc(FRAME_TABLE, FRAME_CLEARED, &frame) != OK)
            break;
        pmm_free_clean(frame);
        bench_add(machine_ticks() - began);
    }
    bench_end_row("frame_clean");
}

void bench_frame_rows(void)
{
    frame_row();
    clean_frame_row();
}
