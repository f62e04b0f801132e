/* Block devices: every member through the same body, then what only one of them does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pmm/pmm.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/block/block.h"
#include "swapdisk/validate.h"
#include "tests/host/fake/hba.h"
#include "tests/host/fake/machine.h"

#define DISK_SECTORS 8192U
#define FIRST        2048U /* of the fake disk's partition */
#define PAGES        400U  /* used by the body, from `base` on */
#define RAM_PAGES    2000U /* two leaves */
#define FRAMES       24U

/* One kind of block device, opened and ready to be written from sector `base` on. */
struct member {
    const char *name;
    void (*open)(void);
    void (*close)(void);
};

static struct {
    const struct member *kind;
    struct block_device block;
    const struct swap_grant *grant;
    uint64_t base;
    struct pmm_usage at_start;
    struct pfn frames[FRAMES];
} under_test;

static struct fake_hba fake;
static struct fake_disk disk;
static struct ahci_hba hba;

static void open_ahci_of(unsigned shift)
{
    static const struct ahci_quirks none;
    struct hba_access access;
    struct disk_finding finding;
    struct disk_view view;
    uint8_t uuid[16];

    fake_disk_shift = shift;
    fake_disk_make(&disk, DISK_SECTORS, "Fake", "S1");
    fake_disk_shift = 0;
    fake_disk_prepare(&disk, 0x11);
    fake_hba_make(&fake, 2);
    fake_hba_attach(&fake, 0, FAKE_DISK, &disk);
    access = fake_hba_access(&fake);
    assert_int_equal(ahci_start(&hba, &access, &none), OK);
    under_test.block = block_of_ahci(hba.ports[0]);
    view = (struct disk_view){.device = under_test.block.device,
                              .identity = &hba.ports[0]->identity,
                              .source = block_source(&under_test.block)};
    memset(uuid, 0x11, 16);
    assert_int_equal(validate_grant(&view, uuid, &under_test.grant, &finding), OK);
    under_test.base = FIRST;
}

static void open_ahci(void)
{
    open_ahci_of(0);
}

static void open_ahci_4k(void)
{
    open_ahci_of(SECTOR_SHIFT_4K);
}

static void close_ahci(void)
{
    swap_grant_revoke();
    ahci_stop(&hba);
    if (fake.complaints != 0)
        fail_msg("%u complaints, the first: %s", fake.complaints, fake.complaint);
    fake_disk_free(&disk);
}

static void open_ram(void)
{
    assert_int_equal(block_ram_open(RAM_PAGES, &under_test.block), OK);
    under_test.grant = NULL;
    /* The body crosses from the first leaf of the tables to the second. */
    under_test.base = (1024 - PAGES / 2) * SECTORS_PER_PAGE;
}

static void close_ram(void)
{
    block_ram_close(&under_test.block);
}

static struct member ahci_member = {"AHCI", open_ahci, close_ahci};
static struct member large_member = {"AHCI, sectors of 4096 bytes", open_ahci_4k, close_ahci};
static struct member ram_member = {"RAM", open_ram, close_ram};

static int set_up(void **state)
{
    fake_machine_start(32 * MIB);
    fake_clock_step_ns = 100000;
    under_test.kind = *state;
    under_test.at_start = pmm_usage();
    for (unsigned i = 0; i < FRAMES; i++)
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &under_test.frames[i]), OK);
    under_test.kind->open();
    return 0;
}

static int tear_down(void **state)
{
    struct pmm_usage now;

    (void)state;
    under_test.kind->close();
    for (unsigned i = 0; i < FRAMES; i++)
        pmm_free(under_test.frames[i]);
    now = pmm_usage();
    assert_memory_equal(&now, &under_test.at_start, sizeof(now));
    fake_clock_step_ns = 1000;
    return 0;
}

/* Sectors that the device transfers as a whole. */
static unsigned unit(void)
{
    return 1U << under_test.block.shift;
}

/* Rounds a number of sectors up to whole ones of the device. */
static unsigned whole(unsigned sectors)
{
    return (sectors + unit() - 1) / unit() * unit();
}

static uint8_t *frame_bytes(unsigned index)
{
    return frame_pointer(under_test.frames[index]);
}

static enum status put(uint64_t lba, unsigned sectors)
{
    return block_write(&under_test.block, under_test.grant, under_test.base + lba, sectors,
                       under_test.frames);
}

static enum status get(uint64_t lba, unsigned sectors)
{
    return block_read(&under_test.block, under_test.base + lba, sectors, under_test.frames);
}

