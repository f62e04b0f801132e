/*
 * model: do address spaces mean what an independent model says, through real faults?
 *
 * The host's random generator and model (tests/model/space.h) drive the booted image: maps, unmaps,
 * guards, forks, switches, and accesses, each compared with what the model expects. Here accesses
 * go through the processor's MMU and its faults, those that must be refused too: they come back by
 * the exception table with the reason.
 *
 * On several processors each has a worker with spaces of its own. All of them begin with a fork of
 * one common parent and fork it again now and then, so that they share its tables and pages and
 * fill, copy and drop them at the same time. Of what the parent shares with all of them each worker
 * has its own words of every page, and finds them in all its spaces. In every other round memory is
 * short, and pages go out to the swap area meanwhile.
 *
 * A round ends with all of a worker's spaces read through, the common parent too, in which each
 * worker's words of shared pages must be found, AUDIT, and all of it given back. The answer is how
 * many operations were compared and how many violations caught; a difference ends the run with
 * values, and the seed of the round is in the log.
 *
 * The model's accesses from ring 3 are made by ring 0 here, with the flag that lets it touch user
 * pages; instructions are fetched only where that must fail, since pages hold no code.
 */
#include "cpu/cpu.h"
#include "cpu/machine.h"
#include "cpu/registers.h"
#include "cpu/smp/thread.h"
#include "cpu/trap/probe.h"
#include "cpu/trap/trap.h"
#include "lib/bytes.h"
#include "paging/kernel/map.h"
#include "pmm/pmm.h"
#include "swapdisk/area.h"
#include "tests/model/space_internal.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/range/collapse.h"
#include "vmm/space/commit.h"

#define WORKERS_MAX 4U

/* Rounds of the usual run, half as many on several processors, which wait for each other's answers;
 * and operations of all workers in one. */
#define ROUNDS    4U
#define ROUND_OPS 1600U

/* Operations that fill the common parent. */
#define PARENT_OPS 400U

/* Pages that may be resident for each worker when memory is short. */
#define RESIDENT 10U

/* Once in this many operations, forks the common parent or yields to other threads. */
#define FORK_EACH  100U
#define YIELD_EACH 16U

/* Once in this many operations, evicts pages, also if memory is not short: merges must then read
 * some of them back. */
#define EVICT_EACH 64U

struct worker {
    struct model model;
    struct thread *thread;
    uint64_t operations; /* of all rounds */
    uint64_t violations;
    uint64_t forks; /* of the common parent */
};

static struct worker workers[WORKERS_MAX];
static struct worker parent; /* its first space is the common parent */
static struct worker *of_cpu[CPU_MAX];
static unsigned worker_count;

struct model *model(void)
{
    return &of_cpu[machine_cpu()]->model;
}

/* ---- the machine's side of the model ---- */

void model_machine_begin(void)
{
    model()->last_tag = UINT64_C(1) << 40;
}

/* Returns the policy that the models use: a model does not know the commitments of other models. */
enum overcommit_policy model_machine_overcommit(void)
{
    return OVERCOMMIT_ALWAYS;
}

bool model_machine_alone(void)
{
    return worker_count <= 1;
}

bool model_machine_kernel_may(const struct model_op *op)
{
    return op->execute ? (cpu_read_cr4() & CR4_SMEP) == 0 : !cpu_smap_on() || op->ac;
}

static struct tree_place model_experiment_place_of(const struct model_op *op)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&model()->spaces[op->space].space->tree, model_address(op));

    machine_interrupts_restore(were_on);
    return place;
}

struct model_walk model_machine_walk(const struct model_op *op)
{
    struct tree_place place = model_experiment_place_of(op);

    return (struct model_walk){.level = place.level, .entry = place.entry.word};
}

/* Checks that a read gives the same word by the processor's translation, perhaps a cached one, and
 * by the tables. */
