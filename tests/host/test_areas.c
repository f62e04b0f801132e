/* Several swap areas: priorities, stripes, groups, grants, and an area that dies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pmm/pmm.h"
#include "swapdisk/area/slots.h"
#include "swapdisk/block/grant.h"
#include "swapdisk/disks.h"
#include "swapdisk/fs/file.h"
#include "swapdisk/log/crash_log.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/swap_rig.h"

#define FRAMES     16U
#define SLOTS_MOST 4096U

static struct pfn frames[FRAMES];
static struct pmm_usage at_start;
static struct slot slots[SLOTS_MOST];

static void begin(unsigned disks)
{
    fake_machine_start(32 * MIB);
    rig_start(disks);
    at_start = pmm_usage();
    for (unsigned i = 0; i < FRAMES; i++)
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &frames[i]), OK);
}

static void end(void)
{
    struct pmm_usage now;

    rig_end();
    for (unsigned i = 0; i < FRAMES; i++)
        pmm_free(frames[i]);
    now = pmm_usage();
    assert_memory_equal(&now, &at_start, sizeof(now));
}

/* Takes all slots there are. Returns their number. */
static unsigned take_all(void)
{
    unsigned count = 0;

    while (count < SLOTS_MOST && swap_alloc(&slots[count]) == OK)
        count++;
    assert_true(count < SLOTS_MOST);
    return count;
}

static bool writes_lie_in_partition(const struct fake_disk *disk)
{
    struct gpt_partition partition = fake_disk_partition(disk);

    for (size_t i = 0; i < disk->log_count; i++) {
        const struct fake_event *event = &disk->log[i];

        if (event->sectors > 0 && (event->lba < partition.first_lba ||
                                   event->lba + event->sectors - 1 > partition.last_lba))
            return false;
    }
    return true;
}

/* Three areas of one priority take clusters in turn; each page is where its slot says. */
static void equal_areas_take_turns(void **state)
{
    unsigned count;

    (void)state;
    begin(3);
    rig_name(7, NULL);
    rig_open();
    assert_int_equal(swap_area_count(), 3);
    count = 9 * SLOT_CLUSTER;
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(swap_alloc(&slots[i]), OK);
        assert_int_equal(slots_range_of(slots[i]), i / SLOT_CLUSTER % 3);
        if (i % SLOT_CLUSTER != 0)
            assert_int_equal(slots[i].index, slots[i - 1].index + 1);
        rig_fill(frames[0], i);
        assert_int_equal(swap_write(slots[i], frames[0]), OK);
        assert_memory_equal(rig_slot_bytes(rig_disk_of(slots[i]), slots[i]),
                            frame_pointer(frames[0]), PAGE_SIZE);
    }
    for (unsigned i = 0; i < count; i += 5) {
        assert_int_equal(swap_read(slots[i], frames[1]), OK);
        assert_true(rig_filled(frames[1], i));
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(swap_area_usage(i).used, count / 3);
        assert_int_equal(swap_area_usage(i).disk[0].usage.pages_written, count / 3);
        assert_true(writes_lie_in_partition(&rig.disks[i]));
    }
    swap_audit();
    assert_int_equal(swap_close(), OK);
    assert_int_equal(rig_said("swap: on disk Fake serial"), 3);
    assert_int_equal(rig_said(": 192 pages written, "), 3);
    end();
}

/* Consecutive numbers are never of two areas, so no transfer crosses from one disk to another. */
static void areas_never_touch(void **state)
{
    unsigned count;

    (void)state;
    begin(3);
    rig_name(7, NULL);
    rig_open();
    count = take_all();
    assert_int_equal(count, swap_usage().slots);
    for (unsigned i = 0; i < count; i++) {
        for (unsigned j = 0; j < count; j++) {
            if (slots[j].index == slots[i].index + 1)
                assert_int_equal(rig_disk_of(slots[j]), rig_disk_of(slots[i]));
        }
    }
    assert_true(PANICS((void)swap_disk_offset((struct slot){swap_area_usage(0).slots})));
    swap_audit();
    assert_int_equal(swap_close(), OK);
    end();
}

