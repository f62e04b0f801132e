/* Collapse: which pages become large ones, that what programs see never changes, and what stays.
 * The random tests of spaces collapse as well; here is what chance does not reach. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "cpu/trap/trap.h"
#include "swapdisk/area.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/mmu.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/page/large.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/range/collapse.h"
#include "vmm/reclaimer/zero_merge.h"
#include "vmm/space/end.h"

/* A GiB that is aligned, and some. */
#define MEMORY (2 * GIB + 64 * MIB)
#define SLOTS  2048U
#define START  (4 * MIB)
#define LARGE  (2 * MIB)

static const struct rights read_write = {.write = true, .user = true};
static const struct rights read_only = {.user = true};

static struct space *space;
static struct collapse_counts before;

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

static void begin(void)
{
    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(space_create(&space), OK);
    space_switch(space);
    before = collapse_counts();
}

static void end(void)
{
    space_audit();
    fake_mmu_check();
    space_switch(NULL);
    space_destroy(space);
    model_end();
}

/* ---- accesses of the running space ---- */

static uint64_t *access(uint64_t address, bool write)
{
    struct phys physical;

    assert_true(model_touch(address, write, &physical) >= 0);
    return phys_pointer(physical);
}

static uint64_t at_page(unsigned page)
{
    return START + page * PAGE_SIZE;
}

static void write_page(unsigned page, uint64_t value)
{
    access(at_page(page), true)[0] = value;
    access(at_page(page), true)[511] = ~value;
}

static void check_page(unsigned page, uint64_t value)
{
    assert_int_equal(access(at_page(page), false)[0], value);
    assert_int_equal(access(at_page(page), false)[511], ~value);
    assert_int_equal(access(at_page(page), false)[256], 0);
}

static void write_all(uint64_t first)
{
    for (unsigned i = 0; i < PTE_ENTRIES; i++)
        write_page(i, first + i);
}

static void check_all(uint64_t first)
{
    for (unsigned i = 0; i < PTE_ENTRIES; i++)
        check_page(i, first + i);
}

static struct tree_place place_of(const struct space *of, uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&of->tree, address);

    machine_interrupts_restore(were_on);
    return place;
}

static struct pte *entry_at(struct tree_place place)
{
    return (struct pte *)frame_pointer(place.table) + place.index;
}

static unsigned level_at(uint64_t address)
{
    return place_of(space, address).level;
}

static enum status collapse(void)
{
    enum status status = space_advise(space, START, LARGE, SPACE_COLLAPSE);

    space_audit();
    fake_mmu_check();
    return status;
}

static void check_counts(uint64_t in_place, uint64_t copied, uint64_t refused, uint64_t no_block)
{
    struct collapse_counts now = collapse_counts();

    assert_int_equal(now.in_place - before.in_place, in_place);
    assert_int_equal(now.copied - before.copied, copied);
    assert_int_equal(now.refused - before.refused, refused);
    assert_int_equal(now.no_block - before.no_block, no_block);
}

/* Maps this many pages, whose frames are in reverse order and form no block. */
static void begin_with_pages(unsigned from, unsigned count)
{
    begin();
    assert_int_equal(space_map(space, &SPACE_AT(START, LARGE, read_write), NULL), OK);
    for (unsigned i = count; i-- > 0;)
        write_page(from + i, 100 + from + i);
}

/* ---- what becomes large ---- */

/* One of the pages was unmapped, and another page took its place. */
static void a_split_page_of_others_parts_is_copied(void **state)
{
    struct pfn freed;

    (void)state;
    begin();
    assert_int_equal(space_map(space, &SPACE_AT(START, LARGE, read_write, .page_level = 2), NULL),
                     OK);
    write_all(100);
    assert_int_equal(space_protect(space, START, PAGE_SIZE, read_only), OK);
    assert_int_equal(space_protect(space, START, PAGE_SIZE, read_write), OK);
    assert_int_equal(level_at(START), 1);
    assert_int_equal(space_advise(space, START, PAGE_SIZE, SPACE_DONT_NEED), OK);
    assert_int_equal(pmm_alloc(FRAME_DEVICE, FRAME_UNCLEARED, &freed), OK);
    write_page(0, 100);
    pmm_free(freed);
    assert_int_equal(collapse(), OK);
    check_counts(0, 1, 0, 0);
    assert_int_equal(level_at(START), 2);
    check_all(100);
    end();
}

