/*
 * attack-protect and attack-swap-in: calls on ranges beside accesses by all other processors.
 *
 * For `seconds=`, the first processor calls functions on one range, while the others access pages
 * of it at random.
 * attack-protect takes away the right to write 128 MiB, gives it back and maps the range anew,
 * while the others write pages for the first time: entries of upper levels become tables under the
 * calls. attack-swap-in fills 64 pages, evicts them, and unmaps them while the others read them
 * back.
 *
 * An access may be refused at any moment. A read must return zero or, in attack-protect, a word
 * that its thread wrote; in attack-swap-in, the page's tag from the last round seen or a later one.
 * At the end AUDIT compares all counts, and the ledger is even. A defect shows as a panic.
 */
#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "lib/bytes.h"
#include "tests/experiments/stress/stress.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/page/reclaim.h"

#define ATTACK_START UINT64_C(0x800000000)
#define BLOCKS       64U
#define BLOCK_PAGES  (STRESS_BLOCK_BYTES / PAGE_SIZE)
#define SWAP_PAGES   64U

/* Changes of rights before the range is mapped anew. */
#define PROTECTS 16U

/* Successive calls of reclaim without a victim that end a round. */
#define IDLE_MAX 4U

struct attacker {
    struct thread *thread;
    struct space *space;
    unsigned number;
    struct random random;
    uint64_t done;    /* accesses that were not refused */
    uint64_t refused; /* others */
    uint64_t last;    /* round that it has seen */
    const char *wrong;
};

/* An attack: the other processors repeat `access` while the first one repeats `round`. */
struct attack {
    uint64_t size;
    void (*access)(struct attacker *attacker);
    bool (*round)(struct space *space, uint64_t number);
};

static struct attacker attackers[STRESS_WORKERS_MAX];
static const struct attack *attack;
static bool attack_is_over;

static void attack_count(struct attacker *attacker, bool done)
{
    attacker->done += done;
    attacker->refused += !done;
}

/* ---- attack-protect ---- */

/* Writes random pages, so that most are written for the first time. */
static void write_first(struct attacker *attacker)
{
    uint64_t block = random_below(&attacker->random, BLOCKS);
    uint64_t page = block * BLOCK_PAGES + random_below(&attacker->random, 8);
    uint64_t address = ATTACK_START + page * PAGE_SIZE + attacker->number * sizeof(uint64_t);
    uint64_t tag = page + 1;
    uint64_t value = 0;
    bool done = word_write(address, tag);

    if (done && word_read(address, &value) && value != tag && value != 0)
        attacker->wrong = "a word that another has written";
    attack_count(attacker, done);
}

static bool protect_round(struct space *space, uint64_t number)
{
    uint64_t size = BLOCKS * STRESS_BLOCK_BYTES;
    bool right = true;

    (void)number;
    for (unsigned i = 0; i < PROTECTS && right; i++) {
        right = SUCCEEDS(
            space_protect(space, ATTACK_START, size, i % 2 == 0 ? RIGHTS_READ : RIGHTS_READ_WRITE));
        if (i == PROTECTS / 2)
            right = right && SUCCEEDS(space_advise(space, ATTACK_START, size, SPACE_DONT_NEED));
    }
    return right && SUCCEEDS(space_unmap(space, ATTACK_START, size)) &&
           SUCCEEDS(space_map(space, &SPACE_AT(ATTACK_START, size, RIGHTS_READ_WRITE), NULL));
}

/* ---- attack-swap-in ---- */

static void read_back(struct attacker *attacker)
{
    uint64_t page = random_below(&attacker->random, SWAP_PAGES);
    uint64_t value = 0;
    bool done = word_read(ATTACK_START + page * PAGE_SIZE, &value);

    if (done && value != 0) {
        if (value % SWAP_PAGES != page)
            attacker->wrong = "the tag of another page";
        else if (value / SWAP_PAGES < attacker->last)
            attacker->wrong = "a page of a round that was over";
        attacker->last = value / SWAP_PAGES;
    }
    attack_count(attacker, done);
}

static bool swap_round(struct space *space, uint64_t number)
{
    uint64_t size = SWAP_PAGES * PAGE_SIZE;
    bool right = true;

    for (uint64_t page = 0; page < SWAP_PAGES && right; page++)
        right = word_write(ATTACK_START + page * PAGE_SIZE, number * SWAP_PAGES + page);
    for (unsigned idle = 0; idle < IDLE_MAX && right; idle++) {
        unsigned evicted;

        right = SUCCEEDS(reclaim_pages(16, &evicted));
    }
    /* One by one, each beside other reads. */
    for (uint64_t at = 0; at < size && right; at += PAGE_SIZE)
        right = SUCCEEDS(space_unmap(space, ATTACK_START + at, PAGE_SIZE));
    return right &&
           SUCCEEDS(space_map(space, &SPACE_AT(ATTACK_START, size, RIGHTS_READ_WRITE), NULL));
}

