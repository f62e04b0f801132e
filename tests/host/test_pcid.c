/* PCIDs: translations of a tree that a processor left are never stale when it returns, and they are
 * kept where that is allowed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "cpu/trap/trap.h"
#include "lib/random.h"
#include "paging/kernel/map.h"
#include "paging/tlb/pcid.h"
#include "tests/host/fake/cpu.h"
#include "tests/host/fake/kernel_map.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/mmu.h"
#include "vmm/fault/fault.h"
#include "vmm/space/space.h"

#define START UINT64_C(0x400000)
#define PAGES 4U
#define RIP   UINT64_C(0x401000)

/* Faults that one access may take. */
#define FAULTS_MAX 8U

static const struct rights read_write = {.write = true, .user = true};
static uint64_t instructions;

static int start(void **state)
{
    enum status status;

    (void)state;
    fake_machine_start(64 * MIB);
    fake_processors = 3;
    fake_contexts = true;
    fake_kernel_map_levels = 4;
    fake_kernel_map_start();
    status = vmm_init();
    fault_start();
    return status == OK ? 0 : -1;
}

/* No space is there, and nothing is cached. */
static int set_up(void **state)
{
    (void)state;
    fake_machine_be_cpu(0);
    fake_mmu_start(4);
    return 0;
}

/* ---- accesses of a program ---- */

static uint64_t page_at(unsigned page)
{
    return START + page * PAGE_SIZE;
}

/* The word at an address as the running program reaches it; NULL: its faults are not resolved. */
static uint64_t *reach(uint64_t address, bool write)
{
    struct fake_access access = {.write = write, .user = true};
    struct trap_frame frame = {.rip = RIP + instructions++};
    struct phys physical;
    uint64_t error;

    for (unsigned i = 0; !fake_mmu_translate(address, access, &physical, &error); i++) {
        bool resolved;

        CHECK(i < FAULTS_MAX && machine_interrupts_off());
        frame.cr2 = address;
        frame.error = error;
        resolved = trap_page_fault(address, error, &frame);
        machine_interrupts_restore(true);
        if (!resolved)
            return NULL;
    }
    return phys_pointer(physical);
}

static uint64_t value_at(unsigned page)
{
    const uint64_t *word = reach(page_at(page), false);

    return word != NULL ? *word : UINT64_MAX;
}

static void put(unsigned page, uint64_t value)
{
    uint64_t *word = reach(page_at(page), true);

    assert_non_null(word);
    *word = value;
}

static struct space *make_space(void)
{
    struct space *space;

    assert_int_equal(space_create(&space), OK);
    assert_int_equal(space_map(space, &SPACE_AT(START, PAGES * PAGE_SIZE, read_write), NULL), OK);
    return space;
}

/* Makes a processor run a space. */
static void go(unsigned cpu, struct space *space)
{
    fake_machine_be_cpu(cpu);
    space_switch(space);
}

static void end(struct space *space)
{
    go(1, NULL);
    go(0, NULL);
    space_destroy(space);
}

/* Finds the leaf of a page, by the manual's walk. */
static uint64_t *leaf_of(const struct space *space, unsigned page)
{
    struct pfn table = space->tree.root;

    for (unsigned level = 4; level > 1; level--) {
        struct fake_walk walk = fake_mmu_walk(phys_of(space->tree.root), 4, page_at(page), level);

        table.index = (uint32_t)walk.frame;
    }
    return (uint64_t *)frame_pointer(table) + page_at(page) / PAGE_SIZE % 512;
}

/* ---- kept, and not kept ---- */

static void an_undisturbed_space_is_kept(void **state)
{
    struct space *space = make_space();
    struct pcid_counts before;

    (void)state;
    go(0, space);
    put(0, 7);
    go(0, NULL);
    before = pcid_counts();
    go(0, space);
    assert_int_equal(value_at(0), 7);
    assert_int_equal(pcid_counts().kept, before.kept + 1);
    assert_int_equal(pcid_counts().flushed, before.flushed);
    end(space);
}

/* The space's own flushes, made while it runs, are no reason to flush again. */
static void own_flushes_are_not_repeated(void **state)
{
    struct space *space = make_space();
    struct pcid_counts before;

    (void)state;
    go(0, space);
    put(0, 7);
    put(1, 8);
    assert_int_equal(space_unmap(space, page_at(1), PAGE_SIZE), OK);
    assert_int_equal(space_unmap(space, page_at(2), PAGE_SIZE), OK);
    go(0, NULL);
    before = pcid_counts();
    go(0, space);
    assert_int_equal(pcid_counts().kept, before.kept + 1);
    assert_int_equal(value_at(0), 7);
    assert_int_equal(value_at(1), UINT64_MAX);
    end(space);
}