static void what_a_split_left_becomes_one_page_in_place(void **state)
{
    struct pmm_usage usage;
    struct pfn page;

    (void)state;
    begin();
    assert_int_equal(space_map(space, &SPACE_AT(START, LARGE, read_write, .page_level = 2), NULL),
                     OK);
    write_all(100);
    page = pte_frame(place_of(space, START).entry);
    assert_int_equal(space_protect(space, START, PAGE_SIZE, read_only), OK);
    assert_int_equal(space_protect(space, START, PAGE_SIZE, read_write), OK);
    assert_int_equal(level_at(START), 1);
    usage = pmm_usage();
    assert_int_equal(collapse(), OK);
    check_counts(1, 0, 0, 0);
    assert_int_equal(level_at(START), 2);
    assert_true(pfn_equal(pte_frame(place_of(space, START).entry), page));
    assert_int_equal(pmm_usage().by_kind[FRAME_TABLE], usage.by_kind[FRAME_TABLE] - 1);
    assert_int_equal(pmm_usage().by_kind[FRAME_ANONYMOUS], usage.by_kind[FRAME_ANONYMOUS]);
    assert_int_equal(page_clock_size(), 0);
    assert_int_equal(large_frames(), PTE_ENTRIES);
    check_all(100);
    write_all(5000);
    assert_int_equal(collapse(), OK); /* nothing left to merge */
    check_counts(1, 0, 0, 0);
    check_all(5000);
    end();
}

/* Scattered pages with holes between them: tickets, and zero pages. */
static void scattered_pages_and_holes_are_copied(void **state)
{
    struct pmm_usage usage;

    (void)state;
    begin_with_pages(10, 100);
    for (unsigned i = 200; i < 220; i++)
        assert_int_equal(access(at_page(i), false)[0], 0);
    usage = pmm_usage();
    assert_int_equal(collapse(), OK);
    check_counts(0, 1, 0, 0);
    assert_int_equal(level_at(START), 2);
    assert_int_equal(pmm_usage().by_kind[FRAME_ANONYMOUS],
                     usage.by_kind[FRAME_ANONYMOUS] + PTE_ENTRIES - 100);
    assert_int_equal(pmm_usage().by_kind[FRAME_TABLE], usage.by_kind[FRAME_TABLE] - 1);
    for (unsigned i = 0; i < PTE_ENTRIES; i++) {
        if (i >= 10 && i < 110)
            check_page(i, 100 + i);
        else
            assert_int_equal(access(at_page(i), false)[i], 0);
    }
    write_all(7000); /* without a fault: the right to write has come along */
    assert_int_equal(level_at(START), 2);
    check_all(7000);
    end();
}

/* A range of which only the middle is aligned, in two regions. */
static void only_whole_pieces_of_one_region_are_taken(void **state)
{
    (void)state;
    begin();
    assert_int_equal(space_map(space, &SPACE_AT(START, 6 * MIB, read_write), NULL), OK);
    for (unsigned i = 0; i < 3 * PTE_ENTRIES; i += 64)
        write_page(i, i);
    assert_int_equal(space_protect(space, START + 5 * MIB, MIB, read_only), OK);
    assert_int_equal(space_advise(space, START + PAGE_SIZE, 6 * MIB - PAGE_SIZE, SPACE_COLLAPSE),
                     OK);
    assert_int_equal(level_at(START), 1);
    assert_int_equal(level_at(START + LARGE), 2);
    assert_int_equal(level_at(START + 2 * LARGE), 1);
    check_counts(0, 1, 0, 0);
    for (unsigned i = 0; i < 3 * PTE_ENTRIES; i += 64)
        check_page(i, i);
    end();
}

/* Tables with one reference left after a fork ended become own again, along the path. */
static void tables_that_were_shared_are_taken_back(void **state)
{
    struct space *child;

    (void)state;
    begin_with_pages(0, 20);
    assert_int_equal(space_fork(space, &child), OK);
    space_destroy(child);
    assert_int_equal(collapse(), OK);
    check_counts(0, 1, 0, 0);
    assert_true(place_of(space, START).own);
    for (unsigned i = 0; i < 20; i++)
        check_page(i, 100 + i);
    end();
}

static void evict_all(void)
{
    while (page_reclaim_some())
        ;
    assert_int_equal(page_clock_size(), 0);
}

