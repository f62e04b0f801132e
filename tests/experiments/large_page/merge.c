/* Small pages become large ones: the cost of a merge, in place and by copying; pages that stay
 * small; and whether a thread sees a wrong byte meanwhile. For the last, a worker on each other
 * processor writes its own word in every page of 2 MiB and checks its last write. Meanwhile the
 * pages are merged, split, evicted and read back. */
#include "tests/experiments/large_page/merge.h"

#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "lib/bytes.h"
#include "lib/random.h"
#include "tests/runner/experiment.h"
#include "tests/runner/null_fault.h"
#include "tests/runner/user_pages.h"
#include "vmm/page/large.h"
#include "vmm/page/reclaim.h"
#include "vmm/range/collapse.h"

#define START     UINT64_C(0x740000000)
#define LARGE     (2 * MIB)
#define TAG(page) (0xb000 + (uint64_t)(page))

/* Large pages that are merged to measure the cost of one. */
#define SAMPLES 4U

#define TRIES 20U

#define WORKERS_MAX 8U
#define ROUNDS      24U

/* No round begins after SECONDS, because processors share the host's, or after SECONDS_MOST if no
 * merge has succeeded yet. */
#define SECONDS      4U
#define SECONDS_MOST 30U

/* Pages evicted in a round. */
#define EVICTED 8U

static uint64_t large_page_merge_page_at(unsigned number)
{
    return START + number * PAGE_SIZE;
}

static bool large_page_merge_fill_pages(unsigned count)
{
    bool ok = true;

    for (unsigned i = 0; i < count; i++)
        ok = page_fill(large_page_merge_page_at(i), TAG(i)) && ok;
    return ok;
}

static unsigned large_page_merge_count_right(unsigned count)
{
    unsigned right = 0;

    for (unsigned i = 0; i < count; i++)
        right += page_holds(large_page_merge_page_at(i), TAG(i));
    return right;
}

/* ---- what it costs ---- */

/* Makes one call on the first 2 MiB, and keeps the fewest ticks that one took. */
static bool large_page_merge_merge_once(struct space *space, uint64_t *least)
{
    uint64_t ticks = machine_ticks();
    bool ok = SUCCEEDS(space_advise(space, START, LARGE, SPACE_COLLAPSE));

    ticks = machine_ticks() - ticks;
    *least = min_u64(*least, ticks);
    return ok && level_at(space, START) == 2;
}

/* Merges pages that were made one by one, backwards and with a hole at the end, so their frames are
 * not in order. */
static void merge_by_copying(struct space *space)
{
    struct collapse_counts before = collapse_counts();
    uint64_t least = UINT64_MAX;
    bool ok = true;

    for (unsigned round = 0; round < SAMPLES && ok; round++) {
        ok = SUCCEEDS(space_map(space, &SPACE_AT(START, LARGE, RIGHTS_READ_WRITE), NULL));
        for (unsigned i = PTE_ENTRIES - 1; i-- > 0;)
            ok = page_fill(large_page_merge_page_at(i), TAG(i)) && ok;
        ok = ok && large_page_merge_merge_once(space, &least) &&
             large_page_merge_count_right(PTE_ENTRIES - 1) == PTE_ENTRIES - 1 &&
             page_is_zero(large_page_merge_page_at(PTE_ENTRIES - 1));
        ok = ok && SUCCEEDS(space_unmap(space, START, LARGE));
    }
    ktap_check(ok && collapse_counts().copied == before.copied + SAMPLES,
               "scattered pages and a hole become one page of 2 MiB, by copying");
    null_fault_metric_of("merge", "copied", least);
}

static void merge_in_place(struct space *space)
{
    struct collapse_counts before = collapse_counts();
    uint64_t least = UINT64_MAX;
    bool ok = SUCCEEDS(space_map(space, &SPACE_AT(START, LARGE, RIGHTS_READ_WRITE, .page_level = 2),
                                 NULL)) &&
              large_page_merge_fill_pages(PTE_ENTRIES);

    for (unsigned round = 0; round < SAMPLES && ok; round++)
        ok = large_split_one() && level_at(space, START) == 1 &&
             large_page_merge_merge_once(space, &least);
    ktap_check(ok && collapse_counts().in_place == before.in_place + SAMPLES,
               "what a split left is one page of 2 MiB again, in place");
    ktap_check(large_page_merge_count_right(PTE_ENTRIES) == PTE_ENTRIES,
               "no byte of it has changed");
    null_fault_metric_of("merge", "in_place", least);
    space_audit();
}

/* Checks that a merge leaves shared pages alone: both sides of a fork have one page of their own
 * and share the others. */
static void shared_stay(struct space *space)
{
    struct space *child;
    bool ok = SUCCEEDS(space_fork(space, &child));

    if (!ok) {
        ktap_check(false, "a fork");
        return;
    }
    ok = page_fill(large_page_merge_page_at(3), TAG(3)) && level_at(space, START) == 1 &&
         space_advise(space, START, LARGE, SPACE_COLLAPSE) == STATUS_AGAIN &&
         level_at(space, START) == 1;
    space_destroy(child);
    ok = ok && SUCCEEDS(space_advise(space, START, LARGE, SPACE_COLLAPSE)) &&
         level_at(space, START) == 2 && large_page_merge_count_right(PTE_ENTRIES) == PTE_ENTRIES;
    ktap_check(ok, "shared pages stay small until they are alone");
    space_audit();
}

