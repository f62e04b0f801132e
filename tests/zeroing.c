/*
 * zeroing: clear a page when it is wanted, or before; and by which instructions?
 *
 * The same burst of first writes is served once with an empty pool, so that each fault clears its
 * page, and once after idle time has filled the pool. Every page is checked to be zero. Beside it
 * the ways of clearing a frame that need no vector registers.
 */
#include "cpu/machine.h"
#include "pmm/pmm.h"
#include "tests/experiment.h"
#include "tests/user_pages.h"

#define START  UINT64_C(0x400000000)
#define PAGES  256U
#define ROUNDS 64U

/* Frames cleared at once when there is nothing to do. */
#define BUDGET 64U

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

/* Past the caches: what a background task would do that does not want to push others' lines out. */
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

/* First writes one after the other; the mean of their ticks, and whether the pages were zero. */
static uint64_t burst(struct space *space, unsigned *right)
{
    uint64_t size = PAGES * PAGE_SIZE;
    uint64_t ticks = 0;

    *right = 0;
    if (space_map_at(space, START, size, RIGHTS_READ_WRITE) != OK)
        return 0;
    /* The tables are there: one page beside each end makes them. */
    for (uint64_t at = START; at < START + size; at += PAGE_SIZE) {
        uint64_t began = machine_ticks();
        bool written = word_write(at, at);

        ticks += machine_ticks() - began;
        *right += written && page_is_zero_but(at, 0, at);
    }
    /* Junk is left behind for whoever gets these frames next. */
    for (uint64_t at = START; at < START + size; at += PAGE_SIZE)
        *right -= !page_fill(at, at);
    if (space_unmap(space, START, size) != OK)
        *right = 0;
    return ticks / PAGES;
}

static void measure_burst(struct space *space, const char *name, const char *share)
{
    struct pmm_zero_figures before = pmm_zero_figures();
    struct pmm_zero_figures after;
    unsigned right;
    uint64_t ticks = burst(space, &right);

    after = pmm_zero_figures();
    ktap_metric(name, ticks, "ticks");
    ktap_metric(share,
                (after.hits - before.hits) * 100 /
                    (after.hits - before.hits + after.misses - before.misses + 1),
                "percent");
    ktap_check(right == PAGES, "%s: %u of %u pages were zero", name, right, PAGES);
}

static void run(const struct options *options)
{
    struct pmm_zero_figures before;
    struct space *space;
    uint64_t ticks;
    unsigned filled = 0;
    unsigned more;

    (void)options;
    measure_ways();
    if (!start_space(&space))
        return;
    pmm_drain();
    before = pmm_zero_figures();
    ktap_check(before.pooled == 0, "the pool is empty");
    measure_burst(space, "burst", "burst_from_pool");
    ticks = machine_ticks();
    while ((more = pmm_idle_fill(BUDGET)) > 0)
        filled += more;
    ticks = machine_ticks() - ticks;
    ktap_check(filled > 0 && pmm_zero_figures().pooled == filled, "idle time cleared %u frames",
               filled);
    ktap_metric("idle_fill", ticks / (filled > 0 ? filled : 1), "ticks");
    before = pmm_zero_figures();
    measure_burst(space, "background", "background_from_pool");
    ktap_check(pmm_zero_figures().hits - before.hits >= min_u64(filled, PAGES),
               "the pool served %lu allocations", pmm_zero_figures().hits - before.hits);
    end_space(space);
    pmm_drain();
}

const struct experiment zeroing_experiment = {
    .name = "zeroing",
    .question = "Clear pages in a burst, or in the background?",
    .checks = 7,
    .run = run,
};
