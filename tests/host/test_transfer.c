/* Transfers: one body for each way in and each result, with and without a fork in between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "swapdisk/area.h"
#include "tests/host/fake/machine.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/page/transfer.h"

#define MEMORY  (16 * MIB)
#define SLOTS   64U
#define START   (4 * MIB)
#define CONTENT UINT64_C(0x7472616e73666572)

static const struct rights read_write = {.write = true, .user = true};
static const struct fault_access read_access = {.from_user = true};
static const struct fault_access write_access = {.write = true, .from_user = true};

/* A transfer: its beginning, the change in between, and its end. */
struct transfer_case {
    bool in;       /* into a fresh page; else a resident page leaves */
    bool cached;   /* in: by way of the swap cache */
    bool forked;   /* while the entry is in transit */
    bool unmapped; /* likewise: no entry is left at the end */
    enum transfer_result result;
};

static struct space *space;
static struct space *child;

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

/* The entry of the page, locked. */
static struct tree_pointer lock_entry(struct pte *entry)
{
    struct tree_place place = tree_walk(&space->tree, START);

    assert_int_equal(place.level, 1);
    assert_true(tree_lock(place.table));
    *entry = place.entry;
    return (struct tree_pointer){place.table, place.index};
}

static struct pte entry_in(const struct space *of)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&of->tree, START);

    machine_interrupts_restore(were_on);
    return place.entry;
}

static uint64_t *words_of(struct pfn page)
{
    return frame_pointer(page);
}

/* A page written where a ticket is: the caller has a hold on it afterwards. */
static struct pfn start_in(const struct transfer_case *test, struct slot slot)
{
    struct pfn page;
    struct pte entry;
    struct tree_pointer at;
    bool were_on;

    /* The neighbour's page makes the table. */
    assert_int_equal(fault_resolve(space, START + PAGE_SIZE, write_access), OK);
    assert_int_equal(page_alloc(FRAME_CLEARED, &page), OK);
    were_on = machine_interrupts_off();
    at = lock_entry(&entry);
    if (test->cached)
        swap_hold(slot); /* the swap cache takes it over */
    transfer_begin_in(page, at, read_write, test->cached ? slot : SLOT_NONE);
    tree_unlock(at.table);
    machine_interrupts_restore(were_on);
    return page;
}

static struct pfn start_out(void)
{
    struct tlb_batch batch;
    struct pfn page;
    struct pte entry;
    struct tree_pointer at;
    bool were_on;

    assert_int_equal(fault_resolve(space, START, write_access), OK);
    were_on = machine_interrupts_off();
    at = lock_entry(&entry);
    page = pte_frame(entry);
    assert_true(tree_try_hold(page));
    assert_true(page_withdraw(page));
    transfer_begin_out(page);
    transfer_take_entry(page, at);
    tree_unlock(at.table);
    machine_interrupts_restore(were_on);
    tlb_begin(&batch, NULL);
    tlb_add_everything(&batch);
    tlb_commit(&batch);
    return page;
}

/* Returns the word that a space reads from the page, after its faults. */
static uint64_t read_word(struct space *of)
{
    assert_int_equal(fault_resolve(of, START, read_access), OK);
    return *words_of(pte_frame(entry_in(of)));
}

static bool keeps_content(const struct transfer_case *test)
{
    return test->result == TRANSFER_LEAF || test->result == TRANSFER_UNUSED ||
           test->result == TRANSFER_SLOT;
}

static enum pte_state state_after(enum transfer_result result)
{
    switch (result) {
    case TRANSFER_SLOT: return PTE_SWAPPED;
    case TRANSFER_TICKET: return PTE_TICKET;
    case TRANSFER_LEAF:
    case TRANSFER_UNUSED:
    case TRANSFER_ZERO: break;
    }
    return PTE_LEAF;
}

static void check_entry(const struct transfer_case *test, const struct space *of)
{
    assert_int_equal(pte_state(entry_in(of), 1), state_after(test->result));
    assert_int_equal(test->result == TRANSFER_ZERO,
                     pte_present(entry_in(of)) &&
                         pfn_equal(pte_frame(entry_in(of)), tree_zero_page()));
    if (test->result == TRANSFER_LEAF || test->result == TRANSFER_UNUSED)
        assert_int_equal((entry_in(of).word & PTE_A) == 0, test->result == TRANSFER_UNUSED);
}

static void check(const struct transfer_case *test)
{
    struct pte ticket;
    struct slot slot;
    struct pfn page;

    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(space_map(space, &SPACE_AT(START, 2 * PAGE_SIZE, read_write), NULL), OK);
    ticket = space_region_at(space, START)->what.descriptor->ticket;
    assert_int_equal(swap_alloc(&slot), OK);
    page = test->in ? start_in(test, slot) : start_out();
    assert_int_equal(pte_state(entry_in(space), 1), PTE_TRANSIT);
    assert_true((frame_record(page)->flags & FRAME_IO) != 0);
    *words_of(page) = keeps_content(test) ? CONTENT : 0;
    if (test->result == TRANSFER_SLOT)
        assert_int_equal(swap_write_run(slot, &page, 1), OK);
    if (test->forked)
        assert_int_equal(space_fork(space, &child), OK);
    if (test->unmapped)
        assert_int_equal(space_unmap(space, START, PAGE_SIZE), OK);

    transfer_end(page, &(struct transfer_end){test->result, slot, ticket});
    assert_true((frame_record(page)->flags & FRAME_IO) == 0);
    if (test->result == TRANSFER_SLOT || test->result == TRANSFER_TICKET)
        assert_true((frame_record(page)->flags & FRAME_SWAP_CACHED) == 0);
    page_release(page);
    swap_release(slot);
    space_audit();
    if (!test->unmapped) {
        check_entry(test, space);
        assert_int_equal(read_word(space), keeps_content(test) ? CONTENT : 0);
    }
    if (test->forked) {
        assert_int_equal(read_word(child), keeps_content(test) ? CONTENT : 0);
        space_destroy(child);
    }
    space_audit();
    space_destroy(space);
    model_end();
}

static void each_way_in_and_each_result(void **state)
{
    (void)state;
    for (unsigned result = TRANSFER_LEAF; result <= TRANSFER_TICKET; result++) {
        for (unsigned kind = 0; kind < 12; kind++) {
            struct transfer_case test = {.in = kind % 3 != 0,
                                         .cached = kind % 3 == 2,
                                         .forked = (kind / 3 & 1) != 0,
                                         .unmapped = (kind / 6 & 1) != 0,
                                         .result = (enum transfer_result)result};

            check(&test);
        }
    }
}

/* A page without access stays withheld, whatever its content. */
static void a_withheld_page_keeps_its_content(void **state)
{
    struct pfn page;

    (void)state;
    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(space_map(space, &SPACE_AT(START, 2 * PAGE_SIZE, read_write), NULL), OK);
    page = start_out();
    assert_int_equal(space_protect(space, START, PAGE_SIZE, (struct rights){.none = true}), OK);
    transfer_end(page, &(struct transfer_end){.result = TRANSFER_ZERO});
    assert_int_equal(pte_state(entry_in(space), 1), PTE_WITHHELD);
    assert_int_equal(pte_payload_frame(entry_in(space)).index, page.index);
    page_release(page);
    space_audit();
    space_destroy(space);
    model_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_way_in_and_each_result),
        cmocka_unit_test(a_withheld_page_keeps_its_content),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