/* The highest priority is filled first; a slot that is freed there is taken before lower ones. */
static void higher_priorities_come_first(void **state)
{
    static const uint16_t priorities[] = {5, 1, 5};
    unsigned each;
    unsigned count;

    (void)state;
    begin(3);
    rig_name(7, priorities);
    rig_open();
    each = swap_area_usage(0).slots;
    assert_int_equal(swap_area_usage(2).priority, 1);
    count = take_all();
    assert_int_equal(count, 3 * each);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(rig_disk_of(slots[i]) == 1, i >= 2 * each);
    swap_release(slots[count - 1]);
    swap_release(slots[100]);
    assert_int_equal(swap_alloc(&slots[0]), OK);
    assert_int_equal(slots[0].index, slots[100].index);
    assert_int_equal(swap_alloc(&slots[0]), OK);
    assert_int_equal(slots[0].index, slots[count - 1].index);
    assert_int_equal(swap_alloc(&slots[0]), STATUS_NO_SPACE);
    assert_int_equal(swap_close(), OK);
    end();
}

/* Random takes and releases of runs against a plain array. */
static void counts_against_a_model(void **state)
{
    static const uint16_t priorities[] = {5, 5, 1, 0};
    static unsigned model[4 * SLOTS_MOST];
    unsigned all;
    unsigned used = 0;
    uint32_t random = 1;

    (void)state;
    begin(4);
    rig_name(15, priorities);
    rig_open();
    memset(model, 0, sizeof(model));
    all = swap_usage().slots;
    for (unsigned step = 0; step < 20000; step++) {
        unsigned wanted;
        unsigned count = 0;
        struct slot slot;

        random = random * 1664525 + 1013904223;
        slot.index = (random >> 8) % slots_total();
        wanted = 1 + (random >> 24) % 16;
        if (random >> 30 < 2) {
            assert_int_equal(swap_alloc_run(wanted, &slot, &count),
                             used == all ? STATUS_NO_SPACE : OK);
            for (unsigned i = 0; i < count; i++)
                assert_int_equal(model[slot.index + i]++, 0);
            used += count;
        } else if (model[slot.index] > 0) {
            swap_release(slot);
            model[slot.index] = 0;
            used--;
        }
        assert_int_equal(swap_usage().used, used);
        if (step % 1000 == 0)
            swap_audit();
    }
    assert_int_equal(swap_close(), OK);
    end();
}

/* Each area's grant is for its own disk and range. */
static void a_grant_serves_its_own_area_only(void **state)
{
    static struct disk_chosen chosen[2];

    (void)state;
    begin(2);
    rig_name(3, NULL);
    disks_scan(&rig.options, false);
    assert_int_equal(disks_chosen(), 2);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(disks_open(i, &chosen[i]), OK);
    assert_ptr_not_equal(chosen[0].grant, chosen[1].grant);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t lba = chosen[i].finding.first_lba + 8;

        assert_int_equal(block_write(&chosen[i].block, chosen[1 - i].grant, lba, 8, frames),
                         STATUS_REFUSED);
        assert_int_equal(rig.disks[i].log_count, 0);
        assert_int_equal(block_write(&chosen[i].block, chosen[i].grant, lba, 8, frames), OK);
        assert_int_equal(rig.disks[i].log_count, 1);
    }
    swap_grant_revoke();
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(block_write(&chosen[i].block, chosen[i].grant, RIG_FIRST + 8, 8, frames),
                         STATUS_REFUSED);
    end();
}

