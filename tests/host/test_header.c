/* The header of a prepared partition, and the disk's identity. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "swapdisk/format/checksum.h"
#include "swapdisk/format/little.h"
#include "swapdisk/format/log_page.h"
#include "tests/host/fake/disk.h"
#include "tests/host/fake/machine.h"

#define SECTORS 16384U

static struct fake_disk disk;
static uint8_t page[SWAP_HEADER_SIZE];

static int set_up(void **state)
{
    struct swap_header header;

    (void)state;
    fake_disk_make(&disk, SECTORS, "Fake disk", "S1");
    header = fake_disk_swap_header(&disk, 0x42);
    swap_header_encode(page, &header);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fake_disk_free(&disk);
    return 0;
}

static void comes_back_as_it_was(void **state)
{
    struct swap_header header = fake_disk_swap_header(&disk, 0x42);
    struct swap_header found;

    (void)state;
    assert_null(swap_header_decode(page, &found));
    assert_memory_equal(found.set_uuid, header.set_uuid, 16);
    assert_memory_equal(found.partition_guid, header.partition_guid, 16);
    assert_memory_equal(found.disk_guid, header.disk_guid, 16);
    assert_int_equal(found.first_lba, header.first_lba);
    assert_int_equal(found.last_lba, header.last_lba);
    assert_int_equal(found.disk_sectors, SECTORS);
    assert_int_equal(found.sector_size, 512);
    assert_int_equal(found.generation, 7);
    assert_int_equal(found.state, SWAP_STATE_CLEAN);
    assert_int_equal(found.prepared_at, header.prepared_at);
    assert_string_equal(found.prepared_by, "a host test");
    assert_string_equal(found.model, "Fake disk");
    assert_string_equal(found.serial, "S1");
    assert_null(swap_headers_disagree(&header, &found));
}

static void version_2_comes_back_as_it_was(void **state)
{
    struct swap_header header = fake_disk_swap_header_2(&disk, 0x42);
    struct swap_header found;

    (void)state;
    header.kind = SET_FILES;
    header.role = SET_STRIPE;
    header.members = 3;
    header.member = 2;
    header.used_slots = 9;
    memset(header.group_uuid, 0x99, 16);
    swap_header_encode(page, &header);
    assert_null(swap_header_decode(page, &found));
    assert_int_equal(found.version, 2);
    assert_int_equal(found.kind, SET_FILES);
    assert_int_equal(found.role, SET_STRIPE);
    assert_int_equal(found.members, 3);
    assert_int_equal(found.member, 2);
    assert_int_equal(found.used_slots, 9);
    assert_memory_equal(found.group_uuid, header.group_uuid, 16);
    assert_int_equal(found.log_first_lba, header.log_first_lba);
    assert_int_equal(found.log_sectors, 128);
    assert_null(swap_headers_disagree(&header, &found));
    assert_int_equal(swap_header_slots(&found),
                     swap_slot_count(found.first_lba, found.last_lba) - 16);
    for (unsigned bit = 0; bit < SECTOR_SIZE * 8; bit++) {
        page[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        if (swap_header_decode(page, &found) == NULL)
            fail_msg("bit %u may be flipped", bit);
        page[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
}

/* Each field of version 2 with values that contradict others, under a right checksum. */
static void impossible_fields_are_refused(void **state)
{
    static const struct {
        unsigned at;
        uint64_t value;
    } changes[] = {{116, 0}, {116, 3},   {264, 1},       {264, 3},   {268, 0},     {268, 2},
                   {272, 1}, {288, 1},   {292, 1},       {296, 0},   {296, 8},     {304, 0},
                   {304, 1}, {304, 136}, {304, 1 << 20}, {304, ~0U}, {312, ~0U},   {316, 1},
                   {504, 1}, {80, 2049}, {80, ~0U},      {88, 0},    {88, 1 << 30}};
    struct swap_header header = fake_disk_swap_header_2(&disk, 0x42);
    struct swap_header found;

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
        swap_header_encode(page, &header);
        put_le32(page + changes[i].at, (uint32_t)changes[i].value);
        put_le32(page + 24, 0);
        put_le32(page + 24, checksum_crc32c(0, page, SECTOR_SIZE));
        if (swap_header_decode(page, &found) == NULL)
            fail_msg("%lx at byte %u is accepted", changes[i].value, changes[i].at);
    }
}