static uint32_t next_random(void)
{
    static uint32_t random = 1;

    random = random * 1664525 + 1013904223;
    return random >> 8;
}

static void says_its_size_and_name(void **state)
{
    (void)state;
    assert_true(under_test.block.sectors >= under_test.base + PAGES * SECTORS_PER_PAGE);
    assert_true(strlen(under_test.block.name) > 0);
    assert_int_equal(block_flush(&under_test.block), OK);
}

/* Transfers of every length at every alignment, compared with an array. Bytes outside of a transfer
 * stay unchanged, on the device and in memory. */
static void sectors_come_back(void **state)
{
    static uint8_t model[PAGES * PAGE_SIZE];
    static uint8_t before[PAGE_SIZE];
    uint64_t all = PAGES * SECTORS_PER_PAGE;

    (void)state;
    for (uint64_t lba = 0; lba < all; lba += SECTORS_PER_PAGE) {
        assert_int_equal(get(lba, SECTORS_PER_PAGE), OK);
        memcpy(model + lba * SECTOR_SIZE, frame_bytes(0), PAGE_SIZE);
    }
    for (unsigned step = 0; step < 2000; step++) {
        unsigned sectors =
            whole(1 + next_random() % (step % 3 == 0 ? FRAMES * SECTORS_PER_PAGE : 16));
        uint64_t lba = next_random() % (all - sectors) / unit() * unit();
        unsigned last = (sectors - 1) / SECTORS_PER_PAGE;
        unsigned used = ((sectors - 1) % SECTORS_PER_PAGE + 1) * SECTOR_SIZE;

        for (unsigned i = 0; i <= last; i++)
            memset(frame_bytes(i), (int)next_random(), PAGE_SIZE);
        memcpy(before, frame_bytes(last), PAGE_SIZE);
        if (step % 2 == 0) {
            assert_int_equal(put(lba, sectors), OK);
            for (unsigned i = 0; i < sectors; i++)
                memcpy(model + (lba + i) * SECTOR_SIZE,
                       frame_bytes(i / SECTORS_PER_PAGE) + i % SECTORS_PER_PAGE * SECTOR_SIZE,
                       SECTOR_SIZE);
            continue;
        }
        assert_int_equal(get(lba, sectors), OK);
        for (unsigned i = 0; i < sectors; i++)
            assert_memory_equal(frame_bytes(i / SECTORS_PER_PAGE) +
                                    i % SECTORS_PER_PAGE * SECTOR_SIZE,
                                model + (lba + i) * SECTOR_SIZE, SECTOR_SIZE);
        assert_memory_equal(frame_bytes(last) + used, before + used, PAGE_SIZE - used);
    }
}

/* Eight requests at once, submitted before the first is waited for; each gets its own data. */
static void requests_come_back(void **state)
{
    struct disk_request requests[8];

    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 8; i++) {
            for (unsigned at = 0; at < 2; at++)
                memset(frame_bytes(2 * i + at), round == 0 ? (int)(2 * i + at + 1) : 0, PAGE_SIZE);
            requests[i] = (struct disk_request){.operation = round == 0 ? DISK_WRITE : DISK_READ,
                                                .lba = under_test.base + 16 * i,
                                                .sectors = 16,
                                                .frames = &under_test.frames[2 * i],
                                                .grant = under_test.grant};
            block_submit(&under_test.block, &requests[i]);
        }
        for (unsigned i = 8; i-- > 0;)
            assert_int_equal(block_wait(&under_test.block, &requests[i]), OK);
        for (unsigned i = 0; i < 16; i++) {
            assert_int_equal(frame_bytes(i)[0], i + 1);
            assert_int_equal(frame_bytes(i)[PAGE_SIZE - 1], i + 1);
        }
    }
    assert_true(under_test.block.request_pages >= 16);
    requests[0].lba = under_test.block.sectors - 8;
    block_submit(&under_test.block, &requests[0]);
    assert_int_equal(block_wait(&under_test.block, &requests[0]), STATUS_RANGE);
    requests[1] = (struct disk_request){.operation = DISK_FLUSH};
    block_submit(&under_test.block, &requests[1]);
    assert_int_equal(block_wait(&under_test.block, &requests[1]), OK);
}

static bool discard_panics(uint64_t lba, unsigned sectors)
{
    return PANICS(block_discard(&under_test.block, lba, sectors));
}

