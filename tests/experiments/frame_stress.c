/*
 * frame-stress: do frames of mixed orders keep their owners, when they are taken and freed at
 * random?
 *
 * Works on the run's own memory and allocator (pmm=). Every frame has its owner's mark, at an
 * offset that differs from frame to frame, and the mark is checked before the frame is freed.
 * Workers share only the slots through which they hand over blocks, so any number of processors
 * runs the same function.
 */
#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"

#define WORKERS_MAX 64U
#define HELD        64U
#define PLACES      64U

#define SHORT_MS 200U

/* A block as one word, never 0. */
#define BLOCK(first, order) ((uint64_t)(order) << 32 | (first))
#define BLOCK_FIRST(block)  ((uint32_t)(block))
#define BLOCK_ORDER(block)  ((unsigned)((block) >> 32))

/* Protectors: (o) the worker's own while it runs; the places are exchanged as whole words. */
struct worker {
    struct random random;
    struct deadline end;
    uint64_t held[HELD];
    uint64_t steps;
    uint64_t refused;
    uint64_t wrong; /* marks that were not there any more, and cleared frames that were not clear */
    struct thread *thread;
};

static struct worker workers[WORKERS_MAX];
static uint64_t places[PLACES];

static uint64_t *mark_of(uint64_t block, uint32_t number)
{
    uint64_t *words = frame_pointer((struct pfn){BLOCK_FIRST(block) + number});

    return &words[(BLOCK_FIRST(block) + number) % (PAGE_SIZE / sizeof(uint64_t))];
}

static bool is_clear(struct pfn frame)
{
    const uint64_t *words = frame_pointer(frame);
    uint64_t seen = 0;

    for (unsigned i = 0; i < PAGE_SIZE / sizeof(uint64_t); i++)
        seen |= words[i];
    return seen == 0;
}

static uint64_t take_block(struct worker *worker)
{
    unsigned order = random_below(&worker->random, 4) != 0
                         ? 0
                         : (unsigned)random_below(&worker->random, ORDER_HUGE + 1);
    bool clear = random_below(&worker->random, 8) == 0;
    struct pfn first;
    uint64_t block;

    if (pmm_alloc_order(order, FRAME_KERNEL, clear ? FRAME_CLEARED : FRAME_UNCLEARED, &first) !=
        OK) {
        worker->refused++;
        return 0;
    }
    if (clear && !is_clear(first))
        worker->wrong++;
    if (order > 0 && random_below(&worker->random, 8) == 0) {
        pmm_split(first, order, 0);
        for (uint32_t i = 1; i < order_frames(order); i++)
            pmm_free((struct pfn){first.index + i});
        order = 0;
    }
    block = BLOCK(first.index, order);
    for (uint32_t i = 0; i < order_frames(order); i++)
        *mark_of(block, i) = block + i;
    return block;
}

static void give_block(struct worker *worker, uint64_t block)
{
    for (uint32_t i = 0; i < order_frames(BLOCK_ORDER(block)); i++) {
        if (*mark_of(block, i) != block + i)
            worker->wrong++;
    }
    pmm_free_order((struct pfn){BLOCK_FIRST(block)}, BLOCK_ORDER(block));
}

/* Does the work of one processor until the end. */
static void frame_stress_work(void *context)
{
    struct worker *worker = context;

    for (; !deadline_passed(worker->end); worker->steps++) {
        uint64_t *mine = &worker->held[random_below(&worker->random, HELD)];
        uint64_t *place = &places[random_below(&worker->random, PLACES)];

        if (*mine == 0) {
            *mine = take_block(worker);
        } else if (random_below(&worker->random, 4) == 0) {
            *mine = __atomic_exchange_n(place, *mine, __ATOMIC_ACQ_REL);
        } else {
            give_block(worker, *mine);
            *mine = 0;
        }
    }
    for (unsigned i = 0; i < HELD; i++) {
        if (worker->held[i] != 0)
            give_block(worker, worker->held[i]);
        worker->held[i] = 0;
    }
}