/* On a virtual machine all sets of one group serve without a name; a further set spoils that. */
static void auto_takes_one_group(void **state)
{
    (void)state;
    begin(3);
    rig_group(SET_STRIPE, 0, 3);
    rig_open();
    assert_int_equal(swap_area_count(), 3);
    assert_int_equal(swap_close(), OK);
    disks_stop();
    disks_scan(&rig.options, false);
    assert_int_equal(disks_chosen(), 0);
    disks_stop();
    rig_group(SET_STRIPE, 0, 2);
    disks_scan(&rig.options, true);
    assert_int_equal(disks_chosen(), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_non_null(strstr(disks_report(i)->reason, "says otherwise what their group is"));
    disks_stop();
    fake_disk_prepare_2(&rig.disks[2], 0x33);
    disks_scan(&rig.options, true);
    assert_int_equal(disks_chosen(), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_non_null(strstr(disks_report(i)->reason, "matches as well"));
    disks_stop();
    /* The group's name settles it, on a real machine as well. */
    rig_name(1, NULL);
    memset(rig.options.swap_set[0].uuid, 0xa0, 16);
    disks_scan(&rig.options, false);
    assert_int_equal(disks_chosen(), 2);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(rig.disks[i].log_count, 0);
    end();
}

/* Two copies of one set are both refused, on whatever controllers they are; another set serves. */
static void twins_are_refused_beside_others(void **state)
{
    (void)state;
    for (unsigned twin = 1; twin < 4; twin++) {
        begin(4);
        memcpy(rig.disks[twin].bytes, rig.disks[0].bytes, RIG_SECTORS * SECTOR_SIZE);
        strcpy(rig.disks[twin].serial, "S1");
        fake_disk_identify(&rig.disks[twin]);
        rig_name(twin == 1 ? 5 : 3, NULL);
        rig_open();
        assert_int_equal(swap_area_count(), 1);
        assert_int_equal(swap_usage().backing, SWAP_BACKING_DISK);
        assert_int_equal(swap_alloc(&slots[0]), OK);
        assert_int_equal(rig_disk_of(slots[0]), twin == 1 ? 2 : 1);
        assert_int_equal(swap_write(slots[0], frames[0]), OK);
        assert_int_equal(swap_close(), OK);
        assert_int_equal(rig.disks[0].log_count, 0);
        assert_int_equal(rig.disks[twin].log_count, 0);
        assert_int_equal(rig_said("swap: no disk of set or group 11111111-"), 1);
        end();
    }
}

/* One disk is not as it was at the scan: the others serve without it. */
static void second_look_leaves_one_out(void **state)
{
    (void)state;
    begin(3);
    rig_name(7, NULL);
    disks_scan(&rig.options, true);
    rig.disks[1].bytes[RIG_FIRST * SECTOR_SIZE + 40] ^= 1;
    assert_int_equal(swap_open(&rig.options, 100), OK);
    assert_int_equal(swap_area_count(), 2);
    assert_int_equal(swap_alloc(&slots[0]), OK);
    assert_int_equal(swap_write(slots[0], frames[0]), OK);
    assert_int_equal(swap_close(), OK);
    assert_int_equal(rig.disks[1].log_count, 0);
    end();
}

/* One disk dies. Its own pages are lost; those of other areas are right, and what is written goes
 * to the others, also pages that had a slot there already (rules D2, D3). */
static void a_dead_area_hurts_no_other(void **state)
{
    unsigned count = 4 * SLOT_CLUSTER;

    (void)state;
    for (unsigned dead = 0; dead < 2; dead++) {
        bool done[16] = {false};
        struct slot out[16];
        unsigned lost = 0;

        begin(2);
        rig_name(3, NULL);
        rig_open();
        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(swap_alloc(&slots[i]), OK);
            rig_fill(frames[0], i);
            assert_int_equal(swap_write(slots[i], frames[0]), OK);
        }
        for (unsigned i = 0; i < 16; i++) {
            if (i == 8)
                swap_release(slots[dead * SLOT_CLUSTER]);
            assert_int_equal(swap_alloc(&out[i]), OK);
        }
        out[15] = slots[dead * SLOT_CLUSTER + 1];
        fake_hba_attach(&rig.hbas[dead], 0, FAKE_NOTHING, NULL);
        for (unsigned i = 0; i < 16; i++)
            rig_fill(frames[i], 1000 + i);
        assert_int_equal(swap_write_out(out, frames, 16, done), OK);
        for (unsigned i = 0; i < 16; i++) {
            assert_true(done[i]);
            assert_int_equal(rig_disk_of(out[i]), 1 - dead);
            assert_int_equal(swap_read(out[i], frames[0]), OK);
            assert_true(rig_filled(frames[0], 1000 + i));
        }
        for (unsigned i = 0; i < count; i++) {
            bool gone = i / SLOT_CLUSTER % 2 == dead;

            if (i - dead * SLOT_CLUSTER < 2)
                continue;
            assert_int_equal(swap_serves(slots[i]), !gone);
            assert_int_equal(swap_read(slots[i], frames[0]), gone ? STATUS_IO : OK);
            assert_true(gone || rig_filled(frames[0], i));
            lost += gone;
        }
        assert_int_equal(lost, count / 2 - 2);
        for (unsigned i = 0; i < SLOT_CLUSTER; i++) {
            assert_int_equal(swap_alloc(&slots[i]), OK);
            assert_int_equal(rig_disk_of(slots[i]), 1 - dead);
        }
        swap_audit();
        assert_false(swap_area_usage(dead).disk[0].writable);
        assert_int_equal(swap_close(), STATUS_IO);
        assert_int_equal(rig_said("is given up, since it has died: no page goes to it"), 1);
        assert_int_equal(rig_said("(given up)"), 1);
        rig_open_again();
        assert_int_equal(swap_area_count(), 1); /* the other one was closed */
        assert_int_equal(rig_said("did not close it"), 0);
        assert_int_equal(swap_close(), OK);
        end();
    }
}

/* With all areas dead no slot is given out, and the status says why. */
static void all_areas_dead(void **state)
{
    bool done[2] = {true, true};

    (void)state;
    begin(2);
    rig_name(3, NULL);
    rig_open();
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(swap_alloc(&slots[i]), OK);
        fake_hba_attach(&rig.hbas[i], 0, FAKE_NOTHING, NULL);
    }
    assert_int_equal(swap_write_out(slots, frames, 2, done), STATUS_IO);
    assert_false(done[0] || done[1]);
    assert_int_equal(swap_alloc(&slots[2]), STATUS_IO);
    swap_audit();
    assert_int_equal(swap_close(), STATUS_IO);
    end();
}

