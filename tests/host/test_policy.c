/* The policies: each beside a plain one to the last victim, and all beside OPT. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/random.h"
#include "lib/units.h"
#include "tests/host/fake/machine.h"
#include "tests/host/policy/reference.h"
#include "tests/model/policy_string.h"
#include "vmm/policy/node.h"
#include "vmm/policy/policy.h"

#define MEMORY (16 * MIB)

/* How a run tells of uses: each one at once, or by A bits. */
struct way {
    bool at_once;
    unsigned harvest; /* references between two harvests */
};

static const struct way at_once = {true, 50};
static const struct way by_bits = {false, 50};

static struct {
    const struct policy *policy;
    const struct reference *reference; /* NULL: runs alone */
    unsigned capacity;
    struct way way;
    struct policy_node *nodes[REFERENCE_PAGES]; /* of resident pages */
    struct policy_node *ghosts[REFERENCE_PAGES];
    bool accessed[REFERENCE_PAGES];
    bool dirty[REFERENCE_PAGES];
    uint64_t faults;
    uint64_t victims;
} run;

static struct page_string string;

static int set_up(void **state)
{
    (void)state;
    if (policy_running() != NULL)
        policy_stop(); /* of a test that failed */
    fake_machine_start(MEMORY);
    return 0;
}

static void forget_ghost(uint32_t page)
{
    if (run.ghosts[page] == NULL)
        print_message("# %s forgets page %u, which is no ghost\n", run.policy->name, page);
    assert_non_null(run.ghosts[page]);
    run.ghosts[page] = NULL;
}

static void tell_use(unsigned page)
{
    if (run.dirty[page]) {
        policy_dirty(run.nodes[page]);
        if (run.reference != NULL)
            reference_dirty(page);
    }
    run.accessed[page] = false;
    if (run.policy->used != NULL)
        run.policy->used(run.nodes[page]);
    if (run.reference != NULL && run.reference->hit != NULL)
        run.reference->hit(page);
}

static void harvest(void)
{
    if (run.policy->round != NULL)
        run.policy->round();
    if (run.reference != NULL && run.reference->round != NULL)
        run.reference->round();
    for (unsigned page = 0; page < REFERENCE_PAGES; page++) {
        if (run.nodes[page] != NULL && run.accessed[page])
            tell_use(page);
    }
}

static unsigned candidate(void)
{
    unsigned page = policy_page(run.policy->next());
    unsigned expected = run.reference != NULL ? run.reference->victim() : page;

    if (page != expected)
        print_message("# %s, victim %lu: %u, not %u\n", run.policy->name, run.victims, page,
                      expected);
    assert_int_equal(page, expected);
    return page;
}

/* A page that is named again although it was used goes: its policy does not ask for uses. */
static void make_room(void)
{
    unsigned page = candidate();

    while (!run.policy->blind && run.accessed[page]) {
        unsigned again;

        tell_use(page);
        again = candidate();
        if (again == page)
            break;
        page = again;
    }
    run.ghosts[page] = policy_goes(run.nodes[page]);
    run.nodes[page] = NULL;
    run.victims++;
    if (run.reference != NULL)
        run.reference->evict(page);
}

static void fault(unsigned page)
{
    struct policy_node *ghost = run.ghosts[page];

    run.faults++;
    if (ghost != NULL && run.policy->ghost_hit != NULL)
        run.policy->ghost_hit(ghost);
    if (run.reference != NULL && run.reference->ghost_hit != NULL)
        run.reference->ghost_hit(page);
    if (policy_resident() == run.capacity)
        make_room();
    run.accessed[page] = run.dirty[page] = false;
    ghost = run.ghosts[page];
    run.ghosts[page] = NULL;
    run.nodes[page] = policy_insert(ghost, page);
    assert_non_null(run.nodes[page]);
    if (run.reference != NULL)
        run.reference->insert(page);
}

static void access_page(unsigned page, bool write)
{
    if (run.nodes[page] == NULL) {
        fault(page);
        return;
    }
    run.dirty[page] |= write;
    if (run.way.at_once)
        tell_use(page);
    else
        run.accessed[page] = true;
}

