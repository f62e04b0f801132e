/* Logs that survive: in memory over a reset, and in the log area of a partition. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "efi/log/memory_log.h"
#include "pmm/pmm.h"
#include "swapdisk/block/log_area.h"
#include "swapdisk/format/log_page.h"
#include "tests/host/fake/machine.h"

#define BLOCK_SIZE (MEMORY_LOG_TEXT + 1000U)
#define AREA_PAGES 8U
#define AREA_FIRST 16U /* sectors of 512 bytes before the area */

static uint8_t block[BLOCK_SIZE];

/* ---- in memory ---- */

static void expect_text(const char *expected)
{
    size_t length = 0;
    const char *text = memory_log_find(block, BLOCK_SIZE, &length);

    assert_non_null(text);
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(text, expected, length);
}

static bool nothing_found(void)
{
    size_t length;

    return memory_log_find(block, BLOCK_SIZE, &length) == NULL;
}

static void a_log_is_found_again(void **state)
{
    struct memory_log log;

    (void)state;
    memset(block, 0xa5, sizeof(block));
    memory_log_begin(&log, block, sizeof(block));
    assert_true(nothing_found());
    memory_log_add(&log, "one\n", 4);
    expect_text("one\n");
    memory_log_add(&log, "two\n", 4);
    expect_text("one\ntwo\n");
    memory_log_erase(block);
    assert_true(nothing_found());
}

/* Memory after a cold start: cleared, or with any contents. */
static void a_cold_start_has_none(void **state)
{
    uint32_t random = 1;

    (void)state;
    memset(block, 0, sizeof(block));
    assert_true(nothing_found());
    for (unsigned round = 0; round < 100; round++) {
        for (size_t i = 0; i < sizeof(block); i++)
            block[i] = (uint8_t)((random = random * 1664525 + 1013904223) >> 24);
        assert_true(nothing_found());
    }
}

/* Any flipped bit of the newest header leaves the log without its last piece; one of the text
 * leaves nothing. */
