/* The TLB batch: its flushes, the time of its drops, and its refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "paging/tlb/tlb.h"
#include "paging/tree/tree.h"
#include "pmm/pmm.h"
#include "tests/host/fake/child.h"
#include "tests/host/fake/machine.h"

#define BASE UINT64_C(0x7000000000)

/* The events in order: 'p' page flush, 'w' whole space, 'a' all, 's' slot released. */
static char events[512];
static unsigned event_count;
static uint64_t last_page;
static struct tlb_counts before;

/* The tree that this processor runs. */
static const struct tree tree = {.processors = 1};

static void note(char event)
{
    CHECK(event_count < sizeof(events) - 1);
    events[event_count++] = event;
    events[event_count] = '\0';
}

static void on_page(uint64_t address)
{
    last_page = address;
    note('p');
}

static void on_space(void)
{
    note('w');
}

static void on_all(void)
{
    note('a');
}

static void on_slot(struct slot slot)
{
    (void)slot;
    note('s');
}

static void on_page_gone(struct pfn page)
{
    (void)page;
}

static void on_pages_gone(const struct pfn *pages, unsigned count)
{
    (void)pages;
    (void)count;
}

static int set_up(void **state)
{
    static const struct tree_hooks hooks = {.slot_hold = on_slot,
                                            .slot_release = on_slot,
                                            .page_free_last = on_page_gone,
                                            .pages_free_last = on_pages_gone};
    struct pfn zero;

    (void)state;
    fake_machine_start(16 * MIB);
    if (pmm_alloc_order(3, FRAME_KERNEL, FRAME_CLEARED, &zero) != OK)
        return -1;
    pmm_split(zero, 3, 0);
    tree_init(zero, &hooks);
    fake_on_flush_page = on_page;
    fake_on_flush_space = on_space;
    fake_on_flush_all = on_all;
    event_count = 0;
    events[0] = '\0';
    before = tlb_counts();
    return 0;
}

static struct tlb_release swapped_out(void)
{
    return (struct tlb_release){
        .entry = pte_swapped((struct slot){4}, (struct rights){.write = true}), .level = 1};
}

static void nothing_flushes_nothing(void **state)
{
    struct tlb_batch batch;

    (void)state;
    tlb_begin(&batch, &tree);
    tlb_commit(&batch);
    assert_string_equal(events, "");
}

static void pages_one_by_one(void **state)
{
    struct tlb_batch batch;

    (void)state;
    tlb_begin(&batch, &tree);
    tlb_add_page(&batch, BASE + 0x123);
    tlb_add_range(&batch, BASE + PAGE_SIZE, BASE + 3 * PAGE_SIZE);
    tlb_add_range(&batch, BASE, BASE);
    assert_string_equal(events, "");
    tlb_commit(&batch);
    assert_string_equal(events, "ppp");
    assert_int_equal(last_page, BASE + 2 * PAGE_SIZE);
    assert_int_equal(tlb_counts().pages - before.pages, 3);
}

static void many_pages_are_the_whole_space(void **state)
{
    struct tlb_batch batch;

    (void)state;
    tlb_begin(&batch, &tree);
    tlb_add_range(&batch, BASE, BASE + TLB_LIMIT_DEFAULT * PAGE_SIZE);
    tlb_commit(&batch);
    assert_int_equal(event_count, TLB_LIMIT_DEFAULT);
    event_count = 0;
    tlb_begin(&batch, &tree);
    tlb_add_range(&batch, BASE, BASE + (TLB_LIMIT_DEFAULT + 1) * PAGE_SIZE);
    tlb_commit(&batch);
    assert_string_equal(events, "w");
    event_count = 0;
    tlb_begin(&batch, &tree);
    for (unsigned i = 0; i <= TLB_LIMIT_DEFAULT; i++)
        tlb_add_page(&batch, BASE + i * PAGE_SIZE);
    tlb_commit(&batch);
    assert_string_equal(events, "w");
    assert_int_equal(tlb_counts().spaces - before.spaces, 2);
}

static void everything_is_more_than_the_space(void **state)
{
    struct tlb_batch batch;

    (void)state;
    tlb_begin(&batch, &tree);
    tlb_add_page(&batch, BASE);
    tlb_add_space(&batch);
    tlb_commit(&batch);
    assert_string_equal(events, "w");
    tlb_begin(&batch, &tree);
    tlb_add_space(&batch);
    tlb_add_everything(&batch);
    tlb_commit(&batch);
    assert_string_equal(events, "ww");
    assert_int_equal(tlb_counts().spaces - before.spaces, 1);
    assert_int_equal(tlb_counts().everything - before.everything, 1);
    /* The next batch knows nothing of it. */
    event_count = 0;
    tlb_begin(&batch, &tree);
    tlb_add_page(&batch, BASE);
    tlb_commit(&batch);
    assert_string_equal(events, "p");
}

