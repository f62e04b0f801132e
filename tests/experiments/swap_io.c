/*
 * swap-io: what does waiting for the swap disk cost the programs that do not wait?
 *
 * Three parts. A thread computes while another one reads and writes pages that are out: the ticks
 * in which neither the computing thread runs nor the processor halts are what swapping takes. Then
 * the same accesses with the background reclaimer, and the share of the evictions that faults still
 * make themselves. Last, four writers go on although programs can have no frame that is free.
 */
#include "cpu/interrupts/idle_halt.h"
#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "swapdisk/area.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/reclaimer/reclaimer.h"

#define START    UINT64_C(0x700000000)
#define PAGES    1024U
#define RESIDENT 256U
#define ACCESSES 1024U
#define WRITERS  4U /* this thread and three more */
#define ROUNDS   256U
#define SLICE    4000U /* steps of the computing thread between two looks at who else is ready */

static const struct reclaimer_marks marks = {.low = 32, .high = 64, .ahead = 32};

static struct space *space;
static struct random draw;

static uint64_t at_page(uint64_t page)
{
    return START + page * PAGE_SIZE;
}

static uint64_t word_of(uint64_t page)
{
    return UINT64_C(0x5a10000000000000) | page;
}

/* Reads or writes pages, in order or at random; returns how many had the right word. */
static unsigned access_pages(bool at_random, bool writes)
{
    unsigned right = 0;

    for (unsigned i = 0; i < ACCESSES; i++) {
        uint64_t page = at_random ? random_below(&draw, PAGES) : i % PAGES;
        uint64_t word = 0;

        if (word_read(at_page(page), &word) && word == word_of(page) &&
            (!writes || word_write(at_page(page), word)))
            right++;
    }
    return right;
}

/* ---- a thread that computes ---- */

static struct {
    bool ends;
    uint64_t ticks;
    uint64_t steps;
    uint64_t value; /* so that the steps are not left out */
} computing;

static void compute(void *argument)
{
    uint64_t value = 1;

    (void)argument;
    while (!__atomic_load_n(&computing.ends, __ATOMIC_ACQUIRE)) {
        uint64_t began = machine_ticks();

        for (unsigned i = 0; i < SLICE; i++)
            value = value * UINT64_C(6364136223846793005) + 1442695040888963407;
        computing.value ^= value;
        computing.steps += SLICE;
        computing.ticks += machine_ticks() - began;
        thread_yield();
    }
}

/* Makes random accesses beside the computing thread. */
static void wait_beside_computing(void)
{
    uint64_t read = swap_usage().pages_read;
    uint64_t halted = idle_halted_ticks();
    uint64_t ticks;
    uint64_t own;
    struct thread *thread;
    unsigned right;

    computing.ends = false;
    computing.ticks = computing.steps = 0;
    if (!SUCCEEDS(thread_create(machine_cpu(), compute, NULL, &thread)))
        return;
    ticks = machine_ticks();
    right = access_pages(true, false);
    ticks = machine_ticks() - ticks;
    own = ticks - min_u64(ticks, computing.ticks + idle_halted_ticks() - halted);
    __atomic_store_n(&computing.ends, true, __ATOMIC_RELEASE);
    thread_join(thread);
    read = swap_usage().pages_read - read;
    ktap_metric("waiting.pages", read, "pages");
    ktap_metric("waiting.own", read > 0 ? own / read : 0, "ticks");
    ktap_metric("waiting.own_share", ticks > 0 ? own * 1000 / ticks : 0, "permille");
    ktap_check(right == ACCESSES, "%u accesses while another thread computes", right);
    ktap_check(computing.steps > 0 && read > 0,
               "the other thread made %lu steps while %lu pages were read", computing.steps, read);
}

/* ---- the reclaimer ---- */

static uint64_t evicted_in_all(void)
{
    return reclaim_counts().written + reclaim_counts().clean;
}

static void access_with_reclaimer(void)
{
    struct reclaimer_counts before = reclaimer_counts();
    struct reclaimer_counts after;
    uint64_t evicted = evicted_in_all();
    unsigned right;

    if (!SUCCEEDS(reclaimer_start(machine_cpu(), marks)))
        return;
    right = access_pages(false, true) + access_pages(true, true) + access_pages(true, false);
    reclaimer_stop();
    after = reclaimer_counts();
    evicted = evicted_in_all() - evicted;
    ktap_metric("reclaimer.evicted", after.evicted - before.evicted, "pages");
    ktap_metric("reclaimer.cleaned", after.cleaned - before.cleaned, "pages");
    ktap_metric("reclaimer.vain", after.vain - before.vain, "pages");
    ktap_metric("faults.evicted", evicted - (after.evicted - before.evicted), "pages");
    ktap_check(right == 3 * ACCESSES, "%u accesses beside the reclaimer", right);
    ktap_check(after.evicted > before.evicted, "the reclaimer evicted %lu pages of %lu",
               after.evicted - before.evicted, evicted);
}