/* Those that are out come back for it, and no slot stays behind. */
static void pages_on_the_disk_are_brought_in(void **state)
{
    (void)state;
    begin_with_pages(3, 30);
    evict_all();
    assert_int_equal(swap_usage().used, 30);
    read_ahead_allow(false); /* each page is brought in by itself */
    check_page(7, 107);      /* in the swap cache now */
    assert_int_equal(collapse(), OK);
    check_counts(0, 1, 0, 0);
    read_ahead_allow(true);
    assert_int_equal(collapse_counts().brought_in - before.brought_in, 29);
    assert_int_equal(swap_usage().used, 0);
    for (unsigned i = 3; i < 33; i++)
        check_page(i, 100 + i);
    end();
}

/* The large page can be all that a large page can: shared, split, and put together again. */
static void what_was_merged_can_be_split_again(void **state)
{
    struct space *child;

    (void)state;
    begin_with_pages(0, PTE_ENTRIES);
    assert_int_equal(collapse(), OK);
    assert_int_equal(space_fork(space, &child), OK);
    write_page(5, 42);
    assert_int_equal(level_at(START), 1);
    check_page(5, 42);
    space_switch(child);
    check_page(5, 105);
    space_switch(space);
    space_audit();
    assert_int_equal(collapse(), STATUS_AGAIN);
    check_page(5, 42);
    space_destroy(child);
    space_finish_ends();
    assert_int_equal(collapse(), OK);
    check_page(5, 42);
    check_page(6, 106);
    check_counts(0, 2, 1, 0);
    assert_true(large_split_one());
    assert_int_equal(level_at(START), 1);
    assert_int_equal(collapse(), OK);
    check_counts(1, 2, 1, 0);
    check_page(5, 42);
    evict_all(); /* takes it apart, since nothing else is there */
    check_page(511, 611);
    end();
}

/* 1 GiB in one page, split down to 4 KiB on one path, and all the way back. */
static void a_gibibyte_is_put_together_in_place(void **state)
{
    struct pfn page;

    (void)state;
    begin();
    assert_int_equal(space_map(space, &SPACE_AT(GIB, GIB, read_write, .page_level = 3), NULL), OK);
    access(GIB + 5 * MIB, true)[3] = 77;
    access(2 * GIB - PAGE_SIZE, true)[4] = 78;
    assert_int_equal(level_at(GIB), 3);
    page = pte_frame(place_of(space, GIB).entry);
    assert_int_equal(space_protect(space, GIB + 9 * PAGE_SIZE, PAGE_SIZE, read_only), OK);
    assert_int_equal(level_at(GIB), 1);
    assert_int_equal(level_at(GIB + 5 * MIB), 2);
    assert_int_equal(space_advise(space, GIB, GIB, SPACE_COLLAPSE), OK);
    assert_int_equal(level_at(GIB), 1); /* not all of one right */
    assert_int_equal(space_protect(space, GIB + 9 * PAGE_SIZE, PAGE_SIZE, read_write), OK);
    assert_int_equal(space_advise(space, GIB, LARGE, SPACE_COLLAPSE), OK);
    assert_int_equal(level_at(GIB), 2); /* asked for no more than this */
    assert_int_equal(space_advise(space, GIB, GIB, SPACE_COLLAPSE), OK);
    assert_int_equal(level_at(GIB), 3);
    assert_true(pfn_equal(pte_frame(place_of(space, GIB).entry), page));
    check_counts(2, 0, 0, 0);
    assert_int_equal(large_frames(), GIB / PAGE_SIZE);
    assert_int_equal(access(GIB + 5 * MIB, false)[3], 77);
    assert_int_equal(access(2 * GIB - PAGE_SIZE, false)[4], 78);
    end();
}

/* ---- A and D ---- */

static void used_and_written_are_kept(void **state)
{
    struct pfn page;

    (void)state;
    for (unsigned round = 0; round < 4; round++) {
        begin_with_pages(0, PTE_ENTRIES);
        for (unsigned i = 0; i < PTE_ENTRIES; i++) {
            struct pte *entry = entry_at(place_of(space, at_page(i)));

            entry->word &= ~(PTE_A | PTE_D);
            frame_record(pte_frame(*entry))->flags &= (uint8_t)~FRAME_DIRTY;
        }
        if ((round & 1) != 0)
            entry_at(place_of(space, at_page(300)))->word |= PTE_A;
        if ((round & 2) != 0)
            entry_at(place_of(space, at_page(301)))->word |= PTE_D;
        fake_mmu_start(4);
        assert_int_equal(collapse(), OK);
        page = pte_frame(place_of(space, START).entry);
        assert_int_equal((place_of(space, START).entry.word & PTE_A) != 0, (round & 1) != 0);
        assert_int_equal((frame_record(page)->flags & FRAME_DIRTY) != 0, (round & 2) != 0);
        end();
    }
}

