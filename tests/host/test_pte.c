/* Entries: every pattern of control bits has one state, by an oracle written from the layout
 * in docs/tree.md; tickets are told from forgeries; no entry that is not present names memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/random.h"
#include "paging/pte.h"
#include "tests/host/fake/machine.h"

#define LEVELS 5U

static struct random dice = {7};

/* ---- the oracle: the layout's table, bit by bit ---- */

static unsigned bits(uint64_t word, unsigned low, unsigned high)
{
    return (unsigned)(word >> low & ((UINT64_C(1) << (high - low + 1)) - 1));
}

static enum pte_state present_says(uint64_t word, unsigned level)
{
    bool is_large = level > 1 && bits(word, 7, 7) == 1;
    unsigned class = bits(word, 9, 10);
    bool may_write = bits(word, 11, 11) == 1;
    uint64_t frame = word >> 12 & ((UINT64_C(1) << 40) - 1);

    /* Bits that no builder sets: caching (3, 4), global (8), protection keys and software (52-62),
     * and at level 1 the PAT bit (7). */
    if (bits(word, 3, 4) != 0 || bits(word, 8, 8) != 0 || bits(word, 52, 62) != 0 ||
        (level == 1 && bits(word, 7, 7) != 0))
        return PTE_CORRUPT;
    if (class == 0 || (bits(word, 1, 1) == 1) != (may_write && class != 2))
        return PTE_CORRUPT;
    if (frame >= UINT32_MAX)
        return PTE_CORRUPT;
    if (level == 1)
        return PTE_LEAF;
    if (is_large && level == 2)
        return frame % 512 == 0 ? PTE_LEAF : PTE_CORRUPT;
    if (is_large && level == 3)
        return frame % (512 * 512) == 0 ? PTE_LEAF : PTE_CORRUPT;
    if (is_large)
        return PTE_CORRUPT;
    /* Rule E2: own links allow everything. */
    if (class == 1 && (!may_write || bits(word, 2, 2) == 0 || bits(word, 63, 63) == 1))
        return PTE_CORRUPT;
    return PTE_TABLE;
}

static enum pte_state absent_says(uint64_t word, unsigned level)
{
    /* Payload bits 28-39 are at 52-63. With 32 for slot or frame and 4 for rights, bits 8-11 are
     * spare; the last right, no access, excludes the others. */
    bool spare_clear = bits(word, 60, 63) == 0 && bits(word, 56, 59) <= 8;
    bool no_access = bits(word, 56, 63) == 8;
    bool nothing = bits(word, 4, 31) == 0 && bits(word, 52, 63) == 0;

    if (word == 0)
        return PTE_EMPTY;
    if (bits(word, 32, 51) != 0xfffff)
        return PTE_CORRUPT;
    switch (bits(word, 1, 3)) {
    case 1: return PTE_TICKET;
    case 2: return level == 1 && spare_clear ? PTE_SWAPPED : PTE_CORRUPT;
    case 3: return level == 1 && spare_clear ? PTE_TRANSIT : PTE_CORRUPT;
    case 4: return nothing ? PTE_GUARD : PTE_CORRUPT;
    case 5: return level <= 3 && no_access ? PTE_WITHHELD : PTE_CORRUPT;
    default: return PTE_CORRUPT;
    }
}

static void compare(uint64_t word, unsigned level)
{
    enum pte_state says = (word & 1) != 0 ? present_says(word, level) : absent_says(word, level);
    enum pte_state is = pte_state((struct pte){word}, level);

    if (is != says)
        fail_msg("%016lx at level %u is %s, but should be %s", word, level, pte_state_name(is),
                 pte_state_name(says));
}

/* All patterns of bits 0-11 and 52-63, with this in between. */
static void compare_all(uint64_t middle, uint64_t high_step)
{
    for (uint64_t high = 0; high < 4096; high += high_step) {
        for (uint64_t low = 0; low < 4096; low++) {
            for (unsigned level = 1; level <= LEVELS; level++)
                compare(high << 52 | middle << 12 | low, level);
        }
    }
}

static void every_pattern_has_its_state(void **state)
{
    static const uint64_t present[] = {1,          512,        512 * 512,
                                       512 * 511,  0xfffffffe, 0xffffffff,
                                       1ULL << 32, 1ULL << 39, (1ULL << 40) - 1};
    static const uint64_t payloads[] = {0, 1, 0xfffff, 0x80000, 0x12345};

    (void)state;
    compare_all(0, 1);
    compare_all(UINT64_C(0xfffff) << 20, 1);
    for (unsigned i = 0; i < ARRAY_COUNT(present); i++)
        compare_all(present[i], 127);
    for (unsigned i = 0; i < ARRAY_COUNT(payloads); i++) {
        compare_all(UINT64_C(0xfffff) << 20 | payloads[i], 17);
        compare_all(UINT64_C(0xffffe) << 20 | payloads[i], 127);
        compare_all(UINT64_C(0x7ffff) << 20 | payloads[i], 127);
    }
}