static void the_limit_follows_the_costs(void **state)
{
    static const struct {
        struct tlb_cost cost;
        unsigned limit;
    } cases[] = {{{.pages = 3200, .page_count = 32, .whole = 1000}, 10},
                 {{.pages = 3200, .page_count = 32, .whole = 1099}, 10},
                 {{.pages = 3200, .page_count = 32, .whole = 99999}, TLB_PAGES_MAX},
                 {{.pages = 3200, .page_count = 32, .whole = 1}, 1},
                 {{.pages = 0, .page_count = 32, .whole = 1000}, 0},
                 {{.pages = 31, .page_count = 32, .whole = 1000}, 0},
                 {{.pages = 3200, .page_count = 32, .whole = 0}, 0},
                 {{.pages = 3200, .page_count = 32, .whole = 64, .miss_count = 64}, 1},
                 {{.pages = 3200, .page_count = 32, .whole = 5, .miss_count = 64}, 0}};
    struct tlb_batch batch;

    (void)state;
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++)
        assert_int_equal(tlb_limit_for(&cases[i].cost), cases[i].limit);
    tlb_set_limit(2);
    tlb_begin(&batch, &tree);
    tlb_add_range(&batch, BASE, BASE + 2 * PAGE_SIZE);
    tlb_commit(&batch);
    tlb_begin(&batch, &tree);
    tlb_add_range(&batch, BASE, BASE + 3 * PAGE_SIZE);
    tlb_commit(&batch);
    tlb_begin(&batch, &tree);
    for (unsigned i = 0; i < 3; i++)
        tlb_add_page(&batch, BASE + i * PAGE_SIZE);
    tlb_commit(&batch);
    tlb_set_limit(TLB_LIMIT_DEFAULT);
    assert_string_equal(events, "ppww");
}

/* Global pages are dropped by nothing less. */
static void the_kernel_is_more_than_everything(void **state)
{
    struct tlb_batch batch;

    (void)state;
    tlb_begin(&batch, NULL);
    tlb_add_everything(&batch);
    tlb_add_kernel(&batch);
    tlb_commit(&batch);
    assert_string_equal(events, "a");
    assert_int_equal(tlb_counts().kernel - before.kernel, 1);
    assert_int_equal(tlb_counts().everything - before.everything, 0);
}

/* Rule P2: first the flush, then the drop. */
static void drops_come_after_the_flush(void **state)
{
    struct tlb_batch batch;

    (void)state;
    tlb_begin(&batch, &tree);
    tlb_add_page(&batch, BASE);
    tlb_release(&batch, swapped_out());
    tlb_release(&batch, swapped_out());
    tlb_add_page(&batch, BASE + PAGE_SIZE);
    assert_string_equal(events, "");
    tlb_commit(&batch);
    assert_string_equal(events, "ppss");
}

/* A full batch flushes and drops before it takes more; its pages are flushed again at commit. */
static void full_batches_flush_early(void **state)
{
    struct tlb_batch batch;

    (void)state;
    tlb_begin(&batch, &tree);
    tlb_add_page(&batch, BASE);
    for (unsigned i = 0; i < TLB_RELEASES_MAX; i++)
        tlb_release(&batch, swapped_out());
    assert_string_equal(events, "");
    assert_false(tlb_has_room(&batch));
    assert_true(PANICS(tlb_release(&batch, swapped_out())));
    tlb_make_room(&batch);
    tlb_release(&batch, swapped_out());
    assert_int_equal(event_count, 1 + TLB_RELEASES_MAX);
    assert_int_equal(events[0], 'p');
    assert_int_equal(events[1], 's');
    tlb_commit(&batch);
    assert_int_equal(event_count, 1 + TLB_RELEASES_MAX + 2);
    assert_string_equal(events + 1 + TLB_RELEASES_MAX, "ps");
}

/* ---- refusals ---- */

static void begin_twice(void *context)
{
    struct tlb_batch a;
    struct tlb_batch b;

    (void)context;
    tlb_begin(&a, &tree);
    tlb_begin(&b, &tree);
}

static void commit_twice(void *context)
{
    struct tlb_batch batch;

    (void)context;
    tlb_begin(&batch, &tree);
    tlb_commit(&batch);
    tlb_commit(&batch);
}

static void add_to_closed(void *context)
{
    struct tlb_batch batch = {0};

    (void)context;
    tlb_add_page(&batch, BASE);
}

static void release_to_closed(void *context)
{
    struct tlb_batch batch = {0};

    (void)context;
    tlb_release(&batch, swapped_out());
}

static void limit_of_none(void *context)
{
    (void)context;
    tlb_set_limit(0);
}

static void limit_of_too_many(void *context)
{
    (void)context;
    tlb_set_limit(TLB_PAGES_MAX + 1);
}

static void range_backwards(void *context)
{
    struct tlb_batch batch;

    (void)context;
    tlb_begin(&batch, &tree);
    tlb_add_range(&batch, BASE, BASE - PAGE_SIZE);
}

static void mistakes_panic(void **state)
{
    static void (*const mistakes[])(void *) = {begin_twice,       commit_twice,    add_to_closed,
                                               release_to_closed, range_backwards, limit_of_none,
                                               limit_of_too_many};

    (void)state;
    assert_int_equal(child_count_panics(mistakes, ARRAY_COUNT(mistakes)), ARRAY_COUNT(mistakes));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nothing_flushes_nothing, set_up),
        cmocka_unit_test_setup(pages_one_by_one, set_up),
        cmocka_unit_test_setup(many_pages_are_the_whole_space, set_up),
        cmocka_unit_test_setup(everything_is_more_than_the_space, set_up),
        cmocka_unit_test_setup(the_limit_follows_the_costs, set_up),
        cmocka_unit_test_setup(the_kernel_is_more_than_everything, set_up),
        cmocka_unit_test_setup(drops_come_after_the_flush, set_up),
        cmocka_unit_test_setup(full_batches_flush_early, set_up),
        cmocka_unit_test_setup(mistakes_panic, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
