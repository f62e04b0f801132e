/* The validator: which disks may be written, and what a grant allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pmm/pmm.h"
#include "swapdisk/block/grant.h"
#include "swapdisk/choose.h"
#include "swapdisk/validate.h"
#include "tests/host/fake/disk.h"
#include "tests/host/fake/machine.h"

#define SECTORS 8192U
#define FIRST   2048U

static struct fake_disk disk;
static struct disk_identity identity;
static struct disk_finding finding;

static int set_up(void **state)
{
    (void)state;
    fake_machine_start(16 * MIB);
    fake_disk_make(&disk, SECTORS, "Fake", "S1");
    fake_disk_prepare(&disk, 0x11);
    identity = fake_disk_identity(&disk);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    swap_grant_revoke();
    fake_disk_free(&disk);
    return 0;
}

static struct disk_view view(void)
{
    return (struct disk_view){
        .device = &disk, .identity = &identity, .source = fake_disk_source(&disk)};
}

static bool prepared(void)
{
    struct disk_view seen = view();

    assert_int_equal(validate_disk(&seen, &finding), OK);
    assert_true(strlen(finding.reason) > 0);
    return finding.prepared;
}

static uint64_t last_lba(void)
{
    return fake_disk_partition(&disk).last_lba;
}

static uint64_t second_header(void)
{
    return swap_second_header_lba(FIRST, last_lba());
}

static void prepared_disk(void **state)
{
    struct pmm_usage before = pmm_usage();
    struct pmm_usage after;

    (void)state;
    assert_true(prepared());
    assert_string_equal(finding.reason, "prepared as set 11111111-1111-1111-1111-111111111111");
    assert_int_equal(finding.first_lba, FIRST);
    assert_int_equal(finding.last_lba, last_lba());
    assert_false(finding.lagging);
    after = pmm_usage();
    assert_memory_equal(&before, &after, sizeof(before));
}

/* Every bit of both headers, and of both tables as far as a checksum or a comparison covers them.
 */
static void any_single_flip_is_refused(void **state)
{
    uint64_t places[] = {FIRST, second_header()};

    (void)state;
    for (unsigned copy = 0; copy < 2; copy++) {
        uint8_t *bytes = disk.bytes + places[copy] * SECTOR_SIZE;

        /* Each bit of the used part, and one bit of each byte of the rest. */
        for (unsigned bit = 0; bit < SWAP_HEADER_SIZE * 8; bit += bit < 264 * 8 ? 1 : 8) {
            bytes[bit / 8] ^= (uint8_t)(1U << (bit % 8));
            if (prepared())
                fail_msg("copy %u, bit %u may be flipped", copy, bit);
            bytes[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        }
    }
    assert_true(prepared());
}

static void any_flip_in_the_tables_is_refused(void **state)
{
    static const struct {
        uint64_t lba;
        unsigned size;
    } places[] = {{1, 92}, {SECTORS - 1, 92}, {2, 512}, {33, 512}, {SECTORS - 33, 512}};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
        uint8_t *bytes = disk.bytes + places[i].lba * SECTOR_SIZE;

        for (unsigned bit = 0; bit < places[i].size * 8; bit += 3) {
            bytes[bit / 8] ^= (uint8_t)(1U << (bit % 8));
            if (prepared())
                fail_msg("sector %lu, bit %u may be flipped", places[i].lba, bit);
            bytes[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        }
    }
    assert_true(prepared());
}

static void put(const struct gpt_partition *partition, const struct swap_header *header)
{
    struct gpt_header table = fake_disk_gpt_header(&disk);

    fake_disk_put_table(&disk, &table, partition, 1);
    fake_disk_put_headers(&disk, header);
}

/* A header that is whole and well made, but for another place. */
static void misplaced_headers_are_refused(void **state)
{
    static const char *const words[] = {
        "GUID",   "another partition", "another place", "another place", "size", "model", "serial",
        "sectors"};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        struct gpt_partition partition = fake_disk_partition(&disk);
        struct swap_header header = fake_disk_swap_header(&disk, 0x11);

        switch (i) {
        case 0: header.disk_guid[3] ^= 4; break;
        case 1: header.partition_guid[3] ^= 4; break;
        case 2: header.first_lba += 8; break;
        case 3: header.last_lba += 8; break;
        case 4: header.disk_sectors++; break;
        case 5: strcpy(header.model, "Other"); break;
        case 6: strcpy(header.serial, "S2"); break;
        default: header.sector_size = 4096; break;
        }
        put(&partition, &header);
        assert_false(prepared());
        if (strstr(finding.reason, words[i]) == NULL)
            fail_msg("case %zu: %s", i, finding.reason);
    }
}

