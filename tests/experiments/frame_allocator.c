/*
 * frame-allocator: bitmap, stack or buddy, or the design that does without locks?
 *
 * The four allocators work side by side on zones of the same size, which are numbers only: nothing
 * but their metadata is memory. A byte for each frame records its owner, so a frame that is
 * allocated twice or lost is noticed. The patterns are those of LLFree's own evaluation (bulk,
 * random, repeat). Figures are costs by the fill of the zone and by the number of processors, and
 * the long runs that a random workload leaves.
 */
#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"

/* 256 MiB of simulated memory. */
#define ZONE_FRAMES 65536U

/* Operations measured for one figure. */
#define ROUNDS 512U

#define STEPS 60000U

/* The most workers, each on a processor of its own, and the rounds of each. */
#define WORKERS_MAX   4U
#define WORKER_ROUNDS 8192U

/* For each taken block its first frame and its order; and a byte a frame. Lies in a block of 2 MiB
 * of its own. */
struct books {
    uint32_t firsts[ZONE_FRAMES];
    uint8_t orders[ZONE_FRAMES];
    uint8_t taken[ZONE_FRAMES];
};

_Static_assert(sizeof(struct books) <= 2 * MIB, "the books fit one block");

struct contest {
    const struct frame_allocator *allocator;
    void *self;
    struct books *books;
    unsigned count;
    uint64_t frames; /* taken */
    bool right;
    struct random random;
};

/* ---- blocks and their books ---- */

static bool frame_allocator_take(struct contest *contest, unsigned order)
{
    uint64_t first;

    if (contest->allocator->take(contest->self, 0, order, &first) != OK)
        return false;
    for (uint64_t frame = first; frame < first + order_frames(order); frame++) {
        contest->right &= frame < ZONE_FRAMES && contest->books->taken[frame] == 0;
        contest->books->taken[frame % ZONE_FRAMES] = 1;
    }
    contest->books->firsts[contest->count] = (uint32_t)first;
    contest->books->orders[contest->count++] = (uint8_t)order;
    contest->frames += order_frames(order);
    return true;
}

static void give(struct contest *contest, unsigned number)
{
    struct books *books = contest->books;
    uint32_t first = books->firsts[number];
    unsigned order = books->orders[number];

    books->firsts[number] = books->firsts[--contest->count];
    books->orders[number] = books->orders[contest->count];
    memset(&books->taken[first], 0, order_frames(order));
    contest->frames -= order_frames(order);
    contest->allocator->give(contest->self, 0, first, order);
}

static unsigned any_block(struct contest *contest)
{
    CHECK(contest->count > 0);
    return (unsigned)random_below(&contest->random, contest->count);
}

static void give_all(struct contest *contest)
{
    while (contest->count > 0)
        give(contest, contest->count - 1);
    contest->right &=
        frame_allocator_free_frames(contest->allocator, contest->self, ZONE_FRAMES) == ZONE_FRAMES;
}

/* ---- figures ---- */

static void figure(const struct contest *contest, const char *what, uint64_t value,
                   const char *unit)
{
    char name[64];

    print_to(name, sizeof(name), "%s.%s", contest->allocator->name, what);
    ktap_metric(name, value, unit);
}

/* Measures the mean ticks of taking and giving one block, many times. */
static void measure_repeat(struct contest *contest, unsigned order, const char *what)
{
    uint64_t began = machine_ticks();
    unsigned done = 0;
    uint64_t first;

    while (done < ROUNDS && contest->allocator->take(contest->self, 0, order, &first) == OK) {
        contest->allocator->give(contest->self, 0, first, order);
        done++;
    }
    if (done == ROUNDS)
        figure(contest, what, (machine_ticks() - began) / ROUNDS, "ticks");
    else
        ktap_note("%s: no block of order %u is left for %s", contest->allocator->name, order, what);
}

/* Takes single frames until a percentage of the zone is in use, then gives frames back at random:
 * the free frames are scattered as after long use. */
static void fill_to(struct contest *contest, unsigned percent)
{
    while (frame_allocator_take(contest, 0)) {
    }
    while (contest->frames > (uint64_t)ZONE_FRAMES * percent / 100)
        give(contest, any_block(contest));
}

static void measure_levels(struct contest *contest)
{
    static const unsigned levels[] = {10, 50, 90, 99};
    static const unsigned orders[] = {0, 3, ORDER_HUGE};
    char what[32];

    for (unsigned order = 0; order < ARRAY_COUNT(orders); order++) {
        print_to(what, sizeof(what), "repeat_empty_order%u", orders[order]);
        measure_repeat(contest, orders[order], what);
    }
    for (unsigned level = 0; level < ARRAY_COUNT(levels); level++) {
        fill_to(contest, levels[level]);
        for (unsigned order = 0; order < ARRAY_COUNT(orders) - 1; order++) {
            print_to(what, sizeof(what), "repeat_full%u_order%u", levels[level], orders[order]);
            measure_repeat(contest, orders[order], what);
        }
        give_all(contest);
    }
}

