/*
 * stress: do all processors together, in one address space, ever see a wrong byte?
 *
 * One worker on each processor, all in the same address space, for `seconds=`:
 *
 *   own pages      each worker maps a range of its own, fills some pages by their tags, checks
 * pages whole, and unmaps parts of it again shared pages   each worker counts up its own words of
 * pages that all share, where the first write to a page, or the first after a fork, replaces it
 * under the others' feet; what one worker has seen of another's words must never go back fork now
 * and then a worker forks the space, finds its own pages in the child, writes there, and finds them
 * unharmed in the parent swap           fewer pages may be resident than are in use
 *
 * At the end every page is checked, AUDIT compares all counts, and the ledger is even.
 */
#include "cpu/machine.h"
#include "cpu/probe.h"
#include "cpu/shoot.h"
#include "cpu/thread.h"
#include "lib/bytes.h"
#include "tests/experiment.h"
#include "tests/user_pages.h"
#include "vmm/page.h"
#include "vmm/reclaim.h"

#define SHARED_START UINT64_C(0x10000000)
#define SHARED_PAGES 8U
#define OWN_START    UINT64_C(0x2000000000)
#define OWN_STEP     UINT64_C(0x40000000)
#define OWN_PAGES    64U
#define WORKERS_MAX  16U

/* Resident pages for each worker; it uses about twice as many. */
#define RESIDENT 12U

#define WORDS (PAGE_SIZE / sizeof(uint64_t))

/* Steps of each kind in 64. */
enum action { ACT_MAP, ACT_UNMAP, ACT_FILL, ACT_CHECK, ACT_SHARED, ACT_FORK, ACTIONS };

static const uint8_t weights[ACTIONS] = {[ACT_MAP] = 4,    [ACT_UNMAP] = 3,   [ACT_FILL] = 16,
                                         [ACT_CHECK] = 16, [ACT_SHARED] = 24, [ACT_FORK] = 1};

struct worker {
    struct thread *thread;
    struct space *space;
    unsigned number;
    unsigned count; /* of workers */
    struct random random;
    uint64_t end_ns;
    uint64_t steps;
    uint64_t forks;
    const char *wrong; /* what was wrong first; NULL: nothing */
    uint64_t wrong_address;
    bool mapped[OWN_PAGES];
    uint64_t tags[OWN_PAGES]; /* 0: zeroes */
    uint64_t own_count[SHARED_PAGES];
    uint64_t seen[SHARED_PAGES][WORKERS_MAX];
    uint64_t buffer[WORDS];
};

static struct worker workers[WORKERS_MAX];

static unsigned processors(void)
{
    unsigned count = 0;

    for (uint64_t at = machine_processors(); at != 0; at &= at - 1)
        count++;
    return count;
}

static uint64_t own_page(const struct worker *worker, unsigned page)
{
    return OWN_START + worker->number * OWN_STEP + page * PAGE_SIZE;
}

static uint64_t shared_word(unsigned page, unsigned worker)
{
    return SHARED_START + page * PAGE_SIZE + worker * (WORDS / WORKERS_MAX) * sizeof(uint64_t);
}

static bool fail(struct worker *worker, const char *what, uint64_t address)
{
    if (worker->wrong == NULL) {
        worker->wrong = what;
        worker->wrong_address = address;
    }
    return false;
}

/* The words of a page by its tag; those of tag 0 are zero. */
static uint64_t word_of(uint64_t tag, unsigned word)
{
    return tag == 0 ? 0 : (tag + word) * UINT64_C(0x9e3779b97f4a7c15);
}

static bool fill(struct worker *worker, unsigned page, uint64_t tag)
{
    for (unsigned i = 0; i < WORDS; i++)
        worker->buffer[i] = word_of(tag, i);
    if (!user_copy_out(own_page(worker, page), worker->buffer, PAGE_SIZE, NULL))
        return fail(worker, "a page of its own could not be written", own_page(worker, page));
    return true;
}

static bool holds(struct worker *worker, unsigned page, uint64_t tag)
{
    uint64_t address = own_page(worker, page);

    if (!user_copy_in(worker->buffer, address, PAGE_SIZE, NULL))
        return fail(worker, "a page of its own could not be read", address);
    for (unsigned i = 0; i < WORDS; i++) {
        if (worker->buffer[i] != word_of(tag, i))
            return fail(worker, "a page of its own holds something else", address + i * 8);
    }
    return true;
}

/* ---- steps ---- */

