/* The frame allocator: compared with a set of allocated frames, its limits, and its refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "lib/print.h"
#include "lib/random.h"
#include "pmm/memory_map.h"
#include "pmm/pmm.h"
#include "tests/host/fake/child.h"
#include "tests/host/fake/machine.h"

#define MEMORY (16 * MIB)
#define FRAMES (MEMORY / PAGE_SIZE)

/* Reserved at the bottom: start-up code of other processors. */
#define FIRST_MIB (MIB / PAGE_SIZE)

#define LOW_END (4 * GIB)

/* Frames of the allocator's metadata. */
#define METADATA (pmm_metadata_bytes() / PAGE_SIZE)

static struct random dice = {5};

static int set_up(void **state)
{
    (void)state;
    fake_machine_start(MEMORY);
    return 0;
}

static void count_is(enum frame_kind kind, uint64_t frames)
{
    assert_int_equal(pmm_usage().by_kind[kind], frames);
}

static void first_usage(void **state)
{
    (void)state;
    assert_int_equal(pmm_usage().total, FRAMES);
    count_is(FRAME_FREE, FRAMES - FIRST_MIB - METADATA);
    count_is(FRAME_METADATA, METADATA);
    count_is(FRAME_RESERVED, FIRST_MIB);
    assert_int_equal(pmm_frame_limit(), FRAMES);
    pmm_audit();
}

/* ---- frames beside a set ---- */

struct out {
    struct pfn frame;
    enum frame_kind kind;
};

static struct out outs[FRAMES];
static unsigned out_count;
static bool is_out[FRAMES];

static void take_one(void)
{
    static const enum frame_kind kinds[] = {FRAME_KERNEL, FRAME_TABLE, FRAME_ANONYMOUS,
                                            FRAME_DEVICE, FRAME_SWAP};
    struct out out = {.kind = kinds[random_below(&dice, 5)]};
    bool clear = random_below(&dice, 2) == 0;
    enum status status = pmm_alloc(out.kind, clear ? FRAME_CLEARED : FRAME_UNCLEARED, &out.frame);
    const struct frame *record = frame_record(out.frame);
    const uint64_t *words = frame_pointer(out.frame);

    if (out_count == FRAMES - FIRST_MIB - METADATA) {
        assert_int_equal(status, STATUS_NO_MEMORY);
        return;
    }
    assert_int_equal(status, OK);
    assert_in_range(out.frame.index, FIRST_MIB, FRAMES - 1);
    assert_false(is_out[out.frame.index]);
    assert_int_equal(record->kind, out.kind);
    assert_int_equal(record->count, 1);
    assert_int_equal(record->live | record->table.held | record->flags | record->lock, 0);
    assert_int_equal(record->page.list_next & record->page.list_prev & record->page.back_table,
                     UINT32_MAX);
    for (unsigned i = 0; clear && i < 512; i++)
        assert_int_equal(words[i], 0);
    memset(frame_pointer(out.frame), 0xa5, PAGE_SIZE);
    is_out[out.frame.index] = true;
    outs[out_count++] = out;
}

static void give_one(void)
{
    unsigned which;

    if (out_count == 0)
        return;
    which = (unsigned)random_below(&dice, out_count);
    is_out[outs[which].frame.index] = false;
    /* As holders leave a record behind. */
    frame_record(outs[which].frame)->flags = FRAME_DIRTY | FRAME_DEAD;
    frame_record(outs[which].frame)->count = (uint32_t)random_below(&dice, 2);
    pmm_free(outs[which].frame);
    outs[which] = outs[--out_count];
}

static void check_ledger(void)
{
    uint64_t by_kind[FRAME_KINDS] = {0};
    struct pmm_usage usage = pmm_usage();

    by_kind[FRAME_RESERVED] = FIRST_MIB;
    by_kind[FRAME_METADATA] = METADATA;
    by_kind[FRAME_FREE] = FRAMES - FIRST_MIB - METADATA - out_count;
    for (unsigned i = 0; i < out_count; i++)
        by_kind[outs[i].kind]++;
    assert_memory_equal(usage.by_kind, by_kind, sizeof(by_kind));
    pmm_audit();
    assert_true(machine_interrupts_on());
}

static void random_use(void **state)
{
    (void)state;
    out_count = 0;
    memset(is_out, 0, sizeof(is_out));
    for (unsigned i = 0; i < 60000; i++) {
        /* Waves: nearly empty, full, nearly empty. */
        bool filling = i / 15000 % 2 == 0;

        if (random_below(&dice, 100) < (filling ? 70U : 30U))
            take_one();
        else
            give_one();
        if (i % 500 == 0)
            check_ledger();
    }
    while (out_count > 0)
        give_one();
    check_ledger();
}

