/*
 * shootdown: what does it cost to make other processors forget, by their number and by the batch?
 *
 * Threads on 0, 1, 2... other processors run one address space and do nothing there; the first one
 * commits batches, page by page up to what a batch can name, and of the whole space. Figures are
 * wall-clock time: with several processors -icount counts all of them.
 */
#include "cpu/machine.h"
#include "cpu/shoot.h"
#include "cpu/thread.h"
#include "lib/print.h"
#include "tests/experiment.h"
#include "tests/user_pages.h"

#define START   UINT64_C(0x10000000)
#define SAMPLES 16U
#define OTHERS  7U

/* 0: the whole space. */
static const unsigned batches[] = {1, 8, 32, 0};

static struct {
    struct thread *threads[OTHERS];
    unsigned count;
    unsigned arrived;
    bool over;
} party;

static void idle_in_space(void *argument)
{
    space_switch(argument);
    __atomic_add_fetch(&party.arrived, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&party.over, __ATOMIC_ACQUIRE))
        machine_pause();
    space_switch(NULL);
}

static uint64_t commit_once(const struct space *space, unsigned pages)
{
    uint64_t began = machine_now_ns();
    struct tlb_batch batch;

    tlb_begin(&batch, &space->tree);
    for (unsigned i = 0; i < pages; i++)
        tlb_add_page(&batch, START + i * PAGE_SIZE);
    if (pages == 0)
        tlb_add_space(&batch);
    tlb_commit(&batch);
    return machine_now_ns() - began;
}

static void sort(uint64_t *values, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        for (unsigned j = i; j > 0 && values[j - 1] > values[j]; j--) {
            uint64_t swapped = values[j];

            values[j] = values[j - 1];
            values[j - 1] = swapped;
        }
    }
}

static void measure(const struct space *space, unsigned processors)
{
    uint64_t samples[SAMPLES];
    unsigned limit = tlb_limit();
    char name[32];

    tlb_set_limit(TLB_PAGES_MAX);
    for (unsigned b = 0; b < ARRAY_COUNT(batches); b++) {
        for (unsigned i = 0; i < SAMPLES; i++)
            samples[i] = commit_once(space, batches[b]);
        sort(samples, SAMPLES);
        if (batches[b] == 0)
            print_to(name, sizeof(name), "cpus%u.whole", processors);
        else
            print_to(name, sizeof(name), "cpus%u.pages%u", processors, batches[b]);
        ktap_metric(name, samples[SAMPLES / 2], "ns");
    }
    tlb_set_limit(limit);
}

/* One more processor joins, and is measured with. */
static bool add_processor(struct space *space, unsigned cpu)
{
    if (thread_create(cpu, idle_in_space, space, &party.threads[party.count]) != OK)
        return false;
    party.count++;
    while (__atomic_load_n(&party.arrived, __ATOMIC_ACQUIRE) < party.count)
        machine_relax();
    return true;
}

/* How many answers one commit brings. */
static uint64_t answers(const struct space *space)
{
    uint64_t before = shoot_counts().served;

    commit_once(space, 1);
    return shoot_counts().served - before;
}

static void run(const struct options *options)
{
    uint64_t others = machine_processors() & ~UINT64_C(1);
    struct space *space;
    bool right = true;

    (void)options;
    if (!start_space(&space))
        return;
    party.count = party.arrived = 0;
    party.over = false;
    right = answers(space) == 0;
    ktap_check(right, "a space that one processor runs disturbs no other");
    measure(space, 1);
    for (; others != 0 && party.count < OTHERS && right; others &= others - 1) {
        right = add_processor(space, (unsigned)__builtin_ctzll(others)) &&
                answers(space) == party.count;
        measure(space, party.count + 1);
    }
    ktap_check(right, "each that runs it answers, and no other");
    __atomic_store_n(&party.over, true, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < party.count; i++)
        thread_join(party.threads[i]);
    right = space->tree.processors == 1 && answers(space) == 0;
    ktap_check(right, "those that left are left alone");
    end_space(space);
}

const struct experiment shootdown_experiment = {
    .name = "shootdown",
    .question = "What does it cost to make other processors forget a translation?",
    .checks = 3,
    .run = run,
};
