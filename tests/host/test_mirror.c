/* Mirrors: two halves with every slot; what one has wrong or has lost comes from the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pmm/pmm.h"
#include "swapdisk/area/slots.h"
#include "swapdisk/choose.h"
#include "swapdisk/disks.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/swap_rig.h"

#define FRAMES 16U
#define PAGES  (2 * SLOT_CLUSTER)

static struct pfn frames[FRAMES];
static struct slot slots[PAGES];
static struct pmm_usage at_start;

/* Opens a mirror of the first two disks. */
static int begin(void **state)
{
    (void)state;
    fake_machine_start(32 * MIB);
    rig_start(3);
    rig_group(SET_MIRROR, 0, 2);
    memset(rig.disks[2].bytes, 0, RIG_SECTORS * SECTOR_SIZE);
    at_start = pmm_usage();
    for (unsigned i = 0; i < FRAMES; i++)
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &frames[i]), OK);
    rig_open();
    assert_int_equal(swap_area_count(), 1);
    assert_int_equal(swap_area_usage(0).disks, 2);
    return 0;
}

static int end(void **state)
{
    struct pmm_usage now;

    (void)state;
    rig_end();
    for (unsigned i = 0; i < FRAMES; i++)
        pmm_free(frames[i]);
    now = pmm_usage();
    assert_memory_equal(&now, &at_start, sizeof(now));
    return 0;
}

/* Writes pages into all slots of the test, which are read from both halves in turn. */
static void write_all(void)
{
    for (unsigned i = 0; i < PAGES; i++) {
        assert_int_equal(swap_alloc(&slots[i]), OK);
        rig_fill(frames[0], i);
        assert_int_equal(swap_write(slots[i], frames[0]), OK);
    }
}

static void assert_right(unsigned number)
{
    rig_fill(frames[1], 9999);
    assert_int_equal(swap_read(slots[number], frames[1]), OK);
    assert_true(rig_filled(frames[1], number));
}

static void assert_on_both(unsigned number)
{
    rig_fill(frames[2], number);
    for (unsigned half = 0; half < 2; half++)
        assert_memory_equal(rig_slot_bytes(half, slots[number]), frame_pointer(frames[2]),
                            PAGE_SIZE);
}

static void both_halves_have_every_page(void **state)
{
    (void)state;
    write_all();
    for (unsigned i = 0; i < PAGES; i++) {
        assert_on_both(i);
        assert_right(i);
    }
    for (unsigned half = 0; half < 2; half++) {
        assert_int_equal(swap_area_usage(0).disk[half].usage.pages_written, PAGES);
        assert_int_equal(swap_area_usage(0).disk[half].usage.pages_read, PAGES / 2);
    }
    assert_int_equal(swap_usage().pages_written, PAGES);
    assert_int_equal(swap_close(), OK);
    assert_int_equal(rig_said("priority 0, a mirror of both"), 1);
    assert_int_equal(rig.disks[2].log_count, 0);
}

/* ---- wrong content ---- */

enum damage { DAMAGE_BIT, DAMAGE_ZERO, DAMAGE_OTHER_SLOT, DAMAGE_OLD, DAMAGES };

static void damage_slot(unsigned half, unsigned number, enum damage damage, const uint8_t *old)
{
    uint8_t *bytes = rig_slot_bytes(half, slots[number]);

    switch (damage) {
    case DAMAGE_BIT: bytes[77] ^= 4; break;
    case DAMAGE_ZERO: memset(bytes, 0, PAGE_SIZE); break;
    case DAMAGE_OTHER_SLOT: memcpy(bytes, bytes + PAGE_SIZE, PAGE_SIZE); break;
    default: memcpy(bytes, old, PAGE_SIZE); break;
    }
}

/* Each kind of wrong content, on each half, of slots that are read from either half first: the page
 * is right, and if the wrong copy was met, it is written again. */