/* No processor runs the space, so none is asked to flush; the generation shows it on return. */
static void changes_meanwhile_are_seen(void **state)
{
    struct space *space = make_space();

    (void)state;
    go(0, space);
    put(0, 7);
    go(0, NULL);
    assert_int_equal(space_unmap(space, page_at(0), PAGE_SIZE), OK);
    go(0, space);
    assert_int_equal(value_at(0), UINT64_MAX);
    end(space);
}

/* A change of shared entries flushes the loaded root, and raises the generation of all others. */
static void changes_of_everything_are_seen(void **state)
{
    struct space *space = make_space();
    struct tlb_batch batch;
    uint64_t *first;

    (void)state;
    go(0, space);
    put(0, 7);
    put(1, 8);
    first = leaf_of(space, 0);
    go(0, NULL);
    *first ^= *leaf_of(space, 1);
    *leaf_of(space, 1) ^= *first;
    *first ^= *leaf_of(space, 1);
    tlb_begin(&batch, NULL);
    tlb_add_everything(&batch);
    tlb_commit(&batch);
    go(0, space);
    assert_int_equal(value_at(0), 8);
    assert_int_equal(value_at(1), 7);
    end(space);
}

/* A processor that runs a space alone copies a page with a flush of its own only; one that ran it
 * earlier has the old page in its TLB when it returns. */
static void copies_of_one_alone_are_seen(void **state)
{
    struct space *space = make_space();
    struct space *child;

    (void)state;
    go(0, space);
    put(0, 7);
    assert_int_equal(space_fork(space, &child), OK);
    go(1, space);
    assert_int_equal(value_at(0), 7);
    for (unsigned page = 0; page < 2; page++) {
        /* The other processor runs the space all the time, or only at times. */
        go(1, space);
        assert_int_equal(value_at(page), page == 0 ? 7 : 0);
        if (page == 1)
            go(0, NULL);
        go(1, NULL);
        go(0, space);
        put(page, 9);
        if (page == 1)
            go(0, NULL);
        go(1, space);
        assert_int_equal(value_at(page), 9);
    }
    go(1, NULL);
    go(0, NULL);
    space_destroy(child);
    end(space);
}

/* There are fewer identifiers than spaces: each is given to another in turn. */
static void identifiers_are_reused(void **state)
{
    struct space *spaces[PCID_TREES + 2];

    (void)state;
    for (unsigned i = 0; i < ARRAY_COUNT(spaces); i++) {
        spaces[i] = make_space();
        go(0, spaces[i]);
        put(0, i);
    }
    for (unsigned round = 0; round < 3 * ARRAY_COUNT(spaces); round++) {
        go(0, spaces[round * 5 % ARRAY_COUNT(spaces)]);
        assert_int_equal(value_at(0), round * 5 % ARRAY_COUNT(spaces));
        fake_mmu_check();
    }
    for (unsigned i = 0; i < ARRAY_COUNT(spaces); i++)
        end(spaces[i]);
}

/* A space that is made where another one was destroyed is another one. */
static void a_new_space_inherits_nothing(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * PCID_TREES; i++) {
        struct space *space = make_space();

        go(0, space);
        assert_int_equal(value_at(0), 0);
        put(0, 100 + i);
        end(space);
    }
}

/* Global pages stay whatever is loaded and survive all but a flush of the kernel's half. */
static void global_pages_are_apart(void **state)
{
    struct space *space = make_space();
    struct tlb_batch batch;
    uint64_t *leaf;
    uint64_t sound;

    (void)state;
    go(0, space);
    put(0, 7);
    put(1, 8);
    leaf = leaf_of(space, 0);
    sound = *leaf;
    *leaf |= UINT64_C(1) << 8;
    machine_flush_all();
    assert_int_equal(value_at(0), 7);
    *leaf = *leaf_of(space, 1);
    tlb_begin(&batch, &space->tree);
    tlb_add_space(&batch);
    tlb_add_everything(&batch);
    tlb_commit(&batch);
    assert_int_equal(value_at(0), 7);
    tlb_begin(&batch, NULL);
    tlb_add_kernel(&batch);
    tlb_commit(&batch);
    assert_int_equal(value_at(0), 8);
    *leaf = sound;
    machine_flush_all();
    end(space);
}

/* ---- at random ---- */

#define SPACES 9U
#define STEPS  60000U

