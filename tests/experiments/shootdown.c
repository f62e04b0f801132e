/*
 * shootdown: what does it cost to flush other processors' translations, by their number and by the
 * batch?
 *
 * Threads on 0, 1, 2... other processors run one address space and do nothing there; the first one
 * commits batches, page by page up to what a batch can name, and of the whole space. Figures are
 * wall-clock time: with several processors -icount counts all of them.
 *
 * And who is left alone? While all others run another space, a fork's tables are copied and freed
 * here: none of them is interrupted.
 *
 * And does it work? The others use a page, the first one removes a right to it, and they try again:
 * none may still use a cached translation.
 */
#include "cpu/smp/shootdown.h"
#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "lib/print.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"

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

/* An access to the page at START that each of the others makes once when `number` is raised. */
static struct {
    unsigned number;
    unsigned done;
    unsigned allowed;
    bool write;
} order;

static void obey(void)
{
    uint64_t value;
    bool allowed = order.write ? word_write(START, 1) : word_read(START, &value);

    __atomic_add_fetch(&order.allowed, allowed, __ATOMIC_RELAXED);
    __atomic_add_fetch(&order.done, 1, __ATOMIC_RELEASE);
}

static void wait_in_space(void *argument)
{
    unsigned obeyed = __atomic_load_n(&order.number, __ATOMIC_ACQUIRE);

    space_switch(argument);
    __atomic_add_fetch(&party.arrived, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&party.over, __ATOMIC_ACQUIRE)) {
        if (__atomic_load_n(&order.number, __ATOMIC_ACQUIRE) != obeyed) {
            obeyed++;
            obey();
        }
        machine_pause();
    }
    space_switch(NULL);
}

/* Returns whether all of the others may do it, or none. */
static bool others_may(bool write, bool expected)
{
    order.write = write;
    order.allowed = order.done = 0;
    __atomic_add_fetch(&order.number, 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&order.done, __ATOMIC_ACQUIRE) < party.count)
        machine_relax();
    return order.allowed == (expected ? party.count : 0);
}

/* Checks that the others' translations are invalidated: each access loads those that the next call
 * must flush. */
static bool others_forget(struct space *space)
{
    const struct rights none = {.none = true};

    return SUCCEEDS(space_map(space, &SPACE_AT(START, PAGE_SIZE, RIGHTS_READ_WRITE), NULL)) &&
           others_may(true, true) &&
           SUCCEEDS(space_protect(space, START, PAGE_SIZE, RIGHTS_READ)) &&
           others_may(true, false) && others_may(false, true) &&
           SUCCEEDS(space_protect(space, START, PAGE_SIZE, none)) && others_may(false, false) &&
           SUCCEEDS(space_protect(space, START, PAGE_SIZE, RIGHTS_READ_WRITE)) &&
           others_may(true, true) &&
           SUCCEEDS(space_advise(space, START, PAGE_SIZE, SPACE_DONT_NEED)) &&
           others_may(false, true) && SUCCEEDS(space_unmap(space, START, PAGE_SIZE)) &&
           others_may(false, false);
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

static void shootdown_sort(uint64_t *values, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        for (unsigned j = i; j > 0 && values[j - 1] > values[j]; j--) {
            uint64_t swapped = values[j];

            values[j] = values[j - 1];
            values[j - 1] = swapped;
        }
    }
}

/* Prints how many processors one commit interrupts. */
static void shootdown_put_interrupts(unsigned processors, uint64_t answers)
{
    char name[32];

    print_to(name, sizeof(name), "cpus%u.interrupts", processors);
    ktap_metric(name, answers, "interrupts");
}

static void shootdown_measure(const struct space *space, unsigned processors)
{
    uint64_t samples[SAMPLES];
    unsigned limit = tlb_limit();
    char name[32];

    tlb_set_limit(TLB_PAGES_MAX);
    for (unsigned b = 0; b < ARRAY_COUNT(batches); b++) {
        for (unsigned i = 0; i < SAMPLES; i++)
            samples[i] = commit_once(space, batches[b]);
        shootdown_sort(samples, SAMPLES);
        if (batches[b] == 0)
            print_to(name, sizeof(name), "cpus%u.whole", processors);
        else
            print_to(name, sizeof(name), "cpus%u.pages%u", processors, batches[b]);
        ktap_metric(name, samples[SAMPLES / 2], "ns");
    }
    tlb_set_limit(limit);
}