static void a_wrong_copy_is_healed(void **state)
{
    static uint8_t old[PAGE_SIZE];
    uint64_t healed = 0;

    (void)state;
    write_all();
    for (unsigned round = 0; round < 2U * DAMAGES * 2; round++) {
        enum damage damage = (enum damage)(round % DAMAGES);
        unsigned half = round / DAMAGES % 2;
        unsigned number = round / (2 * DAMAGES) * SLOT_CLUSTER + 3;
        bool met;

        memcpy(old, rig_slot_bytes(half, slots[number]), PAGE_SIZE);
        rig_fill(frames[0], number);
        assert_int_equal(swap_write(slots[number], frames[0]), OK);
        if (damage == DAMAGE_OLD) {
            rig_fill(frames[0], 500);
            assert_int_equal(swap_write(slots[number], frames[0]), OK);
            memcpy(old, rig_slot_bytes(half, slots[number]), PAGE_SIZE);
            rig_fill(frames[0], number);
            assert_int_equal(swap_write(slots[number], frames[0]), OK);
        }
        damage_slot(half, number, damage, old);
        met = half == number / SLOT_CLUSTER % 2;
        assert_right(number);
        healed += met;
        assert_int_equal(swap_usage().healed, healed);
        if (met)
            assert_on_both(number);
    }
    assert_int_equal(healed, 2 * DAMAGES);
    assert_int_equal(swap_usage().corrupt, 0);
    assert_int_equal(swap_usage().errors, 0);
    for (unsigned half = 0; half < 2; half++) {
        assert_int_equal(swap_area_usage(0).disk[half].usage.wrong, DAMAGES);
        assert_int_equal(swap_area_usage(0).disk[half].usage.healed, DAMAGES);
    }
    assert_int_equal(rig_said("written again from the other half of the mirror"), 2 * DAMAGES);
    assert_int_equal(swap_close(), OK);
}

/* Both copies wrong: the owner of that page is told, whatever the two have in common; neighbours
 * and later writes of the slot are right, and nothing wrong is written to either half. */
static void two_wrong_copies_are_told(void **state)
{
    enum status read[4];
    uint8_t before[2][PAGE_SIZE];

    (void)state;
    write_all();
    for (unsigned half = 0; half < 2; half++) {
        damage_slot(half, 5, DAMAGE_ZERO, NULL);
        damage_slot(half, SLOT_CLUSTER + 5, half == 0 ? DAMAGE_BIT : DAMAGE_ZERO, NULL);
        memcpy(before[half], rig_slot_bytes(half, slots[SLOT_CLUSTER + 5]), PAGE_SIZE);
    }
    for (unsigned first = 0; first < PAGES; first += SLOT_CLUSTER) {
        swap_read_in(slots[first + 3], frames + 4, 4, 1, read);
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(read[i], i == 2 ? STATUS_CORRUPT : OK);
            assert_true(i == 2 || rig_filled(frames[4 + i], first + 3 + i));
        }
        for (unsigned i = 0; i < PAGE_SIZE; i++)
            assert_int_equal(((uint8_t *)frame_pointer(frames[6]))[i], 0);
    }
    for (unsigned half = 0; half < 2; half++)
        assert_memory_equal(rig_slot_bytes(half, slots[SLOT_CLUSTER + 5]), before[half], PAGE_SIZE);
    assert_int_equal(swap_usage().corrupt, 2);
    assert_int_equal(swap_usage().healed, 0);
    rig_fill(frames[0], 5);
    assert_int_equal(swap_write(slots[5], frames[0]), OK);
    assert_right(5);
    assert_int_equal(swap_close(), OK);
}

/* ---- bad sectors ---- */

static uint64_t sector_of(unsigned number)
{
    return swap_disk_offset(slots[number]) / SECTOR_SIZE + 3;
}

/* A sector that cannot be read on one half, and can be written again or not. In the second case the
 * slot is retired once it is free, in this run and, by the list of the half that is bad, in later
 * ones. */