static void check_read(const struct model_op *op, uint64_t value, uint64_t known)
{
    struct tree_place place = model_experiment_place_of(op);
    const uint64_t *words;

    CHECK_MSG(value == known, "%lx holds %lx, the model says %lx", model_address(op), value, known);
    if (!model_machine_alone() || pte_state(place.entry, place.level) != PTE_LEAF ||
        place.level != 1)
        return;
    words = frame_pointer(pte_frame(place.entry));
    CHECK_MSG(words[model_address(op) % PAGE_SIZE / sizeof(*words)] == known,
              "the tables lead %lx to another page than the processor reads", model_address(op));
}

enum status model_machine_access(const struct model_op *op, uint64_t known, uint64_t written)
{
    uint64_t address = model_address(op);
    struct trap_info info = {0};
    uint64_t value = 0;
    bool ok;

    if (op->execute)
        ok = probe_fetch(address, &info);
    else if (op->write)
        ok = op->ac ? probe_user_write64(address, written, &info)
                    : probe_write64(address, written, &info);
    else
        ok = op->ac ? probe_user_read64(address, &value, &info)
                    : probe_read64(address, &value, &info);
    if (ok && !op->write && !op->execute)
        check_read(op, value, known);
    if (ok)
        return OK;
    CHECK_MSG(info.vector == TRAP_PF && info.address == address,
              "vector %u at %lx in place of a page fault at %lx", info.vector, info.address,
              address);
    of_cpu[machine_cpu()]->violations++;
    return fault_last_reason();
}

void model_machine_look(uint64_t address)
{
    __builtin_prefetch((const void *)(uintptr_t)address);
}

/* Nothing to check here: check_read finds a stale translation when its page is read. */
void model_machine_check(void)
{
    CHECK(model()->running == MODEL_SPACES
              ? space_current() == NULL
              : space_current() == model()->spaces[model()->running].space);
}

/* Frees no memory: this machine withholds no frames. */
bool model_relieve(void)
{
    return false;
}

/* Returns the most pages that may be wired: few of those that are resident when memory is short. */
uint64_t model_machine_wired_most(void)
{
    return RESIDENT / 3;
}

/* ---- operations ---- */

/* Changes an access to one that this processor can make: no ring 3, and no fetch that would
 * succeed. */
static void make_possible(struct model_op *op)
{
    const struct model_cell *cell = &model()->spaces[op->space % MODEL_SPACES].cells[op->from];

    if (op->execute &&
        (pte_nx == 0 || (op->kind == MODEL_ACCESS && cell_is_memory(cell) && cell->rights.execute)))
        op->execute = false;
    if (op->kind == MODEL_ACCESS)
        op->user = false;
}

static void model_experiment_perform(struct model_op *op)
{
    make_possible(op);
    (void)model_perform(op);
    of_cpu[machine_cpu()]->operations++;
}

/* Returns a place for one more space; if all are taken, ends one that does not run. */
static unsigned free_place(void)
{
    unsigned number = 0;

    while (number < MODEL_SPACES && model()->spaces[number].space != NULL)
        number++;
    if (number < MODEL_SPACES)
        return number;
    number = model()->running == 0 ? 1 : 0;
    model_experiment_perform(&(struct model_op){.kind = MODEL_DESTROY, .space = number});
    return number;
}

static void fork_parent(struct worker *worker)
{
    unsigned number = free_place();
    struct space *child;
    enum status status = space_fork(parent.model.spaces[0].space, &child);

    CHECK_MSG(status == OK, "a fork of the common parent: %s", status_name(status));
    model_copy_cells(&model()->spaces[number], &parent.model.spaces[0]);
    model()->spaces[number].space = child;
    model_hold_cells(&model()->spaces[number]);
    worker->forks++;
}

/* Checks every page of every space: its words, or that it is refused, as in the model. */
static void model_experiment_read_all(void)
{
    for (unsigned space = 0; space < MODEL_SPACES; space++) {
        for (unsigned i = 0; model()->spaces[space].space != NULL && i < 4 * model()->cell_count;
             i++) {
            struct model_op op = {.kind = MODEL_ACCESS,
                                  .space = space,
                                  .from = i / 4,
                                  .page = i / 2 % 2,
                                  .word = i % 2,
                                  .ac = true};

            model_experiment_perform(&op);
        }
    }
}