/* Takes half of the zone frame by frame, then frees it in the same order or at random. */
static void measure_bulk(struct contest *contest, bool in_order, const char *what)
{
    struct books *books = contest->books;
    unsigned count = ZONE_FRAMES / 2;
    uint64_t began = machine_ticks();
    uint64_t taking;

    for (unsigned i = 0; i < count; i++) {
        uint64_t first = 0;

        contest->right &= contest->allocator->take(contest->self, 0, 0, &first) == OK;
        books->firsts[i] = (uint32_t)first;
    }
    taking = machine_ticks() - began;
    for (unsigned i = count - 1; i > 0 && !in_order; i--) {
        unsigned other = (unsigned)random_below(&contest->random, i + 1);
        uint32_t first = books->firsts[i];

        books->firsts[i] = books->firsts[other];
        books->firsts[other] = first;
    }
    began = machine_ticks();
    for (unsigned i = 0; i < count; i++)
        contest->allocator->give(contest->self, 0, books->firsts[i], 0);
    figure(contest, what, (taking + machine_ticks() - began) / count, "ticks");
}

/* Prints how many blocks of 2 MiB are free as a whole at this fill level. */
static void put_whole_blocks(struct contest *contest, unsigned level)
{
    uint64_t whole =
        frame_allocator_whole_blocks(contest->allocator, contest->self, ZONE_FRAMES, ORDER_HUGE);
    char what[32];

    print_to(what, sizeof(what), "whole_2m_mixed%u", level);
    figure(contest, what, whole, "blocks");
    if (level != 50)
        return;
    figure(contest, "longest_run_half_full",
           frame_allocator_longest_run(contest->allocator, contest->self, ZONE_FRAMES), "frames");
    figure(contest, "whole_2m_half_full", whole, "blocks");
}

/* Uses mixed orders at random around three quarters full, then gives blocks back at random, and
 * measures on the way down how much is left in large blocks. */
static void measure_fragmentation(struct contest *contest)
{
    for (unsigned step = 0; step < STEPS; step++) {
        bool wants = contest->frames < ZONE_FRAMES / 4 * 3;
        unsigned order = random_below(&contest->random, 8) != 0
                             ? 0
                             : (unsigned)random_below(&contest->random, 6);

        if (random_below(&contest->random, 16) < (wants ? 10U : 6U))
            frame_allocator_take(contest, order);
        else if (contest->count > 0)
            give(contest, any_block(contest));
    }
    for (unsigned level = 70; level >= 10; level -= 10) {
        while (contest->frames > (uint64_t)ZONE_FRAMES * level / 100)
            give(contest, any_block(contest));
        put_whole_blocks(contest, level);
    }
    frame_allocator_audit(contest->allocator, contest->self);
    give_all(contest);
}

/* ---- several processors ---- */

/* Protectors: (o) the worker's own until it is joined. */
struct worker {
    const struct contest *contest; /* NULL: the run's own memory, through the caches */
    unsigned *ready;               /* how many have arrived: all begin together */
    unsigned count;
    uint64_t ticks; /* (o) */
    bool right;     /* (o) */
    struct thread *thread;
};

static bool take_and_give(const struct contest *contest)
{
    struct pfn frame;
    uint64_t first;

    if (contest == NULL) {
        if (pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &frame) != OK)
            return false;
        pmm_free(frame);
        return true;
    }
    if (contest->allocator->take(contest->self, machine_cpu(), 0, &first) != OK)
        return false;
    contest->allocator->give(contest->self, machine_cpu(), first, 0);
    return true;
}

static void frame_allocator_work(void *context)
{
    struct worker *worker = context;
    uint64_t began;

    __atomic_fetch_add(worker->ready, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(worker->ready, __ATOMIC_ACQUIRE) < worker->count)
        machine_relax();
    began = machine_ticks();
    for (unsigned i = 0; i < WORKER_ROUNDS; i++)
        worker->right &= take_and_give(worker->contest);
    worker->ticks = machine_ticks() - began;
}

/* Runs `count` workers, one on this processor. Returns the mean ticks of a take and a give. Returns
 * false if a worker got no frame or did not start. */
