/* The whole log of a run in memory, and its copy that survives a reset: cut where the room ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "efi/log/kept_log.c"

#define LAST_LINE "\n# the kept log ends here: it has no room for more\n"

/* The copy, which is reached by its physical address. */
static uint8_t block[KEPT_LOG_BLOCK];
static char expected[KEPT_LOG_SIZE + 4096];
static size_t expected_size;

void *kernel_map_device(struct phys base, uint64_t size, enum device_caching caching)
{
    assert_int_equal(size, KEPT_LOG_BLOCK);
    assert_int_equal(caching, DEVICE_UNCACHED);
    return (void *)(uintptr_t)base.address;
}

static int begin(void **state)
{
    (void)state;
    memset(&kept, 0, sizeof(kept));
    memset(block, 0xa5, sizeof(block));
    expected_size = 0;
    return 0;
}

static void add(char letter, size_t size)
{
    memset(expected + expected_size, letter, size);
    kept_log_write(expected + expected_size, size);
    expected_size += size;
}

static void expect_kept(const char *end)
{
    size_t cut = KEPT_LOG_SIZE - strlen(LAST_LINE);
    size_t same = expected_size < cut ? expected_size : cut;
    size_t size;
    const char *text = kept_log_text(&size);

    assert_int_equal(size, same + strlen(end));
    assert_memory_equal(text, expected, same);
    assert_memory_equal(text + same, end, strlen(end));
    if (kept_log_survives()) {
        size_t length;
        const char *copy = memory_log_find(block, sizeof(block), &length);

        assert_non_null(copy);
        assert_int_equal(length, size);
        assert_memory_equal(copy, text, size);
    }
}

static void survive(void)
{
    kept_log_survive((struct phys){(uintptr_t)block});
    kept_log_relocated();
    assert_true(kept_log_survives());
}

/* Text from before and after the block is there, with each line as it comes. */
static void copy_is_the_log(void **state)
{
    (void)state;
    assert_false(kept_log_survives());
    add('a', 100);
    expect_kept("");
    survive();
    expect_kept("");
    for (size_t i = 0; i < 100; i++) {
        add((char)('b' + i % 20), i);
        expect_kept("");
    }
}

/* The log fills the room to the last byte; one byte more is cut, and so is all that follows. */
static void end_of_the_room(void **state)
{
    size_t room = KEPT_LOG_SIZE - strlen(LAST_LINE);

    (void)state;
    survive();
    add('a', room - 1);
    add('b', 1);
    expect_kept("");
    add('c', 1);
    expect_kept(LAST_LINE);
    add('d', 100);
    add('e', 1);
    expect_kept(LAST_LINE);
}

/* A line that reaches over the end keeps the part that fits. */
static void cut_inside_a_line(void **state)
{
    (void)state;
    add('a', KEPT_LOG_SIZE - 100);
    add('b', 200);
    expect_kept(LAST_LINE);
    survive();
    expect_kept(LAST_LINE);
    add('c', 10);
    expect_kept(LAST_LINE);
}

/* One text that is longer than all the room. */
static void longer_than_all(void **state)
{
    (void)state;
    add('a', KEPT_LOG_SIZE + 1000);
    expect_kept(LAST_LINE);
}

/* A processor that a crash stopped may hold the lock: the report is written nevertheless. */
static void lock_of_a_stopped_processor(void **state)
{
    (void)state;
    add('a', 10);
    kept.lock = 1;
    add('b', 10);
    expect_kept("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(copy_is_the_log, begin),
        cmocka_unit_test_setup(end_of_the_room, begin),
        cmocka_unit_test_setup(cut_inside_a_line, begin),
        cmocka_unit_test_setup(longer_than_all, begin),
        cmocka_unit_test_setup(lock_of_a_stopped_processor, begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
