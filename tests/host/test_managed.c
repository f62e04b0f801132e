/* Policies in the place of the clocks: through real faults, A bits and slots. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/random.h"
#include "swapdisk/area.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/mmu.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/page/managed.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/reclaimer/zero_merge.h"
#include "vmm/space/end.h"

#define MEMORY    (16 * MIB)
#define SLOTS     2048U
#define START     (4 * MIB)
#define PAGES     128U
#define RESIDENT  32U
#define MODEL_OPS 700U

static const struct rights read_write = {.write = true, .user = true};

static struct space *space;

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

static const struct policy *policy_named(const char *name)
{
    const struct policy *policy;

    for (unsigned place = 0; (policy = policy_at(place)) != NULL; place++) {
        if (strcmp(policy->name, name) == 0)
            return policy;
    }
    fail();
    return NULL;
}

static void begin(const struct policy *policy)
{
    model_begin(1, 4);
    assert_int_equal(managed_choose(policy, RESIDENT), OK);
    page_set_limit(RESIDENT);
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(space_map(space, &SPACE_AT(START, PAGES * PAGE_SIZE, read_write), NULL), OK);
    space_switch(space);
}

static void end(void)
{
    space_audit();
    space_switch(NULL);
    space_destroy(space);
    space_finish_ends();
    /* A page that ended before it was managed leaves its ghost to the frame's next page. */
    assert_true(policy_ghosts() <= 1);
    assert_int_equal(managed_choose(NULL, 0), OK);
    page_set_limit(UINT64_MAX);
    model_end();
}

/* Writes the page's number to it, or reads it back; returns the number of faults. */
static int touch(unsigned page, bool write)
{
    struct phys physical;
    int faults = model_touch(START + page * PAGE_SIZE, write, &physical);

    assert_true(faults >= 0);
    if (write)
        *(uint64_t *)phys_pointer(physical) = page + 1;
    else
        assert_int_equal(*(uint64_t *)phys_pointer(physical), page + 1);
    return faults;
}

/* Random operations of the model, which compares all contents. */
static void contents_survive_every_policy(void **state)
{
    const struct policy *policy;
    uint64_t before = swap_usage().pages_read;
    uint64_t read = before;

    (void)state;
    for (unsigned place = 0; (policy = policy_at(place)) != NULL; place++) {
        model_begin(model_seed() + place, 4);
        assert_int_equal(managed_choose(policy, RESIDENT), OK);
        page_set_limit(17 + place % 4);
        for (unsigned i = 0; i < MODEL_OPS; i++) {
            struct model_op op = model_choose();

            (void)model_perform(&op);
            if (i % 50 == 0)
                (void)zero_merge(10);
            if (i % 100 == 0)
                model_check();
        }
        model_check();
        print_message("# %s: %lu pages read\n", policy->name, swap_usage().pages_read - read);
        read = swap_usage().pages_read;
        assert_int_equal(managed_choose(NULL, 0), OK);
        page_set_limit(UINT64_MAX);
        model_end();
    }
    assert_true(read - before > 60);
}

/* A page used all the time never goes, in policies that look at uses. */
static void a_page_in_use_stays(void **state)
{
    static const char *const names[] = {"clock",    "nru",    "ageing",     "wsclock", "lru",
                                        "sieve",    "2q",     "arc",        "car",     "lirs",
                                        "clockpro", "s3fifo", "generations"};

    (void)state;
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        unsigned faults = 0;

        begin(policy_named(names[i]));
        for (unsigned page = 0; page < PAGES; page++)
            (void)touch(page, true);
        for (unsigned step = 0; step < 1000; step++) {
            faults += touch(0, false) > 0;
            (void)touch(1 + step % (PAGES - 1), false);
        }
        print_message("# %s: %u faults\n", names[i], faults);
        assert_true(faults <= 3);
        end();
    }
}

/* A loop over more than memory: each policy through real faults. */
static void a_loop_tells_policies_apart(void **state)
{
    const struct policy *policy;

    (void)state;
    for (unsigned place = 0; (policy = policy_at(place)) != NULL; place++) {
        uint64_t faults = 0;

        begin(policy);
        for (unsigned i = 0; i < 40; i++) {
            faults += touch(i, true) > 0;
        }
        for (unsigned round = 0; round < 25; round++) {
            for (unsigned i = 0; i < 40; i++)
                faults += touch(i, false) > 0;
        }
        print_message("# %s: %lu faults\n", policy->name, faults);
        if (strcmp(policy->name, "lru") == 0)
            assert_int_equal(faults, 26 * 40);
        if (strcmp(policy->name, "lirs") == 0)
            assert_true(faults < 26 * 40 / 2);
        end();
    }
}