static void partitions_that_are_refused(void **state)
{
    static const uint64_t attributes[] = {
        1, 2, 4, UINT64_C(1) << 48, UINT64_C(1) << 60, UINT64_C(1) << 61};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(attributes); i++) {
        struct gpt_partition partition = fake_disk_partition(&disk);
        struct swap_header header = fake_disk_swap_header(&disk, 0x11);

        partition.attributes = attributes[i];
        put(&partition, &header);
        assert_false(prepared());
        assert_non_null(strstr(finding.reason, "attributes"));
        partition.attributes = UINT64_C(3) << 62;
        put(&partition, &header);
        assert_true(prepared());
    }
}

static void small_and_crooked_partitions(void **state)
{
    struct gpt_partition partition = fake_disk_partition(&disk);
    struct swap_header header = fake_disk_swap_header(&disk, 0x11);

    (void)state;
    partition.last_lba = header.last_lba = FIRST + SWAP_SECTORS_MIN - 2;
    put(&partition, &header);
    assert_false(prepared());
    assert_non_null(strstr(finding.reason, "too small"));
    partition = fake_disk_partition(&disk);
    partition.first_lba = FIRST + 4;
    put(&partition, &header);
    assert_false(prepared());
    assert_non_null(strstr(finding.reason, "4 KiB"));
}

static void foreign_types_are_refused(void **state)
{
    /* Linux swap, in the disk's byte order. */
    static const uint8_t linux_swap[16] = {0x6d, 0xfd, 0x57, 0x06, 0xab, 0xa4, 0xc4, 0x43,
                                           0x84, 0xe5, 0x09, 0x33, 0xc8, 0x4b, 0x4f, 0x4f};
    struct gpt_partition partition = fake_disk_partition(&disk);
    struct swap_header header = fake_disk_swap_header(&disk, 0x11);

    (void)state;
    memcpy(partition.type, linux_swap, 16);
    put(&partition, &header);
    assert_false(prepared());
    assert_string_equal(finding.reason, "it has no partition of Faultline's type");
}

static void two_partitions_of_our_type(void **state)
{
    (void)state;
    fake_disk_split_partition(&disk, 1);
    assert_false(prepared());
    assert_non_null(strstr(finding.reason, "several partitions"));
}

static void damaged_primary_is_reported_from_the_backup(void **state)
{
    (void)state;
    disk.bytes[SECTOR_SIZE + 50] ^= 1;
    assert_false(prepared());
    assert_non_null(strstr(finding.reason, "checksum (read from the backup table)"));
}

static void devices_that_are_refused(void **state)
{
    static const char *const words[] = {"capacity", "serial number", "password",
                                        "password", "flush",         "sectors"};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        identity = fake_disk_identity(&disk);
        switch (i) {
        case 0: identity.sectors++; break;
        case 1: identity.serial[0] = '\0'; break;
        case 2: identity.security_enabled = true; break;
        case 3: identity.security_locked = true; break;
        case 4: identity.flush_ext = false; break;
        default: identity.sector_size = 4096; break;
        }
        assert_false(prepared());
        assert_non_null(strstr(finding.reason, words[i]));
    }
}

static void exhausted_generation(void **state)
{
    struct gpt_partition partition = fake_disk_partition(&disk);
    struct swap_header header = fake_disk_swap_header(&disk, 0x11);

    (void)state;
    header.generation = UINT64_MAX - 2;
    put(&partition, &header);
    assert_true(prepared());
    header.generation = UINT64_MAX - 1;
    put(&partition, &header);
    assert_false(prepared());
}

/* Version 2: each bit of the headers' first sectors refuses; one of a list counts as a torn copy,
 * and the other copy is the list. */