static void running_out_is_a_status(void **state)
{
    struct pfn frame;
    struct pfn last = PFN_NONE;
    unsigned taken = 0;

    (void)state;
    for (; pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &frame) == OK; last = frame)
        taken++;
    assert_int_equal(taken, FRAMES - FIRST_MIB - METADATA);
    count_is(FRAME_FREE, 0);
    assert_int_equal(pmm_alloc_low(FRAME_KERNEL, FRAME_CLEARED, &frame), STATUS_NO_MEMORY);
    pmm_audit();
    pmm_free(last);
    assert_int_equal(pmm_alloc(FRAME_TABLE, FRAME_CLEARED, &frame), OK);
    assert_int_equal(frame.index, last.index);
}

/* ---- ranges, limits, low memory ---- */

/* Two ranges of RAM, below and above 4 GiB, with the kernel in the first. */
static void start_with_high_memory(uint64_t low_pages, uint64_t high_pages)
{
    struct memory_region regions[] = {
        {.start = {0}, .pages = low_pages, .kind = MEMORY_USABLE},
        {.start = {low_pages * PAGE_SIZE}, .pages = 10, .kind = MEMORY_ACPI_NVS},
        {.start = {3 * GIB}, .pages = 512, .kind = MEMORY_DEVICE},
        {.start = {LOW_END}, .pages = high_pages, .kind = MEMORY_BOOT_SERVICES}};

    fake_machine_memory(LOW_END + high_pages * PAGE_SIZE);
    assert_int_equal(memory_map_build(regions, 4, UINT64_C(1) << 40), OK);
    assert_int_equal(memory_map_reserve(2 * MIB, 3 * MIB), OK);
}

static enum status start_without_reserve(uint64_t limit)
{
    enum status status = pmm_init(limit);

    pmm_set_reserve(0);
    return status;
}

static void high_frames_go_first(void **state)
{
    struct pfn frame;

    (void)state;
    start_with_high_memory(1024, 1024);
    assert_int_equal(start_without_reserve(0), OK);
    assert_int_equal(pmm_usage().total, 1024 + 10 + 1024);
    count_is(FRAME_KERNEL, 256);
    count_is(FRAME_METADATA, METADATA);
    count_is(FRAME_RESERVED, FIRST_MIB + 10);
    count_is(FRAME_FREE, 1024 - 256 - FIRST_MIB + 1024 - METADATA);
    pmm_audit();
    for (unsigned i = 0; i < 1024 - METADATA; i++) {
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_UNCLEARED, &frame), OK);
        assert_true(frame.index >= LOW_END / PAGE_SIZE);
    }
    for (unsigned i = 0; i < 500; i++) {
        assert_int_equal(pmm_alloc_low(FRAME_DEVICE, FRAME_UNCLEARED, &frame), OK);
        assert_true(frame.index < LOW_END / PAGE_SIZE);
    }
    for (unsigned i = 0; i < 12; i++)
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_UNCLEARED, &frame), OK);
    assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_UNCLEARED, &frame), STATUS_NO_MEMORY);
    pmm_audit();
}

static void low_frames_run_out_alone(void **state)
{
    struct pfn frame;

    (void)state;
    start_with_high_memory(1024, 1024);
    assert_int_equal(start_without_reserve(0), OK);
    for (unsigned i = 0; i < 512; i++)
        assert_int_equal(pmm_alloc_low(FRAME_DEVICE, FRAME_CLEARED, &frame), OK);
    assert_int_equal(pmm_alloc_low(FRAME_DEVICE, FRAME_CLEARED, &frame), STATUS_NO_MEMORY);
    assert_int_equal(pmm_alloc(FRAME_DEVICE, FRAME_CLEARED, &frame), OK);
    pmm_free(frame);
    assert_int_equal(pmm_alloc_low(FRAME_DEVICE, FRAME_CLEARED, &frame), STATUS_NO_MEMORY);
    pmm_audit();
}

static void the_limit_is_kept(void **state)
{
    struct pfn frame;
    unsigned taken = 0;

    (void)state;
    start_with_high_memory(1024, 1024);
    assert_int_equal(start_without_reserve(1200 * PAGE_SIZE + 5), OK);
    count_is(FRAME_FREE, 1200);
    assert_int_equal(pmm_left_out(), 1024 - 256 - FIRST_MIB + 1024 - METADATA - 1200);
    assert_int_equal(pmm_usage().total, 1024 + 10 + 1024);
    pmm_audit();
    while (pmm_alloc(FRAME_TABLE, FRAME_UNCLEARED, &frame) == OK)
        taken++;
    assert_int_equal(taken, 1200);
    start_with_high_memory(1024, 1024);
    assert_int_equal(pmm_init(1023 * PAGE_SIZE), STATUS_NO_MEMORY);
    start_with_high_memory(1024, 1024);
    assert_int_equal(pmm_init(1024 * PAGE_SIZE), OK);
}