static void an_unreadable_sector_is_healed_or_retired(void **state)
{
    (void)state;
    for (unsigned half = 0; half < 2; half++) {
        unsigned number = half * SLOT_CLUSTER + 9;
        uint32_t usable;

        if (half > 0)
            rig_open_again();
        write_all();
        usable = swap_usage().slots;
        memset(rig_slot_bytes(half, slots[number]), 0, PAGE_SIZE);
        rig.disks[half].bad_sector = sector_of(number);
        assert_right(number);
        assert_int_equal(swap_usage().healed, 1);
        assert_on_both(number);
        rig.disks[half].bad_write = rig.disks[half].bad_sector;
        assert_right(number);
        assert_int_equal(swap_usage().healed, 2);
        assert_int_equal(swap_usage().slots, usable);
        assert_right(number);
        swap_release(slots[number]);
        assert_int_equal(swap_usage().slots, usable - 1);
        assert_true(slots_is_retired(slots[number]));
        swap_audit();
        rig.disks[half].bad_sector = rig.disks[half].bad_write = UINT64_MAX;
        assert_int_equal(swap_usage().errors, 0);
        assert_int_equal(swap_close(), OK);
        assert_int_equal(rig_said("bad slots are in the list of disk"), half + 1);
        for (unsigned i = 0; i < 2; i++) {
            struct swap_header header;
            struct bad_slots list;
            const uint8_t *page = rig.disks[i].bytes + RIG_FIRST * SECTOR_SIZE;

            assert_null(swap_header_decode(page, &header));
            assert_null(bad_slots_decode(page, &header, &list));
            assert_int_equal(list.count, i <= half);
        }
    }
    rig_open_again();
    assert_int_equal(swap_close(), OK);
}

/* One copy is wrong, and the disk with the other one cannot read it now: the page is not lost, the
 * fault is told, and the next try has it. So in both orders; only if that disk dies the page is
 * lost. */
static void a_passing_error_loses_nothing(void **state)
{
    (void)state;
    write_all();
    for (unsigned half = 0; half < 2; half++) {
        unsigned number = 11 + half; /* both of the cluster that half 0 reads first */

        damage_slot(half, number, DAMAGE_BIT, NULL);
        rig.disks[1 - half].bad_sector = sector_of(number);
        rig_fill(frames[1], 9999);
        assert_int_equal(swap_read(slots[number], frames[1]), STATUS_IO);
        assert_int_equal(swap_usage().corrupt, 0);
        assert_int_equal(swap_usage().errors, half + 1);
        rig.disks[1 - half].bad_sector = UINT64_MAX;
        assert_right(number);
    }
    assert_on_both(11);
    damage_slot(0, 13, DAMAGE_BIT, NULL);
    rig_fail(1, FAKE_VANISH, UINT64_MAX / 2);
    assert_int_equal(swap_read(slots[13], frames[1]), STATUS_CORRUPT);
    assert_int_equal(swap_usage().corrupt, 1);
    assert_int_equal(swap_close(), OK);
}

/* Both copies arrive wrong once, as only a transfer can be: they are read once more (D11). */
static void both_copies_are_read_once_more(void **state)
{
    (void)state;
    write_all();
    for (unsigned half = 0; half < 2; half++)
        rig_fail(half, FAKE_FLIP, 1);
    assert_right(3);
    assert_int_equal(swap_usage().corrupt, 0);
    assert_int_equal(swap_usage().healed, 0);
    assert_int_equal(rig_said("right when it was read once more"), 1);
    assert_int_equal(swap_close(), OK);
}

/* A slot that is retired because one half is bad there: the other half's copy is wiped, in the run
 * that retires it and in a later one. */