static void begin(const struct policy *policy, unsigned capacity, struct way way, bool compare)
{
    memset(&run, 0, sizeof(run));
    run.policy = policy;
    run.capacity = capacity;
    run.way = way;
    if (compare && !way.at_once && strcmp(policy->name, "arc") == 0)
        run.reference = reference_start("arc by bits", capacity);
    else if (compare)
        run.reference = reference_start(policy->name, capacity);
    assert_true(!compare || run.reference != NULL);
    assert_int_equal(policy_start(policy, 2 * capacity + 2), OK);
    policy_set_capacity(capacity);
    policy_on_forget(forget_ghost);
}

static uint64_t run_string(const struct policy *policy, unsigned capacity, struct way way,
                           bool compare)
{
    begin(policy, capacity, way, compare);
    for (unsigned i = 0; i < string.length; i++) {
        access_page(string.pages[i], string.pages[i] % 3 == 0);
        if (policy->harvests && i % way.harvest == way.harvest - 1)
            harvest();
        if (i % 512 == 0)
            policy_audit();
    }
    policy_audit();
    policy_stop();
    return run.faults;
}

/* ---- strings ---- */

static void begin_string(void)
{
    string.length = 0;
    string.full = false;
}

static void make_random(uint64_t seed, unsigned length, unsigned pages)
{
    struct random dice = random_from(seed);

    begin_string();
    while (string.length < length)
        page_string_add(&string, (unsigned)random_below(&dice, pages));
}

/* Most references to few pages, with scans between them. */
static void make_skewed(uint64_t seed, unsigned length, unsigned pages)
{
    struct random dice = random_from(seed);

    begin_string();
    while (string.length < length) {
        unsigned page = (unsigned)random_below(&dice, 1 + random_below(&dice, pages));

        page_string_add(&string, page);
        for (unsigned i = 0; page % 61 == 0 && i < pages / 3 && string.length < length; i++)
            page_string_add(&string, (page + i) % pages);
    }
}

static void make_loop(unsigned length, unsigned pages)
{
    begin_string();
    for (unsigned i = 0; string.length < length; i++)
        page_string_add(&string, i % pages);
}

static void make_phases(unsigned length, unsigned pages)
{
    struct random dice = random_from(9);

    begin_string();
    while (string.length < length)
        page_string_add(&string,
                        (unsigned)(string.length / 1000 % 5 * pages + random_below(&dice, pages)));
}

/* ---- tests ---- */

static void every_victim_is_the_references(void **state)
{
    const struct policy *policy;
    uint64_t victims = 0;

    (void)state;
    for (unsigned place = 0; (policy = policy_at(place)) != NULL; place++) {
        for (uint64_t seed = 1; seed <= 12; seed++) {
            unsigned capacity = 3 + (unsigned)(seed * seed % 41);

            if (seed % 2 == 0)
                make_random(seed, 2000, 2 * capacity);
            else
                make_skewed(seed, 2000, 4 * capacity);
            (void)run_string(policy, capacity, seed % 3 == 0 ? by_bits : at_once, true);
            victims += run.victims;
        }
    }
    print_message("# %lu victims\n", victims);
    assert_true(policy_at(14) != NULL && victims > 50000);
}

/* Belady's anomaly: with more memory FIFO faults more often (Belady, Nelson and Shedler, 1969). */
static void fifo_has_the_anomaly(void **state)
{
    static const unsigned example[] = {1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5};
    const struct policy *fifo = policy_at(0);

    (void)state;
    for (unsigned place = 0; strcmp(fifo->name, "fifo") != 0; place++)
        fifo = policy_at(place);
    begin_string();
    for (unsigned i = 0; i < 12; i++)
        page_string_add(&string, example[i]);
    assert_int_equal(run_string(fifo, 3, at_once, true), 9);
    assert_int_equal(run_string(fifo, 4, at_once, true), 10);
    assert_int_equal(page_string_lru(&string, 3), 10);
    assert_int_equal(page_string_lru(&string, 4), 8);
    assert_int_equal(page_string_opt(&string, 3), 7);
    assert_int_equal(page_string_opt(&string, 4), 6);
}

/* Returns the fewest faults from a place on with this set of pages in memory, by trying every
 * victim. */