/* Starts a worker on every other processor; how many. */
static unsigned frame_stress_start_others(const struct options *options, struct deadline end)
{
    uint64_t others = machine_processors() & ~(UINT64_C(1) << machine_cpu());
    unsigned count = 0;

    for (; others != 0; others &= others - 1) {
        struct worker *worker = &workers[1 + count];

        *worker = (struct worker){.random = random_from(options->seed + 1 + count), .end = end};
        if (SUCCEEDS(thread_create((unsigned)__builtin_ctzll(others), frame_stress_work, worker,
                                   &worker->thread)))
            count++;
    }
    return count;
}

static void stress(const struct options *options, uint64_t ms)
{
    struct ledger before = ledger_take();
    struct deadline end = deadline_after_ms(ms);
    uint64_t wrong = 0;
    uint64_t steps = 0;
    unsigned others = frame_stress_start_others(options, end);
    unsigned idle = 0;

    workers[0] = (struct worker){.random = random_from(options->seed), .end = end};
    frame_stress_work(&workers[0]);
    for (unsigned i = 1; i <= others; i++)
        thread_join(workers[i].thread);
    for (unsigned i = 0; i < PLACES; i++) {
        if (places[i] != 0)
            give_block(&workers[0], places[i]);
        places[i] = 0;
    }
    for (unsigned i = 0; i <= others; i++) {
        wrong += workers[i].wrong;
        steps += workers[i].steps;
        idle += workers[i].steps == 0;
    }
    ktap_note("%s: %u processors, %lu steps, %lu refusals on the first", pmm_allocator()->name,
              others + 1, steps, workers[0].refused);
    ktap_metric("processors", others + 1, "processors");
    ktap_metric("steps", steps, "steps");
    ktap_metric("wrong", wrong, "marks");
    ktap_check(idle == 0 && wrong == 0, "every block was whose it is: %lu marks wrong", wrong);
    pmm_audit();
    ktap_metric("leaked", (uint64_t)-ledger_growth(&before, FRAME_FREE), "frames");
    ktap_check(ledger_even(&before), "nothing leaked");
}

/* Takes a whole GiB, if one is free, and frees it in blocks of 2 MiB. */
static void frame_stress_take_gib(void)
{
    struct pfn first;

    if (pmm_alloc_order(ORDER_GIB, FRAME_KERNEL, FRAME_UNCLEARED, &first) != OK) {
        ktap_skip("no GiB is free as a whole", "1 GiB in one block");
        return;
    }
    pmm_split(first, ORDER_GIB, ORDER_HUGE);
    for (uint64_t i = 0; i < order_frames(ORDER_GIB); i += order_frames(ORDER_HUGE))
        pmm_free_order((struct pfn){first.index + (uint32_t)i}, ORDER_HUGE);
    ktap_note("1 GiB in one block, at frame %x", first.index);
    ktap_check(first.index % order_frames(ORDER_GIB) == 0, "1 GiB in one block");
}

static void run_short(const struct options *options)
{
    frame_stress_take_gib();
    stress(options, SHORT_MS);
}

static void frame_stress_run_long(const struct options *options)
{
    frame_stress_take_gib();
    stress(options, options->seconds * UINT64_C(1000));
}

EXPERIMENT(frame_stress, 150) = {
    .theme = THEME_FRAMES,
    .name = "frame-stress",
    .question = "Do frames of mixed orders stay whose they are?",
    .checks = 3,
    .run = run_short,
    .answer =
        {
            .text = "Yes: {wrong} wrong marks and {leaked} frames leaked",
        },
};

EXPERIMENT(frame_stress_minute, 160) = {
    .theme = THEME_FRAMES,
    .name = "frame-stress-minute",
    .question = "Do frames of mixed orders stay whose they are, for a minute?",
    .checks = 3,
    .only_by_name = true,
    .run = frame_stress_run_long,
    .answer =
        {
            .text = "Yes: {wrong} wrong marks and {leaked} frames leaked",
        },
};