static void the_sound_copy_of_a_bad_slot_is_wiped(void **state)
{
    static const uint8_t zeroes[PAGE_SIZE];

    (void)state;
    assert_int_equal(swap_close(), OK);
    for (unsigned late = 0; late < 2; late++) {
        struct slot slot;
        struct slot was;
        bool done = false;

        rig.options.wipe = late == 0;
        rig_open_again();
        write_all();
        assert_int_equal(swap_alloc(&slot), OK);
        was = slot;
        rig_fill(frames[0], 77);
        rig.disks[0].bad_write = swap_disk_offset(slot) / SECTOR_SIZE + 2;
        assert_int_equal(swap_write_out(&slot, frames, 1, &done), OK);
        assert_true(done && slots_is_retired(was) && slot.index != was.index);
        assert_int_equal(slots_bad_disks(was), 1);
        assert_memory_equal(rig_slot_bytes(1, was), frame_pointer(frames[0]), PAGE_SIZE);
        if (late == 1) {
            assert_int_equal(swap_close(), OK);
            rig.options.wipe = true;
            rig_open_again();
            assert_true(slots_is_retired(was));
        }
        assert_int_equal(swap_close(), OK);
        assert_memory_equal(rig.disks[1].bytes + RIG_FIRST * SECTOR_SIZE + PAGE_SIZE +
                                (size_t)was.index * PAGE_SIZE,
                            zeroes, PAGE_SIZE);
        rig.disks[0].bad_write = UINT64_MAX;
    }
}

/* A slot whose healing failed, and that is still held at the end, is left alone by a wipe. */
static void a_bad_slot_is_not_wiped(void **state)
{
    (void)state;
    assert_int_equal(swap_close(), OK);
    rig.options.wipe = true;
    rig_open_again();
    write_all();
    rig.disks[0].bad_sector = rig.disks[0].bad_write = sector_of(7);
    assert_right(7);
    assert_int_equal(swap_close(), OK);
    assert_int_equal(rig_said("is bad, and retired once it is free"), 1);
    for (unsigned half = 0; half < 2; half++) {
        struct swap_header header;

        assert_null(swap_header_decode(rig.disks[half].bytes + RIG_FIRST * SECTOR_SIZE, &header));
        assert_int_equal(header.state, SWAP_STATE_CLEAN);
    }
}

/* One half fails a write: the page gets a slot that both take. */
static void a_failed_write_moves_to_a_sound_slot(void **state)
{
    (void)state;
    write_all();
    for (unsigned half = 0; half < 2; half++) {
        struct slot out[8];
        bool done[8] = {false};
        uint32_t usable = swap_usage().slots;

        for (unsigned i = 0; i < 8; i++) {
            assert_int_equal(swap_alloc(&out[i]), OK);
            rig_fill(frames[i], 40 + i);
        }
        rig.disks[half].bad_write = swap_disk_offset(out[3]) / SECTOR_SIZE + 1;
        assert_int_equal(swap_write_out(out, frames, 8, done), OK);
        assert_int_equal(swap_usage().slots, usable - 1);
        for (unsigned i = 0; i < 8; i++) {
            assert_true(done[i]);
            slots[40 + i] = out[i];
            assert_on_both(40 + i);
            assert_right(40 + i);
        }
        rig.disks[half].bad_write = UINT64_MAX;
    }
    swap_audit();
    assert_int_equal(swap_close(), OK);
}

/* The same without a free slot: one copy must do, and does from whichever half is read. */
static void one_copy_is_better_than_none(void **state)
{
    struct slot other;

    (void)state;
    write_all();
    while (swap_alloc(&other) == OK) {
    }
    for (unsigned half = 0; half < 2; half++) {
        for (unsigned number = 8; number < PAGES; number += SLOT_CLUSTER) {
            bool done = false;

            rig.disks[half].bad_write = sector_of(number);
            rig_fill(frames[0], number);
            assert_int_equal(swap_write_out(&slots[number], frames, 1, &done), OK);
            assert_true(done);
            assert_right(number);
            rig.disks[half].bad_write = UINT64_MAX;
        }
    }
    swap_audit();
    assert_int_equal(swap_close(), OK);
}

