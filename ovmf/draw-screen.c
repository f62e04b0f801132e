/* Draws the pictures of a run from its log, at any size, on Linux: as a PPM file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/check.h"
#include "tests/screen/screen.h"

static const char usage[] =
    "usage: draw-screen LOG WIDTHxHEIGHT FONT PICTURE [LINES]\n"
    "\n"
    "Reads a log, or its first LINES lines, and writes the screen as PICTURE, a PPM file: the end\n"
    "of the run if its verdict is among the lines, else the run under way. Memory and swap are an\n"
    "example. FONT is one of build/fonts.\n";

static struct screen screen;
static struct story story;
static struct screen_facts facts;

_Noreturn void panic_at(const char *file, int line, const char *format, ...)
{
    fprintf(stderr, "draw-screen: %s:%d: %s\n", file, line, format);
    abort();
}

static void *read_all(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    char *data = NULL;
    size_t room = 0;

    if (file == NULL) {
        fprintf(stderr, "draw-screen: %s: %s\n", path, strerror(errno));
        exit(1);
    }
    for (*size = 0;; *size += fread(data + *size, 1, room - *size, file)) {
        if (feof(file) || ferror(file))
            break;
        if (*size == room)
            data = realloc(data, room = 2 * room + 65536);
        if (data == NULL)
            exit(1);
    }
    fclose(file);
    return data;
}

/* Finds the name of the experiment whose lines begin here: its last line has it. */
static void name_experiment(const char *at, const char *end)
{
    char name[STORY_NAME] = "";
    unsigned number;

    for (; at < end; at = (const char *)memchr(at, '\n', (size_t)(end - at)) + 1) {
        if ((sscanf(at, "ok %u %23s", &number, name) == 2 ||
             sscanf(at, "not ok %u %23s", &number, name) == 2) ||
            memchr(at, '\n', (size_t)(end - at)) == NULL)
            break;
    }
    story_begin(&story, name);
}

static void take_log(const char *text, size_t size, unsigned long lines)
{
    const char *end = text + size;

    while (text < end && lines-- > 0) {
        const char *line_end = memchr(text, '\n', (size_t)(end - text));
        size_t length = line_end != NULL ? (size_t)(line_end - text) + 1 : (size_t)(end - text);

        if (length > 8 && memcmp(text, "    KTAP", 8) == 0)
            name_experiment(text, end);
        story_add(&story, text, length);
        text += length;
    }
}

/* Makes example figures, as a run in progress might have them. */
static void make_example(void)
{
    static const struct screen_region regions[] = {{4096, SCREEN_ANONYMOUS},
                                                   {16 << 20, SCREEN_ANONYMOUS},
                                                   {4096, SCREEN_KERNEL},
                                                   {2 << 20, SCREEN_SHARED}};

    srand(1);
    facts.memory_bytes = UINT64_C(512) << 20;
    facts.memory_cell = 65536;
    facts.memory_cells = SCREEN_MEMORY_CELLS;
    for (unsigned i = 0; i < SCREEN_MEMORY_CELLS; i++)
        facts.memory[i] = (uint8_t)(i < 160       ? SCREEN_RESERVED
                                    : i < 256     ? SCREEN_KERNEL
                                    : i < 1800    ? rand() % 9 ? SCREEN_ANONYMOUS : SCREEN_TABLE
                                    : i < 2300    ? SCREEN_SHARED
                                    : i < 2500    ? SCREEN_POOL
                                    : i < 2600    ? SCREEN_OUT
                                    : rand() % 99 ? SCREEN_FREE
                                                  : SCREEN_ANONYMOUS);
    facts.swap_bytes = UINT64_C(255) << 20;
    facts.swap_cell = UINT64_C(256) << 10;
    facts.swap_cells = 1020;
    facts.swap_place = "on disk";
    for (unsigned i = 0; i < facts.swap_cells; i++)
        facts.swap[i] = (uint8_t)(i < 180 ? SCREEN_ANONYMOUS : i < 190 ? SCREEN_OUT : SCREEN_FREE);
    facts.space = 7;
    facts.space_bytes = UINT64_C(18) << 20;
    facts.space_limit = UINT64_C(128) << 40;
    facts.regions = sizeof(regions) / sizeof(*regions);
    memcpy(facts.region, regions, sizeof(regions));
    facts.anonymous = 34120;
    facts.tables = 1033;
    facts.free = 92405;
    facts.first_writes = 61440;
    facts.first_reads = 10112;
    facts.cow = 20480;
    facts.pages_read = 11821;
    facts.pages_written = 4358;
    facts.in_flight = 6;
    facts.seconds = 14;
    strcpy(facts.next, "large-page, wire, snapshot");
}

static void write_picture(const char *path, const struct screen_pixels *pixels)
{
    FILE *file = fopen(path, "wb");

    if (file == NULL) {
        fprintf(stderr, "draw-screen: %s: %s\n", path, strerror(errno));
        exit(1);
    }
    fprintf(file, "P6\n%u %u\n255\n", pixels->width, pixels->height);
    for (size_t i = 0; i < (size_t)pixels->width * pixels->height; i++) {
        uint32_t word = pixels->at[i];
        uint8_t bytes[3] = {(uint8_t)(word >> 16), (uint8_t)(word >> 8), (uint8_t)word};

        fwrite(bytes, 1, sizeof(bytes), file);
    }
    if (fclose(file) != 0)
        exit(1);
}

int main(int argc, char **argv)
{
    struct screen_pixels pixels = {.red_first = false};
    struct font font;
    size_t font_size;
    void *font_data;
    size_t log_size;
    char *log;

    if (argc < 5 || argc > 6 || sscanf(argv[2], "%ux%u", &pixels.width, &pixels.height) != 2) {
        fputs(usage, stderr);
        return 2;
    }
    log = read_all(argv[1], &log_size);
    font_data = read_all(argv[3], &font_size);
    pixels.pitch = pixels.width;
    pixels.at = calloc((size_t)pixels.width * pixels.height, sizeof(uint32_t));
    if (pixels.at == NULL || font_open(font_data, font_size, &font) != OK ||
        !screen_open(&screen, &pixels, &font)) {
        fputs("draw-screen: a font that cannot be read, or a screen too small for it\n", stderr);
        return 1;
    }
    take_log(log, log_size, argc > 5 ? strtoul(argv[5], NULL, 10) : UINT32_MAX);
    make_example();
    if (story.verdict[0] != '\0') {
        screen_draw_end(&screen, &story, &facts);
    } else {
        facts.keys = "p pause";
        screen_draw_run(&screen, &story, &facts);
    }
    write_picture(argv[4], &pixels);
    return 0;
}