static unsigned pick(struct worker *worker, unsigned below)
{
    return (unsigned)random_below(&worker->random, below);
}

/* A run of pages that are all mapped, or all not. */
static unsigned run_of(struct worker *worker, unsigned from, bool mapped)
{
    unsigned most = 1 + pick(worker, 16);
    unsigned count = 0;

    while (count < most && from + count < OWN_PAGES && worker->mapped[from + count] == mapped)
        count++;
    return count;
}

static void change_mapping(struct worker *worker, bool map)
{
    unsigned from = pick(worker, OWN_PAGES);
    unsigned count = run_of(worker, from, !map);
    uint64_t start = own_page(worker, from);
    enum status status;

    if (count == 0)
        return;
    if (map)
        status = space_map_at(worker->space, start, count * PAGE_SIZE, RIGHTS_READ_WRITE);
    else
        status = space_unmap(worker->space, start, count * PAGE_SIZE);
    if (status != OK)
        fail(worker, map ? "mapping failed" : "unmapping failed", start);
    for (unsigned i = from; i < from + count; i++) {
        worker->mapped[i] = map;
        worker->tags[i] = 0;
    }
}

static void check_own(struct worker *worker, unsigned page)
{
    uint64_t value;

    if (worker->mapped[page])
        holds(worker, page, worker->tags[page]);
    else if (probe_user_read64(own_page(worker, page), &value, NULL))
        fail(worker, "a page that was unmapped can be read", own_page(worker, page));
}

static void fill_own(struct worker *worker, unsigned page)
{
    if (!worker->mapped[page])
        return;
    worker->tags[page] = random_next(&worker->random) | 1;
    fill(worker, page, worker->tags[page]);
}

/* Each worker's word of a shared page counts its writes; it never goes back for anybody. */
static void touch_shared(struct worker *worker)
{
    unsigned page = pick(worker, SHARED_PAGES);
    unsigned other = pick(worker, worker->count);
    uint64_t value = 0;

    if (!probe_user_write64(shared_word(page, worker->number), ++worker->own_count[page], NULL))
        fail(worker, "a shared page could not be written", shared_word(page, worker->number));
    if (!probe_user_read64(shared_word(page, worker->number), &value, NULL) ||
        value != worker->own_count[page])
        fail(worker, "a shared page lost its own write", shared_word(page, worker->number));
    if (!probe_user_read64(shared_word(page, other), &value, NULL) ||
        value < worker->seen[page][other])
        fail(worker, "a shared page went back", shared_word(page, other));
    worker->seen[page][other] = value;
}

/* In the child everything of one's own is as it was; what is written there stays there. */
static void use_child(struct worker *worker, struct space *child)
{
    uint64_t value;

    space_switch(child);
    for (unsigned i = 0; i < OWN_PAGES && worker->wrong == NULL; i += 1 + pick(worker, 8)) {
        check_own(worker, i);
        if (worker->mapped[i] && fill(worker, i, worker->tags[i] + 2))
            holds(worker, i, worker->tags[i] + 2);
    }
    for (unsigned page = 0; page < SHARED_PAGES; page++) {
        if (!probe_user_read64(shared_word(page, worker->number), &value, NULL) ||
            value != worker->own_count[page])
            fail(worker, "a child's shared page is not the parent's",
                 shared_word(page, worker->number));
    }
    space_switch(worker->space);
}

static void fork_and_check(struct worker *worker)
{
    struct space *child;

    if (space_fork(worker->space, &child) != OK) {
        fail(worker, "a fork failed", 0);
        return;
    }
    worker->forks++;
    use_child(worker, child);
    space_destroy(child);
    for (unsigned i = 0; i < OWN_PAGES; i += 1 + pick(worker, 8))
        check_own(worker, i);
}

static void step(struct worker *worker)
{
    unsigned dice = pick(worker, 64);
    unsigned action = 0;

    while (dice >= weights[action])
        dice -= weights[action++];
    switch ((enum action)action) {
    case ACT_MAP: change_mapping(worker, true); break;
    case ACT_UNMAP: change_mapping(worker, false); break;
    case ACT_FILL: fill_own(worker, pick(worker, OWN_PAGES)); break;
    case ACT_CHECK: check_own(worker, pick(worker, OWN_PAGES)); break;
    case ACT_SHARED: touch_shared(worker); break;
    case ACT_FORK: fork_and_check(worker); break;
    case ACTIONS: break;
    }
}