/* ---- refusals: each leaves locks held, so each has a process of its own ---- */

static struct pfn taken_frame(enum frame_kind kind)
{
    struct pfn frame;
    enum status status = pmm_alloc(kind, FRAME_UNCLEARED, &frame);

    CHECK(status == OK);
    return frame;
}

static void free_twice(void *context)
{
    struct pfn frame = taken_frame(FRAME_KERNEL);

    (void)context;
    pmm_free(frame);
    pmm_free(frame);
}

static void free_reserved(void *context)
{
    (void)context;
    pmm_free((struct pfn){3});
}

static void free_past_the_last(void *context)
{
    (void)context;
    pmm_free((struct pfn){FRAMES});
}

static void free_none(void *context)
{
    (void)context;
    pmm_free(PFN_NONE);
}

static void free_shared(void *context)
{
    struct pfn frame = taken_frame(FRAME_ANONYMOUS);

    (void)context;
    frame_record(frame)->count = 2;
    pmm_free(frame);
}

static void free_locked(void *context)
{
    struct pfn frame = taken_frame(FRAME_TABLE);

    (void)context;
    frame_record(frame)->lock = 1;
    pmm_free(frame);
}

static void free_zero_page(void *context)
{
    struct pfn frame = taken_frame(FRAME_KERNEL);

    (void)context;
    pmm_retype(frame, FRAME_ZERO);
    pmm_free(frame);
}

static void take_damaged(void *context)
{
    struct pfn frame = taken_frame(FRAME_KERNEL);

    (void)context;
    pmm_free(frame);
    frame_record(frame)->kind = FRAME_TABLE;
    (void)taken_frame(FRAME_KERNEL);
}

static void audit_of_a_lost_frame(void *context)
{
    struct pfn frame = taken_frame(FRAME_KERNEL);

    (void)context;
    frame_record(frame)->kind = FRAME_TABLE;
    pmm_audit();
}

/* One that lies in a cache, and one that the allocator has. */
static void audit_of_a_cached_frame(void *context)
{
    struct pfn frame = taken_frame(FRAME_KERNEL);

    (void)context;
    pmm_free(frame);
    frame_record(frame)->kind = FRAME_KERNEL;
    pmm_audit();
}

static void audit_of_a_free_frame(void *context)
{
    struct pfn frame = taken_frame(FRAME_KERNEL);

    (void)context;
    pmm_free(frame);
    pmm_drain();
    frame_record(frame)->kind = FRAME_KERNEL;
    pmm_audit();
}

static void audit_of_a_lost_frame_of_a_cache(void *context)
{
    struct pfn frame = taken_frame(FRAME_KERNEL);

    (void)context;
    pmm_free(frame);
    pmm_caches[0][PMM_CACHE_ANY].state--;
    pmm_audit();
}

static void mistakes_panic(void **state)
{
    static void (*const mistakes[])(void *) = {free_twice,
                                               free_reserved,
                                               free_past_the_last,
                                               free_none,
                                               free_shared,
                                               free_locked,
                                               free_zero_page,
                                               take_damaged,
                                               audit_of_a_lost_frame,
                                               audit_of_a_cached_frame,
                                               audit_of_a_free_frame,
                                               audit_of_a_lost_frame_of_a_cache};

    (void)state;
    assert_int_equal(child_count_panics(mistakes, ARRAY_COUNT(mistakes)), ARRAY_COUNT(mistakes));
}

/* ---- kinds ---- */

static void retyping_moves_the_ledger(void **state)
{
    struct pfn frame = taken_frame(FRAME_KERNEL);

    (void)state;
    count_is(FRAME_KERNEL, 1);
    pmm_retype(frame, FRAME_ZERO);
    count_is(FRAME_KERNEL, 0);
    count_is(FRAME_ZERO, 1);
    assert_int_equal(frame_record(frame)->count, COUNT_SATURATED);
    pmm_audit();
}

static bool owned(unsigned kind)
{
    return kind == FRAME_KERNEL || kind == FRAME_TABLE || kind == FRAME_ROOT ||
           kind == FRAME_ANONYMOUS || kind == FRAME_DEVICE || kind == FRAME_SWAP;
}

/* Every pair of kinds, by each of the three ways in which a kind changes: all but the listed
 * transitions are refused, whatever else is right with the frame. */
