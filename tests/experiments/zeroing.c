/*
 * zeroing: clear a page when it is wanted, or before; and by which instructions?
 *
 * The same burst of first writes is served with an empty pool, so that each fault clears its page;
 * after the run has slept, while the processors without work have filled the pool; and many times
 * over without a pause, which is more than the pool has: then it depends on other processors that
 * have nothing to do. Every page is checked to be zero. Beside it the ways of clearing a frame that
 * need no vector registers.
 */
#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"

#define START  UINT64_C(0x400000000)
#define PAGES  256U
#define ROUNDS 64U

/* Bursts one after the other: 8 MiB of pages. */
#define BURSTS 8U

/* How long the run sleeps at a time, and at most, for the pool to fill. */
#define SLEEP_US 200U
#define SLEEPS   5000U

/* ---- ways to clear ---- */

static void clear_stosq(void *frame)
{
    uint64_t count = PAGE_SIZE / sizeof(uint64_t);

    __asm__ volatile("rep stosq" : "+D"(frame), "+c"(count) : "a"(0L) : "memory");
}

static void clear_stosb(void *frame)
{
    uint64_t count = PAGE_SIZE;

    __asm__ volatile("rep stosb" : "+D"(frame), "+c"(count) : "a"(0) : "memory");
}

static void clear_words(void *frame)
{
    uint64_t *words = frame;

    for (unsigned i = 0; i < PAGE_SIZE / sizeof(uint64_t); i += 4)
        __asm__ volatile("movq $0, (%0)\n\tmovq $0, 8(%0)\n\tmovq $0, 16(%0)\n\tmovq $0, 24(%0)"
                         :
                         : "r"(&words[i])
                         : "memory");
}

/* Clears past the caches, as a background task would, so that it does not evict other lines. */
static void clear_movnti(void *frame)
{
    uint64_t *words = frame;

    for (unsigned i = 0; i < PAGE_SIZE / sizeof(uint64_t); i++)
        __asm__ volatile("movnti %1, %0" : "=m"(words[i]) : "r"(0L));
    __asm__ volatile("sfence" : : : "memory");
}

static bool frame_is_zero(const uint64_t *words)
{
    uint64_t seen = 0;

    for (unsigned i = 0; i < PAGE_SIZE / sizeof(uint64_t); i++)
        seen |= words[i];
    return seen == 0;
}

static void measure_ways(void)
{
    static const struct {
        const char *name;
        void (*clear)(void *frame);
    } ways[] = {{"clear_stosq", clear_stosq},
                {"clear_stosb", clear_stosb},
                {"clear_words", clear_words},
                {"clear_movnti", clear_movnti},
                {"clear_chosen", machine_clear_frame}};
    struct pfn frame;
    bool zero = true;

    if (!ktap_check(pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &frame) == OK, "a frame to clear"))
        return;
    for (unsigned way = 0; way < ARRAY_COUNT(ways); way++) {
        uint64_t *words = frame_pointer(frame);
        uint64_t ticks = 0;

        for (unsigned i = 0; i < ROUNDS; i++) {
            uint64_t began;

            for (unsigned word = 0; word < PAGE_SIZE / sizeof(uint64_t); word++)
                words[word] = ~UINT64_C(0);
            began = machine_ticks();
            ways[way].clear(words);
            ticks += machine_ticks() - began;
            zero &= frame_is_zero(words);
        }
        ktap_metric(ways[way].name, ticks / ROUNDS, "ticks");
    }
    pmm_free(frame);
    ktap_check(zero, "each way leaves nothing but zeroes");
}

/* ---- a burst of faults ---- */

/* Makes first writes in a row. Returns the mean of their ticks, and sets *right to the number of
 * pages that were zero. */
