/* The swap area, in RAM and on a disk behind the whole driver. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/print.h"
#include "pmm/pmm.h"
#include "swapdisk/area.h"
#include "swapdisk/area/slots.h"
#include "swapdisk/disks.h"
#include "tests/host/fake/hba.h"
#include "tests/host/fake/machine.h"

#define SECTORS   16384U
#define FIRST     2048U
#define RAM_SLOTS 1000U
#define PAGES     160U

static struct fake_hba fake;
static struct fake_disk disk;
static struct options options;
static uint32_t tags; /* of the options; 0: as many as there are */
static struct pfn frames[PAGES];
static struct pmm_usage at_start;

static int set_up_ram(void **state)
{
    (void)state;
    fake_machine_start(32 * MIB);
    fake_clock_step_ns = 100000;
    fake_pci_clear();
    options = (struct options){.swap = SWAP_AUTO};
    at_start = pmm_usage();
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &frames[i]), OK);
    disks_scan(&options, true);
    assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
    assert_int_equal(swap_usage().backing, SWAP_BACKING_RAM);
    return 0;
}

static int set_up_disk_with(bool wipe)
{
    fake_machine_start(32 * MIB);
    fake_clock_step_ns = 100000;
    fake_disk_make(&disk, SECTORS, "Fake", "S1");
    fake_disk_prepare(&disk, 0x11);
    fake_hba_make(&fake, 2);
    fake_hba_attach(&fake, 0, FAKE_DISK, &disk);
    fake_pci_clear();
    fake_pci_add_hba((struct pci_place){0, 31, 0}, &fake);
    options = (struct options){.swap = SWAP_AUTO, .wipe = wipe, .tags = tags};
    at_start = pmm_usage();
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &frames[i]), OK);
    disks_scan(&options, true);
    assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
    assert_int_equal(swap_usage().backing, SWAP_BACKING_DISK);
    return 0;
}

static int set_up_disk(void **state)
{
    (void)state;
    return set_up_disk_with(false);
}

/* The disk's logical sectors have 4096 bytes. */
static int set_up_large(void **state)
{
    fake_disk_shift = SECTOR_SHIFT_4K;
    return set_up_disk(state);
}

/* Without queuing: each failure is one command's, and a short transfer is seen. */
static int set_up_single(void **state)
{
    int failed;

    (void)state;
    tags = 1;
    failed = set_up_disk_with(false);
    tags = 0;
    return failed;
}

static int set_up_wipe(void **state)
{
    (void)state;
    return set_up_disk_with(true);
}

static int set_up_large_wipe(void **state)
{
    fake_disk_shift = SECTOR_SHIFT_4K;
    return set_up_wipe(state);
}

/* After swap_close, every slot and frame is free again. */
static int tear_down(void **state)
{
    struct pmm_usage now;

    (void)state;
    disks_stop();
    for (unsigned i = 0; i < PAGES; i++)
        pmm_free(frames[i]);
    now = pmm_usage();
    assert_memory_equal(&now, &at_start, sizeof(now));
    if (disk.bytes != NULL)
        fake_disk_free(&disk);
    if (fake.complaints != 0)
        fail_msg("%u complaints, the first: %s", fake.complaints, fake.complaint);
    memset(&fake, 0, sizeof(fake));
    fake_clock_step_ns = 1000;
    fake_disk_shift = 0;
    return 0;
}

static void fill(struct pfn frame, unsigned seed)
{
    uint32_t *words = frame_pointer(frame);

    for (unsigned i = 0; i < PAGE_SIZE / 4; i++)
        words[i] = seed * UINT32_C(2654435761) + i;
}

static void assert_filled(struct pfn frame, unsigned seed)
{
    const uint32_t *words = frame_pointer(frame);

    for (unsigned i = 0; i < PAGE_SIZE / 4; i++)
        assert_int_equal(words[i], seed * UINT32_C(2654435761) + i);
}

/* Out and back in another order, with new content in some slots; the same for both backings. */
static void pages_come_back(void **state)
{
    struct slot slots[100];

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(swap_alloc(&slots[i]), OK);
        fill(frames[0], i);
        assert_int_equal(swap_write(slots[i], frames[0]), OK);
    }
    for (unsigned i = 0; i < 100; i += 3) {
        fill(frames[0], 1000 + i);
        assert_int_equal(swap_write(slots[i], frames[0]), OK);
    }
    swap_audit();
    for (unsigned i = 0; i < 100; i++) {
        unsigned at = i * 37 % 100;

        assert_int_equal(swap_read(slots[at], frames[1]), OK);
        assert_filled(frames[1], at % 3 == 0 ? 1000 + at : at);
    }
    assert_int_equal(swap_usage().used, 100);
    assert_int_equal(swap_usage().pages_written, 134);
    assert_int_equal(swap_usage().pages_read, 100);
    for (unsigned i = 0; i < 100; i++)
        swap_release(slots[i]);
    assert_int_equal(swap_usage().used, 0);
    swap_audit();
    assert_int_equal(swap_close(), OK);
}

