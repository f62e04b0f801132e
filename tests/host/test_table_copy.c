/*
 * The copy of a table (rule C4) and its drop (rule C5), beside an entry for entry reference.
 *
 * Two equal tables over the same pages: one is copied as a whole, of the other each entry is shared
 * by itself. Tables come in runs of equal entries and in mixtures, so that the loops for many equal
 * entries meet every kind of entry at every place, saturated counts too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/random.h"
#include "paging/tree/internal.h"
#include "pmm/pmm.h"
#include "tests/host/fake/machine.h"
#include "tests/host/model/space_model_host.h"
#include "tests/host/model/tree_model.h"

#define MEMORY (16 * MIB)
#define PAGES  300U

static const uint64_t bounds[] = {PAGE_SIZE, 2 * PAGE_SIZE};

static struct pfn pages[PAGES];

enum kind {
    KIND_OWN,
    KIND_COW,
    KIND_SHARED,
    KIND_TICKET,
    KIND_ZERO,
    KIND_EMPTY,
    KIND_SWAPPED,
    KIND_TRANSIT,
    KIND_WITHHELD,
    KIND_GUARD,
    KINDS
};

/* An entry of a kind. At level 2 a page's frame stands for that of a table. */
static struct pte some_entry(struct random *dice, enum kind kind, unsigned level,
                             struct rights rights)
{
    static const enum pte_class classes[] = {PTE_OWN, PTE_COW, PTE_SHARED};
    struct pfn page = pages[random_below(dice, PAGES)];
    struct pte entry;

    switch (kind) {
    case KIND_OWN:
    case KIND_COW:
    case KIND_SHARED:
        entry = level == 1            ? pte_leaf(page, 1, classes[kind], rights)
                : kind == KIND_SHARED ? pte_link(page, PTE_SHARED, rights)
                                      : pte_table(page, classes[kind]);
        if (random_below(dice, 2) == 0)
            entry.word &= ~PTE_A;
        if (kind == KIND_OWN && level == 1 && rights.write && random_below(dice, 2) == 0)
            entry.word |= PTE_D;
        return entry;
    case KIND_TICKET: return pte_ticket((uint16_t)random_below(dice, 2), 1);
    case KIND_ZERO: return zero_ladder_entry(level, rights);
    case KIND_SWAPPED:
        if (level == 1)
            return pte_swapped((struct slot){(uint32_t)random_below(dice, FOREST_SLOTS)}, rights);
        return pte_empty();
    case KIND_TRANSIT: return level == 1 ? pte_transit(page, rights) : pte_empty();
    case KIND_WITHHELD: return level == 1 ? pte_withheld(page) : pte_empty();
    case KIND_GUARD: return pte_guard();
    case KIND_EMPTY:
    case KINDS: break;
    }
    return pte_empty();
}

static struct rights some_rights(struct random *dice)
{
    return (struct rights){.write = random_below(dice, 2) == 0,
                           .execute = random_below(dice, 2) == 0,
                           .user = random_below(dice, 2) == 0};
}

/* Fills a table by runs of one kind, or of any kind in a mixture. */
static void fill(struct random *dice, struct pte *entries, unsigned level)
{
    static const unsigned lengths[] = {1, 3, 64, 200, 512};

    for (unsigned i = 0; i < PTE_ENTRIES;) {
        unsigned length = lengths[random_below(dice, ARRAY_COUNT(lengths))];
        unsigned mixed = (unsigned)random_below(dice, 4); /* the first kinds only, or all */
        enum kind kind = (enum kind)random_below(dice, KINDS);
        struct rights rights = some_rights(dice);

        for (; length > 0 && i < PTE_ENTRIES; length--, i++) {
            if (mixed == 0)
                kind = (enum kind)random_below(dice, 2);
            else if (mixed == 1)
                kind = (enum kind)random_below(dice, KINDS);
            entries[i] = some_entry(dice, kind, level, rights);
        }
    }
}

static struct pfn new_table(unsigned level)
{
    struct pfn table;

    assert_int_equal(pmm_alloc(FRAME_TABLE, FRAME_CLEARED, &table), OK);
    frame_record(table)->level = (uint8_t)level;
    return table;
}

static void count_entries(struct pfn table)
{
    struct frame *record = frame_record(table);
    const struct pte *entries = frame_pointer(table);

    record->live = record->table.held = 0;
    for (unsigned i = 0; i < PTE_ENTRIES; i++) {
        record->live = (uint16_t)(record->live + (entries[i].word != 0));
        record->table.held = (uint16_t)(record->table.held + entry_is_held(entries[i]));
    }
}