static void refuses_what_is_not_there(void **state)
{
    const struct block_device *block = &under_test.block;
    uint64_t end = block->sectors;
    static const unsigned counts[] = {1, 8, 9, 16};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        uint64_t places[] = {end, end - counts[i] + 1, end + 1, UINT64_MAX, UINT64_MAX - 3};

        for (size_t j = 0; j < ARRAY_COUNT(places); j++) {
            assert_int_equal(block_read(block, places[j], counts[i], under_test.frames),
                             STATUS_RANGE);
            assert_int_equal(
                block_write(block, under_test.grant, places[j], counts[i], under_test.frames),
                STATUS_RANGE);
            assert_true(discard_panics(places[j], counts[i]));
        }
        assert_int_equal(block_read(block, end - counts[i], counts[i], under_test.frames),
                         counts[i] % unit() == 0 ? OK : STATUS_RANGE);
    }
    assert_true(PANICS((void)block_read(block, 0, 0, under_test.frames)));
    assert_true(PANICS((void)block_write(block, under_test.grant, 0, 1, NULL)));
}

/* Discarded pages read as before or as zeroes; their neighbours, and pages that were discarded in
 * part, keep their data. */
static void discards_whole_pages_only(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 6; i++)
        memset(frame_bytes(i), 0xa0 + (int)i, PAGE_SIZE);
    assert_int_equal(put(0, 6 * SECTORS_PER_PAGE), OK);
    block_discard(&under_test.block, under_test.base + whole(4), 3 * SECTORS_PER_PAGE);
    assert_int_equal(get(0, 6 * SECTORS_PER_PAGE), OK);
    for (unsigned i = 0; i < 6; i++) {
        for (unsigned at = 0; at < PAGE_SIZE; at++) {
            bool zeroed = (i == 1 || i == 2) && frame_bytes(i)[at] == 0;

            assert_true(zeroed || frame_bytes(i)[at] == 0xa0 + i);
        }
    }
    memset(frame_bytes(0), 0x55, PAGE_SIZE);
    assert_int_equal(put(SECTORS_PER_PAGE, whole(3)), OK);
    assert_int_equal(get(SECTORS_PER_PAGE, whole(3)), OK);
    assert_int_equal(frame_bytes(0)[3 * SECTOR_SIZE - 1], 0x55);
}

static void a_source_reads_it(void **state)
{
    struct sector_source source = block_source(&under_test.block);

    (void)state;
    memset(frame_bytes(0), 0x77, PAGE_SIZE);
    assert_int_equal(put(whole(5), whole(3)), OK);
    assert_int_equal(source.sectors, under_test.block.sectors);
    assert_int_equal(source_read(&source, under_test.base + whole(5), 3, under_test.frames[1],
                                 under_test.frames[2]),
                     OK);
    for (unsigned at = 0; at < PAGE_SIZE; at++)
        assert_int_equal(frame_bytes(1)[at], at < 3 * SECTOR_SIZE ? 0x77 : 0);
}

/* ---- what one member does ---- */

static void ahci_asks_for_a_grant(void **state)
{
    const struct block_device *block = &under_test.block;

    (void)state;
    assert_int_equal(block_write(block, NULL, FIRST, unit(), under_test.frames), STATUS_REFUSED);
    assert_int_equal(
        block_write(block, under_test.grant, FIRST - unit(), 2 * unit(), under_test.frames),
        STATUS_REFUSED);
    assert_int_equal(disk.log_count, 0);
    swap_grant_revoke();
    assert_int_equal(put(0, unit()), STATUS_REFUSED);
    assert_int_equal(disk.log_count, 0);
}

/* Parts of a logical sector are neither read nor written, by no call. */
static void large_sectors_are_whole(void **state)
{
    static const struct {
        unsigned lba, sectors;
    } parts[] = {{0, 1}, {0, 7}, {1, 8}, {4, 4}, {8, 9}, {7, 1}};
    struct ahci_port *port = under_test.block.device;
    struct disk_request past_grant;
    struct sector_source source = block_source(&under_test.block);

    (void)state;
    assert_int_equal(port->identity.sector_size, 4096);
    assert_int_equal(under_test.block.sectors, DISK_SECTORS);
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        uint64_t lba = FIRST + parts[i].lba;
        struct disk_request request = {.operation = DISK_WRITE,
                                       .lba = lba,
                                       .sectors = parts[i].sectors,
                                       .frames = under_test.frames,
                                       .grant = under_test.grant};

        assert_int_equal(put(parts[i].lba, parts[i].sectors), STATUS_RANGE);
        assert_int_equal(get(parts[i].lba, parts[i].sectors), STATUS_RANGE);
        assert_int_equal(ahci_read(port, lba, parts[i].sectors, under_test.frames), STATUS_RANGE);
        assert_int_equal(
            ahci_write(port, under_test.grant, lba, parts[i].sectors, under_test.frames),
            STATUS_RANGE);
        block_submit(&under_test.block, &request);
        assert_int_equal(block_wait(&under_test.block, &request), STATUS_RANGE);
    }
    /* Two logical sectors, of which the grant has one: the choke point counts as the disk does. */
    past_grant = (struct disk_request){.operation = DISK_WRITE,
                                       .lba = fake_disk_partition(&disk).last_lba + 1 - unit(),
                                       .sectors = 2 * unit(),
                                       .frames = under_test.frames,
                                       .grant = under_test.grant};
    block_submit(&under_test.block, &past_grant);
    assert_int_equal(block_wait(&under_test.block, &past_grant), STATUS_REFUSED);
    assert_int_equal(disk.log_count, 0);
    assert_int_equal(source_read(&source, FIRST + 1, 1, under_test.frames[1], under_test.frames[2]),
                     STATUS_RANGE);
}