/* Checks that the parent sees each worker's words in shared pages. */
static void read_lanes(unsigned worked)
{
    for (unsigned number = 0; number < worked; number++) {
        model()->lane = number + 1;
        for (unsigned i = 1; i < MODEL_SHARES; i++)
            memcpy(model()->shares[i].words, workers[number].model.shares[i].words,
                   sizeof(model()->shares[i].words));
        model_experiment_read_all();
    }
}

static void model_experiment_end_spaces(void)
{
    space_switch(NULL);
    model()->running = MODEL_SPACES;
    for (unsigned i = 0; i < MODEL_SPACES; i++) {
        if (model()->spaces[i].space != NULL)
            space_destroy(model()->spaces[i].space);
        model()->spaces[i].space = NULL;
    }
}

static void model_experiment_work(void *argument)
{
    struct worker *worker = argument;

    model_shares_from(&parent.model);
    fork_parent(worker);
    for (unsigned i = 0; i < ROUND_OPS / worker_count; i++) {
        struct model_op op = model_choose();

        model_experiment_perform(&op);
        if (i % FORK_EACH == FORK_EACH / 2)
            fork_parent(worker);
        if (i % EVICT_EACH == EVICT_EACH / 2)
            (void)page_reclaim_some();
        if (i % YIELD_EACH == 0)
            thread_yield();
    }
    model_experiment_read_all();
    space_switch(NULL);
    model()->running = MODEL_SPACES;
}

/* ---- rounds ---- */

/* Runs a few hundred operations on one space and checks the result. */
static void model_experiment_make_parent(uint64_t seed)
{
    of_cpu[machine_cpu()] = &parent;
    model_begin(seed, kernel_map_levels());
    model_experiment_perform(&(struct model_op){.kind = MODEL_CREATE});
    for (unsigned i = 0; i < PARENT_OPS; i++) {
        struct model_op op = model_choose();

        if (op.kind != MODEL_FORK && op.kind != MODEL_DESTROY && op.kind != MODEL_CREATE)
            model_experiment_perform(&op);
    }
    space_switch(NULL);
    model()->running = MODEL_SPACES;
}

/* Starts a worker with the parent's bounds, since it copies the parent's cells, and with operations
 * of its own. */
static bool start_worker(unsigned number, unsigned cpu, uint64_t seed)
{
    struct worker *worker = &workers[number];

    memset(&worker->model, 0, sizeof(worker->model));
    memcpy(worker->model.bounds, parent.model.bounds, sizeof(parent.model.bounds));
    worker->model.cell_count = parent.model.cell_count;
    worker->model.levels = parent.model.levels;
    worker->model.overcommit = parent.model.overcommit;
    worker->model.running = MODEL_SPACES;
    worker->model.seed = seed;
    worker->model.random = random_from(seed + number * 1000003 + 1);
    worker->model.last_tag = (uint64_t)(number + 2) << 40;
    worker->model.lane = number + 1;
    of_cpu[cpu] = worker;
    return SUCCEEDS(thread_create(cpu, model_experiment_work, worker, &worker->thread));
}

static unsigned model_experiment_processors(void)
{
    unsigned count = 0;

    for (uint64_t at = machine_processors(); at != 0; at &= at - 1)
        count++;
    return count;
}

/* Starts a worker on each processor, at most `count`; returns how many have worked and ended. */
static unsigned run_workers(unsigned count, uint64_t seed)
{
    uint64_t cpus = machine_processors();
    unsigned started = 0;

    worker_count = count;
    for (; started < count; cpus &= cpus - 1, started++) {
        if (!start_worker(started, (unsigned)__builtin_ctzll(cpus), seed))
            break;
    }
    for (unsigned i = 0; i < started; i++)
        thread_join(workers[i].thread);
    worker_count = 1;
    return started;
}