/* ---- what stays ---- */

static void shared_tables_and_pages_stay(void **state)
{
    struct space *child;
    uint64_t words[PTE_ENTRIES];

    (void)state;
    begin_with_pages(0, 50);
    assert_int_equal(space_fork(space, &child), OK);
    assert_int_equal(collapse(), STATUS_AGAIN);
    assert_false(place_of(space, START).own); /* nothing was copied for it */
    write_page(60, 160);
    assert_true(place_of(space, START).own);
    memcpy(words, frame_pointer(place_of(space, START).table), sizeof(words));
    assert_int_equal(collapse(), STATUS_AGAIN);
    assert_memory_equal(words, frame_pointer(place_of(space, START).table), sizeof(words));
    check_counts(0, 0, 2, 0);
    space_destroy(child);
    end();
}

/* A page held elsewhere has one more reference; the other pages return to their clock. */
static void pages_in_use_stay(void **state)
{
    struct pfn page;

    (void)state;
    begin_with_pages(0, 50);
    page = pte_frame(place_of(space, at_page(30)).entry);
    tree_hold(page);
    assert_int_equal(space_advise(space, START, LARGE, SPACE_COLLAPSE), STATUS_AGAIN);
    assert_int_equal(page_clock_size(), 50);
    page_release(page);
    /* As if another processor had just taken it out of its clock, to evict it. */
    assert_true(page_withdraw(page));
    assert_int_equal(space_advise(space, START, LARGE, SPACE_COLLAPSE), STATUS_AGAIN);
    assert_int_equal(page_clock_size(), 49);
    page_publish(page);
    check_counts(0, 0, 2, 0);
    assert_int_equal(collapse(), OK);
    for (unsigned i = 0; i < 50; i++)
        check_page(i, 100 + i);
    end();
}

static void without_access_nothing_is_merged(void **state)
{
    (void)state;
    begin_with_pages(0, 50);
    assert_int_equal(space_protect(space, START, LARGE, (struct rights){.none = true}), OK);
    assert_int_equal(collapse(), OK);
    check_counts(0, 0, 0, 0);
    assert_int_equal(space_protect(space, START, LARGE, read_only), OK);
    assert_int_equal(collapse(), OK);
    check_counts(0, 1, 0, 0);
    assert_int_equal(space_advise(space, START, 2 * LARGE, SPACE_COLLAPSE), STATUS_NOT_FOUND);
    end();
}

/* Without a free block a collapse changes nothing and evicts nothing, also if pages are out. */
static void without_a_block_nothing_changes(void **state)
{
    uint64_t words[PTE_ENTRIES];

    (void)state;
    begin_with_pages(0, 50);
    evict_all();
    check_page(20, 120);
    memcpy(words, frame_pointer(place_of(space, START).table), sizeof(words));
    model_leave_frames(300);
    assert_int_equal(collapse(), STATUS_NO_MEMORY);
    assert_memory_equal(words, frame_pointer(place_of(space, START).table), sizeof(words));
    check_counts(0, 0, 0, 1);
    assert_int_equal(swap_usage().used, 50);
    model_leave_frames(UINT64_MAX);
    page_set_limit(1000);
    assert_int_equal(collapse(), STATUS_NO_MEMORY);
    page_set_limit(UINT64_MAX);
    assert_int_equal(collapse(), OK);
    for (unsigned i = 0; i < 50; i++)
        check_page(i, 100 + i);
    end();
}

/* ---- beside other processors ---- */

static void (*flush)(void);
static void (*before_flush)(void);

static void flush_late(void)
{
    if (before_flush != NULL)
        before_flush();
    before_flush = NULL;
    flush();
    /* The processor speculates once more and caches the path to the old table. */
    fake_mmu_speculate(START);
}

/* The table of the small pages; and the flush after which no walk is in it. */
static struct pfn old_table;
static void (*flush_page)(uint64_t address);