/* The same with a wipe, while the place is bad still: the half that is bad there is left alone, and
 * the run ends well; the other half's copy is zeroed. Once free, the slot is not used again. */
static void a_lone_copy_is_wiped(void **state)
{
    static const uint8_t zeroes[PAGE_SIZE];

    (void)state;
    assert_int_equal(swap_close(), OK);
    rig.options.wipe = true;
    for (unsigned half = 0; half < 2; half++) {
        struct slot other;
        bool done = false;
        uint32_t usable;
        size_t place;

        rig_open_again();
        write_all();
        while (swap_alloc(&other) == OK) {
        }
        usable = swap_usage().slots;
        rig.disks[half].bad_write = sector_of(20 + half);
        rig_fill(frames[0], 20 + half);
        for (unsigned i = 0; i < 2; i++)
            assert_int_equal(swap_write_out(&slots[20 + half], frames, 1, &done), OK);
        assert_right(20 + half);
        assert_int_equal(slots_bad_disks(slots[20 + half]), 1U << half);
        assert_int_equal(swap_area_usage(0).disk[half].usage.retired, 1);
        place = (size_t)(rig_slot_bytes(1 - half, slots[20 + half]) - rig.disks[1 - half].bytes);
        if (half == 1) {
            swap_release(slots[20 + half]);
            assert_int_equal(swap_usage().slots, usable - 1);
            assert_int_equal(swap_alloc(&other), STATUS_NO_SPACE);
        }
        assert_int_equal(swap_close(), OK);
        assert_memory_equal(rig.disks[1 - half].bytes + place, zeroes, PAGE_SIZE);
        rig.disks[half].bad_write = UINT64_MAX;
    }
}

/* ---- a half that dies ---- */

/* Either half dies, before reads or before writes: nothing is lost, and the run ends well. */
static void a_dead_half_loses_nothing(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 4; round++) {
        unsigned half = round % 2;
        struct swap_header header;

        if (round > 0) {
            rig_end();
            rig_start(3);
            rig_group(SET_MIRROR, 0, 2);
            memset(rig.disks[2].bytes, 0, RIG_SECTORS * SECTOR_SIZE);
            rig_open();
        }
        write_all();
        fake_hba_attach(&rig.hbas[half], 0, FAKE_NOTHING, NULL);
        if (round >= 2) {
            rig_fill(frames[0], 3);
            assert_int_equal(swap_write(slots[3], frames[0]), OK);
        }
        for (unsigned i = 0; i < PAGES; i++) {
            assert_right(i);
            assert_true(swap_serves(slots[i]));
        }
        for (unsigned i = 0; i < SLOT_CLUSTER; i++) {
            swap_release(slots[i]);
            assert_int_equal(swap_alloc(&slots[i]), OK);
            rig_fill(frames[0], i);
            assert_int_equal(swap_write(slots[i], frames[0]), OK);
            assert_right(i);
        }
        assert_int_equal(rig_said("the mirror goes on degraded, on disk S"), 1);
        assert_int_equal(swap_usage().errors, 0);
        assert_int_equal(swap_close(), OK);
        assert_null(
            swap_header_decode(rig.disks[1 - half].bytes + RIG_FIRST * SECTOR_SIZE, &header));
        assert_int_equal(header.state, SWAP_STATE_CLEAN);
    }
}