/* Adds a processor to the space. */
static bool shootdown_add(struct space *space, unsigned cpu)
{
    if (!SUCCEEDS(thread_create(cpu, wait_in_space, space, &party.threads[party.count])))
        return false;
    party.count++;
    while (__atomic_load_n(&party.arrived, __ATOMIC_ACQUIRE) < party.count)
        machine_relax();
    return true;
}

/* Ends the others' threads. */
static void shootdown_part(void)
{
    __atomic_store_n(&party.over, true, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < party.count; i++)
        thread_join(party.threads[i]);
}

/* Returns the number of answers to one commit. */
static uint64_t shootdown_answers(const struct space *space)
{
    uint64_t before = shootdown_counts().served;

    commit_once(space, 1);
    return shootdown_counts().served - before;
}

/* Copies tables on write after a fork, and frees those of the child. Returns false if a call
 * fails. */
static bool shootdown_unshare(struct space *space)
{
    struct space *child;
    uint64_t value = 0;
    bool right = SUCCEEDS(space_map(space, &SPACE_AT(START, PAGE_SIZE, RIGHTS_READ_WRITE), NULL)) &&
                 word_write(START, 1) && SUCCEEDS(space_fork(space, &child));

    if (!right)
        return false;
    right = word_write(START, 2) && word_read(START, &value) && value == 2;
    space_destroy(child);
    return SUCCEEDS(space_unmap(space, START, PAGE_SIZE)) && right;
}

/* All others run another space while tables of this one are replaced and freed. */
static void shootdown_unrelated(struct space *space)
{
    const char *words = "tables are freed without a word to processors of other spaces";
    uint64_t others = machine_processors() & ~UINT64_C(1);
    struct space *other;
    uint64_t before;
    bool right;

    if (others == 0) {
        ktap_skip("there is one processor", words);
        return;
    }
    if (!SUCCEEDS(space_create(&other)))
        return;
    party.count = party.arrived = 0;
    __atomic_store_n(&party.over, false, __ATOMIC_RELEASE);
    for (right = true; others != 0 && party.count < OTHERS && right; others &= others - 1)
        right = shootdown_add(other, (unsigned)__builtin_ctzll(others));
    before = shootdown_counts().served;
    right = right && shootdown_unshare(space);
    before = shootdown_counts().served - before;
    ktap_metric("unrelated.interrupts", before, "interrupts");
    ktap_check(right && before == 0, words);
    shootdown_part();
    space_destroy(other);
}

static void shootdown_run(const struct options *options)
{
    uint64_t others = machine_processors() & ~UINT64_C(1);
    struct space *space;
    uint64_t answers;
    bool right;

    (void)options;
    if (!start_space(&space))
        return;
    party.count = party.arrived = 0;
    party.over = false;
    answers = shootdown_answers(space);
    shootdown_put_interrupts(1, answers);
    right = answers == 0;
    ktap_check(right, "a space that one processor runs disturbs no other");
    shootdown_measure(space, 1);
    for (; others != 0 && party.count < OTHERS && right; others &= others - 1) {
        right = shootdown_add(space, (unsigned)__builtin_ctzll(others));
        answers = shootdown_answers(space);
        right = right && answers == party.count;
        shootdown_put_interrupts(party.count + 1, answers);
        shootdown_measure(space, party.count + 1);
    }
    ktap_check(right, "each that runs it answers, and no other");
    ktap_metric("others", party.count, "processors");
    ktap_metric("others.interrupts", answers, "interrupts");
    if (party.count == 0)
        ktap_skip("there is one processor", "what is taken away is gone on all processors");
    else
        ktap_check(others_forget(space), "what is taken away is gone on all processors");
    shootdown_part();
    right = space->tree.processors == 1 && shootdown_answers(space) == 0;
    ktap_check(right, "those that left are left alone");
    shootdown_unrelated(space);
    end_space(space);
}

EXPERIMENT(shootdown, 240) = {
    .theme = THEME_PROCESSOR,
    .name = "shootdown",
    .question = "What does it cost to make other processors forget a translation?",
    .checks = 5,
    .spaces = 3,
    .run = shootdown_run,
    .answer =
        {
            .text = "{others.interrupts} interrupts for {others} other processors; "
                    "{cpus1.interrupts} if one alone runs the space; times differ from run to run",
            .limit = "time: waiting for other processors is not counted in instructions",
        },
};