static void runs_come_back(void **state)
{
    struct slot first;
    unsigned count;

    (void)state;
    assert_int_equal(swap_alloc_run(PAGES, &first, &count), OK);
    assert_int_equal(count, PAGES);
    for (unsigned i = 0; i < PAGES; i++)
        fill(frames[i], i);
    assert_int_equal(swap_write_run(first, frames, PAGES), OK);
    for (unsigned i = 0; i < PAGES; i++)
        fill(frames[i], 7777);
    assert_int_equal(swap_read_run(first, frames, PAGES), OK);
    for (unsigned i = 0; i < PAGES; i++)
        assert_filled(frames[i], i);
    /* Reads a part of the run, from the middle. */
    assert_int_equal(swap_read_run((struct slot){first.index + 50}, frames, 3), OK);
    assert_filled(frames[2], 52);
    assert_int_equal(swap_close(), OK);
}

static void counts(void **state)
{
    struct slot slot;

    (void)state;
    assert_int_equal(swap_alloc(&slot), OK);
    assert_int_equal(swap_count(slot), 1);
    swap_hold(slot);
    swap_hold(slot);
    assert_int_equal(swap_count(slot), 3);
    fill(frames[0], 5);
    assert_int_equal(swap_write(slot, frames[0]), OK);
    swap_release(slot);
    swap_release(slot);
    assert_int_equal(swap_read(slot, frames[1]), OK);
    assert_filled(frames[1], 5);
    swap_release(slot);
    assert_int_equal(swap_count(slot), 0);
    assert_int_equal(swap_close(), OK);
}

static void mistakes_are_caught(void **state)
{
    struct slot slot;

    (void)state;
    assert_int_equal(swap_alloc(&slot), OK);
    assert_true(PANICS((void)swap_read(slot, frames[0])));
    assert_true(PANICS((void)swap_write((struct slot){slot.index + 1}, frames[0])));
    assert_true(PANICS((void)swap_write((struct slot){swap_usage().slots}, frames[0])));
    assert_true(PANICS((void)swap_write((struct slot){UINT32_MAX}, frames[0])));
    assert_true(PANICS((void)swap_write_run(slot, frames, 2)));
    assert_true(PANICS((void)swap_read_run(slot, frames, UINT32_MAX)));
    assert_int_equal(swap_write(slot, frames[0]), OK);
    swap_release(slot);
    assert_int_equal(swap_close(), OK);
}

/* A slot that is taken again holds nothing until it is written. */
static void nothing_of_a_former_holder(void **state)
{
    struct slot slots[RAM_SLOTS];

    (void)state;
    for (unsigned i = 0; i < RAM_SLOTS; i++) {
        assert_int_equal(swap_alloc(&slots[i]), OK);
        assert_int_equal(swap_write(slots[i], frames[0]), OK);
    }
    swap_release(slots[17]);
    assert_int_equal(swap_alloc(&slots[17]), OK);
    assert_int_equal(slots[17].index, 17);
    assert_true(PANICS((void)swap_read(slots[17], frames[0])));
    assert_int_equal(swap_close(), OK);
}

static void full_area(void **state)
{
    static struct slot slots[RAM_SLOTS];
    struct slot other;
    unsigned count;

    (void)state;
    for (unsigned i = 0; i < RAM_SLOTS; i++) {
        assert_int_equal(swap_alloc(&slots[i]), OK);
        for (unsigned j = i > 3 ? i - 3 : 0; j < i; j++)
            assert_int_not_equal(slots[i].index, slots[j].index);
    }
    assert_int_equal(swap_usage().used, RAM_SLOTS);
    assert_int_equal(swap_alloc(&other), STATUS_NO_SPACE);
    assert_int_equal(swap_alloc_run(4, &other, &count), STATUS_NO_SPACE);
    swap_release(slots[500]);
    swap_release(slots[502]);
    swap_release(slots[503]);
    assert_int_equal(swap_alloc_run(4, &other, &count), OK);
    assert_int_equal(other.index, 500);
    assert_int_equal(count, 1);
    assert_int_equal(swap_alloc_run(4, &other, &count), OK);
    assert_int_equal(other.index, 502);
    assert_int_equal(count, 2);
    assert_int_equal(swap_alloc(&other), STATUS_NO_SPACE);
    swap_audit();
    assert_int_equal(swap_close(), OK);
}

/* Unused slots come first, so that pages written together are adjacent. */
static void search_goes_on_where_it_was(void **state)
{
    struct slot slots[3];
    struct slot next;

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(swap_alloc(&slots[i]), OK);
    swap_release(slots[0]);
    assert_int_equal(swap_alloc(&next), OK);
    assert_int_equal(next.index, slots[2].index + 1);
    assert_int_equal(swap_close(), OK);
}