static void damage_is_noticed(void **state)
{
    struct memory_log log;
    size_t length;

    (void)state;
    memory_log_begin(&log, block, sizeof(block));
    memory_log_add(&log, "one\n", 4);
    memory_log_add(&log, "two\n", 4);
    for (unsigned bit = 0; bit < 2 * 64 * 8; bit++) {
        const char *text;

        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
        text = memory_log_find(block, BLOCK_SIZE, &length);
        assert_non_null(text);
        assert_true(length == 4 || length == 8);
        assert_memory_equal(text, "one\ntwo\n", length);
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (unsigned bit = 0; bit < 4 * 8; bit++) {
        block[MEMORY_LOG_TEXT + bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_true(nothing_found());
        block[MEMORY_LOG_TEXT + bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    expect_text("one\ntwo\n");
}

static void a_long_log_is_cut(void **state)
{
    static char text[2000];
    struct memory_log log;
    size_t length = 0;

    (void)state;
    memset(text, 'x', sizeof(text));
    memory_log_begin(&log, block, sizeof(block));
    memory_log_add(&log, text, 600);
    memory_log_add(&log, text, 600);
    memory_log_add(&log, text, 600);
    assert_non_null(memory_log_find(block, BLOCK_SIZE, &length));
    assert_int_equal(length, 1000);
}

/* ---- in the log area ---- */

static struct block_device device;
static struct swap_header header;

static int open_device(void **state)
{
    (void)state;
    fake_machine_start(64 * MIB);
    memset(&header, 0, sizeof(header));
    memset(header.set_uuid, 0x5a, sizeof(header.set_uuid));
    header.log_first_lba = AREA_FIRST;
    header.log_sectors = AREA_PAGES * SECTORS_PER_PAGE;
    return block_ram_open(AREA_PAGES + 4, &device) == OK ? 0 : -1;
}

static int close_device(void **state)
{
    (void)state;
    block_ram_close(&device);
    return 0;
}

/* Returns how many pages of a run the area has; appends their text in order. */
static unsigned read_run(uint64_t run, char *text)
{
    unsigned found = 0;

    *text = '\0';
    for (uint64_t sequence = 0; sequence < 4 * AREA_PAGES; sequence++) {
        for (unsigned i = 0; i < AREA_PAGES; i++) {
            struct pfn frame = block_ram_frame(&device, AREA_FIRST / SECTORS_PER_PAGE + i);
            struct log_page log;

            if (frame.index == PFN_NONE.index || !log_page_decode(frame_pointer(frame), &log) ||
                log.run != run || log.sequence != sequence)
                continue;
            strncat(text, log.text, log.length);
            found++;
        }
    }
    return found;
}

static void store(char letter, size_t size)
{
    static char text[AREA_PAGES * LOG_PAGE_TEXT * 2];

    memset(text, letter, size);
    text[0] = '<';
    text[size - 1] = '>';
    /* In two pieces, cut at a place of no meaning. */
    assert_int_equal(log_area_write(&device, NULL, &header,
                                    &(struct log_text){.text = text,
                                                       .size = size * 2 / 3 + 1,
                                                       .end = text + size * 2 / 3 + 1,
                                                       .end_size = size - (size * 2 / 3 + 1)}),
                     OK);
}

static void logs_follow_each_other(void **state)
{
    static char text[AREA_PAGES * LOG_PAGE_TEXT * 2];

    (void)state;
    store('a', LOG_PAGE_TEXT * 2);
    store('b', LOG_PAGE_TEXT * 3 + 1);
    assert_int_equal(read_run(1, text), 2);
    assert_int_equal(strlen(text), LOG_PAGE_TEXT * 2);
    assert_true(text[0] == '<' && text[1] == 'a' && text[LOG_PAGE_TEXT * 2 - 1] == '>');
    assert_int_equal(read_run(2, text), 4);
    assert_int_equal(strlen(text), LOG_PAGE_TEXT * 3 + 1);
    /* The third wraps and takes the place of the first. */
    store('c', LOG_PAGE_TEXT * 4);
    assert_int_equal(read_run(1, text), 0);
    assert_int_equal(read_run(2, text), 4);
    assert_int_equal(read_run(3, text), 4);
    assert_true(text[0] == '<' && text[LOG_PAGE_TEXT * 4 - 1] == '>');
}

static void the_end_of_a_long_log_stays(void **state)
{
    static char text[AREA_PAGES * LOG_PAGE_TEXT * 2];

    (void)state;
    store('d', LOG_PAGE_TEXT * (AREA_PAGES + 2) - 7);
    assert_int_equal(read_run(1, text), AREA_PAGES);
    assert_int_equal(text[strlen(text) - 1], '>');
    assert_int_equal(strlen(text), LOG_PAGE_TEXT * AREA_PAGES - 7);
}

/* A sound page whose run has no number after it: the log of this run is written all the same. */
static void the_last_number_of_a_run(void **state)
{
    static uint8_t page[LOG_PAGE_SIZE];
    static char text[AREA_PAGES * LOG_PAGE_TEXT * 2];
    struct log_page log = {.run = UINT64_MAX, .length = 3, .text = "old"};
    struct pfn frame;

    (void)state;
    memcpy(log.set_uuid, header.set_uuid, sizeof(log.set_uuid));
    log_page_encode(page, &log);
    store('a', 10);
    frame = block_ram_frame(&device, AREA_FIRST / SECTORS_PER_PAGE);
    memcpy(frame_pointer(frame), page, sizeof(page));
    store('b', 10);
    assert_int_equal(read_run(1, text), 1);
    assert_int_equal(strlen(text), 10);
}

/* Nothing around the area is written. */
static void only_the_area_is_written(void **state)
{
    (void)state;
    store('e', LOG_PAGE_TEXT * AREA_PAGES);
    assert_int_equal(block_ram_frame(&device, 1).index, PFN_NONE.index);
    assert_int_equal(block_ram_frame(&device, AREA_FIRST / SECTORS_PER_PAGE + AREA_PAGES).index,
                     PFN_NONE.index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_is_found_again),
        cmocka_unit_test(a_cold_start_has_none),
        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(a_long_log_is_cut),
        cmocka_unit_test_setup_teardown(logs_follow_each_other, open_device, close_device),
        cmocka_unit_test_setup_teardown(the_end_of_a_long_log_stays, open_device, close_device),
        cmocka_unit_test_setup_teardown(the_last_number_of_a_run, open_device, close_device),
        cmocka_unit_test_setup_teardown(only_the_area_is_written, open_device, close_device),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