/* A page that returns to the same slot number as another one is not taken for that one (D15). */
static void ghosts_end_with_their_slots(void **state)
{
    (void)state;
    begin(policy_named("arc"));
    for (unsigned page = 0; page < PAGES; page++)
        (void)touch(page, true);
    assert_true(policy_ghosts() > 0);
    assert_int_equal(space_unmap(space, START, PAGES * PAGE_SIZE), OK);
    assert_int_equal(policy_ghosts(), 0);
    assert_int_equal(policy_resident(), 0);
    end();
}

/* A page that is read back is the one that went: in ARC it joins the pages used more than once. */
static void pages_return_by_their_ghosts(void **state)
{
    uint64_t ghosts;

    (void)state;
    begin(policy_named("arc"));
    for (unsigned page = 0; page < RESIDENT + 8; page++)
        (void)touch(page, true);
    ghosts = policy_ghosts();
    assert_true(ghosts > 0);
    (void)touch(0, false); /* the oldest: its ghost becomes a page, and another page a ghost */
    assert_true(policy_ghosts() <= ghosts);
    for (unsigned page = 1; page < 4; page++)
        assert_true(touch(page, false) > 0);
    space_audit();
    end();
}

/* Pages advised to be cold go before all others, whatever the policy and their uses were. */
static void cold_pages_go_first(void **state)
{
    const struct policy *policy;

    (void)state;
    for (unsigned place = 0; (policy = policy_at(place)) != NULL; place++) {
        begin(policy);
        for (unsigned page = 0; page < RESIDENT; page++)
            (void)touch(page, true);
        for (unsigned step = 0; step < 4; step++)
            (void)touch(PAGES - 1, true); /* the policy has begun to choose */
        for (unsigned page = RESIDENT - 4; page < RESIDENT; page++)
            (void)touch(page, false);
        assert_int_equal(
            space_advise(space, START + (RESIDENT - 4) * PAGE_SIZE, 4 * PAGE_SIZE, SPACE_COLD), OK);
        for (unsigned page = RESIDENT; page < RESIDENT + 4; page++)
            (void)touch(page, true);
        for (unsigned page = RESIDENT - 4; page < RESIDENT; page++) {
            if (touch(page, false) == 0)
                fail_msg("%s: cold page %u is resident", policy->name, page);
        }
        end();
    }
}

/* Memory for the nodes is not there: the clocks go on. */
static void without_memory_the_clocks_stay(void **state)
{
    (void)state;
    model_begin(1, 4);
    model_leave_frames(20);
    assert_int_equal(managed_choose(policy_named("lru"), 100000), STATUS_NO_MEMORY);
    assert_null(managed_policy);
    model_leave_frames(MEMORY / PAGE_SIZE);
    model_end();
}

/* Returns the A bit of a page's entry. */
static bool is_accessed(unsigned page)
{
    struct fake_walk walk =
        fake_mmu_walk(phys_of(space->tree.root), space->tree.levels, START + page * PAGE_SIZE, 1);

    assert_true(walk.present);
    return (walk.entry & PTE_A) != 0;
}

/* A harvest clears A bits, and no page goes, so that no eviction flushes. Uses after it count
 * nevertheless, since the harvest flushes itself (D13). */
static void a_use_after_a_harvest_shows(void **state)
{
    struct reclaim_round over = {.looks = 0};
    struct victim victim;

    (void)state;
    begin(policy_named("lru"));
    for (unsigned page = 0; page < RESIDENT / 2; page++)
        (void)touch(page, true);
    assert_int_equal(victim_choose_by_policy(&over, &victim), 0);
    assert_false(is_accessed(0));
    assert_int_equal(touch(0, false), 0);
    assert_true(is_accessed(0));
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contents_survive_every_policy),
        cmocka_unit_test(a_page_in_use_stays),
        cmocka_unit_test(a_loop_tells_policies_apart),
        cmocka_unit_test(ghosts_end_with_their_slots),
        cmocka_unit_test(pages_return_by_their_ghosts),
        cmocka_unit_test(cold_pages_go_first),
        cmocka_unit_test(without_memory_the_clocks_stay),
        cmocka_unit_test(a_use_after_a_harvest_shows),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