static void random_words_have_their_state(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2000000; i++) {
        uint64_t word = random_next(&dice);

        if (i % 2 == 0)
            word |= UINT64_C(0xfffff) << 32;
        compare(word, 1 + i % LEVELS);
    }
}

/* ---- builders ---- */

static struct rights rights_of(uint64_t number)
{
    if (number % 9 == 8)
        return (struct rights){.none = true};
    return (struct rights){
        .write = (number & 1) != 0, .execute = (number & 2) != 0, .user = (number & 4) != 0};
}

static void assert_rights(struct rights is, struct rights wanted)
{
    assert_int_equal(is.write, wanted.write);
    assert_int_equal(is.execute, wanted.execute);
    assert_int_equal(is.user, wanted.user);
    assert_int_equal(is.none, wanted.none);
}

/* Rule E7: whatever the width of physical addresses, the top 4 GiB of them are meant. */
static void assert_names_no_memory(struct pte entry)
{
    for (unsigned width = 36; width <= 52; width++) {
        uint64_t address = entry.word & ((UINT64_C(1) << width) - 1) & ~UINT64_C(0xfff);

        assert_false(pte_present(entry));
        assert_true(address >= (UINT64_C(1) << width) - 4 * GIB);
    }
}

static void built_entries_come_apart_again(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100000; i++) {
        uint32_t number = (uint32_t)random_next(&dice);
        struct rights rights = rights_of(random_next(&dice));
        struct pte swapped = pte_swapped((struct slot){number}, rights);
        struct pte transit = pte_transit((struct pfn){number}, rights);
        struct pte withheld = pte_withheld((struct pfn){number});

        assert_int_equal(pte_state(swapped, 1), PTE_SWAPPED);
        assert_int_equal(pte_slot(swapped).index, number);
        assert_rights(pte_rights(swapped), rights);
        assert_int_equal(pte_state(transit, 1), PTE_TRANSIT);
        assert_int_equal(pte_payload_frame(transit).index, number);
        assert_rights(pte_rights(transit), rights);
        assert_int_equal(pte_state(withheld, 1 + i % 3), PTE_WITHHELD);
        assert_int_equal(pte_payload_frame(withheld).index, number);
        assert_rights(pte_rights(withheld), (struct rights){.none = true});
        assert_names_no_memory(swapped);
        assert_names_no_memory(transit);
        assert_names_no_memory(withheld);
    }
    assert_names_no_memory(pte_guard());
    assert_int_equal(pte_state(pte_guard(), 5), PTE_GUARD);
    assert_int_equal(pte_state(pte_empty(), 5), PTE_EMPTY);
}

static void payloads_come_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t payload = i < 40 ? UINT64_C(1) << i : random_next(&dice) >> 24;
        struct pte entry = pte_absent((enum pte_type)(1 + i % 5), payload);

        assert_int_equal(pte_payload(entry), payload);
        assert_names_no_memory(entry);
    }
    assert_true(PANICS((void)pte_absent(PTE_TYPE_TICKET, UINT64_C(1) << 40)));
}

static void leaves_and_links(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100000; i++) {
        unsigned level = 1 + i % 3;
        enum pte_class class = (enum pte_class)(1 + i / 3 % 3);
        uint32_t block = level == 1 ? 1 : level == 2 ? 512 : 512 * 512;
        struct pfn frame = {(uint32_t)random_below(&dice, UINT32_MAX - 1) / block * block};
        struct rights rights = rights_of(i % 8);
        struct pte leaf = pte_leaf(frame, level, class, rights);
        struct pte link = pte_table(frame, class);

        assert_int_equal(pte_state(leaf, level), PTE_LEAF);
        assert_int_equal(pte_frame(leaf).index, frame.index);
        assert_int_equal(pte_class(leaf), class);
        assert_rights(pte_rights(leaf), rights);
        assert_int_equal((leaf.word & PTE_RW) != 0, rights.write && class != PTE_COW);
        assert_int_equal(pte_state(link, level + 1), PTE_TABLE);
        assert_int_equal(pte_frame(link).index, frame.index);
        assert_int_equal(pte_class(link), class);
        assert_int_equal((link.word & PTE_RW) != 0, class != PTE_COW);
    }
    assert_int_equal(pte_page((struct pfn){512}, 2, PTE_COW, rights_of(5)).word,
                     pte_leaf((struct pfn){512}, 2, PTE_COW, rights_of(5)).word);
    assert_int_equal(pte_state(pte_page((struct pfn){512}, 2, PTE_COW, rights_of(8)), 2),
                     PTE_WITHHELD);
    assert_true(PANICS((void)pte_leaf((struct pfn){1}, 4, PTE_OWN, rights_of(1))));
    assert_true(PANICS((void)pte_leaf((struct pfn){1}, 1, PTE_CLASS_NONE, rights_of(1))));
    assert_true(PANICS((void)pte_table((struct pfn){1}, PTE_CLASS_NONE)));
    assert_true(PANICS((void)pte_state(pte_empty(), 0)));
    assert_true(PANICS((void)pte_state(pte_empty(), 6)));
}