/* A bad place in an area that is full otherwise: its page goes to the next area. */
static void a_bad_slot_sends_its_page_elsewhere(void **state)
{
    static const uint16_t priorities[] = {1, 0};
    bool done = false;
    unsigned each;

    (void)state;
    begin(2);
    rig_name(3, priorities);
    rig_open();
    each = swap_area_usage(0).slots;
    for (unsigned i = 0; i < each; i++)
        assert_int_equal(swap_alloc(&slots[i]), OK);
    rig.disks[0].bad_write = swap_disk_offset(slots[7]) / SECTOR_SIZE + 2;
    rig_fill(frames[0], 5);
    assert_int_equal(swap_write_out(&slots[7], frames, 1, &done), OK);
    assert_true(done);
    assert_int_equal(rig_disk_of(slots[7]), 1);
    assert_int_equal(swap_read(slots[7], frames[1]), OK);
    assert_true(rig_filled(frames[1], 5));
    assert_int_equal(swap_area_usage(0).slots, each - 1);
    assert_int_equal(swap_area_usage(0).disk[0].usage.retired, 1);
    assert_int_equal(swap_close(), OK);
    assert_int_equal(rig_said("1 bad slots are in the list of disk S1"), 1);
    rig_open_again();
    assert_int_equal(swap_area_usage(0).slots, each - 1);
    assert_int_equal(swap_area_usage(1).slots, each);
    assert_int_equal(swap_close(), OK);
    end();
}

/* A header that cannot be written ends the writing to its disk only. */
static void a_failed_mark_moves_the_pages(void **state)
{
    bool done = false;

    (void)state;
    begin(2);
    rig_name(3, NULL);
    rig_open();
    assert_int_equal(swap_alloc(&slots[0]), OK);
    rig_fail(0, FAKE_ERROR, 3);
    rig_fill(frames[0], 3);
    assert_int_equal(swap_write_out(slots, frames, 1, &done), OK);
    assert_true(done);
    assert_int_equal(rig_disk_of(slots[0]), 1);
    assert_int_equal(rig.disks[0].log_count, 0);
    assert_int_equal(rig_said("since its header cannot be written"), 1);
    assert_int_equal(swap_close(), STATUS_IO);
    end();
}

