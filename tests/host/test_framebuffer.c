/* Host tests of the console's start: a framebuffer at a false address is never written; the
 * order of its colours, and whole words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The section `test_fonts` replaces each font of the image; the linker defines its bounds. */
#define font_8x16      __start_test_fonts
#define font_8x16_end  __stop_test_fonts
#define font_12x24     __start_test_fonts
#define font_12x24_end __stop_test_fonts
#define font_16x32     __start_test_fonts
#define font_16x32_end __stop_test_fonts
#define font_32x64     __start_test_fonts
#define font_32x64_end __stop_test_fonts

#include "efi/console/framebuffer.c"
#include "paging/pte.h"

#define WIDTH  640U
#define HEIGHT 480U
#define PITCH  704U
#define PAGES  (PITCH * HEIGHT * sizeof(uint32_t) / PAGE_SIZE)
#define OLD    0x5a5a5a5aU

/* Places of the firmware's page tables, which exist only as answers of read_entry: the root, then
 * the tables below it, whose entries map 1 GiB each. */
#define ROOT  UINT64_C(0x1000)
#define LOWER UINT64_C(0x2000)

/* PSF 2, 128 glyphs of 8x16 pixels, all of them blank but x, whose upper row is set. */
__attribute__((used, section("test_fonts"))) static const uint8_t test_font[32 + 128 * 16] = {
    0x72, 0xb5, 0x4a, 0x86, 0, 0,   0, 0, 32, 0,  0,
    0,    0,    0,    0,    0, 128, 0, 0, 0,  16, 0,
    0,    0,    16,   0,    0, 0,   8, 0, 0,  0,  [32 + 'x' * 16] = 0xff,
};

static uint32_t *pixels; /* page-aligned */
static uint64_t unmapped_gib;
static struct bootinfo info;
static struct reachable reachable;

bool crash_begun(void)
{
    return false;
}

void *kernel_map_device(struct phys base, uint64_t size, enum device_caching caching)
{
    (void)size;
    assert_int_equal(caching, DEVICE_WRITE_COMBINING);
    return (void *)(uintptr_t)base.address;
}

/* Maps each address to itself, but for one GiB. */
static uint64_t read_entry(struct phys entry)
{
    uint64_t gib;

    if (entry.address < LOWER)
        return (LOWER + (entry.address - ROOT) / sizeof(uint64_t) * PAGE_SIZE) | PTE_P | PTE_RW;
    gib = (entry.address - LOWER) / sizeof(uint64_t);
    return gib == unmapped_gib ? 0 : gib * GIB | PTE_P | PTE_RW | PTE_PS;
}

static int screen_start(void **state)
{
    (void)state;
    if (pixels == NULL)
        pixels = aligned_alloc(PAGE_SIZE, PAGES * PAGE_SIZE);
    for (size_t i = 0; i < PAGES * PAGE_SIZE / sizeof(uint32_t); i++)
        pixels[i] = OLD;
    memset(&console, 0, sizeof(console));
    memset(&info, 0, sizeof(info));
    unmapped_gib = UINT64_MAX;
    info.screen = (struct framebuffer){.base = {(uintptr_t)pixels},
                                       .size = PAGES * PAGE_SIZE,
                                       .width = WIDTH,
                                       .height = HEIGHT,
                                       .pitch = PITCH};
    reachable = (struct reachable){.info = &info, .root = {ROOT}, .levels = 4, .read = read_entry};
    return 0;
}

static void map_lists(uint64_t page, enum memory_kind kind)
{
    info.regions[info.region_count++] = (struct memory_region){
        .start = {(uintptr_t)pixels + page * PAGE_SIZE}, .pages = 1, .kind = kind};
}

static void stays_off(void)
{
    console_start(&reachable);
    assert_false(console_on());
    console_write("text\n", 5);
    framebuffer_relocated();
    assert_false(console_on());
    for (size_t i = 0; i < PAGES * PAGE_SIZE / sizeof(uint32_t); i++)
        assert_int_equal(pixels[i], OLD);
}