static void log_pages(void **state)
{
    static char text[LOG_PAGE_TEXT];
    struct log_page log = {.run = 3, .sequence = 7, .length = LOG_PAGE_TEXT, .text = text};
    struct log_page found;

    (void)state;
    memset(text, 'x', sizeof(text));
    memset(log.set_uuid, 0x42, 16);
    log_page_encode(page, &log);
    assert_true(log_page_decode(page, &found));
    assert_int_equal(found.run, 3);
    assert_int_equal(found.sequence, 7);
    assert_int_equal(found.length, LOG_PAGE_TEXT);
    assert_memory_equal(found.text, text, sizeof(text));
    for (unsigned bit = 0; bit < LOG_PAGE_SIZE * 8; bit += 3) {
        page[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        assert_false(log_page_decode(page, &found));
        assert_int_equal(log_page_damaged(page), bit >= 16 * 8);
        page[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    memset(page, 0, sizeof(page));
    assert_false(log_page_decode(page, &found) || log_page_damaged(page));
}

static void every_single_flip_is_refused(void **state)
{
    struct swap_header found;

    (void)state;
    for (unsigned bit = 0; bit < SWAP_HEADER_SIZE * 8; bit++) {
        page[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        if (swap_header_decode(page, &found) == NULL)
            fail_msg("bit %u may be flipped", bit);
        page[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    assert_null(swap_header_decode(page, &found));
}

static void seal(void)
{
    put_le32(page + 24, 0);
    put_le32(page + 24, checksum_crc32c(0, page, SWAP_HEADER_SIZE));
}

/* A correct checksum over wrong content: each field has a check of its own. */
static void sealed_nonsense_is_refused(void **state)
{
    static const struct {
        unsigned offset;
        uint8_t value;
    } changes[] = {{0, 'f'}, {16, 2},   {20, 1},  {112, 0},    {112, 3},   {116, 1},
                   {264, 1}, {4095, 1}, {128, 7}, {192, 0x80}, {235, 'x'}, {262, 'x'}};
    struct swap_header found;

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
        uint8_t old = page[changes[i].offset];

        page[changes[i].offset] = changes[i].value;
        seal();
        if (swap_header_decode(page, &found) == NULL)
            fail_msg("change %zu passed", i);
        page[changes[i].offset] = old;
    }
    seal();
    assert_null(swap_header_decode(page, &found));
}

/* The fields that change in operation are in the first sector, so that an update is one sector. */
static void updates_touch_one_sector(void **state)
{
    struct swap_header header = fake_disk_swap_header(&disk, 0x42);
    uint8_t updated[SWAP_HEADER_SIZE];

    (void)state;
    header.generation = UINT64_MAX;
    header.state = SWAP_STATE_IN_USE;
    swap_header_encode(updated, &header);
    assert_memory_not_equal(page, updated, SECTOR_SIZE);
    assert_memory_equal(page + SECTOR_SIZE, updated + SECTOR_SIZE, SWAP_HEADER_SIZE - SECTOR_SIZE);
}

static void copies_may_differ_by_one_step(void **state)
{
    struct swap_header first = fake_disk_swap_header(&disk, 0x42);
    struct swap_header second = first;

    (void)state;
    first.generation = 8;
    first.state = SWAP_STATE_IN_USE;
    assert_null(swap_headers_disagree(&first, &second));
    assert_non_null(swap_headers_disagree(&second, &first));
    first.generation = 9;
    assert_non_null(swap_headers_disagree(&first, &second));
    first.generation = 7;
    assert_non_null(swap_headers_disagree(&first, &second));
    second.generation = UINT64_MAX;
    first.generation = 0;
    assert_non_null(swap_headers_disagree(&first, &second));
}

static void copies_must_agree_in_all_else(void **state)
{
    struct swap_header first = fake_disk_swap_header(&disk, 0x42);

    (void)state;
    for (unsigned i = 0; i < 11; i++) {
        struct swap_header second = first;

        switch (i) {
        case 0: second.set_uuid[15] ^= 1; break;
        case 1: second.partition_guid[0] ^= 1; break;
        case 2: second.disk_guid[7] ^= 1; break;
        case 3: second.first_lba++; break;
        case 4: second.last_lba--; break;
        case 5: second.disk_sectors++; break;
        case 6: second.sector_size = 4096; break;
        case 7: second.prepared_at++; break;
        case 8: second.prepared_by[0] = 'A'; break;
        case 9: second.model[0] = 'f'; break;
        default: second.serial[1] = '2'; break;
        }
        if (swap_headers_disagree(&first, &second) == NULL)
            fail_msg("difference %u passed", i);
    }
}

static void positions(void **state)
{
    (void)state;
    assert_int_equal(swap_second_header_lba(2048, 2071), 2064);
    assert_int_equal(swap_slot_count(2048, 2071), 1);
    assert_int_equal(swap_slot_count(2048, 2078), 1);
    assert_int_equal(swap_second_header_lba(2048, 2078), 2064);
    assert_int_equal(swap_slot_count(2048, 2079), 2);
    assert_true(PANICS((void)swap_slot_count(2048, 2070)));
    assert_true(PANICS((void)swap_second_header_lba(2048, UINT64_MAX)));
    assert_true(PANICS((void)swap_slot_count(2049, 4096)));
}

static void uuids(void **state)
{
    static const char text[] = "01234567-89ab-cdef-0123-456789abcdef";
    static const char *const wrong[] = {"",
                                        "01234567-89ab-cdef-0123-456789abcde",
                                        "01234567-89ab-cdef-0123-456789abcdef0",
                                        "01234567089ab-cdef-0123-456789abcdef",
                                        "0123456789abcdef0123456789abcdef",
                                        "g1234567-89ab-cdef-0123-456789abcdef",
                                        "01234567-89ab-cdef-0123-456789abcde-"};
    uint8_t uuid[16];
    char back[37];

    (void)state;
    assert_true(swap_uuid_parse(text, uuid));
    assert_int_equal(uuid[0], 0x01);
    assert_int_equal(uuid[15], 0xef);
    swap_uuid_text(uuid, back);
    assert_string_equal(back, text);
    assert_true(swap_uuid_parse("01234567-89AB-CDEF-0123-456789ABCDEF", uuid));
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++)
        assert_false(swap_uuid_parse(wrong[i], uuid));
}

static enum status decode(struct disk_identity *identity)
{
    const char *why = NULL;
    enum status status = identity_decode(disk.words, identity, &why);

    assert_true((status == OK) == (why == NULL));
    return status;
}

static void identity_of_a_disk(void **state)
{
    struct disk_identity identity;

    (void)state;
    assert_int_equal(decode(&identity), OK);
    assert_string_equal(identity.model, "Fake disk");
    assert_string_equal(identity.serial, "S1");
    assert_string_equal(identity.firmware, "1.0");
    assert_int_equal(identity.sectors, SECTORS);
    assert_int_equal(identity.sector_size, 512);
    assert_true(identity.lba48 && identity.dma && identity.flush_ext && identity.write_cache);
    assert_false(identity.security_enabled || identity.security_locked || identity.removable);
}

/* Each change makes the disk one that is not used, and keeps the checksum right. */
static void identities_that_are_refused(void **state)
{
    static const struct {
        unsigned word;
        uint16_t value;
        enum status status;
    } changes[] = {
        {0, 0x8000, STATUS_UNSUPPORTED},   /* not ATA */
        {0, 0x0044, STATUS_UNSUPPORTED},   /* incomplete */
        {49, 0x0200, STATUS_UNSUPPORTED},  /* no DMA */
        {83, 0x7000, STATUS_UNSUPPORTED},  /* no 48-bit addresses */
        {83, 0x3400, STATUS_UNSUPPORTED},  /* the word is not valid */
        {100, 0, STATUS_UNSUPPORTED},      /* no sectors */
        {103, 2, STATUS_UNSUPPORTED},      /* more than 48 bits address */
        {106, 0x5000, STATUS_UNSUPPORTED}, /* long sectors, of 0 bytes */
    };
    struct disk_identity identity;

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
        fake_disk_identify(&disk);
        disk.words[changes[i].word] = changes[i].value;
        fake_disk_seal(&disk);
        if (decode(&identity) != changes[i].status)
            fail_msg("change %zu is not refused", i);
        assert_string_equal(identity.serial, "S1");
    }
}

/* Logical sectors of 4096 bytes are taken, of any other size but 512 refused. */
static void native_4k_and_other_sizes(void **state)
{
    static const uint32_t words[] = {2048, 1024, 512, 2049, 4096, 2048U << 16, 264, 256};
    struct disk_identity identity;
    uint64_t sectors;

    (void)state;
    assert_int_equal(decode(&identity), OK);
    sectors = identity.sectors;
    disk.words[106] = 0x5000;
    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        disk.words[117] = (uint16_t)words[i];
        disk.words[118] = (uint16_t)(words[i] >> 16);
        fake_disk_seal(&disk);
        assert_int_equal(decode(&identity),
                         words[i] == 2048 || words[i] == 256 ? OK : STATUS_UNSUPPORTED);
        assert_int_equal(identity.sector_size, 2 * (uint64_t)words[i]);
        assert_int_equal(identity.sectors, words[i] == 2048 ? 8 * sectors : sectors);
    }
    disk.words[117] = 2048;
    disk.words[118] = 0;
    disk.words[103] = 0xffff;
    fake_disk_seal(&disk);
    assert_int_equal(decode(&identity), STATUS_UNSUPPORTED);
}

static void identity_checksum(void **state)
{
    struct disk_identity identity;

    (void)state;
    for (unsigned bit = 0; bit < 512 * 8; bit++) {
        disk.words[bit / 16] ^= (uint16_t)(1U << (bit % 16));
        /* A flip in the signature's byte only means that there is no checksum. */
        if (bit / 8 != 510 && decode(&identity) != STATUS_CORRUPT)
            fail_msg("bit %u may be flipped", bit);
        disk.words[bit / 16] ^= (uint16_t)(1U << (bit % 16));
    }
    memset(disk.words, 0, sizeof(disk.words));
    assert_int_equal(decode(&identity), STATUS_CORRUPT);
    memset(disk.words, 0xff, sizeof(disk.words));
    assert_int_equal(decode(&identity), STATUS_CORRUPT);
}

static void texts_of_an_identity(void **state)
{
    struct disk_identity identity;

    (void)state;
    disk.words[10] = ' ' << 8 | 'A';
    disk.words[11] = 0x1b << 8 | 'B';
    fake_disk_seal(&disk);
    assert_int_equal(decode(&identity), OK);
    assert_string_equal(identity.serial, "A?B");
    for (unsigned i = 10; i < 20; i++)
        disk.words[i] = 'x' << 8 | 'y';
    fake_disk_seal(&disk);
    assert_int_equal(decode(&identity), OK);
    assert_int_equal(strlen(identity.serial), 20);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(comes_back_as_it_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_single_flip_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(version_2_comes_back_as_it_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(impossible_fields_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(log_pages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sealed_nonsense_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(updates_touch_one_sector, set_up, tear_down),
        cmocka_unit_test_setup_teardown(copies_may_differ_by_one_step, set_up, tear_down),
        cmocka_unit_test_setup_teardown(copies_must_agree_in_all_else, set_up, tear_down),
        cmocka_unit_test(positions),
        cmocka_unit_test(uuids),
        cmocka_unit_test_setup_teardown(identity_of_a_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(identities_that_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(native_4k_and_other_sizes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(identity_checksum, set_up, tear_down),
        cmocka_unit_test_setup_teardown(texts_of_an_identity, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