/* Random takes, holds and releases against a plain array of counts. */
static void counts_against_a_model(void **state)
{
    static unsigned model[RAM_SLOTS];
    unsigned used = 0;
    uint32_t random = 1;

    (void)state;
    memset(model, 0, sizeof(model));
    for (unsigned step = 0; step < 20000; step++) {
        unsigned wanted;
        unsigned count;
        struct slot slot;

        random = random * 1664525 + 1013904223;
        slot.index = (random >> 8) % RAM_SLOTS;
        wanted = 1 + (random >> 24) % 8;
        if ((random >> 28) < 6) {
            enum status status = swap_alloc_run(wanted, &slot, &count);

            assert_int_equal(status, used == RAM_SLOTS ? STATUS_NO_SPACE : OK);
            for (unsigned i = 0; status == OK && i < count; i++) {
                assert_int_equal(model[slot.index + i], 0);
                model[slot.index + i] = 1;
                used++;
            }
        } else if (model[slot.index] > 0 && (random >> 28) < 8) {
            swap_hold(slot);
            model[slot.index]++;
        } else if (model[slot.index] > 0) {
            swap_release(slot);
            used -= --model[slot.index] == 0;
        }
        assert_int_equal(swap_count(slot), model[slot.index]);
        assert_int_equal(swap_usage().used, used);
        if (step % 1000 == 0)
            swap_audit();
    }
    assert_int_equal(swap_close(), OK);
}

static void ram_runs_out_of_frames(void **state)
{
    struct slot slot;
    struct pfn frame;

    (void)state;
    assert_int_equal(swap_alloc(&slot), OK);
    while (pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &frame) == OK) {
    }
    assert_int_equal(swap_write(slot, frames[0]), STATUS_NO_MEMORY);
    assert_int_equal(swap_usage().errors, 1);
    pmm_free(frames[PAGES - 1]);
    assert_int_equal(swap_write(slot, frames[0]), OK);
    assert_int_equal(pmm_usage().by_kind[FRAME_SWAP], 1);
    swap_release(slot);
    assert_int_equal(pmm_usage().by_kind[FRAME_SWAP], 0);
    assert_int_equal(swap_close(), OK);
}

static void no_memory_for_the_records(void **state)
{
    struct pfn frame;

    (void)state;
    assert_int_equal(swap_close(), OK);
    while (pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &frame) == OK) {
    }
    for (unsigned spare = 0; spare < 7; spare++) {
        assert_int_equal(swap_open(&options, RAM_SLOTS), STATUS_NO_MEMORY);
        assert_int_equal(pmm_usage().by_kind[FRAME_FREE], spare);
        pmm_free(frames[spare]);
    }
    /* Two frames of the store, a bitmap, a directory and three frames of records. */
    assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
    assert_int_equal(pmm_usage().by_kind[FRAME_FREE], 0);
    assert_int_equal(swap_close(), OK);
}

static void many_slots(void **state)
{
    struct slot slot;
    unsigned count;

    (void)state;
    assert_int_equal(swap_close(), OK);
    /* More slots than one frame of the bitmap holds, and no multiple of any unit. */
    assert_int_equal(swap_open(&options, 70001), OK);
    for (unsigned left = 70001; left > 0; left -= count)
        assert_int_equal(swap_alloc_run(left, &slot, &count), OK);
    assert_int_equal(swap_alloc(&slot), STATUS_NO_SPACE);
    swap_release((struct slot){69999});
    assert_int_equal(swap_alloc(&slot), OK);
    assert_int_equal(slot.index, 69999);
    swap_audit();
    assert_int_equal(swap_close(), OK);
}

/* A page in the store is changed behind the area's back. */
static void damage_is_noticed(void **state)
{
    struct slot slots[3];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(swap_alloc(&slots[i]), OK);
        fill(frames[0], i);
        assert_int_equal(swap_write(slots[i], frames[0]), OK);
    }
    disk.bytes[swap_disk_offset((struct slot){0}) + PAGE_SIZE * slots[1].index + 123] ^= 0x40;
    fill(frames[1], 99);
    assert_int_equal(swap_read(slots[1], frames[1]), STATUS_CORRUPT);
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        assert_int_equal(((uint8_t *)frame_pointer(frames[1]))[i], 0);
    assert_int_equal(swap_usage().corrupt, 1);
    assert_int_equal(swap_read(slots[0], frames[1]), OK);
    assert_int_equal(swap_read_run(slots[0], frames, 3), STATUS_CORRUPT);
    assert_int_equal(swap_close(), OK);
}

/* A page that arrives wrong is read once more, and then lost (D11). */
static void a_wrong_page_is_read_once_more(void **state)
{
    struct slot slot;

    (void)state;
    assert_int_equal(swap_alloc(&slot), OK);
    fill(frames[0], 5);
    assert_int_equal(swap_write(slot, frames[0]), OK);
    disk.failure = FAKE_FLIP;
    for (unsigned times = 1; times <= 2; times++) {
        uint64_t before = disk.commands;

        disk.fail_from = before;
        disk.fail_count = times;
        assert_int_equal(swap_read(slot, frames[1]), times == 1 ? OK : STATUS_CORRUPT);
        assert_int_equal(disk.commands - before, 2);
        if (times == 1)
            assert_filled(frames[1], 5);
    }
    assert_int_equal(swap_usage().corrupt, 1);
    assert_int_equal(swap_read(slot, frames[1]), OK);
    assert_int_equal(swap_close(), OK);
}