/* A half that takes no page any more, but answers, is given up before it costs many slots. */
static void a_half_that_takes_nothing_is_given_up(void **state)
{
    uint32_t usable;

    (void)state;
    write_all();
    usable = swap_usage().slots;
    rig.disks[1].bad_write_from = swap_disk_offset(slots[0]) / SECTOR_SIZE;
    for (unsigned i = 0; i < SLOT_CLUSTER; i++) {
        bool done = false;

        swap_release(slots[i]);
        assert_int_equal(swap_alloc(&slots[i]), OK);
        rig_fill(frames[0], i);
        assert_int_equal(swap_write_out(&slots[i], frames, 1, &done), OK);
        assert_true(done);
        assert_right(i);
    }
    assert_int_equal(rig_said("since it takes no pages any more: the mirror goes on"), 1);
    assert_true(usable - swap_usage().slots < 30);
    for (unsigned i = 0; i < PAGES; i++)
        assert_right(i);
    assert_int_equal(swap_close(), OK);
}

/* Both die: reads and writes fail, and the close says so. */
static void two_dead_halves(void **state)
{
    struct slot slot;

    (void)state;
    write_all();
    for (unsigned half = 0; half < 2; half++)
        fake_hba_attach(&rig.hbas[half], 0, FAKE_NOTHING, NULL);
    for (unsigned i = 0; i < PAGES; i += 7)
        assert_int_equal(swap_read(slots[i], frames[0]), STATUS_IO);
    assert_false(swap_serves(slots[0]));
    assert_int_equal(swap_alloc(&slot), STATUS_IO);
    assert_int_equal(swap_close(), STATUS_IO);
}

/* A half that does not have a page does not serve it, although it answers: it was given up before
 * the page was written, or has failed that one write, and then the half that has the page dies. */
static void only_a_half_with_the_page_serves(void **state)
{
    struct slot other;
    bool done = false;

    (void)state;
    write_all();
    while (swap_alloc(&other) == OK) {
    }
    for (unsigned i = 0; i < SLOT_CLUSTER + 1; i++) {
        /* Without a free slot the pages stay where they are, and from some write on half 1 is
         * given up. */
        rig.disks[1].bad_write_from = swap_disk_offset(slots[0]) / SECTOR_SIZE;
        rig_fill(frames[0], PAGES + i);
        assert_int_equal(swap_write_out(&slots[i], frames, 1, &done), OK);
        assert_true(done && swap_serves(slots[i]));
    }
    assert_int_equal(rig_said("since it takes no pages any more: the mirror goes on"), 1);
    rig.disks[1].bad_write_from = UINT64_MAX;
    fake_hba_attach(&rig.hbas[0], 0, FAKE_NOTHING, NULL);
    for (unsigned i = 0; i < PAGES; i++) {
        enum status status = swap_read(slots[i], frames[1]);

        assert_int_equal(status == OK, i > SLOT_CLUSTER);
        assert_int_equal(swap_serves(slots[i]), i > SLOT_CLUSTER);
        assert_true(status != OK || rig_filled(frames[1], i));
    }
    assert_int_equal(swap_close(), STATUS_IO);
}

/* The same after one bad place; and a copy that was made good serves. */
static void a_healed_copy_serves(void **state)
{
    struct slot other;

    (void)state;
    write_all();
    while (swap_alloc(&other) == OK) {
    }
    for (unsigned number = SLOT_CLUSTER + 4; number < SLOT_CLUSTER + 7; number++) {
        bool done = false;

        rig.disks[1].bad_write = sector_of(number);
        rig_fill(frames[0], PAGES + number);
        assert_int_equal(swap_write_out(&slots[number], frames, 1, &done), OK);
        if (number < SLOT_CLUSTER + 6)
            rig.disks[1].bad_write = UINT64_MAX;
        if (number == SLOT_CLUSTER + 4)
            continue;
        /* The copy of number 5 is written again, that of number 6 cannot be. */
        assert_int_equal(swap_read(slots[number], frames[1]), OK);
        assert_true(rig_filled(frames[1], PAGES + number));
    }
    fake_hba_attach(&rig.hbas[0], 0, FAKE_NOTHING, NULL);
    assert_right(3);
    assert_int_equal(swap_read(slots[SLOT_CLUSTER + 4], frames[1]), STATUS_CORRUPT);
    assert_false(swap_serves(slots[SLOT_CLUSTER + 4]));
    assert_true(swap_serves(slots[SLOT_CLUSTER + 5]));
    assert_int_equal(swap_read(slots[SLOT_CLUSTER + 5], frames[1]), OK);
    assert_true(rig_filled(frames[1], PAGES + SLOT_CLUSTER + 5));
    assert_false(swap_serves(slots[SLOT_CLUSTER + 6]));
    assert_int_equal(swap_close(), OK);
}