/* Runs a round: makes a parent, runs the workers, compares everything and frees it. */
static bool run_round(uint64_t seed, unsigned count)
{
    unsigned cpu = machine_cpu();
    unsigned worked;

    model_experiment_make_parent(seed);
    worked = run_workers(count, seed);
    of_cpu[cpu] = &parent;
    model_experiment_read_all();
    read_lanes(worked);
    space_audit();
    model_experiment_end_spaces();
    for (unsigned i = 0; i < worked; i++) {
        of_cpu[cpu] = &workers[i];
        model_experiment_end_spaces();
    }
    return worked == count;
}

/* Runs rounds; in every other one memory is short. */
static unsigned run_rounds(const struct options *options, unsigned rounds, uint64_t end_ns)
{
    unsigned count = (unsigned)min_u64(model_experiment_processors(), WORKERS_MAX);
    uint64_t limit = resident_limit;
    unsigned round = 0;
    bool ok = true;

    for (; ok && (round < rounds || machine_now_ns() < end_ns); round++) {
        uint64_t seed = options->seed + round;

        if (round % 2 == 1)
            page_set_limit(pmm_usage().by_kind[FRAME_ANONYMOUS] + (count + 1) * RESIDENT);
        ktap_note("round with seed %lu, %u workers%s", seed, count,
                  round % 2 == 1 ? ", memory is short" : "");
        ok = run_round(seed, count);
        page_set_limit(limit);
    }
    ktap_check(ok, "%u rounds of %u workers agree with the model", round, count);
    return round;
}

static void model_experiment_report(void)
{
    uint64_t operations = parent.operations;
    uint64_t violations = parent.violations;
    uint64_t forks = 0;

    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        operations += workers[i].operations;
        violations += workers[i].violations;
        forks += workers[i].forks;
    }
    ktap_metric("operations", operations, "operations");
    ktap_metric("violations", violations, "faults");
    ktap_metric("forks_of_the_parent", forks, "forks");
    ktap_metric("merged", collapse_counts().in_place + collapse_counts().copied, "pages");
    ktap_check(violations > 0 && violations < operations / 2,
               "%lu of %lu operations were violations, each caught with its reason", violations,
               operations);
}

static void drive(const struct options *options, unsigned rounds, uint64_t seconds)
{
    struct swap_usage before = swap_usage();
    unsigned done;

    memset(workers, 0, sizeof(workers));
    memset(&parent, 0, sizeof(parent));
    done = run_rounds(options, model_experiment_processors() == 1 ? rounds : (rounds + 1) / 2,
                      machine_now_ns() + seconds * UINT64_C(1000000000));
    model_experiment_report();
    ktap_metric("swapped_in", swap_usage().pages_read - before.pages_read, "pages");
    if (model_experiment_processors() > 1 && swap_usage().pages_read == before.pages_read)
        ktap_skip("the workers never had more pages at a time than may be resident",
                  "pages went out and came back");
    else
        ktap_check(done < 2 || swap_usage().pages_read > before.pages_read,
                   "pages went out and came back");
}

static void model_experiment_run(const struct options *options)
{
    drive(options, ROUNDS, 0);
}

EXPERIMENT(model, 390) = {
    .theme = THEME_RANDOM,
    .name = "model",
    .question = "Do address spaces mean what an independent model says, through real faults?",
    .spaces = 25,
    .regions = EXPERIMENT_REGIONS_ANY,
    .checks = 3,
    .reserves = true,
    .run = model_experiment_run,
    .answer =
        {
            .text = "Yes: no difference, and memory was often short",
        },
};

static void model_experiment_run_long(const struct options *options)
{
    drive(options, 1, options->seconds);
}

EXPERIMENT(model_long, 400) = {
    .theme = THEME_RANDOM,
    .name = "model-long",
    .question = "Do they for as long as seconds= says?",
    .spaces = 25,
    .regions = EXPERIMENT_REGIONS_ANY,
    .checks = 3,
    .only_by_name = true,
    .reserves = true,
    .run = model_experiment_run_long,
    .answer =
        {
            .text = "Yes: no difference for as long as was asked",
        },
};