/* Every allocation of the opening fails once: nothing is left behind. */
static void no_memory_at_the_opening(void **state)
{
    static struct pfn held[16384];

    (void)state;
    begin(3);
    for (unsigned i = 0; i < 3; i++) {
        struct swap_header header =
            fake_disk_swap_header_2(&rig.disks[i], (uint8_t)(0x11 * (i + 1)));
        struct bad_slots list = {.generation = 4, .count = 2, .slots = {3, i + 8}};

        fake_disk_put_headers_2(&rig.disks[i], &header, &list);
    }
    rig_name(7, NULL);
    disks_scan(&rig.options, true);
    rig.options.tags = 1;
    for (unsigned spare = 0;; spare++) {
        unsigned count = 0;
        enum status status;

        while (pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &held[count]) == OK)
            count++;
        for (unsigned i = 0; i < spare; i++)
            pmm_free(held[--count]);
        status = swap_open(&rig.options, 100);
        if (status == OK)
            assert_int_equal(swap_close(), OK);
        assert_true(pmm_usage().by_kind[FRAME_FREE] <= spare);
        while (count > 0)
            pmm_free(held[--count]);
        if (status == OK) {
            assert_true(spare > 8);
            break;
        }
        assert_int_equal(status, STATUS_NO_MEMORY);
    }
    end();
}

/* With wipe=1 the slots of all areas are zero afterwards. */
static void wipe_covers_all_areas(void **state)
{
    static const uint8_t zeroes[PAGE_SIZE];

    (void)state;
    begin(3);
    rig_name(7, NULL);
    rig.options.wipe = true;
    rig_open();
    for (unsigned i = 0; i < 4 * SLOT_CLUSTER; i++) {
        assert_int_equal(swap_alloc(&slots[i]), OK);
        rig_fill(frames[0], i);
        assert_int_equal(swap_write(slots[i], frames[0]), OK);
    }
    for (unsigned i = 0; i < 4 * SLOT_CLUSTER; i++)
        assert_memory_not_equal(rig_slot_bytes(rig_disk_of(slots[i]), slots[i]), zeroes, PAGE_SIZE);
    assert_int_equal(swap_close(), OK);
    for (unsigned i = 0; i < 3; i++) {
        struct swap_header header = fake_disk_swap_header_2(&rig.disks[i], 0);

        for (uint64_t at = (RIG_FIRST + 8) * SECTOR_SIZE; at < header.log_first_lba * SECTOR_SIZE;
             at++)
            assert_int_equal(rig.disks[i].bytes[at], 0);
    }
    end();
}

/* Fills some clusters of each of `areas` disks, and closes with wipe=1: each was written in its
 * partition only, and has no slot that is not zero. No other disk was written. */
static void fill_and_wipe(unsigned areas)
{
    unsigned filled[RIG_DISKS] = {0};
    unsigned used = 0;

    for (unsigned i = 0; i < 2 * areas * SLOT_CLUSTER; i++) {
        assert_int_equal(swap_alloc(&slots[i]), OK);
        rig_fill(frames[0], i);
        assert_int_equal(swap_write(slots[i], frames[0]), OK);
        filled[rig_disk_of(slots[i])]++;
    }
    for (unsigned i = 0; i < 2 * areas * SLOT_CLUSTER; i += 7) {
        assert_int_equal(swap_read(slots[i], frames[1]), OK);
        assert_true(rig_filled(frames[1], i));
    }
    swap_audit();
    assert_int_equal(swap_close(), OK);
    for (unsigned i = 0; i < rig.disk_count; i++) {
        struct swap_header header = fake_disk_swap_header_2(&rig.disks[i], 0);

        assert_int_equal(filled[i] == 0, rig.disks[i].log_count == 0);
        if (filled[i] == 0)
            continue;
        used++;
        assert_int_equal(filled[i], 2 * SLOT_CLUSTER);
        assert_true(writes_lie_in_partition(&rig.disks[i]));
        for (uint64_t at = (RIG_FIRST + 8) * SECTOR_SIZE; at < header.log_first_lba * SECTOR_SIZE;
             at++)
            assert_int_equal(rig.disks[i].bytes[at], 0);
    }
    assert_int_equal(used, areas);
}