/* ---- no free frame ---- */

static struct pfn taken;

/* Takes all frames that programs could have; each has the number of the one before it. */
static void swap_io_take_frames(void)
{
    struct pfn frame;

    taken = PFN_NONE;
    while (pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &frame) == OK) {
        *(struct pfn *)frame_pointer(frame) = taken;
        taken = frame;
    }
}

static void swap_io_give_frames(void)
{
    while (!pfn_is_none(taken)) {
        struct pfn frame = taken;

        taken = *(struct pfn *)frame_pointer(frame);
        pmm_free(frame);
    }
}

struct writer {
    unsigned number;
    unsigned right;
    struct semaphore *start;
    struct thread *thread;
};

/* Writes its own pages, every fourth one, each with a word that says so. */
static void writer_write_pages(struct writer *writer)
{
    writer->right = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t page = (uint64_t)i * WRITERS % PAGES + writer->number;
        uint64_t word = 0;

        writer->right += word_read(at_page(page), &word) && word == word_of(page) &&
                         word_write(at_page(page), ~word) && word_write(at_page(page), word);
        thread_yield();
    }
}

static void writer_main(void *argument)
{
    struct writer *writer = argument;

    space_switch(space);
    semaphore_down(writer->start);
    writer_write_pages(writer);
    space_switch(NULL);
}

static void write_without_frames(void)
{
    struct semaphore start = {0};
    struct writer writers[WRITERS];
    unsigned begun = 0;
    unsigned right = 0;

    for (; begun < WRITERS - 1; begun++) {
        writers[begun] = (struct writer){.number = begun, .start = &start};
        if (!SUCCEEDS(
                thread_create(machine_cpu(), writer_main, &writers[begun], &writers[begun].thread)))
            break;
    }
    thread_yield();
    swap_io_take_frames();
    ktap_metric("writers.free", pmm_usage().by_kind[FRAME_FREE], "frames");
    for (unsigned i = 0; i < begun; i++)
        semaphore_up(&start);
    writers[WRITERS - 1] = (struct writer){.number = WRITERS - 1};
    writer_write_pages(&writers[WRITERS - 1]);
    for (unsigned i = 0; i < begun; i++)
        thread_join(writers[i].thread);
    swap_io_give_frames();
    for (unsigned i = 0; i < WRITERS; i++)
        right += i < begun || i == WRITERS - 1 ? writers[i].right : 0;
    ktap_check(right == WRITERS * ROUNDS, "%u of %u writes went on without a free frame", right,
               WRITERS * ROUNDS);
}

static bool fill(void)
{
    for (unsigned i = 0; i < PAGES; i++) {
        if (!word_write(at_page(i), word_of(i)))
            return false;
    }
    return true;
}

static void swap_io_run(const struct options *options)
{
    uint64_t limit = resident_limit;

    if (swap_usage().backing != SWAP_BACKING_DISK || swap_usage().slots < 2 * PAGES ||
        pmm_reserve() > RESIDENT) {
        experiment_skip_rest("there is no swap disk, or it is small");
        return;
    }
    draw = random_from(options->seed);
    if (!start_space(&space))
        return;
    page_set_limit(page_resident() + RESIDENT);
    if (!experiment_may_promise(PAGES)) {
        experiment_skip_rest("overcommit=never does not promise enough");
    } else if (SUCCEEDS(space_map(space, &SPACE_AT(START, PAGES * PAGE_SIZE, RIGHTS_READ_WRITE),
                                  NULL)) &&
               fill()) {
        wait_beside_computing();
        access_with_reclaimer();
        page_set_limit(limit);
        write_without_frames();
        ktap_metric("low", marks.low, "pages");
        ktap_metric("high", marks.high, "pages");
        ktap_metric("ahead", marks.ahead, "pages");
        space_audit();
    }
    page_set_limit(limit);
    end_space(space);
}

EXPERIMENT(swap_io, 062) = {
    .theme = THEME_PAGES,
    .name = "swap-io",
    .question = "How close to the disk does swap come, and what does waiting cost?",
    .only_by_name = true,
    .checks = 5,
    .run = swap_io_run,
    .answer =
        {
            .text = "Of each 1,000 ticks {waiting.own_share} are swap's own, the rest computes or "
                    "halts",
            .limit = "the raw disk: a command for each page read, and no pages ahead at random",
        },
};