static void version_2_is_accepted(void **state)
{
    struct swap_header header = fake_disk_swap_header_2(&disk, 0x11);
    struct bad_slots list = {.generation = 3, .count = 2, .slots = {5, 77}};
    uint64_t places[] = {FIRST, second_header()};

    (void)state;
    header.used_slots = 100;
    fake_disk_put_headers_2(&disk, &header, &list);
    assert_true(prepared());
    assert_int_equal(finding.header.version, 2);
    assert_int_equal(finding.header.used_slots, 100);
    for (unsigned copy = 0; copy < 2; copy++) {
        uint8_t *bytes = disk.bytes + places[copy] * SECTOR_SIZE;

        for (unsigned bit = 0; bit < SWAP_HEADER_SIZE * 8; bit += bit < 316 * 8 ? 1 : 8) {
            bytes[bit / 8] ^= (uint8_t)(1U << (bit % 8));
            if (prepared() != (bit >= SECTOR_SIZE * 8))
                fail_msg("copy %u, bit %u", copy, bit);
            if (bit >= SECTOR_SIZE * 8)
                assert_memory_equal(validate_bad_slots(), &list, sizeof(list));
            bytes[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        }
    }
    disk.bytes[places[0] * SECTOR_SIZE + 600] ^= 1;
    disk.bytes[places[1] * SECTOR_SIZE + 600] ^= 1;
    assert_false(prepared());
    assert_non_null(strstr(finding.reason, "list of bad slots has a wrong checksum"));
}

/* An update of the list that a power cut interrupts after any sector leaves the old or the new
 * list. */
static void torn_lists_survive(void **state)
{
    struct swap_header header = fake_disk_swap_header_2(&disk, 0x11);
    struct bad_slots old = {.generation = 3, .count = 2, .slots = {5, 77}};
    static struct bad_slots new;
    uint64_t places[] = {FIRST, second_header()};
    static uint8_t page[SWAP_HEADER_SIZE];

    (void)state;
    new.generation = 4;
    for (new.count = 0; new.count < 200; new.count++)
        new.slots[new.count] = 3 * new.count;
    swap_header_encode(page, &header);
    bad_slots_encode(page, &header, &new);
    fake_disk_put_headers_2(&disk, &header, &old);
    for (unsigned written = 0; written <= 2 * 7; written++) {
        if (written > 0)
            memcpy(disk.bytes + (places[(written - 1) / 7] + 1 + (written - 1) % 7) * SECTOR_SIZE,
                   page + (1 + (written - 1) % 7) * SECTOR_SIZE, SECTOR_SIZE);
        assert_true(prepared());
        /* The list of 200 slots is in two sectors of the seven. */
        assert_memory_equal(validate_bad_slots(), written < 2 ? &old : &new, sizeof(old));
    }
    /* The other order is not this program's. */
    fake_disk_put_headers_2(&disk, &header, &old);
    memcpy(disk.bytes + places[1] * SECTOR_SIZE, page, SWAP_HEADER_SIZE);
    assert_false(prepared());
    new.generation = 3;
    bad_slots_encode(page, &header, &new);
    memcpy(disk.bytes + places[1] * SECTOR_SIZE, page, SWAP_HEADER_SIZE);
    assert_false(prepared());
}

static void sets_that_are_not_used(void **state)
{
    struct swap_header header = fake_disk_swap_header_2(&disk, 0x11);

    (void)state;
    header.kind = SET_FILES;
    fake_disk_put_headers_2(&disk, &header, NULL);
    assert_false(prepared());
    assert_non_null(strstr(finding.reason, "for files"));
    header.kind = SET_SWAP;
    header.role = SET_MIRROR;
    header.members = 3;
    memset(header.group_uuid, 0x44, 16);
    fake_disk_put_headers_2(&disk, &header, NULL);
    assert_false(prepared());
    assert_non_null(strstr(finding.reason, "more than two halves"));
    header.members = 2;
    fake_disk_put_headers_2(&disk, &header, NULL);
    assert_true(prepared());
    header.role = SET_STRIPE;
    header.members = 3;
    fake_disk_put_headers_2(&disk, &header, NULL);
    assert_true(prepared());
}

static void lagging_second_copy(void **state)
{
    struct swap_header header = fake_disk_swap_header(&disk, 0x11);

    (void)state;
    header.generation++;
    header.state = SWAP_STATE_IN_USE;
    swap_header_encode(disk.bytes + FIRST * SECTOR_SIZE, &header);
    assert_true(prepared());
    assert_true(finding.lagging);
    assert_int_equal(finding.header.generation, 8);
    /* The other way round it was not this program that wrote them. */
    swap_header_encode(disk.bytes + second_header() * SECTOR_SIZE, &header);
    header.generation--;
    swap_header_encode(disk.bytes + FIRST * SECTOR_SIZE, &header);
    assert_false(prepared());
}

/* Each single read fails in each way: never prepared, since everything is read once (twice over).
 */
static void every_failing_read_is_refused(void **state)
{
    static const enum fake_failure failures[] = {FAKE_ERROR, FAKE_SILENT, FAKE_SHORT, FAKE_FLIP};
    uint64_t reads;

    (void)state;
    assert_true(prepared());
    reads = disk.commands;
    assert_true(reads >= 2 * (1 + 1 + 4 + 1 + 4 + 2));
    for (size_t i = 0; i < ARRAY_COUNT(failures); i++) {
        for (uint64_t number = 0; number < reads; number++) {
            disk.commands = 0;
            disk.fail_from = number;
            disk.fail_count = 1;
            disk.failure = failures[i];
            if (prepared())
                fail_msg("failure %zu of read %lu passed", i, number);
        }
    }
}

static void no_memory_is_a_status(void **state)
{
    struct disk_view seen = view();
    struct pfn frame;

    (void)state;
    while (pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &frame) == OK) {
    }
    assert_int_equal(validate_disk(&seen, &finding), STATUS_NO_MEMORY);
    pmm_free((struct pfn){frame.index});
    assert_int_equal(validate_disk(&seen, &finding), STATUS_NO_MEMORY);
    assert_int_equal(pmm_usage().by_kind[FRAME_FREE], 1);
}