static unsigned fewest_faults(unsigned at, unsigned set, unsigned memory)
{
    unsigned page;
    unsigned best = UINT32_MAX;

    while (at < string.length && (set >> string.pages[at] & 1) != 0)
        at++;
    if (at == string.length)
        return 0;
    page = 1U << string.pages[at];
    if ((unsigned)__builtin_popcount(set) < memory)
        return 1 + fewest_faults(at + 1, set | page, memory);
    for (unsigned victim = 1; victim <= set; victim <<= 1) {
        unsigned faults;

        if ((set & victim) == 0)
            continue;
        faults = 1 + fewest_faults(at + 1, (set & ~victim) | page, memory);
        best = faults < best ? faults : best;
    }
    return best;
}

static void opt_is_the_best_of_all(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        unsigned memory = 2 + (unsigned)(seed % 2);

        make_random(seed, 12, 6);
        assert_int_equal(page_string_opt(&string, memory), fewest_faults(0, 0, memory));
    }
}

static uint64_t faults_of(const char *name, unsigned capacity, struct way way)
{
    const struct policy *policy;

    for (unsigned place = 0; (policy = policy_at(place)) != NULL; place++) {
        if (strcmp(policy->name, name) == 0)
            return run_string(policy, capacity, way, false);
    }
    fail();
    return 0;
}

static void no_policy_beats_opt(void **state)
{
    static uint64_t totals[64];
    const struct policy *policy;
    unsigned count = 0;

    (void)state;
    for (unsigned kind = 0; kind < 4; kind++) {
        uint64_t opt;
        uint64_t lru;

        if (kind == 0)
            make_random(3, 6000, 150);
        else if (kind == 1)
            make_skewed(4, 6000, 300);
        else if (kind == 2)
            make_loop(6000, 120);
        else
            make_phases(6000, 80);
        opt = page_string_opt(&string, 100);
        lru = page_string_lru(&string, 100);
        assert_int_equal(faults_of("lru", 100, at_once), lru);
        print_message("# string %u: opt %lu, lru %lu", kind, opt, lru);
        for (unsigned place = 0; (policy = policy_at(place)) != NULL; place++) {
            uint64_t faults = run_string(policy, 100, by_bits, false);
            bool sieve = strcmp(policy->name, "sieve") == 0;

            print_message(", %s %lu", policy->name, faults);
            assert_true(faults >= opt);
            /* A phase that ends is forgotten, by SIEVE as late as may be. */
            assert_true(kind != 3 || 20 * faults <= (sieve ? 61 : 60) * lru);
            totals[place] += faults;
            count = place + 1;
        }
        print_message("\n");
    }
    for (unsigned i = 0; i < count; i++) {
        for (unsigned j = 0; j < i; j++)
            assert_true(totals[i] != totals[j]);
    }
}

static void loop_tells_lru_from_lirs(void **state)
{
    (void)state;
    make_loop(6000, 120);
    assert_int_equal(page_string_lru(&string, 100), 6000);
    assert_true(faults_of("lirs", 100, at_once) * 10 <= 14 * page_string_opt(&string, 100));
}

/* The driver of the experiments faults as often as this one. NRU asks which pages are dirty,
 * which only this one knows. */
static void strings_fault_alike(void **state)
{
    const struct policy *policy;
    uint64_t faults;

    (void)state;
    make_skewed(5, 4000, 200);
    for (unsigned place = 0; (policy = policy_at(place)) != NULL; place++) {
        uint64_t here = run_string(policy, 60, by_bits, false);

        assert_int_equal(policy_string_faults(policy, &string, 60, by_bits.harvest, &faults), OK);
        if (strcmp(policy->name, "nru") != 0)
            assert_int_equal(faults, here);
        assert_int_equal(policy_string_faults(policy, &string, 60, 0, &faults), OK);
        if (strcmp(policy->name, "lru") == 0)
            assert_int_equal(faults, page_string_lru(&string, 60));
        assert_true(faults >= page_string_opt(&string, 60));
    }
}