/* A half that is the only one from the start dies: reads of all pages fail, also of those that the
 * other half would have been asked for first. */
static void a_lone_half_dies(void **state)
{
    (void)state;
    assert_int_equal(swap_close(), OK);
    for (unsigned half = 0; half < 2; half++) {
        disks_stop();
        rig_group(SET_MIRROR, 0, 2);
        fake_hba_attach(&rig.hbas[half], 0, FAKE_NOTHING, NULL);
        rig_open();
        write_all();
        fake_hba_attach(&rig.hbas[1 - half], 0, FAKE_NOTHING, NULL);
        for (unsigned i = 0; i < PAGES; i += 7) {
            enum status read[2];

            assert_int_equal(swap_read(slots[i], frames[1]), STATUS_IO);
            swap_read_in(slots[i], frames + 4, 2, 1, read);
            assert_int_equal(read[1], STATUS_IO);
            assert_false(swap_serves(slots[i]));
        }
        assert_int_equal(swap_close(), STATUS_IO);
        for (unsigned i = 0; i < 2; i++)
            fake_hba_attach(&rig.hbas[i], 0, FAKE_DISK, &rig.disks[i]);
    }
}

/* One half is not there at the start, or is not marked as in use: the other serves alone. When both
 * are there again they are refused, since one was used without the other. */
static void one_half_at_the_start(void **state)
{
    (void)state;
    assert_int_equal(swap_close(), OK);
    for (unsigned half = 0; half < 2; half++) {
        disks_stop();
        rig_group(SET_MIRROR, 0, 2);
        fake_hba_attach(&rig.hbas[half], 0, FAKE_NOTHING, NULL);
        rig_open();
        assert_int_equal(swap_usage().backing, SWAP_BACKING_DISK);
        assert_int_equal(rig_said("a mirror that is degraded: one half is not there"), half + 1);
        write_all();
        for (unsigned i = 0; i < PAGES; i++)
            assert_right(i);
        assert_int_equal(rig_disk_of(slots[0]), 1 - half);
        assert_int_equal(swap_close(), OK);
        fake_hba_attach(&rig.hbas[half], 0, FAKE_DISK, &rig.disks[half]);
        rig_open_again();
        assert_int_equal(swap_usage().backing, SWAP_BACKING_RAM);
        assert_non_null(strstr(disks_report(0)->reason, "used without the other"));
        assert_int_equal(swap_close(), OK);
    }
}

/* ---- headers ---- */

/* Both copies of the headers of both halves, as a power cut would leave them. */
struct cut {
    uint8_t pages[2][2][SWAP_HEADER_SIZE];
};

#define CUTS_MAX 256U

static struct cut cuts[CUTS_MAX];
static unsigned cut_count;
static unsigned cuts_judged;

static uint8_t *header_page(unsigned half, unsigned copy)
{
    struct gpt_partition partition = fake_disk_partition(&rig.disks[half]);

    return fake_disk_sector(&rig.disks[half],
                            copy == 0
                                ? partition.first_lba
                                : swap_second_header_lba(partition.first_lba, partition.last_lba));
}