static void grant_covers_the_partition_and_nothing_else(void **state)
{
    struct disk_view seen = view();
    const struct swap_grant *grant;
    uint8_t uuid[16];
    uint64_t last = last_lba();
    uint64_t size = last - FIRST + 1;

    (void)state;
    memset(uuid, 0x11, 16);
    assert_int_equal(validate_grant(&seen, uuid, &grant, &finding), OK);
    assert_true(swap_grant_covers(grant, &disk, FIRST, 1));
    assert_true(swap_grant_covers(grant, &disk, FIRST, size));
    assert_true(swap_grant_covers(grant, &disk, last, 1));
    assert_false(swap_grant_covers(grant, &disk, FIRST - 1, 1));
    assert_false(swap_grant_covers(grant, &disk, FIRST - 1, 2));
    assert_false(swap_grant_covers(grant, &disk, FIRST, size + 1));
    assert_false(swap_grant_covers(grant, &disk, last, 2));
    assert_false(swap_grant_covers(grant, &disk, last + 1, 1));
    assert_false(swap_grant_covers(grant, &disk, FIRST, 0));
    assert_false(swap_grant_covers(grant, &disk, FIRST + 1, UINT64_MAX));
    assert_false(swap_grant_covers(grant, &disk, FIRST + 8, UINT64_MAX - FIRST));
    assert_false(swap_grant_covers(grant, &disk, UINT64_MAX, 2));
    assert_false(swap_grant_covers(grant, &disk, 0, UINT64_MAX));
    assert_false(swap_grant_covers(grant, &identity, FIRST, 1));
    assert_false(swap_grant_covers(grant, NULL, FIRST, 1));
    assert_false(swap_grant_covers(NULL, &disk, FIRST, 1));
    swap_grant_revoke();
    assert_false(swap_grant_covers(grant, &disk, FIRST, 1));
}

static void forged_and_overwritten_grants(void **state)
{
    struct disk_view seen = view();
    const struct swap_grant *grant;
    uint64_t copy[8];
    uint8_t uuid[16];

    (void)state;
    memset(uuid, 0x11, 16);
    assert_int_equal(validate_grant(&seen, uuid, &grant, &finding), OK);
    memcpy(copy, grant, 48);
    assert_false(swap_grant_covers((const struct swap_grant *)(const void *)copy, &disk, FIRST, 1));
    /* Widening the range in place, as a stray write would. */
    ((uint64_t *)(uintptr_t)grant)[1] = 0;
    assert_true(PANICS((void)swap_grant_covers(grant, &disk, FIRST, 1)));
}