static bool work_together(const struct contest *contest, unsigned count, uint64_t *ticks)
{
    struct worker workers[WORKERS_MAX];
    uint64_t others = machine_processors() & ~(UINT64_C(1) << machine_cpu());
    unsigned ready = 0;
    unsigned begun = 1;

    for (unsigned i = 0; i < count; i++)
        workers[i] = (struct worker){contest, &ready, count, 0, true, NULL};
    while (begun < count && thread_create((unsigned)__builtin_ctzll(others), frame_allocator_work,
                                          &workers[begun], &workers[begun].thread) == OK) {
        begun++;
        others &= others - 1;
    }
    __atomic_fetch_add(&ready, count - begun, __ATOMIC_ACQ_REL);
    frame_allocator_work(&workers[0]);
    *ticks = 0;
    for (unsigned i = 0; i < begun; i++) {
        if (i > 0)
            thread_join(workers[i].thread);
        *ticks += workers[i].ticks / begun / WORKER_ROUNDS;
        workers[0].right &= workers[i].right;
    }
    return begun == count && workers[0].right;
}

/* Measures with 1, 2 and 4 workers, as far as there are processors. */
static bool measure_workers(const struct contest *contest, const char *way)
{
    unsigned processors = 0;
    bool right = true;
    uint64_t ticks;

    for (uint64_t at = machine_processors(); at != 0; at &= at - 1)
        processors++;
    for (unsigned count = 1; count <= processors && count <= WORKERS_MAX; count *= 2) {
        char name[64];

        right &= work_together(contest, count, &ticks);
        print_to(name, sizeof(name), "%s.repeat_workers%u", way, count);
        ktap_metric(name, ticks, "ticks");
    }
    return right;
}

/* ---- the contest ---- */

static void run_contest(struct contest *contest)
{
    contest->allocator->start(contest->self, ZONE_FRAMES, CPU_MAX);
    frame_allocator_add(contest->allocator, contest->self, 0, ZONE_FRAMES);
    memset(contest->books->taken, 0, ZONE_FRAMES);
    figure(contest, "metadata_16g", contest->allocator->size(16 * GIB / PAGE_SIZE, CPU_MAX),
           "bytes");
    measure_levels(contest);
    measure_bulk(contest, true, "bulk");
    measure_bulk(contest, false, "random");
    contest->right &= measure_workers(contest, contest->allocator->name);
    measure_fragmentation(contest);
    frame_allocator_audit(contest->allocator, contest->self);
    ktap_check(contest->right && frame_allocator_free_frames(contest->allocator, contest->self,
                                                             ZONE_FRAMES) == ZONE_FRAMES,
               "%s handed nothing out twice and lost nothing", contest->allocator->name);
}

static void frame_allocator_run(const struct options *options)
{
    struct pfn metadata;
    struct pfn books;
    bool memory = pmm_alloc_order(ORDER_HUGE, FRAME_KERNEL, FRAME_UNCLEARED, &metadata) == OK;

    ktap_note("the run's own allocator: %s, %lu bytes of metadata", pmm_allocator()->name,
              pmm_metadata_bytes());
    if (!ktap_check(memory, "2 MiB for metadata"))
        return;
    memory = pmm_alloc_order(ORDER_HUGE, FRAME_KERNEL, FRAME_UNCLEARED, &books) == OK;
    if (ktap_check(memory, "2 MiB for the books")) {
        for (unsigned place = 0; place < frame_allocator_count(); place++) {
            struct contest contest = {.allocator = frame_allocator(place),
                                      .self = frame_pointer(metadata),
                                      .books = frame_pointer(books),
                                      .right = true,
                                      .random = random_from(options->seed)};

            CHECK(contest.allocator->size(ZONE_FRAMES, CPU_MAX) <= 2 * MIB);
            run_contest(&contest);
        }
        pmm_free_order(books, ORDER_HUGE);
        ktap_check(measure_workers(NULL, "cached"),
                   "through the caches every worker got its frames");
    }
    pmm_free_order(metadata, ORDER_HUGE);
}

EXPERIMENT(frame_allocator, 140) = {
    .theme = THEME_FRAMES,
    .name = "frame-allocator",
    .question = "Bitmap, stack or buddy, or LLFree?",
    .checks = 3,
    .more_checks = frame_allocator_count, /* one for each */
    .run = frame_allocator_run,
    .answer =
        {
            .text =
                "LLFree: {llfree.whole_2m_half_full} blocks of 2 MiB stay whole; buddy "
                "{buddy.whole_2m_half_full} with {buddy.metadata_16g / llfree.metadata_16g} times "
                "the bytes, bitmap {bitmap.whole_2m_half_full}, stack {stack.whole_2m_half_full}",
            .counted = "LLFree: {llfree.whole_2m_half_full} blocks of 2 MiB stay whole; buddy "
                       "{buddy.whole_2m_half_full} with {buddy.metadata_16g / llfree.metadata_16g} "
                       "times the bytes; {llfree.repeat_full50_order0} instructions, buddy "
                       "{buddy.repeat_full50_order0}, cached {cached.repeat_workers1}",
            .shipped = "llfree; buddy and stack take fewer instructions",
            .limit = "contention on many processors: this zone has one owner",
        },
};
