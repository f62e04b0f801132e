/* Address spaces: random operations on forks of forks, beside a model, with a TLB that forgets
 * nothing; and the same with memory that runs out at every allocation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "cpu/registers.h"
#include "cpu/trap/trap.h"
#include "tests/host/fake/cpu.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/mmu.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/range/collapse.h"

#define MEMORY (16 * MIB)
#define SLOTS  64U

/* Operations of one round, which has its own bounds. */
#define ROUND 2000U

/* Operations between two complete comparisons; the first rounds compare after each. */
#define CHECK_EACH    32U
#define CAREFUL_ROUND 2U

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

static void run_round(uint64_t seed, unsigned levels, unsigned check_each, uint64_t ops)
{
    model_begin(seed, levels);
    for (uint64_t i = 0; i < ops; i++) {
        struct model_op op = model_choose();

        (void)model_perform(&op);
        if (i % check_each == 0)
            model_check();
    }
    model_end();
}

/* So many operations have large pages put together, and others refused, whatever the seed. */
#define MANY_OPS 100000U

static void spaces_mean_what_the_model_says(void **state)
{
    uint64_t ops = model_ops(150000);
    uint64_t seed = model_seed();
    struct collapse_counts collapsed;

    (void)state;
    for (uint64_t round = 0; round * ROUND < ops; round++)
        run_round(seed + round, round % 3 == 2 ? 5 : 4, round < CAREFUL_ROUND ? 1 : CHECK_EACH,
                  ROUND);
    collapsed = collapse_counts();
    print_message("# %lu large pages put together in place, %lu by copying, %lu refused\n",
                  collapsed.in_place, collapsed.copied, collapsed.refused);
    if (ops >= MANY_OPS)
        assert_true(collapsed.in_place + collapsed.copied > 10 && collapsed.refused > 10);
}

/* With 0 free frames, 1, 2, ...: until the operation succeeds it changes nothing that it means. */
static uint64_t try_with_each_failure(const struct model_op *op)
{
    uint64_t failures = 0;

    for (uint64_t frames = 0;; frames++) {
        model_leave_frames(frames);
        if (!model_is_failure(model_perform(op)))
            break;
        failures++;
        model_check();
    }
    return failures;
}

static void failing_allocations_change_no_meaning(void **state)
{
    uint64_t ops = model_ops(150000) / 50;
    uint64_t seed = model_seed();
    uint64_t failures = 0;

    (void)state;
    model_may_fail = true;
    for (uint64_t round = 0; round * 200 < ops; round++) {
        model_begin(seed + round, round % 2 == 0 ? 4 : 5);
        for (unsigned i = 0; i < 200; i++) {
            struct model_op op = model_choose();

            failures += try_with_each_failure(&op);
        }
        model_end();
    }
    model_may_fail = false;
    assert_true(failures > ops / 10);
}

/* One access of the running space by one instruction; false: refused. */
static bool touch(uint64_t address, bool write)
{
    struct phys physical;

    return model_touch(address, write, &physical) >= 0;
}

/* Rule P9: a translation that is late again and again is no violation when something happened in
 * between, be it only a call that made the path own. */
static void late_translations_are_no_violation(void **state)
{
    const struct rights rights = {.write = true, .user = true};
    const uint64_t page = 4 * MIB;
    struct space *space;
    struct space *child;

    (void)state;
    model_begin(1, 4);
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(space_map(space, &SPACE_AT(page, 2 * PAGE_SIZE, rights), NULL), OK);
    space_switch(space);
    assert_true(touch(page, true));
    for (unsigned i = 0; i < 4; i++) {
        uint64_t spurious = space_faults(space).spurious;

        assert_int_equal(space_fork(space, &child), OK);
        assert_true(touch(page, false));
        space_destroy(child);
        assert_int_equal(space_unmap(space, page + PAGE_SIZE, PAGE_SIZE), OK);
        assert_int_equal(space_map(space, &SPACE_AT(page + PAGE_SIZE, PAGE_SIZE, rights), NULL),
                         OK);
        assert_true(touch(page, true));
        assert_int_equal(space_faults(space).spurious, spurious + 1);
    }
    space_switch(NULL);
    space_destroy(space);
    model_end();
}

/* But the same fault twice with nothing in between is one: here the tables allow it, and a
 * processor that will not see it is made up. */