/* The right page of the wrong slot, and an old page of the right slot. */
static void check_values_are_bound(void **state)
{
    struct slot slots[2];
    uint8_t *at;
    uint8_t old[PAGE_SIZE];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(swap_alloc(&slots[i]), OK);
        fill(frames[0], i);
        assert_int_equal(swap_write(slots[i], frames[0]), OK);
    }
    at = disk.bytes + swap_disk_offset((struct slot){0}) + PAGE_SIZE * slots[0].index;
    memcpy(old, at, PAGE_SIZE);
    memcpy(at, at + PAGE_SIZE, PAGE_SIZE);
    assert_int_equal(swap_read(slots[0], frames[1]), STATUS_CORRUPT);
    fill(frames[0], 50);
    assert_int_equal(swap_write(slots[0], frames[0]), OK);
    memcpy(at, old, PAGE_SIZE);
    assert_int_equal(swap_read(slots[0], frames[1]), STATUS_CORRUPT);
    /* Equal content in two slots still has two check values. */
    assert_int_not_equal(slots_check_value((struct slot){1}, 1, old),
                         slots_check_value((struct slot){2}, 1, old));
    assert_int_not_equal(slots_check_value((struct slot){1}, 1, old),
                         slots_check_value((struct slot){1}, 2, old));
    assert_int_equal(swap_close(), OK);
}

static void a_write_that_was_lost(void **state)
{
    struct slot slot;

    (void)state;
    assert_int_equal(swap_alloc(&slot), OK);
    fill(frames[0], 1);
    assert_int_equal(swap_write(slot, frames[0]), OK);
    fill(frames[0], 2);
    disk.fail_from = disk.commands;
    disk.fail_count = 1;
    disk.failure = FAKE_SILENT;
    assert_int_equal(swap_write(slot, frames[0]), OK);
    assert_int_equal(swap_read(slot, frames[1]), STATUS_CORRUPT);
    assert_int_equal(swap_close(), OK);
}

static void pages_stand_where_the_log_says(void **state)
{
    struct slot slot;

    (void)state;
    assert_int_equal(swap_disk_offset((struct slot){0}), FIRST * SECTOR_SIZE + PAGE_SIZE);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(swap_alloc(&slot), OK);
        fill(frames[0], i);
        assert_int_equal(swap_write(slot, frames[0]), OK);
        assert_memory_equal(disk.bytes + swap_disk_offset((struct slot){0}) +
                                PAGE_SIZE * slot.index,
                            frame_pointer(frames[0]), PAGE_SIZE);
    }
    assert_int_equal(swap_close(), OK);
}

/* Nothing is written before the first page; then the mark comes first, each step flushed. */
static void in_use_mark_comes_first(void **state)
{
    uint64_t second = swap_second_header_lba(FIRST, fake_disk_partition(&disk).last_lba);
    uint64_t expected[] = {FIRST, 0, second, 0, FIRST + 8, FIRST, 0, second, 0};
    struct swap_header header;
    struct slot slot;

    (void)state;
    assert_int_equal(swap_alloc(&slot), OK);
    assert_int_equal(disk.log_count, 0);
    assert_int_equal(swap_write(slot, frames[0]), OK);
    assert_null(swap_header_decode(disk.bytes + FIRST * SECTOR_SIZE, &header));
    assert_int_equal(header.state, SWAP_STATE_IN_USE);
    assert_int_equal(header.generation, 8);
    assert_int_equal(swap_close(), OK);
    assert_int_equal(disk.log_count, ARRAY_COUNT(expected));
    for (size_t i = 0; i < ARRAY_COUNT(expected); i++) {
        assert_int_equal(disk.log[i].lba, expected[i]);
        assert_int_equal(disk.log[i].sectors == 0, expected[i] == 0);
    }
    assert_null(swap_header_decode(disk.bytes + FIRST * SECTOR_SIZE, &header));
    assert_int_equal(header.state, SWAP_STATE_CLEAN);
    assert_int_equal(header.generation, 9);
}

static void unused_disk_is_untouched(void **state)
{
    struct slot slot;

    (void)state;
    assert_int_equal(swap_alloc(&slot), OK);
    swap_release(slot);
    assert_int_equal(swap_close(), OK);
    assert_int_equal(disk.log_count, 0);
}

static bool still_prepared(struct fake_disk *image)
{
    struct disk_identity identity = fake_disk_identity(image);
    struct disk_view view = {
        .device = image, .identity = &identity, .source = fake_disk_source(image)};
    struct disk_finding finding;

    assert_int_equal(validate_disk(&view, &finding), OK);
    return finding.prepared;
}

/* The power fails after each single write of a run, and of one that follows such a crash: the
 * headers always agree, so that the disk serves again. */
static void power_cuts_leave_a_prepared_disk(void **state)
{
    struct fake_disk image;
    struct slot slot;

    (void)state;
    fake_disk_make(&image, SECTORS, "Fake", "S1");
    memcpy(image.bytes, disk.bytes, SECTORS * SECTOR_SIZE);
    for (unsigned run = 0; run < 4; run++) {
        size_t began = disk.log_count;

        if (run > 0)
            assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
        assert_int_equal(swap_usage().backing, SWAP_BACKING_DISK);
        assert_int_equal(swap_alloc(&slot), OK);
        assert_int_equal(swap_write(slot, frames[0]), OK);
        assert_int_equal(swap_close(), OK);
        for (size_t i = began; i < disk.log_count; i++) {
            memcpy(image.bytes + disk.log[i].lba * SECTOR_SIZE,
                   disk.log[i].data != NULL ? disk.log[i].data : image.bytes,
                   (size_t)disk.log[i].sectors * SECTOR_SIZE);
            if (!still_prepared(&image))
                fail_msg("run %u, after write %zu of %zu", run, i - began, disk.log_count - began);
            /* The next run starts from a crash in the middle of its mark. */
            if (run < 3 && i == began + run)
                break;
        }
        memcpy(disk.bytes, image.bytes, SECTORS * SECTOR_SIZE);
    }
    fake_disk_free(&image);
}