/* A processor without NX: everything may be executed, and no entry has bit 63. */
static void without_nx(void **state)
{
    struct pte leaf;

    (void)state;
    pte_nx = 0;
    leaf = pte_leaf((struct pfn){5}, 1, PTE_OWN, rights_of(1));
    pte_nx = PTE_NX;
    assert_int_equal(leaf.word >> 63, 0);
    assert_true(pte_rights(leaf).execute);
}

/* ---- changes in place ---- */

static void cow_and_own_keep_the_rest(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 64; i++) {
        struct rights rights = rights_of(i);
        uint64_t hardware = (i & 8 ? PTE_D : 0);
        struct pte own = {pte_leaf((struct pfn){77}, 1, PTE_OWN, rights).word | hardware};
        struct pte cow = {pte_leaf((struct pfn){77}, 1, PTE_COW, rights).word | hardware};
        struct pte entry = own;

        assert_int_equal(pte_make_cow(&entry).word, own.word);
        assert_int_equal(entry.word, cow.word);
        pte_make_own(&entry);
        assert_int_equal(entry.word, own.word);
        assert_true(PANICS(pte_make_own(&entry)));
        assert_true(PANICS((void)pte_make_cow(&cow)));
    }
}

/* ---- tickets ---- */

static bool is_taken(struct pte entry, uint16_t *index, uint8_t *generation)
{
    return pte_state(entry, 1) == PTE_TICKET && pte_ticket_decode(entry, index, generation);
}

static void tickets_come_back(void **state)
{
    uint16_t index;
    uint8_t generation;

    (void)state;
    for (unsigned i = 0; i < 65536 * 4; i++) {
        struct pte ticket = pte_ticket((uint16_t)i, (uint8_t)(i >> 10));

        assert_true(is_taken(ticket, &index, &generation));
        assert_int_equal(index, (uint16_t)i);
        assert_int_equal(generation, (uint8_t)(i >> 10));
        assert_names_no_memory(ticket);
    }
}

static void assert_refused(uint64_t word)
{
    uint16_t index;
    uint8_t generation;

    if ((word & PTE_P) != 0)
        assert_int_equal(pte_state((struct pte){word}, 1), PTE_CORRUPT);
    else
        assert_false(is_taken((struct pte){word}, &index, &generation));
}

/* Rule E6: three bits at least between two valid codes. */
static void one_or_two_flips_make_no_ticket(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 400; i++) {
        uint64_t ticket =
            pte_ticket((uint16_t)random_next(&dice), (uint8_t)random_next(&dice)).word;

        for (unsigned a = 0; a < 64; a++) {
            assert_refused(ticket ^ UINT64_C(1) << a);
            for (unsigned b = 0; b < a; b++)
                assert_refused(ticket ^ UINT64_C(1) << a ^ UINT64_C(1) << b);
        }
    }
}

static void forged_tickets_are_refused(void **state)
{
    const unsigned tries = 4000000;
    unsigned accepted = 0;
    uint16_t index;
    uint8_t generation;

    (void)state;
    pte_ticket_key(0x5a17);
    for (unsigned i = 0; i < tries; i++)
        accepted +=
            is_taken(pte_absent(PTE_TYPE_TICKET, random_next(&dice) >> 24), &index, &generation);
    /* A check of 16 bits: 61 expected, with a deviation of 8. */
    assert_in_range(accepted, 61 - 6 * 8, 61 + 6 * 8);
    pte_ticket_key(0);
}

static void the_key_matters(void **state)
{
    struct pte ticket = pte_ticket(12, 3);
    uint16_t index;
    uint8_t generation;

    (void)state;
    pte_ticket_key(0x8001);
    assert_false(is_taken(ticket, &index, &generation));
    assert_true(is_taken(pte_ticket(12, 3), &index, &generation));
    pte_ticket_key(0);
    assert_true(is_taken(ticket, &index, &generation));
}

static void addresses_and_indexes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t address = random_next(&dice) >> 7;

        for (unsigned level = 1; level <= LEVELS; level++) {
            uint64_t span = UINT64_C(4096) << 9 * (level - 1);

            assert_int_equal(pte_span(level), span);
            assert_int_equal(pte_index(address, level), address / span % 512);
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pattern_has_its_state),
        cmocka_unit_test(random_words_have_their_state),
        cmocka_unit_test(built_entries_come_apart_again),
        cmocka_unit_test(payloads_come_back),
        cmocka_unit_test(leaves_and_links),
        cmocka_unit_test(without_nx),
        cmocka_unit_test(cow_and_own_keep_the_rest),
        cmocka_unit_test(tickets_come_back),
        cmocka_unit_test(one_or_two_flips_make_no_ticket),
        cmocka_unit_test(forged_tickets_are_refused),
        cmocka_unit_test(the_key_matters),
        cmocka_unit_test(addresses_and_indexes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