static void grants_are_refused(void **state)
{
    struct disk_view seen = view();
    const struct swap_grant *grant = NULL;
    uint8_t uuid[16];

    (void)state;
    memset(uuid, 0x12, 16);
    assert_int_equal(validate_grant(&seen, uuid, &grant, &finding), STATUS_REFUSED);
    assert_null(grant);
    memset(uuid, 0x11, 16);
    disk.bytes[FIRST * SECTOR_SIZE] ^= 1;
    assert_int_equal(validate_grant(&seen, uuid, &grant, &finding), STATUS_REFUSED);
    assert_null(grant);
    disk.bytes[FIRST * SECTOR_SIZE] ^= 1;
    assert_int_equal(validate_grant(&seen, uuid, &grant, &finding), OK);
    /* Two grants never share a sector. */
    assert_true(PANICS((void)validate_grant(&seen, uuid, &grant, &finding)));
}

static struct disk_finding findings[3];

/* The index of the finding that the options choose among the first count, or -1. */
static int choose(unsigned count, const struct options *options, bool under_hypervisor)
{
    int chosen = -1;
    unsigned number;

    for (unsigned i = 0; i < count; i++)
        findings[i].next = i + 1 < count ? &findings[i + 1] : NULL;
    number = swap_choose(count > 0 ? findings : NULL, options, under_hypervisor);
    assert_true(number <= 1);
    for (unsigned i = 0; i < count; i++) {
        if (findings[i].chosen)
            chosen = (int)i;
    }
    assert_int_equal(number, chosen >= 0);
    return chosen;
}

static void make_findings(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        findings[i] = (struct disk_finding){.prepared = true};
        findings[i].header = fake_disk_swap_header(&disk, (uint8_t)(0x11 * (i + 1)));
        findings[i].header.serial[1] = (char)('1' + i);
    }
}

static void choice_by_options(void **state)
{
    struct options options = {.swap = SWAP_AUTO};

    (void)state;
    make_findings(1);
    assert_int_equal(choose(1, &options, true), 0);
    assert_int_equal(choose(1, &options, false), -1);
    assert_non_null(strstr(findings[0].reason, "real machine"));
    options.swap = SWAP_NONE;
    assert_int_equal(choose(1, &options, true), -1);
    assert_non_null(strstr(findings[0].reason, "swap=none"));
    options.swap = SWAP_SET;
    memset(options.swap_set[0].uuid, 0x11, 16);
    options.swap_sets = 1;
    assert_int_equal(choose(1, &options, true), 0);
    assert_int_equal(choose(1, &options, false), 0);
    options.swap_set[0].uuid[15] = 0;
    assert_int_equal(choose(1, &options, true), -1);
    assert_non_null(strstr(findings[0].reason, "another set"));
    assert_int_equal(choose(0, &options, true), -1);
}

static void two_that_match_are_both_refused(void **state)
{
    struct options options = {.swap = SWAP_AUTO};

    (void)state;
    make_findings(3);
    findings[1].prepared = false;
    strcpy(findings[1].reason, "untouched");
    assert_int_equal(choose(3, &options, true), -1);
    assert_non_null(strstr(findings[0].reason, "S3"));
    assert_string_equal(findings[1].reason, "untouched");
    assert_non_null(strstr(findings[2].reason, "S1"));
    /* Naming one of them settles it. */
    options.swap = SWAP_SET;
    memset(options.swap_set[0].uuid, 0x33, 16);
    options.swap_sets = 1;
    assert_int_equal(choose(3, &options, false), 2);
    /* Unless both bear that name. */
    memset(findings[0].header.set_uuid, 0x33, 16);
    assert_int_equal(choose(3, &options, false), -1);
}

/* Makes two findings the halves of one mirror. */
static void make_mirror(void)
{
    make_findings(3);
    for (unsigned i = 0; i < 2; i++) {
        findings[i].header = fake_disk_swap_header_2(&disk, (uint8_t)(0x11 * (i + 1)));
        findings[i].header.serial[1] = (char)('1' + i);
        findings[i].header.role = SET_MIRROR;
        findings[i].header.members = 2;
        findings[i].header.member = i;
        memset(findings[i].header.group_uuid, 0x99, 16);
    }
    findings[2].prepared = false;
}

/* Returns the findings that are chosen, a bit for each. */
static unsigned chosen_of(unsigned count, const struct options *options)
{
    unsigned chosen = 0;
    unsigned number;

    for (unsigned i = 0; i < count; i++)
        findings[i].next = i + 1 < count ? &findings[i + 1] : NULL;
    number = swap_choose(findings, options, options->swap == SWAP_AUTO);
    for (unsigned i = 0; i < count; i++)
        chosen |= (unsigned)findings[i].chosen << i;
    assert_int_equal(number, __builtin_popcount(chosen));
    return chosen;
}