/* Keeps the headers as they are after a command, if they have changed. */
static void note_cut(void)
{
    struct cut *cut = &cuts[cut_count];

    assert_true(cut_count < CUTS_MAX);
    for (unsigned i = 0; i < 4; i++)
        memcpy(cut->pages[i / 2][i % 2], header_page(i / 2, i % 2), SWAP_HEADER_SIZE);
    if (cut_count == 0 || memcmp(cut, cut - 1, sizeof(*cut)) != 0)
        cut_count++;
}

/* Both halves are taken with the headers of each cut. */
static void judge_cuts(void)
{
    static struct disk_finding found[2];
    struct options options = {.swap = SWAP_AUTO};

    for (unsigned number = 0; number < cut_count; number++) {
        for (unsigned half = 0; half < 2; half++) {
            struct disk_identity identity = fake_disk_identity(&rig.disks[half]);
            struct disk_view view = {.device = &rig.disks[half],
                                     .identity = &identity,
                                     .source = fake_disk_source(&rig.disks[half])};

            for (unsigned copy = 0; copy < 2; copy++)
                memcpy(header_page(half, copy), cuts[number].pages[half][copy], SWAP_HEADER_SIZE);
            assert_int_equal(validate_disk(&view, &found[half]), OK);
        }
        found[0].next = &found[1];
        if (swap_choose(found, &options, true) != 2)
            fail_msg("cut %u of %u: %s / %s", number, cut_count, found[0].reason, found[1].reason);
        cuts_judged++;
    }
}

/* The power fails after each command of runs that write, wipe and retire, from headers that are
 * equal or one generation apart in either direction. */
static void power_cuts_leave_a_mirror(void **state)
{
    (void)state;
    assert_int_equal(swap_close(), OK);
    for (unsigned run = 0; run < 6; run++) {
        struct swap_header headers[2];

        rig_group(SET_MIRROR, 0, 2);
        for (unsigned i = 0; i < 2; i++) {
            assert_null(
                swap_header_decode(rig.disks[i].bytes + RIG_FIRST * SECTOR_SIZE, &headers[i]));
            headers[i].generation += run % 3 == i + 1;
            headers[i].used_slots = run % 3 == i + 1 ? 100 : 0;
            fake_disk_put_headers_2(&rig.disks[i], &headers[i], NULL);
        }
        rig.options.wipe = run >= 3;
        rig_open_again();
        for (unsigned i = 0; i < 2; i++)
            rig.disks[i].on_command = note_cut;
        cut_count = 0;
        write_all();
        assert_int_equal(swap_close(), OK);
        for (unsigned i = 0; i < 2; i++) {
            rig.disks[i].on_command = NULL;
            assert_null(
                swap_header_decode(rig.disks[i].bytes + RIG_FIRST * SECTOR_SIZE, &headers[i]));
        }
        assert_int_equal(headers[0].generation, headers[1].generation);
        assert_int_equal(headers[0].used_slots, headers[1].used_slots);
        judge_cuts();
    }
    assert_true(cuts_judged > 50);
}

#define CASE(name_) cmocka_unit_test_setup_teardown(name_, begin, end)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(both_halves_have_every_page),
        CASE(a_wrong_copy_is_healed),
        CASE(two_wrong_copies_are_told),
        CASE(an_unreadable_sector_is_healed_or_retired),
        CASE(a_passing_error_loses_nothing),
        CASE(both_copies_are_read_once_more),
        CASE(the_sound_copy_of_a_bad_slot_is_wiped),
        CASE(a_bad_slot_is_not_wiped),
        CASE(a_failed_write_moves_to_a_sound_slot),
        CASE(one_copy_is_better_than_none),
        CASE(a_lone_copy_is_wiped),
        CASE(a_dead_half_loses_nothing),
        CASE(a_half_that_takes_nothing_is_given_up),
        CASE(two_dead_halves),
        CASE(only_a_half_with_the_page_serves),
        CASE(a_healed_copy_serves),
        CASE(a_lone_half_dies),
        CASE(one_half_at_the_start),
        CASE(power_cuts_leave_a_mirror),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