/* Five disks, and as many as there can be, share the pages. One more than that is refused, and
 * nothing is written to it. */
static void as_many_disks_as_there_can_be(void **state)
{
    (void)state;
    begin(5);
    rig_group(SET_STRIPE, 0, 5);
    rig.options.wipe = true;
    rig_open();
    assert_int_equal(swap_area_count(), 5);
    fill_and_wipe(5);
    end();
    begin(RIG_DISKS);
    rig_group(SET_STRIPE, 0, RIG_DISKS);
    rig.options.wipe = true;
    rig_open();
    assert_int_equal(swap_area_count(), OPTION_SETS_MAX);
    assert_non_null(strstr(disks_report(RIG_DISKS - 1)->reason, "there are more than 16 sets"));
    fill_and_wipe(OPTION_SETS_MAX);
    end();
}

/* ---- lists of bad slots ---- */

/* The first slot that a machine with little memory does not use, and some more. */
#define SLOTS_OF_LITTLE 65536U
#define LARGE_SECTORS   ((SLOTS_OF_LITTLE + 200) * SECTORS_PER_PAGE + RIG_FIRST)

/* Gives the first disk these bad slots. */
static void put_bad_slots(const struct bad_slots *list, uint32_t used_slots)
{
    struct swap_header header = fake_disk_swap_header_2(&rig.disks[0], 0x11);

    header.used_slots = used_slots;
    fake_disk_put_headers_2(&rig.disks[0], &header, list);
}

/* Returns the list that a run has left in the first header of the first disk. */
static struct bad_slots list_of_disk(void)
{
    const uint8_t *page = rig.disks[0].bytes + RIG_FIRST * SECTOR_SIZE;
    struct swap_header header;
    struct bad_slots list;

    assert_null(swap_header_decode(page, &header));
    assert_null(bad_slots_decode(page, &header, &list));
    return list;
}

/* Writes a page to a slot that turns out bad. Returns the slot. */
static struct slot find_bad_slot(void)
{
    struct slot slot;
    struct slot bad;
    bool done = false;

    assert_int_equal(swap_alloc(&slot), OK);
    bad = slot;
    rig.disks[0].bad_write = swap_disk_offset(slot) / SECTOR_SIZE + 2;
    assert_int_equal(swap_write_out(&slot, frames, 1, &done), OK);
    assert_true(done && slot.index != bad.index);
    return bad;
}

static void forget_writes(void)
{
    while (rig.disks[0].log_count > 0)
        free(rig.disks[0].log[--rig.disks[0].log_count].data);
}

/* An earlier run, on a machine with more memory, has used slots behind those that this run uses,
 * and has found some of them bad: they stay in the list, and a wipe leaves them alone. */