static void illegal_transitions_panic(void **state)
{
    struct pfn frame = taken_frame(FRAME_KERNEL);
    struct frame *record = frame_record(frame);
    struct pfn other;

    (void)state;
    for (unsigned from = 0; from <= FRAME_KINDS; from++) {
        for (unsigned to = 0; to <= FRAME_KINDS; to++) {
            bool legal = (from == FRAME_KERNEL && to == FRAME_ZERO) ||
                         (from == FRAME_TABLE && to == FRAME_ROOT) ||
                         (from == FRAME_ROOT && to == FRAME_TABLE);

            *record = (struct frame){.count = 1, .kind = (uint8_t)from};
            if (PANICS(pmm_retype(frame, (enum frame_kind)to)) == legal)
                fail_msg("pmm_retype from kind %u to %u", from, to);
        }
        *record = (struct frame){.count = 1, .kind = (uint8_t)from};
        if (!owned(from) && !PANICS(pmm_free(frame)))
            fail_msg("pmm_free of kind %u", from);
        if (!owned(from) && !PANICS(pmm_free_clean(frame)))
            fail_msg("pmm_free_clean of kind %u", from);
        if (!owned(from) && !PANICS((void)!pmm_alloc((enum frame_kind)from, FRAME_CLEARED, &other)))
            fail_msg("pmm_alloc of kind %u", from);
        if (!owned(from) &&
            !PANICS((void)!pmm_alloc_low((enum frame_kind)from, FRAME_CLEARED, &other)))
            fail_msg("pmm_alloc_low of kind %u", from);
    }
}

/* ---- counts ---- */

static void counts_pass_16_bits(void **state)
{
    struct pfn frame = taken_frame(FRAME_ANONYMOUS);

    (void)state;
    for (unsigned i = 0; i < 70000; i++)
        frame_count_up(frame);
    assert_int_equal(frame_record(frame)->count, 70001);
    assert_true(frame_count_up_unless_0(frame));
    for (unsigned i = 70001; i > 0; i--)
        assert_int_equal(frame_count_down(frame), i);
    assert_int_equal(frame_count_down(frame), 0);
    assert_false(frame_count_up_unless_0(frame));
    pmm_free(frame);
    pmm_audit();
}

static char said[256];

static void hear(struct print_sink *sink, const char *text, size_t size)
{
    (void)sink;
    if (strlen(said) + size < sizeof(said))
        strncat(said, text, size);
}

/* A count that overflows is saturated, reports it once, and keeps its frame. */
static void counts_saturate(void **state)
{
    static const char *const words = "has a count that stands still";
    struct pfn frame = taken_frame(FRAME_ANONYMOUS);
    struct frame *record = frame_record(frame);
    struct print_sink ear = {.write = hear};

    (void)state;
    print_attach(&ear);
    record->count = COUNT_STILL - 2;
    frame_count_up(frame);
    frame_count_up(frame);
    assert_int_equal(record->count, COUNT_STILL);
    assert_null(strstr(said, words));
    frame_count_up(frame);
    assert_int_equal(record->count, COUNT_SATURATED);
    assert_non_null(strstr(said, words));
    assert_true(frame_count_up_unless_0(frame));
    assert_null(strstr(strstr(said, words) + 1, words));
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(frame_count_down(frame), COUNT_SATURATED);
        frame_count_up(frame);
    }
    print_detach(&ear);
    assert_int_equal(record->count, COUNT_SATURATED);
    assert_true(PANICS(pmm_free(frame)));
    /* Frames without references are not counted, neither are kinds that have none. */
    record->kind = FRAME_ZERO;
    assert_true(PANICS(frame_count_up(frame)));
    assert_true(PANICS((void)frame_count_down(frame)));
    record->kind = FRAME_ANONYMOUS;
    record->count = 0;
    assert_true(PANICS(frame_count_up(frame)));
    assert_true(PANICS((void)frame_count_down(frame)));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(first_usage, set_up),
        cmocka_unit_test_setup(random_use, set_up),
        cmocka_unit_test_setup(running_out_is_a_status, set_up),
        cmocka_unit_test_setup(high_frames_go_first, set_up),
        cmocka_unit_test_setup(low_frames_run_out_alone, set_up),
        cmocka_unit_test_setup(the_limit_is_kept, set_up),
        cmocka_unit_test_setup(mistakes_panic, set_up),
        cmocka_unit_test_setup(retyping_moves_the_ledger, set_up),
        cmocka_unit_test_setup(illegal_transitions_panic, set_up),
        cmocka_unit_test_setup(counts_pass_16_bits, set_up),
        cmocka_unit_test_setup(counts_saturate, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