static void dead_disk_ends_in_errors(void **state)
{
    struct slot slot;

    (void)state;
    assert_int_equal(swap_alloc(&slot), OK);
    assert_int_equal(swap_write(slot, frames[0]), OK);
    fake_hba_attach(&fake, 0, FAKE_NOTHING, NULL);
    assert_int_equal(swap_read(slot, frames[0]), STATUS_IO);
    assert_int_equal(swap_write(slot, frames[0]), STATUS_IO);
    assert_int_equal(swap_usage().errors, 2);
    assert_int_equal(swap_close(), STATUS_IO);
}

/* A mark that could not be written stops all writing. */
static void failed_mark_stops_writing(void **state)
{
    struct slot slot;

    (void)state;
    disk.fail_from = disk.commands;
    disk.fail_count = 3;
    disk.failure = FAKE_ERROR;
    assert_int_equal(swap_alloc(&slot), OK);
    assert_int_equal(swap_write(slot, frames[0]), STATUS_IO);
    assert_int_equal(swap_write(slot, frames[0]), STATUS_IO);
    assert_int_equal(disk.log_count, 0);
    assert_int_equal(swap_close(), STATUS_IO);
    assert_int_equal(disk.log_count, 0);
}

static void wipe_zeroes_what_was_written(void **state)
{
    const uint8_t *slots = disk.bytes + (FIRST + 8) * SECTOR_SIZE;
    uint64_t size =
        (swap_second_header_lba(FIRST, fake_disk_partition(&disk).last_lba) - FIRST - 8) *
        SECTOR_SIZE;
    struct slot first;
    unsigned count;

    (void)state;
    for (unsigned i = 0; i < PAGES; i++)
        fill(frames[i], i);
    assert_int_equal(swap_alloc_run(PAGES, &first, &count), OK);
    assert_int_equal(swap_write_run(first, frames, PAGES), OK);
    for (unsigned i = 0; i < PAGES; i += 2)
        swap_release((struct slot){first.index + i});
    assert_int_equal(swap_alloc_run(3, &first, &count), OK);
    assert_int_equal(swap_write_run(first, frames, count), OK);
    assert_int_equal(swap_close(), OK);
    for (uint64_t i = 0; i < size; i++)
        assert_int_equal(slots[i], 0);
    assert_true(still_prepared(&disk));
}

static bool slots_are_zero(void)
{
    uint64_t end = swap_second_header_lba(FIRST, fake_disk_partition(&disk).last_lba);

    for (uint64_t i = (FIRST + 8) * SECTOR_SIZE; i < end * SECTOR_SIZE; i++) {
        if (disk.bytes[i] != 0)
            return false;
    }
    return true;
}

/* Runs that were killed, or closed without a wipe, leave pages; a later run with wipe=1 zeroes
 * them, whether or not it swaps. With version 1 only the pages of a killed run can be known. */
static void wipe_covers_earlier_runs(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        bool killed = i % 2 == 1;
        bool swaps = i / 2 % 2 == 1;
        bool version_2 = i / 4 % 2 == 1;
        struct slot slot;

        if (i > 0)
            assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
        options.wipe = true;
        assert_int_equal(swap_close(), OK);
        if (version_2)
            fake_disk_prepare_2(&disk, 0x11);
        else
            fake_disk_prepare(&disk, 0x11);
        options.wipe = false;
        assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
        for (unsigned j = 0; j < 30; j++) {
            fill(frames[0], j);
            assert_int_equal(swap_alloc(&slot), OK);
            assert_int_equal(swap_write(slot, frames[0]), OK);
        }
        assert_false(slots_are_zero());
        if (killed) {
            /* Pages that were written before the end are read back. */
            static uint8_t image[SECTORS * SECTOR_SIZE];

            memcpy(image, disk.bytes, sizeof(image));
            assert_int_equal(swap_close(), OK);
            memcpy(disk.bytes, image, sizeof(image));
        } else {
            assert_int_equal(swap_close(), OK);
        }
        options.wipe = true;
        assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
        if (swaps) {
            assert_int_equal(swap_alloc(&slot), OK);
            assert_int_equal(swap_write(slot, frames[0]), OK);
        }
        assert_int_equal(swap_close(), OK);
        if (version_2 || killed)
            assert_true(slots_are_zero());
        assert_true(still_prepared(&disk));
        options.wipe = false;
    }
}