static void true_address(void **state)
{
    (void)state;
    map_lists(0, MEMORY_DEVICE);
    map_lists(PAGES, MEMORY_USABLE);
    console_start(&reachable);
    assert_true(console_on());
    assert_int_equal(pixels[0], 0);
    assert_int_equal(pixels[WIDTH - 1], 0);
    assert_int_equal(pixels[WIDTH], OLD);
    assert_int_equal(pixels[(HEIGHT - 1) * PITCH + WIDTH - 1], 0);
    framebuffer_relocated();
    assert_true(console_on());
}

static void memory_in_use(void **state)
{
    static const enum memory_kind kinds[] = {MEMORY_USABLE, MEMORY_RUNTIME_DATA, MEMORY_ACPI_NVS};

    for (unsigned i = 0; i < ARRAY_COUNT(kinds); i++) {
        screen_start(state);
        map_lists(PAGES - 1, kinds[i]);
        stays_off();
    }
}

static void not_mapped(void **state)
{
    (void)state;
    unmapped_gib = (uintptr_t)pixels / GIB;
    stays_off();
}

/* An address that no page table can map, and one whose end wraps around. */
static void not_canonical(void **state)
{
    (void)state;
    info.screen.base.address = UINT64_C(1) << 63;
    stays_off();
    info.screen.base.address = UINT64_MAX - PAGE_SIZE + 1;
    stays_off();
}

static void false_sizes(void **state)
{
    (void)state;
    info.screen.pitch = WIDTH - 1;
    stays_off();
    info.screen.pitch = PITCH;
    info.screen.size = 100;
    stays_off();
    info.screen.size = 0;
    stays_off();
}

static void start_with(bool red_first)
{
    screen_start(NULL);
    info.screen.red_first = red_first;
    map_lists(0, MEMORY_DEVICE);
    map_lists(PAGES, MEMORY_USABLE);
    console_start(&reachable);
    assert_true(console_on());
}

static void write_text(const char *text)
{
    console_write(text, strlen(text));
}

/* Red is the byte that the format names, and nothing right of the screen is written. */
static void orders_of_colours(void **state)
{
    static const uint32_t bad[] = {0xff7060, 0x6070ff};

    (void)state;
    for (unsigned red_first = 0; red_first < 2; red_first++) {
        char line[WIDTH / 8 + 2];

        start_with(red_first != 0);
        write_text("not ok x\n");
        assert_int_equal(pixels[7 * 8], bad[red_first]);
        assert_int_equal(pixels[8 * 8 - 1], bad[red_first]);
        assert_int_equal(pixels[8 * 8], 0);
        assert_int_equal(pixels[7 * 8 + PITCH], 0);
        memset(line, 'x', WIDTH / 8);
        strcpy(line + WIDTH / 8, "\n");
        write_text(line);
        assert_int_not_equal(pixels[16 * PITCH + WIDTH - 1], 0);
        for (size_t y = 0; y < HEIGHT; y++) {
            for (size_t x = WIDTH; x < PITCH; x++)
                assert_int_equal(pixels[y * PITCH + x], OLD);
        }
    }
}

/* Returns whether a word goes on in the next row. Words here have at most 12 letters. */
static bool cuts_a_word(unsigned row)
{
    const struct cell *end = &console.cells[row][console.columns - 1];
    const struct cell *next = &console.cells[row + 1][0];

    return end->letter != 0 && end->letter != ' ' && next->letter != 0 && next->letter != ' ' &&
           next->letter != '>';
}

/* Lines of every length: no word of theirs is in two rows, also behind a scroll. */
static void words_of_the_log(void **state)
{
    (void)state;
    start_with(false);
    for (unsigned words = 1; words < 60; words++) {
        write_text(">");
        for (unsigned i = 0; i < words; i++) {
            char text[16];

            memset(text, 'a', 12);
            text[(i * 7 + words) % 12 + 1] = '\0';
            write_text(text);
            write_text(" ");
        }
        write_text("\n");
        for (unsigned row = 0; row + 1 < console.rows; row++)
            assert_false(cuts_a_word(row));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(true_address, screen_start),
        cmocka_unit_test_setup(memory_in_use, screen_start),
        cmocka_unit_test_setup(not_mapped, screen_start),
        cmocka_unit_test_setup(not_canonical, screen_start),
        cmocka_unit_test_setup(false_sizes, screen_start),
        cmocka_unit_test_setup(orders_of_colours, screen_start),
        cmocka_unit_test_setup(words_of_the_log, screen_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