/* A ghost that ends with its slot is none any more, in any policy. */
static void ghosts_and_pages_may_end(void **state)
{
    const struct policy *policy;
    struct random dice = random_from(7);

    (void)state;
    for (unsigned place = 0; (policy = policy_at(place)) != NULL; place++) {
        begin(policy, 40, by_bits, false);
        for (unsigned i = 0; i < 6000; i++) {
            unsigned page = (unsigned)random_below(&dice, 90);
            struct policy_node **end = i % 5 == 0 ? run.ghosts : run.nodes;

            if (i % 5 < 2 && end[page] != NULL) {
                struct policy_node *node = end[page];

                end[page] = NULL;
                policy_left(node);
            } else if (i % 5 >= 2) {
                access_page(page, false);
            }
            if (policy->harvests && i % 50 == 0)
                harvest();
            if (i % 100 == 0)
                policy_audit();
        }
        assert_true(policy_ghosts() <= 2 * 40);
        policy_stop();
    }
}

/* Between next and policy_goes another processor may use the page, or choose it by itself: any
 * resident page may go, and next still names resident ones. */
static void any_page_may_go(void **state)
{
    const struct policy *policy;
    struct random dice = random_from(9);

    (void)state;
    for (unsigned place = 0; (policy = policy_at(place)) != NULL; place++) {
        begin(policy, 40, by_bits, false);
        for (unsigned i = 0; i < 6000; i++) {
            unsigned page = (unsigned)random_below(&dice, 90);

            if (i % 3 == 0 && run.nodes[page] != NULL) {
                run.ghosts[page] = policy_goes(run.nodes[page]);
                run.nodes[page] = NULL;
            } else {
                access_page(page, false);
            }
            if (policy_resident() > 0 && !policy_is_marked(policy->next(), POLICY_RESIDENT))
                fail_msg("%s names a page that is out", policy->name);
            if (policy->harvests && i % 50 == 0)
                harvest();
            policy_audit();
        }
        policy_stop();
    }
}

/* Returns how many pages are marked as the policy's favourites. */
static unsigned hot_pages(void)
{
    unsigned hot = 0;

    for (unsigned page = 0; page < REFERENCE_PAGES; page++)
        hot += run.nodes[page] != NULL && policy_is_marked(run.nodes[page], POLICY_HOT);
    return hot;
}

static void use_for_a_while(struct random *dice, unsigned pages)
{
    for (unsigned i = 0; i < 3000; i++) {
        access_page((unsigned)random_below(dice, 1 + random_below(dice, pages)), false);
        if (run.policy->harvests && i % 50 == 0)
            harvest();
    }
    policy_audit();
}

/* The kernel takes memory, and gives it back: favourites and ghosts become fewer with the pages. */
static void memory_may_become_smaller(void **state)
{
    const struct policy *policy;
    struct random dice = random_from(11);

    (void)state;
    for (unsigned place = 0; (policy = policy_at(place)) != NULL; place++) {
        begin(policy, 60, by_bits, false);
        use_for_a_while(&dice, 150);
        for (unsigned size = 15; size <= 60; size += 45) {
            run.capacity = size;
            policy_set_capacity(size);
            while (policy_resident() > size)
                make_room();
            for (uint64_t faults = run.faults; run.faults == faults;)
                access_page((unsigned)random_below(&dice, 150), false);
            assert_true(policy_ghosts() <= size);
            use_for_a_while(&dice, 3 * size);
            print_message("# %s: %lu ghosts and %u favourites of %u pages\n", policy->name,
                          policy_ghosts(), hot_pages(), size);
            assert_true(policy_ghosts() <= size);
            assert_true(hot_pages() <= size - (strcmp(policy->name, "lirs") == 0 ? 2 : 1));
        }
        policy_stop();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_victim_is_the_references, set_up),
        cmocka_unit_test_setup(fifo_has_the_anomaly, set_up),
        cmocka_unit_test(opt_is_the_best_of_all),
        cmocka_unit_test_setup(no_policy_beats_opt, set_up),
        cmocka_unit_test_setup(loop_tells_lru_from_lirs, set_up),
        cmocka_unit_test_setup(strings_fault_alike, set_up),
        cmocka_unit_test_setup(ghosts_and_pages_may_end, set_up),
        cmocka_unit_test_setup(any_page_may_go, set_up),
        cmocka_unit_test_setup(memory_may_become_smaller, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