/* A wipe has nothing to do after another: then the disk is not written. */
static void second_wipe_writes_nothing(void **state)
{
    struct slot slot;
    size_t writes;

    (void)state;
    assert_int_equal(swap_close(), OK);
    fake_disk_prepare_2(&disk, 0x11);
    options.wipe = true;
    assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
    assert_int_equal(swap_alloc(&slot), OK);
    assert_int_equal(swap_write(slot, frames[0]), OK);
    assert_int_equal(swap_close(), OK);
    writes = disk.log_count;
    assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
    assert_int_equal(swap_close(), OK);
    assert_int_equal(disk.log_count, writes);
}

/* The disk vanishes during the wipe, or before the mark is taken off: both are failures. */
static void failures_at_closing_are_returned(void **state)
{
    (void)state;
    for (unsigned at = 0; at < 12; at++) {
        struct slot slot;

        if (at > 0) {
            disks_stop();
            fake_hba_attach(&fake, 0, FAKE_DISK, &disk);
            fake_disk_prepare(&disk, 0x11);
            disks_scan(&options, true);
            assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
        }
        assert_int_equal(swap_usage().backing, SWAP_BACKING_DISK);
        for (unsigned i = 0; i < 100; i++) {
            assert_int_equal(swap_alloc(&slot), OK);
            assert_int_equal(swap_write(slot, frames[0]), OK);
        }
        /* 26 reads look at the disk again; 2 writes and a flush wipe; 4 commands clear the mark. */
        disk.fail_from = disk.commands + 26 + at;
        disk.fail_count = UINT64_MAX - disk.fail_from;
        disk.failure = FAKE_VANISH;
        assert_int_equal(swap_close(), at < 7 ? STATUS_IO : OK);
        disk.fail_count = 0;
    }
}

/* Bad slots are not handed out, and are not counted as free. */
static void bad_slots_are_not_used(void **state)
{
    struct swap_header header = fake_disk_swap_header_2(&disk, 0x11);
    struct bad_slots list = {.generation = 9, .count = 3, .slots = {0, 1, 40}};
    struct slot slot;
    uint32_t all;

    (void)state;
    all = (uint32_t)swap_header_slots(&header);
    assert_int_equal(swap_close(), OK);
    fake_disk_put_headers_2(&disk, &header, &list);
    assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
    assert_int_equal(swap_usage().slots, all - 3);
    for (uint32_t i = 0; i < all - 3; i++) {
        assert_int_equal(swap_alloc(&slot), OK);
        assert_true(slot.index != 0 && slot.index != 1 && slot.index != 40);
    }
    swap_audit();
    assert_int_equal(swap_alloc(&slot), STATUS_NO_SPACE);
    assert_int_equal(swap_close(), OK);
}

/* Two places of the disk fail every write. The pages of a batch go elsewhere, and only the bad
 * slots are retired (D3); the list in the headers keeps them from later runs. */
static void failing_slots_are_exchanged(void **state)
{
    struct slot slots[16];
    struct slot first;
    bool done[16] = {false};
    unsigned count;
    uint32_t all;

    (void)state;
    assert_int_equal(swap_close(), OK);
    fake_disk_prepare_2(&disk, 0x11);
    for (unsigned run = 0; run < 2; run++) {
        disks_stop();
        disks_scan(&options, true);
        assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
        all = run == 0 ? swap_usage().slots : all;
        assert_int_equal(swap_usage().slots, all - run);
        assert_int_equal(swap_alloc_run(16, &first, &count), OK);
        assert_true(run == 1 || count == 16);
        for (unsigned i = 0; i < count; i++) {
            slots[i].index = first.index + i;
            fill(frames[i], 100 * run + i);
        }
        if (run == 0)
            disk.bad_write =
                swap_disk_offset((struct slot){0}) / SECTOR_SIZE + (first.index + 5) * 8 + 3;
        assert_int_equal(swap_write_out(slots, frames, count, done), OK);
        for (unsigned i = 0; i < count; i++) {
            assert_true(done[i]);
            assert_true(run == 1 || (slots[i].index == first.index + i) == (i != 5));
            assert_int_equal(swap_read(slots[i], frames[100]), OK);
            assert_filled(frames[100], 100 * run + i);
        }
        assert_int_equal(swap_usage().slots, all - 1);
        swap_audit();
        assert_int_equal(swap_close(), OK);
    }
}

/* A dead disk does not lose any slot. */
static void a_dead_disk_retires_nothing(void **state)
{
    struct slot slot;
    bool done = true;
    uint32_t all;

    (void)state;
    all = swap_usage().slots;
    assert_int_equal(swap_alloc(&slot), OK);
    fake_hba_attach(&fake, 0, FAKE_NOTHING, NULL);
    assert_int_equal(swap_write_out(&slot, frames, 1, &done), STATUS_IO);
    assert_int_equal(swap_usage().slots, all);
    assert_int_equal(swap_close(), STATUS_IO);
}

static void second_open_after_close(void **state)
{
    struct slot slot;

    (void)state;
    assert_int_equal(swap_close(), OK);
    assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
    assert_int_equal(swap_usage().backing, SWAP_BACKING_DISK);
    assert_int_equal(swap_alloc(&slot), OK);
    assert_int_equal(swap_write(slot, frames[0]), OK);
    assert_int_equal(swap_close(), OK);
}

