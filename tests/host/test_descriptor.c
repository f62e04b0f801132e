/* Descriptors: shared by rights, found by their tickets only, and never used up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/random.h"
#include "pmm/pmm.h"
#include "tests/host/fake/child.h"
#include "tests/host/fake/kernel_map.h"
#include "tests/host/fake/machine.h"
#include "vmm/fault/fault.h"
#include "vmm/space/descriptor.h"
#include "vmm/space/space.h"

#define MEMORY (32 * MIB)

/* Sets of attributes: rights, sizes of pages, pages around, and shared memory. */
#define SETS (8U * 3 * (AROUND_MOST + 2))

static int set_up(void **state)
{
    (void)state;
    fake_machine_start(MEMORY);
    fake_kernel_map_start();
    return vmm_init() == OK ? 0 : -1;
}

static struct rights rights_of(unsigned number)
{
    return (struct rights){
        .write = (number & 1) != 0, .execute = (number & 2) != 0, .user = (number & 4) != 0};
}

static struct descriptor *get(unsigned number)
{
    struct descriptor *descriptor;
    enum status status = descriptor_anonymous(rights_of(number), &descriptor);

    CHECK(status == OK);
    return descriptor;
}

static void equal_rights_share_one(void **state)
{
    struct descriptor *descriptors[8];

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        descriptors[i] = get(i);
        assert_ptr_equal(get(i), descriptors[i]);
        for (unsigned j = 0; j < i; j++)
            assert_ptr_not_equal(descriptors[i], descriptors[j]);
    }
    assert_int_equal(descriptor_count(), 8);
    for (unsigned i = 0; i < 8; i++) {
        const struct descriptor *at = descriptors[i];

        assert_ptr_equal(descriptor_of(at->ticket, descriptor_limit), at);
        /* The entries that it has ready. */
        assert_int_equal(pte_state(at->zero_leaf, 1), PTE_LEAF);
        assert_int_equal(pte_class(at->zero_leaf), PTE_COW);
        assert_int_equal(pte_frame(at->zero_leaf).index, tree_zero_page().index);
        assert_int_equal(at->own_bits, pte_leaf((struct pfn){0}, 1, PTE_OWN, rights_of(i)).word);
        descriptor_hold(descriptors[i], 1);
        descriptor_put(descriptors[i], 1);
        descriptor_put(descriptors[i], 1);
        assert_non_null(descriptor_of(at->ticket, descriptor_limit));
        descriptor_put(descriptors[i], 1);
    }
    assert_int_equal(descriptor_count(), 0);
}

static void stale_and_forged_tickets_find_nothing(void **state)
{
    struct random dice = random_from(3);
    struct descriptor *descriptor = get(5);
    struct pte ticket = descriptor->ticket;

    (void)state;
    for (unsigned bit = 0; bit < 64; bit++)
        assert_null(
            descriptor_of((struct pte){ticket.word ^ UINT64_C(1) << bit}, descriptor_limit));
    for (unsigned i = 0; i < 1000000; i++) {
        struct pte forged = pte_absent(PTE_TYPE_TICKET, random_next(&dice) >> 24);

        assert_true(forged.word == ticket.word || descriptor_of(forged, descriptor_limit) == NULL);
    }
    assert_null(descriptor_of(pte_empty(), descriptor_limit));
    assert_null(descriptor_of(pte_guard(), descriptor_limit));
    assert_null(descriptor_of(pte_ticket(0, 1), descriptor_limit));
    descriptor_put(descriptor, 1);
    assert_null(descriptor_of(ticket, descriptor_limit));
    descriptor = get(5);
    assert_ptr_equal(descriptor_of(ticket, descriptor_limit), descriptor);
    descriptor_put(descriptor, 1);
}

/* ---- mistakes ---- */

static void put_twice(void *context)
{
    struct descriptor *descriptor = get(1);

    (void)context;
    descriptor_put(descriptor, 1);
    descriptor_put(descriptor, 1);
}

static void hold_unused(void *context)
{
    struct descriptor *descriptor = get(1);

    (void)context;
    descriptor_put(descriptor, 1);
    descriptor_hold(descriptor, 1);
}

static void start_twice(void *context)
{
    (void)context;
    (void)descriptor_init();
}

/* Changes a bit of a ticket in an address space, and faults there. */
static void fault_on_changed_ticket(unsigned bit)
{
    struct space *space;
    struct tree_place place;

    CHECK(space_create(&space) == OK);
    CHECK(space_map(space, &SPACE_AT(2 * MIB, 4 * PAGE_SIZE, rights_of(5)), NULL) == OK);
    place = tree_walk(&space->tree, 2 * MIB);
    ((struct pte *)frame_pointer(place.table))[place.index].word ^= UINT64_C(1) << bit;
    (void)fault_resolve(space, 2 * MIB, (struct fault_access){.from_user = true});
}

static void fault_on_a_forged_ticket(void *context)
{
    (void)context;
    fault_on_changed_ticket(20);
}

static void fault_on_a_corrupt_entry(void *context)
{
    (void)context;
    fault_on_changed_ticket(40);
}

static void mistakes_panic(void **state)
{
    static void (*const mistakes[])(void *) = {put_twice, hold_unused, start_twice,
                                               fault_on_a_forged_ticket, fault_on_a_corrupt_entry};

    (void)state;
    assert_int_equal(child_count_panics(mistakes, ARRAY_COUNT(mistakes)), ARRAY_COUNT(mistakes));
}

/* ---- the whole table: last, since it fills it ---- */

/* More turns than a generation of 8 bits has numbers. */
#define TURNS 300U

/* Takes the descriptor of one of all sets of attributes. */
static enum status take(unsigned number, struct descriptor **descriptor)
{
    struct page_hint hint = {.level = (uint8_t)(1 + number / 8 % 3),
                             .around = (uint8_t)(number / 24 % (AROUND_MOST + 1)),
                             .shared = number / 24 > AROUND_MOST};

    if (hint.shared)
        hint = (struct page_hint){.level = 1, .shared = true, .copies = number / 8 % 2 != 0};
    return descriptor_with_hint(rights_of(number), hint, descriptor);
}

/* Mapping and unmapping for ever makes no new descriptor. */
static void descriptors_never_run_out(void **state)
{
    static uint16_t indexes[SETS];
    struct descriptor *descriptor;
    uint32_t limit = 0;

    (void)state;
    fake_kernel_map_full = true;
    for (unsigned turn = 0; turn < TURNS; turn++) {
        for (unsigned i = 0; i < SETS; i++) {
            enum status status = take(i, &descriptor);

            if (status == STATUS_NO_MEMORY && fake_kernel_map_full) {
                /* The first frame is full; with memory for the next one, allocation continues. */
                assert_int_equal(descriptor_limit, PAGE_SIZE / sizeof(struct descriptor));
                fake_kernel_map_full = false;
                status = take(i, &descriptor);
            }
            assert_int_equal(status, OK);
            assert_true(turn == 0 || descriptor->index == indexes[i]);
            indexes[i] = descriptor->index;
            assert_ptr_equal(descriptor_of(descriptor->ticket, descriptor_limit), descriptor);
            descriptor_put(descriptor, 1);
        }
        assert_true(turn == 0 || descriptor_limit == limit);
        limit = descriptor_limit;
    }
    assert_false(fake_kernel_map_full);
    assert_int_equal(descriptor_count(), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_rights_share_one),
        cmocka_unit_test(stale_and_forged_tickets_find_nothing),
        cmocka_unit_test(mistakes_panic),
        cmocka_unit_test(descriptors_never_run_out),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