static void bad_slots_behind_those_in_use(void **state)
{
    static const struct bad_slots list = {
        .generation = 4, .count = 4, .slots = {3, 9, SLOTS_OF_LITTLE, SLOTS_OF_LITTLE + 70}};
    struct bad_slots kept;
    uint8_t *behind;

    (void)state;
    begin(1);
    fake_disk_free(&rig.disks[0]);
    fake_disk_make(&rig.disks[0], LARGE_SECTORS, "Fake", "S1");
    fake_disk_prepare_2(&rig.disks[0], 0x11);
    put_bad_slots(&list, SLOTS_OF_LITTLE + 100);
    rig.options.wipe = true;
    rig_open();
    assert_int_equal(swap_usage().slots, SLOTS_OF_LITTLE - 2);
    assert_int_equal(find_bad_slot().index, 0);
    behind = rig.disks[0].bytes + swap_disk_offset((struct slot){0}) +
             (uint64_t)(SLOTS_OF_LITTLE + 69) * PAGE_SIZE;
    memset(behind, 0x77, 3 * PAGE_SIZE);
    rig.disks[0].bad_write = (uint64_t)(behind - rig.disks[0].bytes) / SECTOR_SIZE + 8;
    rig.disks[0].on_command = forget_writes;
    assert_int_equal(swap_close(), OK);
    rig.disks[0].on_command = NULL;
    assert_int_equal(behind[0] | behind[2 * PAGE_SIZE], 0);
    kept = list_of_disk();
    assert_int_equal(kept.generation, 5);
    assert_int_equal(kept.count, 5);
    assert_int_equal(kept.slots[0], 0);
    assert_memory_equal(kept.slots + 1, list.slots, 4 * sizeof(list.slots[0]));
    end();
}

/* Both headers of the first disk after each command. */
static uint8_t cuts[32][2][SWAP_HEADER_SIZE];
static unsigned cut_count;

static uint8_t *header_of_disk(unsigned copy)
{
    struct gpt_partition partition = fake_disk_partition(&rig.disks[0]);

    return fake_disk_sector(
        &rig.disks[0], copy == 0 ? partition.first_lba
                                 : swap_second_header_lba(partition.first_lba, partition.last_lba));
}

static void note_cut(void)
{
    assert_true(cut_count < ARRAY_COUNT(cuts));
    for (unsigned copy = 0; copy < 2; copy++)
        memcpy(cuts[cut_count][copy], header_of_disk(copy), SWAP_HEADER_SIZE);
    if (cut_count == 0 || memcmp(cuts[cut_count], cuts[cut_count - 1], sizeof(cuts[0])) != 0)
        cut_count++;
}

/* A power cut has torn one of the lists. The next update of them may be cut as well, after each
 * command: one list is always sound. */
static void a_torn_list_is_cut_again(void **state)
{
    static const struct bad_slots list = {.generation = 4, .count = 1, .slots = {3}};

    (void)state;
    for (unsigned torn = 0; torn < 2; torn++) {
        struct disk_identity identity;
        struct disk_finding found = {0};

        begin(1);
        put_bad_slots(&list, 0);
        header_of_disk(torn)[SECTOR_SIZE + 100] ^= 1;
        rig_open();
        assert_true(slots_is_retired((struct slot){3}));
        assert_int_equal(find_bad_slot().index, 0);
        cut_count = 0;
        rig.disks[0].on_command = note_cut;
        assert_int_equal(swap_close(), OK);
        rig.disks[0].on_command = NULL;
        assert_int_equal(list_of_disk().count, 2);
        assert_true(cut_count > 3);
        identity = fake_disk_identity(&rig.disks[0]);
        for (unsigned i = 0; i < cut_count; i++) {
            struct disk_view view = {.device = &rig.disks[0],
                                     .identity = &identity,
                                     .source = fake_disk_source(&rig.disks[0])};

            for (unsigned copy = 0; copy < 2; copy++)
                memcpy(header_of_disk(copy), cuts[i][copy], SWAP_HEADER_SIZE);
            assert_int_equal(validate_disk(&view, &found), OK);
            if (!found.prepared)
                fail_msg("cut %u of %u: %s", i, cut_count, found.reason);
        }
        end();
    }
}

/* ---- what a disk may still write to, and what it has no place for ---- */

static void stick(void)
{
    rig.hbas[0].ports[0].cr_sticks = true;
}

/* A disk hangs while its tables are read, and its engine does not stop: the frame that it may still
 * write to is held for ever (rule D1). */