/* Between the scan and the opening the disk was changed: it is not used, RAM serves. */
static void second_look_differs(void **state)
{
    (void)state;
    assert_int_equal(swap_close(), OK);
    disk.bytes[FIRST * SECTOR_SIZE + 40] ^= 1;
    assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
    assert_int_equal(swap_usage().backing, SWAP_BACKING_RAM);
    assert_int_equal(swap_disk_offset((struct slot){0}), 0);
    assert_non_null(strstr(disks_report(0)->reason, "second look"));
    assert_false(disks_report(0)->chosen);
    assert_int_equal(swap_close(), OK);
}

static struct {
    struct print_sink sink; /* first, so that a sink is the log */
    char text[8192];
    size_t length;
} noted;

static void note_text(struct print_sink *sink, const char *text, size_t size)
{
    (void)sink;
    assert_true(noted.length + size < sizeof(noted.text));
    memcpy(noted.text + noted.length, text, size);
    noted.length += size;
}

static unsigned lines_with(const char *words)
{
    unsigned count = 0;

    for (const char *at = noted.text; (at = strstr(at, words)) != NULL; at++)
        count++;
    return count;
}

static void listen(void)
{
    memset(&noted, 0, sizeof(noted));
    noted.sink.write = note_text;
    print_attach(&noted.sink);
}

static void fail_next(enum fake_failure failure, unsigned times)
{
    disk.fail_from = disk.commands;
    disk.fail_count = times;
    disk.failure = failure;
}

/* Each command with an error has one line, healed or lost, with all that is known; the totals come
 * at the end. */
static void errors_are_in_the_log_once(void **state)
{
    struct slot slots[3];

    (void)state;
    listen();
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(swap_alloc(&slots[i]), OK);
        assert_int_equal(swap_write(slots[i], frames[i]), OK);
    }
    assert_int_equal(lines_with("disk error"), 0);
    fail_next(FAKE_ERROR, 1);
    assert_int_equal(swap_write(slots[1], frames[1]), OK);
    assert_int_equal(lines_with("# disk error: serial S1: WRITE DMA EXT of 8 sectors at LBA 2064 "
                                "(swap slot 1): failed, ATA status 51, error 04, command slot "),
                     1);
    assert_int_equal(lines_with(", tries 2: healed\n"), 1);
    fail_next(FAKE_LINK, 2);
    assert_int_equal(swap_read(slots[2], frames[2]), OK);
    assert_int_equal(lines_with("READ DMA EXT of 8 sectors at LBA 2072 (swap slot 2)"), 1);
    assert_int_equal(lines_with(", tries 3: healed\n"), 1);
    fail_next(FAKE_SHORT, 3);
    assert_int_equal(swap_read(slots[0], frames[0]), STATUS_IO);
    assert_int_equal(lines_with(", tries 3: lost\n"), 1);
    fail_next(FAKE_HANG, 1);
    assert_int_equal(swap_read(slots[0], frames[0]), OK);
    assert_int_equal(lines_with("timed out, ATA status"), 1);
    assert_int_equal(lines_with("disk error:"), 4);
    assert_int_equal(swap_close(), OK);
    disks_stop();
    print_detach(&noted.sink);
    assert_int_equal(
        lines_with("# disk errors: serial S1: 4 commands failed at first, 3 were healed "
                   "by a retry, 1 were lost; 7 resets\n"),
        1);
    assert_int_equal(lines_with("# disk errors: 4 in all, of "), 1);
}

/* A disk that is unplugged, or found missing before a command. */
static void lost_disks_are_in_the_log(void **state)
{
    struct slot slot;

    (void)state;
    listen();
    assert_int_equal(swap_alloc(&slot), OK);
    assert_int_equal(swap_write(slot, frames[0]), OK);
    fake_hba_attach(&fake, 0, FAKE_NOTHING, NULL);
    assert_int_equal(swap_read(slot, frames[0]), STATUS_IO);
    assert_int_equal(lines_with("(swap slot 0): lost, because the disk does not answer"), 1);
    assert_int_equal(swap_read(slot, frames[0]), STATUS_IO);
    assert_int_equal(lines_with("disk error:"), 1);
    assert_int_equal(swap_close(), STATUS_IO);
    disks_stop();
    print_detach(&noted.sink);
    assert_int_equal(
        lines_with("1 commands failed at first, 0 were healed by a retry, 1 were lost"), 1);
}

/* Another system writes to the disk during the run: closing says so and writes nothing more. */
static void rewritten_disk_is_noticed(void **state)
{
    uint64_t one = gpt_primary_lba(disk.shift);
    uint64_t backup = SECTORS - one;
    uint64_t second = swap_second_header_lba(FIRST, fake_disk_partition(&disk).last_lba);
    uint64_t places[] = {0, one, 2 * one, backup, backup - 32, FIRST, second};
    static uint8_t before[SECTORS * SECTOR_SIZE];

    (void)state;
    memcpy(before, disk.bytes, sizeof(before));
    for (unsigned i = 0; i < 2 * ARRAY_COUNT(places); i++) {
        bool swaps = i % 2 == 1;
        struct slot slot;
        size_t writes;

        if (i > 0)
            assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
        assert_int_equal(swap_usage().backing, SWAP_BACKING_DISK);
        assert_int_equal(swap_alloc(&slot), OK);
        if (swaps)
            assert_int_equal(swap_write(slot, frames[0]), OK);
        /* Of sector 0 the type of the first record. */
        disk.bytes[places[i / 2] * SECTOR_SIZE + (i / 2 == 0 ? 450 : 40)] ^= 1;
        writes = disk.log_count;
        assert_int_equal(swap_close(), STATUS_CORRUPT);
        assert_int_equal(disk.log_count, writes);
        memcpy(disk.bytes, before, sizeof(before));
    }
}