/* Sets counts as if each page, table and slot had some other references. */
static void set_counts(struct random *dice)
{
    static const uint32_t counts[] = {1, 2, 1000, COUNT_STILL - 700, COUNT_STILL, COUNT_SATURATED};

    for (unsigned i = 0; i < PAGES; i++)
        frame_record(pages[i])->count =
            random_below(dice, 8) == 0 ? counts[random_below(dice, ARRAY_COUNT(counts))] : 5;
    for (unsigned i = 0; i < FOREST_SLOTS; i++)
        forest.slots[i] = 1;
}

static void keep_counts(uint32_t *kept)
{
    for (unsigned i = 0; i < PAGES; i++)
        kept[i] = frame_record(pages[i])->count;
    for (unsigned i = 0; i < FOREST_SLOTS; i++)
        kept[PAGES + i] = forest.slots[i];
}

/* A saturated count may be any of those that never change. */
static void assert_counts(const uint32_t *expected)
{
    for (unsigned i = 0; i < PAGES; i++) {
        uint32_t count = frame_record(pages[i])->count;

        if (expected[i] < COUNT_STILL || count < COUNT_STILL)
            assert_int_equal(count, expected[i]);
    }
    for (unsigned i = 0; i < FOREST_SLOTS; i++)
        assert_int_equal(forest.slots[i], expected[PAGES + i]);
}

/* Ends one round: drops the tables and the other references to their pages. */
static void free_tables(struct pfn *tables, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct frame *record = frame_record(tables[i]);

        record->live = record->table.held = 0;
        record->table.ring_next = record->table.ring_prev = UINT32_MAX;
        pmm_free(tables[i]);
    }
}

static void copies_equal_the_reference(void **state)
{
    uint64_t rounds = model_ops(3000) / 3;
    struct random dice = random_from(model_seed());
    static uint32_t before[PAGES + FOREST_SLOTS];
    static uint32_t after[PAGES + FOREST_SLOTS];

    (void)state;
    for (uint64_t round = 0; round < rounds; round++) {
        unsigned level = random_below(&dice, 4) == 0 ? 2 : 1;
        struct pfn tables[3] = {new_table(level), new_table(level), new_table(level)};
        struct pte *source = frame_pointer(tables[0]);
        struct pte *twin = frame_pointer(tables[1]);
        const struct pte *copy = frame_pointer(tables[2]);

        fill(&dice, source, level);
        machine_copy_frame(twin, source);
        count_entries(tables[0]);
        set_counts(&dice);
        keep_counts(before);

        (void)machine_interrupts_off();
        assert_true(tree_lock(tables[0]));
        tree_copy_table(tables[2], tables[0]);
        tree_unlock(tables[0]);
        machine_interrupts_restore(true);
        keep_counts(after);

        for (unsigned i = 0; i < PAGES; i++)
            frame_record(pages[i])->count = before[i];
        for (unsigned i = 0; i < FOREST_SLOTS; i++)
            forest.slots[i] = before[PAGES + i];
        for (unsigned i = 0; i < PTE_ENTRIES; i++) {
            struct pte expected = tree_share_entry(&twin[i], level);

            if (copy[i].word != expected.word || source[i].word != twin[i].word)
                fail_msg("round %lu, entry %u of level %u: %lx and %lx, not %lx and %lx", round, i,
                         level, source[i].word, copy[i].word, twin[i].word, expected.word);
        }
        assert_counts(after);
        assert_int_equal(frame_record(tables[2])->live, frame_record(tables[0])->live);
        assert_int_equal(frame_record(tables[2])->table.held, frame_record(tables[0])->table.held);
        free_tables(tables, 3);
    }
}

/* The D of dropped entries must be in the page's record, unless that was the last reference. */
static void drops_take_every_reference_back(void **state)
{
    uint64_t rounds = model_ops(3000) / 3;
    struct random dice = random_from(model_seed() + 1);
    static uint32_t before[PAGES + FOREST_SLOTS];
    static bool dirty[PAGES];
    static bool named[PAGES];

    (void)state;
    for (uint64_t round = 0; round < rounds; round++) {
        struct pfn table = new_table(1);
        struct pte *entries = frame_pointer(table);
        uint64_t gone = forest.pages_free_last;

        fill(&dice, entries, 1);
        count_entries(table);
        set_counts(&dice);
        keep_counts(before);
        memset(dirty, 0, sizeof(dirty));
        memset(named, 0, sizeof(named));
        for (unsigned i = 0; i < PAGES; i++) {
            frame_record(pages[i])->flags = 0;
            frame_record(pages[i])->page.back_table =
                random_below(&dice, 2) ? table.index : UINT32_MAX;
        }
        /* One reference for each entry, beside those that the page had. */
        for (unsigned i = 0; i < PTE_ENTRIES; i++) {
            struct pte entry = entries[i];

            if (pte_state(entry, 1) == PTE_SWAPPED)
                forest.slots[pte_slot(entry).index]++;
            else if (entry_is_held(entry))
                frame_count_up(entry_page(entry, 1));
            for (unsigned page = 0; page < PAGES; page++) {
                if (!pfn_equal(entry_page(entry, 1), pages[page]))
                    continue;
                named[page] = true;
                dirty[page] = dirty[page] || (pte_present(entry) && (entry.word & PTE_D) != 0);
            }
        }
        frame_record(table)->table.ring_next = frame_record(table)->table.ring_prev = UINT32_MAX;
        tree_drop(&(struct tlb_release){.entry = pte_table(table, PTE_OWN), .level = 2});
        assert_counts(before);
        assert_int_equal(frame_record(table)->kind, FRAME_FREE);
        assert_int_equal(forest.pages_free_last, gone);
        for (unsigned i = 0; i < PAGES; i++) {
            assert_int_equal((frame_record(pages[i])->flags & FRAME_DIRTY) != 0, dirty[i]);
            assert_true(!named[i] || frame_record(pages[i])->page.back_table == UINT32_MAX);
        }
        assert_int_equal(frame_record(zero_ladder_first)->count, COUNT_SATURATED);
    }
}