static void no_progress_is_a_violation(void **state)
{
    struct trap_frame frame = {.rip = 0x402000};
    struct space *space;

    (void)state;
    model_begin(1, 4);
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(
        space_map(space,
                  &SPACE_AT(4 * MIB, PAGE_SIZE, (struct rights){.write = true, .user = true}),
                  NULL),
        OK);
    space_switch(space);
    assert_true(touch(4 * MIB, true));
    (void)machine_interrupts_off();
    assert_true(trap_page_fault(4 * MIB, PF_P | PF_WR | PF_US, &frame));
    assert_false(trap_page_fault(4 * MIB, PF_P | PF_WR | PF_US, &frame));
    assert_int_equal(fault_last_reason(), STATUS_DENIED);
    /* A reserved bit is nothing that a page could mend; nor is an address of the kernel's half. */
    assert_false(trap_page_fault(4 * MIB, PF_P | PF_US | PF_RSVD, &frame));
    assert_int_equal(fault_last_reason(), STATUS_CORRUPT);
    assert_false(trap_page_fault(UINT64_C(1) << 63, PF_US, &frame));
    assert_int_equal(fault_last_reason(), STATUS_NOT_FOUND);
    space_switch(NULL);
    assert_false(trap_page_fault(4 * MIB, PF_US, &frame));
    machine_interrupts_restore(true);
    space_destroy(space);
    model_end();
}

/* With SMAP a page belongs to the kernel or to the program. When that changes, the cached
 * translation of the other side must be flushed. */
static void a_page_changes_sides_for_both(void **state)
{
    const struct fake_access of_kernel = {.write = true};
    const struct fake_access of_program = {.write = true, .user = true};
    struct trap_frame frame = {.rip = 0x403000};
    struct space *space;
    struct phys physical;
    uint64_t error;

    (void)state;
    model_begin(1, 4);
    fake_cr4 = CR4_SMAP;
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(
        space_map(space, &SPACE_AT(4 * MIB, PAGE_SIZE, (struct rights){.write = true}), NULL), OK);
    space_switch(space);
    (void)machine_interrupts_off();
    frame.cr2 = 4 * MIB;
    frame.error = PF_WR;
    assert_true(trap_page_fault(4 * MIB, PF_WR, &frame));
    machine_interrupts_restore(true);
    assert_true(fake_mmu_translate(4 * MIB, of_kernel, &physical, &error));
    assert_int_equal(
        space_protect(space, 4 * MIB, PAGE_SIZE, (struct rights){.write = true, .user = true}), OK);
    assert_false(fake_mmu_translate(4 * MIB, of_kernel, &physical, &error));
    assert_true(fake_mmu_translate(4 * MIB, of_program, &physical, &error));
    assert_int_equal(space_protect(space, 4 * MIB, PAGE_SIZE, (struct rights){.write = true}), OK);
    assert_false(fake_mmu_translate(4 * MIB, of_program, &physical, &error));
    assert_true(fake_mmu_translate(4 * MIB, of_kernel, &physical, &error));
    space_switch(NULL);
    space_destroy(space);
    model_end();
}

static bool late_fault(uint64_t address)
{
    struct trap_frame frame = {.rip = 0x402000};
    bool were_on = machine_interrupts_off();
    bool resolved = trap_page_fault(address, PF_P | PF_WR | PF_US, &frame);

    machine_interrupts_restore(were_on);
    return resolved;
}

/* Makes a first write to a page of the space on another processor, which runs it from then on. A
 * switch would itself be a change, so it makes none if the processor runs the space already. */
static void write_elsewhere(struct space *space, uint64_t address)
{
    fake_machine_be_cpu(1);
    if (machine_space() != space)
        space_switch(space);
    assert_true(touch(address, true));
    fake_machine_be_cpu(0);
}

static void faults_of_other_processors_are_progress(void **state)
{
    const struct rights rights = {.write = true, .user = true};
    const uint64_t page = 4 * MIB;
    struct space *space;
    struct space *other;

    (void)state;
    model_begin(1, 4);
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(space_create(&other), OK);
    assert_int_equal(space_map(space, &SPACE_AT(page, MIB, rights), NULL), OK);
    assert_int_equal(space_map(other, &SPACE_AT(page, MIB, rights), NULL), OK);
    space_switch(space);
    assert_true(touch(page, true));
    write_elsewhere(space, page + PAGE_SIZE);
    assert_true(late_fault(page));
    write_elsewhere(space, page + 2 * PAGE_SIZE);
    assert_true(late_fault(page));
    assert_int_equal(space_faults(space).first_write, 3);
    /* It leaves: from then on its faults are another space's, and no progress of this one. */
    write_elsewhere(other, page);
    assert_true(late_fault(page));
    write_elsewhere(other, page + PAGE_SIZE);
    assert_false(late_fault(page));
    assert_int_equal(space_faults(space).first_write, 3);
    fake_machine_be_cpu(1);
    assert_int_equal(space_faults(other).first_write, 2);
    space_switch(NULL);
    fake_machine_be_cpu(0);
    space_switch(NULL);
    space_destroy(space);
    space_destroy(other);
    model_end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(spaces_mean_what_the_model_says),
        cmocka_unit_test(failing_allocations_change_no_meaning),
        cmocka_unit_test(late_translations_are_no_violation),
        cmocka_unit_test(no_progress_is_a_violation),
        cmocka_unit_test(faults_of_other_processors_are_progress),
        cmocka_unit_test(a_page_changes_sides_for_both),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