#define BOTH_SAY(words_)                                                                           \
    do {                                                                                           \
        assert_non_null(strstr(findings[0].reason, words_));                                       \
        assert_non_null(strstr(findings[1].reason, words_));                                       \
    } while (0)

/* Halves that do not belong together are refused, both of them. */
static void halves_that_do_not_match(void **state)
{
    struct options options = {.swap = SWAP_AUTO};

    (void)state;
    make_mirror();
    assert_int_equal(chosen_of(3, &options), 3);
    /* A power cut between the updates of the two. */
    findings[1].header.generation++;
    assert_int_equal(chosen_of(3, &options), 3);
    findings[1].header.generation++;
    assert_int_equal(chosen_of(3, &options), 0);
    BOTH_SAY("one was used without the other: prepare both");
    make_mirror();
    findings[1].header.last_lba += 800;
    findings[1].header.log_first_lba += 800;
    assert_int_equal(chosen_of(3, &options), 0);
    BOTH_SAY("has another size");
    make_mirror();
    findings[1].header.member = 0;
    assert_int_equal(chosen_of(3, &options), 0);
    BOTH_SAY("matches as well");
    make_mirror();
    findings[1].header.role = SET_STRIPE;
    assert_int_equal(chosen_of(3, &options), 0);
    BOTH_SAY("says otherwise what their group is");
}

/* Who names one half must name the other; without it the half serves only if the other is not
 * there. */
static void halves_and_names(void **state)
{
    struct options options = {.swap = SWAP_SET, .swap_sets = 1};

    (void)state;
    make_mirror();
    memset(options.swap_set[0].uuid, 0x11, 16);
    assert_int_equal(chosen_of(3, &options), 0);
    assert_non_null(strstr(findings[0].reason, "is not named"));
    assert_non_null(strstr(findings[1].reason, "name another set"));
    memset(options.swap_set[0].uuid, 0x99, 16);
    assert_int_equal(chosen_of(3, &options), 3);
    options.swap_sets = 2;
    memset(options.swap_set[0].uuid, 0x11, 16);
    memset(options.swap_set[1].uuid, 0x22, 16);
    assert_int_equal(chosen_of(3, &options), 3);
    options.swap_set[1].priority = 4;
    assert_int_equal(chosen_of(3, &options), 0);
    BOTH_SAY("has another priority");
    options.swap_sets = 1;
    findings[1].prepared = false;
    assert_int_equal(chosen_of(3, &options), 1);
    assert_non_null(strstr(findings[0].reason, "other half is not there"));
}

/* A copy of one half refuses the whole mirror, and nothing else. */
static void a_copy_of_a_half(void **state)
{
    struct options options = {.swap = SWAP_AUTO};

    (void)state;
    make_mirror();
    findings[2] = findings[0];
    strcpy(findings[2].header.serial, "S9");
    assert_int_equal(chosen_of(3, &options), 0);
    assert_non_null(strstr(findings[0].reason, "S9 matches as well"));
    assert_non_null(strstr(findings[1].reason, "of its group is refused"));
    options.swap = SWAP_SET;
    options.swap_sets = 1;
    memset(options.swap_set[0].uuid, 0x99, 16);
    assert_int_equal(chosen_of(3, &options), 0);
}

#define CASE(name_) cmocka_unit_test_setup_teardown(name_, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(prepared_disk),
        CASE(any_single_flip_is_refused),
        CASE(any_flip_in_the_tables_is_refused),
        CASE(misplaced_headers_are_refused),
        CASE(partitions_that_are_refused),
        CASE(small_and_crooked_partitions),
        CASE(foreign_types_are_refused),
        CASE(two_partitions_of_our_type),
        CASE(damaged_primary_is_reported_from_the_backup),
        CASE(devices_that_are_refused),
        CASE(exhausted_generation),
        CASE(version_2_is_accepted),
        CASE(torn_lists_survive),
        CASE(sets_that_are_not_used),
        CASE(lagging_second_copy),
        CASE(every_failing_read_is_refused),
        CASE(no_memory_is_a_status),
        CASE(grant_covers_the_partition_and_nothing_else),
        CASE(forged_and_overwritten_grants),
        CASE(grants_are_refused),
        CASE(choice_by_options),
        CASE(two_that_match_are_both_refused),
        CASE(halves_that_do_not_match),
        CASE(halves_and_names),
        CASE(a_copy_of_a_half),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