static void a_disk_that_hangs_keeps_a_frame(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        struct pmm_usage before;

        begin(1);
        before = pmm_usage();
        if (round > 0)
            rig_open();
        fake_clock_step_ns = 10000000;
        rig_fail(0, FAKE_HANG, UINT64_MAX / 2);
        rig.disks[0].fail_from++;
        rig.disks[0].on_command = stick;
        if (round == 0)
            rig_open();
        assert_int_equal(swap_close(), round == 0 ? OK : STATUS_IO);
        fake_hba_look(&rig.hbas[0]);
        rig.hbas[0].ports[0].cr_sticks = false;
        rig_end();
        assert_int_equal(pmm_usage().by_kind[FRAME_DEVICE], before.by_kind[FRAME_DEVICE] + 1);
        assert_int_equal(pmm_usage().by_kind[FRAME_KERNEL], before.by_kind[FRAME_KERNEL]);
    }
}

/* The same while a file is looked for. */
static void a_disk_that_hangs_has_no_file(void **state)
{
    (void)state;
    for (unsigned commands = 0; commands < 8; commands++) {
        struct disk_file *file;
        struct pmm_usage before;
        enum status status;

        begin(1);
        disks_scan(&rig.options, true);
        before = pmm_usage();
        fake_clock_step_ns = 10000000;
        rig_fail(0, FAKE_HANG, UINT64_MAX / 2);
        rig.disks[0].fail_from += commands;
        rig.disks[0].on_command = stick;
        if (commands == 0)
            stick();
        status = disk_file_open(disks_block(0), "a/file", &file);
        assert_true(status == STATUS_IO || (commands > 4 && status == STATUS_NOT_FOUND));
        fake_hba_look(&rig.hbas[0]);
        assert_int_equal(pmm_usage().by_kind[FRAME_KERNEL],
                         before.by_kind[FRAME_KERNEL] + (status == STATUS_IO));
        rig.hbas[0].ports[0].cr_sticks = false;
        rig_end();
    }
}

/* The disk with the log area has died, and the one that is left has none: a crash has no place for
 * its log. */
static void a_crash_without_a_log_area(void **state)
{
    struct swap_header header;
    bool done[FRAMES];

    (void)state;
    begin(2);
    header = fake_disk_swap_header_2(&rig.disks[0], 0x11);
    header.log_first_lba = header.log_sectors = 0;
    fake_disk_put_headers_2(&rig.disks[0], &header, NULL);
    rig_name(3, NULL);
    rig_open();
    crash_log_ready();
    fake_hba_attach(&rig.hbas[1], 0, FAKE_NOTHING, NULL);
    for (unsigned i = 0; i < SLOT_CLUSTER + 1; i++) {
        assert_int_equal(swap_alloc(&slots[i]), OK);
        assert_int_equal(swap_write_out(&slots[i], frames, 1, done), OK);
    }
    assert_false(swap_area_usage(1).disk[0].writable);
    assert_int_equal(crash_log_write("the log", 7), STATUS_NOT_FOUND);
    crash_log_over();
    assert_int_equal(swap_close(), STATUS_IO);
    end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_areas_take_turns),
        cmocka_unit_test(areas_never_touch),
        cmocka_unit_test(higher_priorities_come_first),
        cmocka_unit_test(counts_against_a_model),
        cmocka_unit_test(a_grant_serves_its_own_area_only),
        cmocka_unit_test(auto_takes_one_group),
        cmocka_unit_test(twins_are_refused_beside_others),
        cmocka_unit_test(second_look_leaves_one_out),
        cmocka_unit_test(a_dead_area_hurts_no_other),
        cmocka_unit_test(all_areas_dead),
        cmocka_unit_test(a_bad_slot_sends_its_page_elsewhere),
        cmocka_unit_test(a_failed_mark_moves_the_pages),
        cmocka_unit_test(no_memory_at_the_opening),
        cmocka_unit_test(wipe_covers_all_areas),
        cmocka_unit_test(as_many_disks_as_there_can_be),
        cmocka_unit_test(bad_slots_behind_those_in_use),
        cmocka_unit_test(a_torn_list_is_cut_again),
        cmocka_unit_test(a_disk_that_hangs_keeps_a_frame),
        cmocka_unit_test(a_disk_that_hangs_has_no_file),
        cmocka_unit_test(a_crash_without_a_log_area),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