/* ---- both ---- */

static void attack_work(void *argument)
{
    struct attacker *attacker = argument;

    space_switch(attacker->space);
    while (attacker->wrong == NULL && !__atomic_load_n(&attack_is_over, __ATOMIC_ACQUIRE)) {
        for (unsigned i = 0; i < 64 && attacker->wrong == NULL; i++)
            attack->access(attacker);
        thread_yield();
    }
    space_switch(NULL);
}

/* Starts one on every processor but the running one. */
static unsigned start_attackers(struct space *space, uint64_t seed)
{
    uint64_t cpus = machine_processors() & ~(UINT64_C(1) << machine_cpu());
    unsigned started = 0;

    memset(attackers, 0, sizeof(attackers));
    __atomic_store_n(&attack_is_over, false, __ATOMIC_RELEASE);
    for (; cpus != 0 && started < STRESS_WORKERS_MAX; cpus &= cpus - 1) {
        struct attacker *attacker = &attackers[started];

        attacker->space = space;
        attacker->number = started;
        attacker->random = random_from(seed + started);
        if (!SUCCEEDS(thread_create((unsigned)__builtin_ctzll(cpus), attack_work, attacker,
                                    &attacker->thread)))
            break;
        started++;
    }
    return started;
}

/* Runs rounds until the time is over, and logs their number every few seconds. Returns whether all
 * checks held. */
static bool go_round(struct space *space, uint32_t seconds, uint64_t *rounds)
{
    uint64_t begin = machine_now_ns();
    uint64_t said = 0;
    bool right = true;

    for (*rounds = 1; right && machine_now_ns() - begin < seconds * UINT64_C(1000000000);
         ++*rounds) {
        right = attack->round(space, *rounds);
        if ((machine_now_ns() - begin) / UINT64_C(5000000000) > said) {
            said++;
            ktap_note("%lu rounds", *rounds);
        }
    }
    return right;
}

static void join_attackers(unsigned count)
{
    const char *wrong = NULL;
    uint64_t done = 0;
    uint64_t refused = 0;

    __atomic_store_n(&attack_is_over, true, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < count; i++) {
        thread_join(attackers[i].thread);
        done += attackers[i].done;
        refused += attackers[i].refused;
        wrong = attackers[i].wrong != NULL ? attackers[i].wrong : wrong;
    }
    ktap_metric("processors", count, "processors");
    ktap_metric("accesses", done, "accesses");
    ktap_metric("refused", refused, "accesses");
    ktap_check(wrong == NULL, "nothing was read that cannot be: %s",
               wrong == NULL ? "nothing wrong" : wrong);
}

static void attack_run(const struct attack *what, const struct options *options)
{
    struct space *space;
    uint64_t rounds;
    unsigned count;
    bool right;

    if (machine_processors() == UINT64_C(1) << machine_cpu()) {
        experiment_skip_rest("one processor");
        return;
    }
    attack = what;
    if (!start_space(&space))
        return;
    ktap_check(
        SUCCEEDS(space_map(space, &SPACE_AT(ATTACK_START, what->size, RIGHTS_READ_WRITE), NULL)),
        "the range is mapped");
    count = start_attackers(space, options->seed);
    ktap_check(count > 0, "the others access it");
    right = go_round(space, options->seconds, &rounds);
    join_attackers(count);
    ktap_metric("rounds", rounds, "rounds");
    ktap_check(right, "every call was right");
    space_audit();
    ktap_check(true, "all counts agree");
    end_space(space);
}

static void attack_protect_run(const struct options *options)
{
    static const struct attack what = {BLOCKS * STRESS_BLOCK_BYTES, write_first, protect_round};

    attack_run(&what, options);
}

EXPERIMENT(attack_protect, 411) = {
    .theme = THEME_RANDOM,
    .name = "attack-protect",
    .question = "May rights change while other processors write pages for the first time?",
    .regions = EXPERIMENT_REGIONS_ANY,
    .checks = 5,
    .only_by_name = true,
    .reserves = true,
    .run = attack_protect_run,
    .answer = {.text = "Yes: no access passed that the rights forbade"},
};

static void attack_swap_in_run(const struct options *options)
{
    static const struct attack what = {SWAP_PAGES * PAGE_SIZE, read_back, swap_round};

    attack_run(&what, options);
}

EXPERIMENT(attack_swap_in, 412) = {
    .theme = THEME_RANDOM,
    .name = "attack-swap-in",
    .question = "May pages be unmapped while other processors read them from swap?",
    .regions = EXPERIMENT_REGIONS_ANY,
    .checks = 5,
    .only_by_name = true,
    .run = attack_swap_in_run,
    .answer = {.text = "Yes: each page read was its own, of its time"},
};