/* Pages that no other entry references are handed to the hook, once each, shared or not. */
static void last_references_free_pages(void **state)
{
    struct random dice = random_from(7);
    static struct pfn kept[PTE_ENTRIES];

    (void)state;
    for (unsigned round = 0; round < 40; round++) {
        struct pfn table = new_table(1);
        struct pte *entries = frame_pointer(table);
        struct rights rights = {.write = true, .user = true};
        uint64_t gone = forest.pages_free_last;
        unsigned expected = 0;
        unsigned kept_count = 0;

        for (unsigned i = 0; i < PTE_ENTRIES; i += 1 + round % 2) {
            struct pfn page;
            bool others = random_below(&dice, 2) == 0;

            assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &page), OK);
            entries[i] = pte_leaf(page, 1, round % 4 == 0 ? PTE_OWN : PTE_COW, rights);
            frame_record(page)->page.back_table = random_below(&dice, 2) ? table.index : UINT32_MAX;
            frame_record(page)->page.back_index = (uint16_t)i;
            frame_record(page)->count = others ? 2 : 1;
            if (others)
                kept[kept_count++] = page;
            else
                expected++;
        }
        count_entries(table);
        frame_record(table)->table.ring_next = frame_record(table)->table.ring_prev = UINT32_MAX;
        tree_drop(&(struct tlb_release){.entry = pte_table(table, PTE_OWN), .level = 2});
        assert_int_equal(forest.pages_free_last - gone, expected);
        for (unsigned i = 0; i < kept_count; i++) {
            assert_int_equal(frame_record(kept[i])->count, 1);
            tree_forget_page(kept[i]);
        }
    }
}

/* A corrupt entry among equal ones, and a count of nothing, are noticed. */
static void corruption_is_noticed(void **state)
{
    static const uint64_t bits[] = {PTE_PWT, PTE_G, PTE_RW, UINT64_C(1) << 55, UINT64_C(1) << 45};
    struct rights rights = {.user = true};

    (void)state;
    for (unsigned which = 0; which < ARRAY_COUNT(bits); which++) {
        struct pfn table = new_table(1);
        struct pfn copy = new_table(1);
        struct pte *entries = frame_pointer(table);

        for (unsigned i = 0; i < PTE_ENTRIES; i++) {
            frame_record(pages[i % PAGES])->count = 5;
            entries[i] = pte_leaf(pages[i % PAGES], 1, PTE_COW, rights);
        }
        entries[100 + 64 * which].word ^= bits[which];
        count_entries(table);
        (void)machine_interrupts_off();
        assert_true(tree_lock(table));
        assert_true(PANICS(tree_copy_table(copy, table)));
        machine_interrupts_restore(true);
        frame_record(table)->table.ring_next = frame_record(table)->table.ring_prev = UINT32_MAX;
        frame_record(table)->lock = 0;
        assert_true(PANICS(
            tree_drop(&(struct tlb_release){.entry = pte_table(table, PTE_OWN), .level = 2})));
    }
}

static int set_up(void **state)
{
    (void)state;
    forest_start(MEMORY, 4, bounds, ARRAY_COUNT(bounds));
    for (unsigned i = 0; i < PAGES; i++) {
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &pages[i]), OK);
        frame_record(pages[i])->page.back_table = UINT32_MAX;
    }
    return 0;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(copies_equal_the_reference, set_up),
        cmocka_unit_test_setup(drops_take_every_reference_back, set_up),
        cmocka_unit_test_setup(last_references_free_pages, set_up),
        cmocka_unit_test_setup(corruption_is_noticed, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
