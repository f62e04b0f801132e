/*
 * Several processors drop the same pages at once, through tables of one ring.
 *
 * The entries of all tables reference the same pages. Each thread replaces the entries of its
 * table, all at the same index at about the same time; the last table keeps its entries. In every
 * interleaving each page's back pointer must end at the last table's entry (rule R1).
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "paging/tree/internal.h"
#include "paging/tree/table_access.h"
#include "pmm/pmm.h"
#include "tests/host/fake/machine.h"

#define THREADS 2U
#define TABLES  (THREADS + 1)
#define ROUNDS  400U
/* Entries that each thread replaces without looking where the others are. */
#define TOGETHER 16U

#define RIGHTS ((struct rights){.write = true, .user = true})

static struct pfn tables[TABLES];
static struct pfn pages[PTE_ENTRIES];
static unsigned arrived[PTE_ENTRIES / TOGETHER];

static struct pte *entry_at(unsigned table, unsigned index)
{
    return (struct pte *)frame_pointer(tables[table]) + index;
}

/* All tables map all pages. Most back pointers are in the table before the first one in the ring,
 * so that the next candidate is removed at the same time; the others vary. */
static void share_pages(unsigned round)
{
    for (unsigned i = 0; i < PTE_ENTRIES; i++) {
        struct frame *record = frame_record(pages[i]);

        for (unsigned table = 0; table < TABLES; table++)
            *entry_at(table, i) = pte_leaf(pages[i], 1, PTE_COW, RIGHTS);
        record->count = TABLES;
        record->page.back_table = tables[i % 8 == 0 ? (round + i / 8) % TABLES : 1].index;
        record->page.back_index = (uint16_t)i;
        arrived[i / TOGETHER] = 0;
    }
    for (unsigned table = 0; table < TABLES; table++)
        frame_record(tables[table])->live = frame_record(tables[table])->table.held = PTE_ENTRIES;
}

static void *let_go(void *context)
{
    unsigned number = *(const unsigned *)context;

    fake_machine_be_cpu(number);
    for (unsigned i = 0; i < PTE_ENTRIES; i++) {
        bool were_on = machine_interrupts_off();

        if (i % TOGETHER == 0) {
            __atomic_add_fetch(&arrived[i / TOGETHER], 1, __ATOMIC_ACQ_REL);
            while (__atomic_load_n(&arrived[i / TOGETHER], __ATOMIC_ACQUIRE) < THREADS)
                sched_yield();
        }
        if (!tree_lock(tables[number]))
            abort();
        tree_replace_entry(tables[number], i, pte_empty());
        tree_unlock(tables[number]);
        if (tree_release(pages[i]) == 0)
            abort();
        machine_interrupts_restore(were_on);
    }
    return NULL;
}

static void the_one_left_is_named(void **state)
{
    static unsigned numbers[THREADS];
    pthread_t threads[THREADS];

    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        share_pages(round);
        for (unsigned i = 0; i < THREADS; i++) {
            numbers[i] = i;
            assert_int_equal(pthread_create(&threads[i], NULL, let_go, &numbers[i]), 0);
        }
        for (unsigned i = 0; i < THREADS; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        for (unsigned i = 0; i < PTE_ENTRIES; i++) {
            assert_int_equal(frame_record(pages[i])->count, 1);
            assert_int_equal(frame_record(pages[i])->page.back_table, tables[TABLES - 1].index);
            assert_true(rmap_has_pointer(pages[i]));
        }
    }
}

static int set_up(void **state)
{
    (void)state;
    fake_machine_start(16 * MIB);
    for (unsigned i = 0; i < TABLES; i++) {
        if (pmm_alloc(FRAME_TABLE, FRAME_CLEARED, &tables[i]) != OK)
            return -1;
        tree_place_table(tables[i], 1, 0);
        if (i > 0)
            rmap_join(tables[i], tables[0]);
    }
    for (unsigned i = 0; i < PTE_ENTRIES; i++) {
        if (pmm_alloc(FRAME_ANONYMOUS, FRAME_UNCLEARED, &pages[i]) != OK)
            return -1;
    }
    return 0;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(the_one_left_is_named)};

    return cmocka_run_group_tests(tests, set_up, NULL);
}