static void work(void *argument)
{
    struct worker *worker = argument;

    space_switch(worker->space);
    while (worker->wrong == NULL && machine_now_ns() < worker->end_ns) {
        step(worker);
        worker->steps++;
        if (worker->steps % 16 == 0)
            thread_yield();
    }
    for (unsigned i = 0; i < OWN_PAGES && worker->wrong == NULL; i++)
        check_own(worker, i);
    space_switch(NULL);
}

/* ---- the whole ---- */

static unsigned start_workers(struct space *space, const struct options *options)
{
    uint64_t end_ns = machine_now_ns() + options->seconds * UINT64_C(1000000000);
    uint64_t cpus = machine_processors();
    unsigned count = (unsigned)min_u64(processors(), WORKERS_MAX);
    unsigned started = 0;

    memset(workers, 0, sizeof(workers));
    for (; cpus != 0 && started < count; cpus &= cpus - 1, started++) {
        struct worker *worker = &workers[started];

        worker->space = space;
        worker->number = started;
        worker->count = count;
        worker->end_ns = end_ns;
        worker->random = random_from(options->seed + started);
        if (thread_create((unsigned)__builtin_ctzll(cpus), work, worker, &worker->thread) != OK)
            break;
    }
    ktap_check(started == count, "%u workers, one on each processor", started);
    return started;
}

/* The main thread sleeps in between, and says every few seconds how far they are. */
static void wait_for_workers(unsigned count, uint32_t seconds)
{
    uint64_t steps;

    for (uint32_t passed = 0; passed < seconds; passed += 5) {
        thread_sleep_us(UINT64_C(1000000) * (seconds - passed < 5 ? seconds - passed : 5));
        steps = 0;
        for (unsigned i = 0; i < count; i++)
            steps += __atomic_load_n(&workers[i].steps, __ATOMIC_RELAXED);
        ktap_note("%lu steps", steps);
    }
    for (unsigned i = 0; i < count; i++)
        thread_join(workers[i].thread);
}

static void report(unsigned count, const struct fault_counts *faults)
{
    uint64_t steps = 0;
    uint64_t forks = 0;

    for (unsigned i = 0; i < count; i++) {
        const struct worker *worker = &workers[i];

        ktap_check(worker->wrong == NULL && worker->steps > 0, "worker %u: %lu steps, %s", i,
                   worker->steps, worker->wrong != NULL ? worker->wrong : "nothing wrong");
        if (worker->wrong != NULL)
            ktap_note("at %lx", worker->wrong_address);
        steps += worker->steps;
        forks += worker->forks;
    }
    for (unsigned i = count; i < WORKERS_MAX; i++)
        ktap_skip("no such processor", "worker %u", i);
    ktap_metric("workers", count, "threads");
    ktap_metric("steps", steps, "steps");
    ktap_metric("forks", forks, "forks");
    ktap_metric("shootdowns", shoot_counts().sent, "requests");
    ktap_metric("cow_copies", faults->cow_copy, "faults");
    ktap_metric("swap_ins", faults->swap_in, "faults");
    ktap_metric("spurious", faults->spurious, "faults");
}

static void run(const struct options *options)
{
    uint64_t limit = page_limit();
    struct space *space;
    unsigned count;
    bool shared_right = true;

    if (!start_space(&space))
        return;
    ktap_check(space_map_at(space, SHARED_START, SHARED_PAGES * PAGE_SIZE, RIGHTS_READ_WRITE) == OK,
               "the shared pages are mapped");
    count = processors();
    page_set_limit(pmm_usage().by_kind[FRAME_ANONYMOUS] + (count + 1) * RESIDENT);
    count = start_workers(space, options);
    wait_for_workers(count, options->seconds);
    page_set_limit(limit);
    report(count, &space->faults);
    for (unsigned page = 0; page < SHARED_PAGES; page++) {
        for (unsigned i = 0; i < count; i++) {
            uint64_t value;

            shared_right = shared_right && word_read(shared_word(page, i), &value) &&
                           value == workers[i].own_count[page];
        }
    }
    ktap_check(shared_right, "every shared page holds the last of each worker");
    space_audit();
    ktap_check(true, "all counts agree");
    end_space(space);
}

const struct experiment stress_experiment = {
    .name = "stress",
    .question = "Do all processors together, in one address space, ever see a wrong byte?",
    .checks = WORKERS_MAX + 4,
    .only_by_name = true,
    .run = run,
};