static struct {
    struct random random;
    struct space *spaces[SPACES];
    uint64_t values[SPACES][PAGES]; /* UINT64_MAX: not mapped */
    unsigned runs[2];               /* SPACES: none */
} world;

static uint64_t any(uint64_t count)
{
    return random_below(&world.random, count);
}

static void put_space(unsigned number, struct space *space, const uint64_t *values)
{
    world.spaces[number] = space;
    for (unsigned page = 0; page < PAGES; page++)
        world.values[number][page] = values != NULL ? values[page] : 0;
}

/* Replaces a space that no processor runs, by a fork of another one or a blank one. */
static void replace_space(unsigned number)
{
    unsigned from = (unsigned)any(SPACES);
    struct space *space;

    if (number == world.runs[0] || number == world.runs[1] || from == number)
        return;
    space_destroy(world.spaces[number]);
    if (any(3) == 0) {
        put_space(number, make_space(), NULL);
        return;
    }
    assert_int_equal(space_fork(world.spaces[from], &space), OK);
    put_space(number, space, world.values[from]);
}

static void change_mapping(unsigned number, unsigned page)
{
    uint64_t *value = &world.values[number][page];

    if (*value == UINT64_MAX) {
        *value = 0;
        assert_int_equal(
            space_map(world.spaces[number], &SPACE_AT(page_at(page), PAGE_SIZE, read_write), NULL),
            OK);
    } else {
        *value = UINT64_MAX;
        assert_int_equal(space_unmap(world.spaces[number], page_at(page), PAGE_SIZE), OK);
    }
}

static void access_page(unsigned number, unsigned page, uint64_t step)
{
    uint64_t *value = &world.values[number][page];

    assert_int_equal(value_at(page), *value);
    if (any(2) == 0 && *value != UINT64_MAX)
        put(page, *value = step);
}

static void one_step(uint64_t step)
{
    unsigned cpu = (unsigned)any(2);
    unsigned number = (unsigned)any(any(2) == 0 ? 3 : SPACES);
    unsigned page = (unsigned)any(PAGES);

    fake_machine_be_cpu(cpu);
    switch (any(8)) {
    case 0: replace_space(number); break;
    case 1: change_mapping(number, page); break;
    case 2:
        world.runs[cpu] = SPACES;
        go(cpu, NULL);
        break;
    case 3:
    case 4:
        world.runs[cpu] = number;
        go(cpu, world.spaces[number]);
        break;
    default:
        if (world.runs[cpu] != SPACES)
            access_page(world.runs[cpu], page, step + 1);
    }
}

static void two_processors_at_random(void **state)
{
    struct pcid_counts before = pcid_counts();

    (void)state;
    world.random = random_from(1);
    world.runs[0] = world.runs[1] = SPACES;
    for (unsigned i = 0; i < SPACES; i++)
        put_space(i, make_space(), NULL);
    for (uint64_t step = 0; step < STEPS; step++) {
        one_step(step);
        for (unsigned cpu = 0; cpu < 2; cpu++) {
            fake_machine_be_cpu(cpu);
            fake_mmu_check();
        }
    }
    assert_true(pcid_counts().kept - before.kept > STEPS / 100);
    for (unsigned i = 0; i < SPACES; i++)
        end(world.spaces[i]);
}

/* Without PCIDs every change of spaces flushes, and nothing is counted. */
static void without_contexts_nothing_is_kept(void **state)
{
    struct space *space;
    struct pcid_counts before = pcid_counts();

    (void)state;
    fake_contexts = false;
    space = make_space();
    go(0, space);
    put(0, 7);
    go(0, NULL);
    assert_int_equal(space_unmap(space, page_at(0), PAGE_SIZE), OK);
    go(0, space);
    assert_int_equal(value_at(0), UINT64_MAX);
    assert_int_equal(pcid_counts().kept + pcid_counts().flushed, before.kept + before.flushed);
    end(space);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_undisturbed_space_is_kept, set_up),
        cmocka_unit_test_setup(own_flushes_are_not_repeated, set_up),
        cmocka_unit_test_setup(changes_meanwhile_are_seen, set_up),
        cmocka_unit_test_setup(changes_of_everything_are_seen, set_up),
        cmocka_unit_test_setup(copies_of_one_alone_are_seen, set_up),
        cmocka_unit_test_setup(identifiers_are_reused, set_up),
        cmocka_unit_test_setup(a_new_space_inherits_nothing, set_up),
        cmocka_unit_test_setup(global_pages_are_apart, set_up),
        cmocka_unit_test_setup(two_processors_at_random, set_up),
        cmocka_unit_test_setup(without_contexts_nothing_is_kept, set_up),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