/* A walk that is still in the old table must not find that nothing is mapped there. */
static void flush_page_late(uint64_t address)
{
    const struct pte *entries = frame_pointer(old_table);

    for (unsigned i = 0; i < PTE_ENTRIES; i++)
        assert_true(!pte_present(entries[i]) && pte_state(entries[i], 1) != PTE_EMPTY);
    flush_page(address);
}

/* Another processor's work before it answers the first flush. */
static enum status collapse_while(void (*other)(void))
{
    enum status status;

    old_table = place_of(space, START).table;
    flush = fake_on_flush_space;
    flush_page = fake_on_flush_page;
    before_flush = other;
    fake_on_flush_space = flush_late;
    fake_on_flush_page = flush_page_late;
    status = space_advise(space, START, LARGE, SPACE_COLLAPSE);
    fake_on_flush_space = flush;
    fake_on_flush_page = flush_page;
    assert_null(before_flush);
    return status;
}

/* By a translation that it still has. */
static void store(void)
{
    struct pte entry = place_of(space, at_page(7)).entry;

    assert_int_equal(pte_state(entry, 1), PTE_TRANSIT);
    *((uint64_t *)frame_pointer(pte_payload_frame(entry)) + 256) = 42;
}

static void a_store_before_the_flush_is_kept(void **state)
{
    (void)state;
    begin_with_pages(0, 20);
    assert_int_equal(collapse_while(store), OK);
    assert_int_equal(access(at_page(7), false)[256], 42);
    end();
}

/* Reclaim, a scan for zeros and a fault find the table dead, and no page to take. */
static void others_come(void)
{
    struct tree_place place = place_of(space, START);
    bool were_on = machine_interrupts_off();
    unsigned evicted;

    assert_false(tree_lock(place.table));
    for (unsigned i = 0; i < PTE_ENTRIES; i++)
        assert_true(!pte_present(entry_at(place)[i]) && entry_at(place)[i].word != 0);
    machine_interrupts_restore(were_on);
    assert_int_equal(page_clock_size(), 0);
    assert_int_equal(reclaim_pages(8, &evicted), OK);
    assert_int_equal(evicted, 0);
    assert_int_equal(zero_merge(100), 0);
    assert_false(large_split_one());
}

static struct pfn held_page;

static void release_held_page(void)
{
    if (!pfn_is_none(held_page))
        page_release(held_page);
    held_page = PFN_NONE;
}

/* Another thread that is about to split the page, or looks at it, holds it for a moment. */
static void a_split_waits_for_a_hold(void **state)
{
    (void)state;
    begin_with_pages(0, PTE_ENTRIES);
    assert_int_equal(space_advise(space, START, LARGE, SPACE_COLLAPSE), OK);
    held_page = pte_frame(place_of(space, START).entry);
    tree_hold(held_page);
    fake_on_relax = release_held_page;
    assert_true(large_split_one());
    fake_on_relax = NULL;
    assert_true(pfn_is_none(held_page));
    assert_false(large_split_one());
    end();
}

static void others_find_nothing_meanwhile(void **state)
{
    (void)state;
    begin_with_pages(0, 20);
    for (unsigned i = 100; i < 110; i++) /* these show the zero page */
        (void)access(at_page(i), false);
    assert_int_equal(collapse_while(others_come), OK);
    for (unsigned i = 0; i < 20; i++)
        check_page(i, 100 + i);
    assert_true(large_split_one());
    assert_int_equal(collapse_while(others_come), OK);
    check_counts(1, 1, 0, 0);
    end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_split_left_becomes_one_page_in_place),
        cmocka_unit_test(a_split_page_of_others_parts_is_copied),
        cmocka_unit_test(scattered_pages_and_holes_are_copied),
        cmocka_unit_test(only_whole_pieces_of_one_region_are_taken),
        cmocka_unit_test(tables_that_were_shared_are_taken_back),
        cmocka_unit_test(pages_on_the_disk_are_brought_in),
        cmocka_unit_test(what_was_merged_can_be_split_again),
        cmocka_unit_test(a_gibibyte_is_put_together_in_place),
        cmocka_unit_test(used_and_written_are_kept),
        cmocka_unit_test(shared_tables_and_pages_stay),
        cmocka_unit_test(pages_in_use_stay),
        cmocka_unit_test(without_access_nothing_is_merged),
        cmocka_unit_test(without_a_block_nothing_changes),
        cmocka_unit_test(a_store_before_the_flush_is_kept),
        cmocka_unit_test(a_split_waits_for_a_hold),
        cmocka_unit_test(others_find_nothing_meanwhile),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