/* ---- beside other processors ---- */

struct worker {
    struct thread *thread;
    struct space *space;
    unsigned number;
    struct random random;
    uint64_t writes;
    uint64_t wrong_address; /* 0: nothing is wrong */
    uint32_t written[PTE_ENTRIES];
};

static struct worker workers[WORKERS_MAX];
static bool stop;

/* Returns the address of a worker's word; each worker's words are in cache lines of their own. */
static uint64_t word_in(const struct worker *worker, unsigned page)
{
    return large_page_merge_page_at(page) + (worker->number + 1) * 64;
}

static void check_word(struct worker *worker, unsigned page)
{
    uint64_t value;

    if (!word_read(word_in(worker, page), &value) || value != worker->written[page])
        worker->wrong_address = word_in(worker, page);
}

static void large_page_merge_work(void *argument)
{
    struct worker *worker = argument;

    space_switch(worker->space);
    do { /* at least one write, however late the processor begins */
        unsigned page = (unsigned)random_below(&worker->random, PTE_ENTRIES);

        check_word(worker, page);
        if (word_write(word_in(worker, page), worker->written[page] + 1))
            worker->written[page]++;
        else
            worker->wrong_address = word_in(worker, page);
        if (++worker->writes % 16 == 0)
            thread_yield();
    } while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE) && worker->wrong_address == 0);
    space_switch(NULL);
}

static unsigned large_page_merge_start_workers(struct space *space)
{
    uint64_t cpus = machine_processors() & ~(UINT64_C(1) << machine_cpu());
    unsigned started = 0;

    memset(workers, 0, sizeof(workers));
    stop = false;
    for (; cpus != 0 && started < WORKERS_MAX; cpus &= cpus - 1, started++) {
        struct worker *worker = &workers[started];

        worker->space = space;
        worker->number = started;
        worker->random = random_from(started + 1);
        if (!SUCCEEDS(thread_create((unsigned)__builtin_ctzll(cpus), large_page_merge_work, worker,
                                    &worker->thread)))
            break;
    }
    return started;
}

/* Waits until the workers have made some progress, so that they meet each state. */
static void let_them_work(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t seen = __atomic_load_n(&workers[i].writes, __ATOMIC_RELAXED);
        uint64_t end = machine_now_ns() + 20000000;

        while (__atomic_load_n(&workers[i].writes, __ATOMIC_RELAXED) < seen + 64 &&
               workers[i].wrong_address == 0 && machine_now_ns() < end)
            machine_relax();
    }
}

/* Merges the first 2 MiB. The call is refused while pages are being read from the disk, so it is
 * retried. */
static bool merge_at_last(struct space *space)
{
    enum status status = STATUS_AGAIN;

    for (unsigned tries = 0; status == STATUS_AGAIN && tries < TRIES; tries++)
        status = space_advise(space, START, LARGE, SPACE_COLLAPSE);
    return status == OK && level_at(space, START) == 2;
}

/* Merges, splits and evicts pages, round after round. Returns the number of merges. */
static unsigned merge_under(struct space *space, unsigned count)
{
    const uint64_t second = 1000000000;
    uint64_t began = machine_now_ns();
    unsigned merged = 0;

    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned evicted;

        merged += merge_at_last(space);
        let_them_work(count);
        (void)large_split_one();
        let_them_work(count);
        if (machine_now_ns() > began + (merged > 0 ? SECONDS : SECONDS_MOST) * second)
            break;
        if (merged > 0 && round % 3 == 0 && !SUCCEEDS(reclaim_pages(EVICTED, &evicted)))
            break;
    }
    return merged;
}

static void beside_others(struct space *space)
{
    struct collapse_counts before = collapse_counts();
    bool ok = SUCCEEDS(space_unmap(space, START, LARGE)) &&
              SUCCEEDS(space_map(space, &SPACE_AT(START, LARGE, RIGHTS_READ_WRITE), NULL)) &&
              SUCCEEDS(space_advise(space, START, LARGE, SPACE_WILL_NEED));
    unsigned count = large_page_merge_start_workers(space);
    unsigned merged = merge_under(space, count);
    uint64_t writes = 0;

    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < count; i++) {
        thread_join(workers[i].thread);
        for (unsigned page = 0; page < PTE_ENTRIES && workers[i].wrong_address == 0; page++)
            check_word(&workers[i], page);
        if (workers[i].wrong_address != 0)
            ktap_note("worker %u: %lx is wrong", i, workers[i].wrong_address);
        ok = ok && workers[i].wrong_address == 0;
        writes += workers[i].writes;
    }
    ktap_metric("merge.beside_others", merged, "pages");
    ktap_metric("merge.brought_in", collapse_counts().brought_in - before.brought_in, "pages");
    ktap_metric("merge.writes_meanwhile", writes, "writes");
    ktap_check(ok, "%u processors lose no write while pages are merged, split and evicted", count);
    if (count == 0)
        ktap_skip("there is one processor", "pages are merged under the hands of others");
    else
        ktap_check(merged > 0 && writes > 0, "pages are merged under the hands of others");
    space_audit();
}

void large_page_merge(struct space *space)
{
    merge_by_copying(space);
    merge_in_place(space);
    shared_stay(space);
    beside_others(space);
}