/* Another system makes a sound table with one more partition, or a new set in the same place. */
static void replaced_table_is_noticed(void **state)
{
    struct gpt_header header = fake_disk_gpt_header(&disk);
    struct swap_header other = fake_disk_swap_header(&disk, 0x22);
    struct gpt_partition two[2];
    struct slot slot;

    (void)state;
    for (unsigned i = 0; i < 2; i++)
        two[i] = fake_disk_partition(&disk);
    two[1].first_lba = 104;
    two[1].last_lba = 103 + gpt_primary_lba(disk.shift);
    memset(two[1].type, 0x77, 16);
    memset(two[1].unique, 0x78, 16);
    fake_disk_put_table(&disk, &header, two, 2);
    assert_int_equal(swap_alloc(&slot), OK);
    assert_int_equal(swap_close(), STATUS_CORRUPT);
    assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
    assert_int_equal(swap_close(), OK);
    assert_int_equal(swap_open(&options, RAM_SLOTS), OK);
    fake_disk_put_headers(&disk, &other);
    assert_int_equal(swap_close(), STATUS_CORRUPT);
    assert_int_equal(disk.log_count, 0);
}

#define RAM(name_)  cmocka_unit_test_setup_teardown(name_, set_up_ram, tear_down)
#define DISK(name_) cmocka_unit_test_setup_teardown(name_, set_up_disk, tear_down)
#define LARGE(name_)                                                                               \
    {                                                                                              \
        .name = #name_ " (sectors of 4096 bytes)", .test_func = name_, .setup_func = set_up_large, \
        .teardown_func = tear_down                                                                 \
    }
/* These tests fill memory or end early, so that leaks are not counted afterwards. */
#define LOOSE(name_) cmocka_unit_test_setup(name_, set_up_ram)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        RAM(pages_come_back),
        RAM(runs_come_back),
        RAM(counts),
        LOOSE(mistakes_are_caught),
        LOOSE(nothing_of_a_former_holder),
        RAM(full_area),
        RAM(search_goes_on_where_it_was),
        RAM(counts_against_a_model),
        LOOSE(ram_runs_out_of_frames),
        LOOSE(no_memory_for_the_records),
        RAM(many_slots),
        DISK(pages_come_back),
        DISK(runs_come_back),
        DISK(counts),
        DISK(damage_is_noticed),
        DISK(a_wrong_page_is_read_once_more),
        DISK(check_values_are_bound),
        DISK(a_write_that_was_lost),
        DISK(pages_stand_where_the_log_says),
        DISK(in_use_mark_comes_first),
        DISK(unused_disk_is_untouched),
        DISK(power_cuts_leave_a_prepared_disk),
        DISK(dead_disk_ends_in_errors),
        DISK(failed_mark_stops_writing),
        cmocka_unit_test_setup_teardown(wipe_zeroes_what_was_written, set_up_wipe, tear_down),
        DISK(wipe_covers_earlier_runs),
        DISK(second_wipe_writes_nothing),
        cmocka_unit_test_setup_teardown(failures_at_closing_are_returned, set_up_wipe, tear_down),
        DISK(bad_slots_are_not_used),
        DISK(failing_slots_are_exchanged),
        DISK(a_dead_disk_retires_nothing),
        DISK(second_open_after_close),
        DISK(second_look_differs),
        cmocka_unit_test_setup_teardown(errors_are_in_the_log_once, set_up_single, tear_down),
        DISK(lost_disks_are_in_the_log),
        DISK(rewritten_disk_is_noticed),
        DISK(replaced_table_is_noticed),
        LARGE(pages_come_back),
        LARGE(runs_come_back),
        LARGE(damage_is_noticed),
        LARGE(check_values_are_bound),
        LARGE(a_write_that_was_lost),
        LARGE(pages_stand_where_the_log_says),
        LARGE(in_use_mark_comes_first),
        LARGE(unused_disk_is_untouched),
        LARGE(power_cuts_leave_a_prepared_disk),
        LARGE(dead_disk_ends_in_errors),
        LARGE(failed_mark_stops_writing),
        LARGE(wipe_covers_earlier_runs),
        LARGE(second_wipe_writes_nothing),
        LARGE(bad_slots_are_not_used),
        LARGE(failing_slots_are_exchanged),
        LARGE(second_look_differs),
        LARGE(rewritten_disk_is_noticed),
        LARGE(replaced_table_is_noticed),
        cmocka_unit_test_setup_teardown(wipe_zeroes_what_was_written, set_up_large_wipe, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
