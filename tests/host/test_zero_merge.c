/* Merge-back: which pages of zeroes go, and that what programs read never changes. The random tests
 * of spaces scan as well; here is what chance does not reach. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "tests/host/fake/machine.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/reclaimer/zero_merge.h"

#define MEMORY (16 * MIB)
#define SLOTS  64U
#define START  (4 * MIB)
#define PAGES  40U

static const struct rights read_write = {.write = true, .user = true};
static const struct fault_access write_access = {.write = true, .from_user = true};

static struct space *space;

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

/* Makes a space with this many resident pages of zeroes. */
static void begin_with(unsigned pages)
{
    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_HEURISTIC);
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(space_map(space, &SPACE_AT(START, pages * PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(space_advise(space, START, pages * PAGE_SIZE, SPACE_WILL_NEED), OK);
}

static void begin(void)
{
    begin_with(PAGES);
}

static void end(void)
{
    space_audit();
    space_destroy(space);
    model_end();
}

static struct pte entry_of(const struct space *of, unsigned page)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&of->tree, START + page * PAGE_SIZE);

    machine_interrupts_restore(were_on);
    assert_int_equal(place.level, 1);
    return place.entry;
}

static uint64_t *words_of(const struct space *of, unsigned page)
{
    return frame_pointer(pte_frame(entry_of(of, page)));
}

static bool shows_zero_page(const struct space *of, unsigned page)
{
    return pfn_equal(pte_frame(entry_of(of, page)), tree_zero_page());
}

static void zero_pages_give_their_frames_back(void **state)
{
    (void)state;
    begin();
    words_of(space, 3)[0] = 1;
    words_of(space, 17)[511] = 1;
    assert_int_equal(zero_merge(PAGES), PAGES - 2);
    assert_int_equal(page_clock_size(), 2);
    assert_int_equal(words_of(space, 3)[0], 1);
    assert_int_equal(words_of(space, 17)[511], 1);
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(shows_zero_page(space, i), i != 3 && i != 17);
    /* The right to write has stayed. */
    assert_int_equal(fault_resolve(space, START, write_access), OK);
    assert_int_equal(space_faults(space).zero_to_private, 1);
    end();
}

static void a_scan_keeps_to_its_budget(void **state)
{
    uint64_t looked_at = zero_merge_counts().looked_at;

    (void)state;
    begin();
    assert_int_equal(zero_merge(0), 0);
    assert_int_equal(zero_merge(5), 5);
    assert_int_equal(zero_merge_counts().looked_at, looked_at + 5);
    assert_int_equal(zero_merge(1000), PAGES - 5);
    assert_int_equal(zero_merge_counts().looked_at, looked_at + PAGES);
    end();
}

/* ---- between the looks ---- */

static void (*flush)(void);
static void (*before_flush)(void);

static void flush_late(void)
{
    before_flush();
    flush();
}

/* Another processor's work before it answers. */
static void scan_while(void (*other)(void), unsigned given_back)
{
    flush = fake_on_flush_space;
    before_flush = other;
    fake_on_flush_space = flush_late;
    assert_int_equal(zero_merge(PAGES), given_back);
    fake_on_flush_space = flush;
}

/* Stores through a translation that is still cached: the frame of the entry in transit. */
static void store(void)
{
    *(uint64_t *)frame_pointer(pte_payload_frame(entry_of(space, 7))) = 42;
}

static void a_store_before_the_flush_is_kept(void **state)
{
    uint64_t changed = zero_merge_counts().changed;

    (void)state;
    begin_with(8);
    scan_while(store, 7);
    assert_int_equal(zero_merge_counts().changed, changed + 1);
    assert_int_equal(words_of(space, 7)[0], 42);
    assert_int_equal(fault_resolve(space, START + 7 * PAGE_SIZE, write_access), OK);
    assert_int_equal(space_faults(space).cow_reuse, 1);
    assert_int_equal(words_of(space, 7)[0], 42);
    end();
}

/* ---- pages that stay ---- */

static void shared_tables_show_zeroes_to_all(void **state)
{
    struct space *child;

    (void)state;
    begin();
    assert_int_equal(space_fork(space, &child), OK);
    assert_int_equal(zero_merge(PAGES), PAGES);
    assert_true(shows_zero_page(space, 0) && shows_zero_page(child, PAGES - 1));
    assert_int_equal(fault_resolve(child, START, write_access), OK);
    words_of(child, 0)[0] = 1;
    assert_true(shows_zero_page(space, 0));
    space_destroy(child);
    end();
}

static void shared_and_withheld_pages_stay(void **state)
{
    struct space *child;

    (void)state;
    begin();
    assert_int_equal(space_fork(space, &child), OK);
    assert_int_equal(fault_resolve(child, START, write_access), OK);
    /* Two leaf tables name every page but the first, which has been copied. */
    assert_int_equal(zero_merge(2 * PAGES), 2);
    space_destroy(child);
    assert_int_equal(space_protect(space, START, PAGES * PAGE_SIZE, (struct rights){.none = true}),
                     OK);
    assert_int_equal(zero_merge(PAGES), 0);
    assert_int_equal(page_clock_size(), PAGES - 1);
    end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_pages_give_their_frames_back),
        cmocka_unit_test(a_scan_keeps_to_its_budget),
        cmocka_unit_test(a_store_before_the_flush_is_kept),
        cmocka_unit_test(shared_tables_show_zeroes_to_all),
        cmocka_unit_test(shared_and_withheld_pages_stay),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