static void ahci_reports_a_lost_disk(void **state)
{
    (void)state;
    fake_hba_attach(&fake, 0, FAKE_NOTHING, NULL);
    assert_int_equal(get(0, unit()), STATUS_IO);
    assert_int_equal(put(0, unit()), STATUS_IO);
    assert_int_equal(block_flush(&under_test.block), STATUS_IO);
}

static void ram_pays_for_what_is_written(void **state)
{
    (void)state;
    assert_int_equal(pmm_usage().by_kind[FRAME_SWAP], 0);
    assert_int_equal(get(0, 80), OK);
    assert_int_equal(pmm_usage().by_kind[FRAME_SWAP], 0);
    assert_int_equal(put(4, 16), OK);
    assert_int_equal(pmm_usage().by_kind[FRAME_SWAP], 3);
    /* The whole page in the middle is discarded; those at the ends only in part. */
    block_discard(&under_test.block, under_test.base + 4, 16);
    assert_int_equal(pmm_usage().by_kind[FRAME_SWAP], 2);
}

static void ram_runs_out(void **state)
{
    struct pfn frame;

    (void)state;
    while (pmm_alloc(FRAME_SWAP, FRAME_UNCLEARED, &frame) == OK) {
    }
    assert_int_equal(put(0, 8), STATUS_NO_MEMORY);
    pmm_free(under_test.frames[FRAMES - 1]);
    assert_int_equal(put(0, 8), OK);
}

/* Each frame that opening needs is refused once: then nothing stays allocated. */
static void ram_opens_or_takes_nothing(void **state)
{
    uint64_t before = pmm_usage().by_kind[FRAME_KERNEL];
    struct block_device second;

    (void)state;
    for (unsigned i = 1; i <= 3; i++) {
        pmm_fail_from(i, 1);
        assert_int_equal(block_ram_open(RAM_PAGES, &second), STATUS_NO_MEMORY);
        assert_int_equal(pmm_usage().by_kind[FRAME_KERNEL], before);
    }
    pmm_fail_from(0, 0);
    assert_int_equal(block_ram_open(RAM_PAGES, &second), OK);
    block_ram_close(&second);
    assert_true(PANICS((void)block_ram_open(BLOCK_RAM_PAGES_MAX + 1, &second)));
}

#define OF(member_, name_)                                                                         \
    {                                                                                              \
        .name = #name_ " of " #member_, .test_func = name_, .setup_func = set_up,                  \
        .teardown_func = tear_down, .initial_state = &member_                                      \
    }
#define EACH(name_) OF(ahci_member, name_), OF(large_member, name_), OF(ram_member, name_)
/* Fills memory, so that leaks are not counted afterwards. */
#define LOOSE(member_, name_)                                                                      \
    {                                                                                              \
        .name = #name_ " of " #member_, .test_func = name_, .setup_func = set_up,                  \
        .initial_state = &member_                                                                  \
    }

int main(void)
{
    static const struct CMUnitTest tests[] = {
        EACH(says_its_size_and_name),
        EACH(sectors_come_back),
        EACH(requests_come_back),
        EACH(refuses_what_is_not_there),
        EACH(discards_whole_pages_only),
        EACH(a_source_reads_it),
        OF(ahci_member, ahci_asks_for_a_grant),
        OF(large_member, ahci_asks_for_a_grant),
        OF(ahci_member, ahci_reports_a_lost_disk),
        OF(large_member, ahci_reports_a_lost_disk),
        OF(large_member, large_sectors_are_whole),
        OF(ram_member, ram_pays_for_what_is_written),
        LOOSE(ram_member, ram_runs_out),
        OF(ram_member, ram_opens_or_takes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