static uint64_t burst(struct space *space, unsigned *right)
{
    uint64_t size = PAGES * PAGE_SIZE;
    uint64_t ticks = 0;

    *right = 0;
    if (!SUCCEEDS(space_map(space, &SPACE_AT(START, size, RIGHTS_READ_WRITE), NULL)))
        return 0;
    /* The tables are there: one page beside each end makes them. */
    for (uint64_t at = START; at < START + size; at += PAGE_SIZE) {
        uint64_t began = machine_ticks();
        bool written = word_write(at, at);

        ticks += machine_ticks() - began;
        *right += written && page_is_zero_but(at, 0, at);
    }
    /* Leaves junk in the frames for their next owner. */
    for (uint64_t at = START; at < START + size; at += PAGE_SIZE)
        *right -= !page_fill(at, at);
    if (!SUCCEEDS(space_unmap(space, START, size)))
        *right = 0;
    return ticks / PAGES;
}

/* Measures successive bursts: their mean, and how many frames came from the pool. */
static uint64_t measure_bursts(struct space *space, const char *name, unsigned bursts)
{
    struct pmm_zero_figures before = pmm_zero_figures();
    struct pmm_zero_figures after;
    uint64_t ticks = 0;
    unsigned right = 0;
    uint64_t hits;
    char share[32];

    for (unsigned i = 0; i < bursts; i++) {
        unsigned of_burst;

        ticks += burst(space, &of_burst);
        right += of_burst;
    }
    after = pmm_zero_figures();
    hits = after.hits - before.hits;
    print_to(share, sizeof(share), "%s_from_pool", name);
    ktap_metric(name, ticks / bursts, "ticks");
    ktap_metric(share, hits * 100 / max_u64(hits + after.misses - before.misses, 1), "percent");
    ktap_check(right == bursts * PAGES, "%s: %u of %u pages were zero", name, right,
               bursts * PAGES);
    return hits;
}

/* Sleeps until idle processors clear no more frames; returns how many they have cleared since the
 * counter was at start, which was before they began. */
static uint64_t sleep_while_filling(uint64_t start)
{
    uint64_t now = pmm_zero_figures().filled;
    uint64_t before;
    unsigned sleeps = 0;

    do {
        before = now;
        thread_sleep_us(SLEEP_US);
        now = pmm_zero_figures().filled;
    } while ((now == start || now != before) && ++sleeps < SLEEPS);
    return now - start;
}

/* Measures the background clearing. At the start the pool is empty and filling is paused. */
static void measure_background(struct space *space)
{
    uint64_t start = pmm_zero_figures().filled;
    uint64_t filled;
    uint64_t pooled;
    uint64_t hits;

    pmm_idle_resume();
    filled = sleep_while_filling(start);
    pooled = pmm_zero_figures().pooled;
    ktap_metric("pool", pooled, "frames");
    ktap_check(filled > 0, "idle processors cleared %lu frames", filled);
    hits = measure_bursts(space, "background", 1);
    ktap_check(hits >= min_u64(pooled, PAGES), "the pool served %lu allocations", hits);
    (void)measure_bursts(space, "on_end", BURSTS);
}

static void zeroing_run(const struct options *options)
{
    struct space *space;

    (void)options;
    measure_ways();
    if (!start_space(&space))
        return;
    pmm_idle_pause();
    pmm_drain();
    ktap_check(pmm_zero_figures().pooled == 0, "the pool is empty");
    (void)measure_bursts(space, "burst", 1);
    pmm_drain();
    measure_background(space);
    end_space(space);
}

EXPERIMENT(zeroing, 180) = {
    .theme = THEME_FRAMES,
    .name = "zeroing",
    .question = "Clear pages in a burst, or in the background?",
    .checks = 8,
    .run = zeroing_run,
    .answer =
        {
            .text = "In the background: {background_from_pool} % come cleared; without a pause "
                    "{on_end_from_pool} %",
            .counted = "In the background: {background} instructions, not {burst}; moved to idle "
                       "time, not saved; without a pause {on_end}",
            .shipped = "background, on idle processors",
            .limit = "energy, and caches that clearing fills",
        },
};
