/*
 * record-workloads: which pages does each workload ask for, and in which order?
 *
 * Runs each workload of `policy` once, under the clocks, and prints its references: each change of
 * the page in use. tests/report/trace makes a file of them that libCacheSim reads, and trace=, too.
 *
 * The lines: differences of page numbers, the first one from 0, each as a zigzag LEB128 number; all
 * of it in base64 (RFC 4648), and its CRC-32C.
 */
#include "cpu/crc32c.h"
#include "lib/check.h"
#include "lib/print.h"
#include "tests/experiments/policy/run.h"
#include "tests/runner/experiment.h"

#define LINE_BYTES 54U /* 72 letters */

static struct page_string recorded;

/* A number takes at most two bytes: differences are below 4096. */
static uint8_t bytes[2 * PAGE_STRING_MAX];

_Static_assert(PAGE_STRING_PAGES <= 4096, "a difference takes two bytes");

/* Packs the references; returns the number of bytes. */
static unsigned pack(void)
{
    unsigned used = 0;
    int before = 0;

    for (unsigned i = 0; i < recorded.length; i++) {
        int difference = recorded.pages[i] - before;
        unsigned zigzag =
            difference < 0 ? 2U * (unsigned)-difference - 1 : 2U * (unsigned)difference;

        if (zigzag >= 128)
            bytes[used++] = (uint8_t)(zigzag | 128);
        bytes[used++] = (uint8_t)(zigzag >= 128 ? zigzag >> 7 : zigzag);
        before = recorded.pages[i];
    }
    return used;
}

/* Writes up to three bytes as four letters. */
static void base64_letters(const uint8_t *from, unsigned count, char *letters)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = (uint32_t)from[0] << 16 | (count > 1 ? (uint32_t)from[1] << 8 : 0) |
                    (count > 2 ? from[2] : 0);

    for (unsigned i = 0; i < 4; i++)
        letters[i] = i <= count ? alphabet[bits >> (18 - 6 * i) & 63] : '=';
}

static void put_references(const char *name)
{
    char text[LINE_BYTES / 3 * 4 + 1];
    unsigned used = pack();

    for (unsigned begin = 0; begin < used; begin += LINE_BYTES) {
        unsigned size = used - begin < LINE_BYTES ? used - begin : LINE_BYTES;
        unsigned letters = 0;

        for (unsigned i = 0; i < size; i += 3, letters += 4)
            base64_letters(bytes + begin + i, size - i < 3 ? size - i : 3, text + letters);
        text[letters] = '\0';
        ktap_note("references of %s: %s", name, text);
    }
    ktap_note("references of %s end: %u, CRC-32C %08x", name, recorded.length,
              crc32c_by_table(0, bytes, used));
}

static void record_run(const struct options *options)
{
    bool whole = true;

    (void)options;
    if (!work_memory_begin(WORK_PAGES, WORK_MEMORY))
        return;
    for (unsigned i = 0; i < workload_count; i++) {
        struct work_figures figures = {0};
        bool right = work_run(&workloads[i], 0, &recorded, &figures);

        put_references(workloads[i].name);
        whole &= !recorded.full;
        work_put_figure(workloads[i].name, "string", "references", recorded.length, "references");
        ktap_check(right, "%s: its result is right", workloads[i].name);
    }
    work_memory_end();
    ktap_check(whole, "no workload has more references than fit");
}

static unsigned record_checks(void)
{
    return workload_count;
}

EXPERIMENT(record, 434) = {
    .theme = THEME_COST,
    .name = "record-workloads",
    .question = "Which pages does each workload ask for, and in which order?",
    .only_by_name = true, /* many lines */
    .checks = 1,
    .more_checks = record_checks,
    .run = record_run,
    .answer =
        {
            .text = "{random.string.references} references of random; {loop.string.references} of "
                    "loop, {btree.string.references} of btree; the log has all of them",
            .limit = "requests for the same page in a row, which count once",
        },
};
