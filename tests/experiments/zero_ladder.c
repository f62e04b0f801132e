/*
 * zero-ladder: what do the shared zero page and zero tables buy?
 *
 * The question (forum thread 3): memory that is only read can be one page of zeroes, and the
 * tables above it can be shared as well. Five things are measured:
 *
 * - frames: tables that a TiB of readable zeroes takes when its links stand at one level, page to
 *   directory-pointer; measured on a part of it, a read to each table of that level.
 * - split: what the first write to a link of each level costs, and that it splits its own path and
 *   nothing else.
 * - sweep: reads at strides of 4 KiB to 1 GiB over three kinds of zeroes: links as high as they go,
 * made when the memory was mapped; pages linked one by one as they are read; and one zero page   of
 * 2 MiB in the way of Linux's huge zero page. The last is built here by hand, since the tree has
 * none: a directory full of it, in a directory-pointer table full of that. - merge: pages that were
 * written and are zero again are given back by a scan (`zero_merge`). - terabytes: 127 TiB
 * readable in one space, by a byte of each of a million random pages, mapped   eagerly and lazily.
 *
 * The checks: every byte that is read is zero, and the ladder's frames are never written: their
 * content is the same at the end, and stores of ring 3 and of the kernel are refused.
 */
#include "cpu/machine.h"
#include "cpu/registers.h"
#include "cpu/trap/probe.h"
#include "cpu/trap/trap.h"
#include "lib/print.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/null_fault.h"
#include "tests/runner/user_code.h"
#include "tests/runner/user_pages.h"
#include "vmm/reclaimer/zero_merge.h"

#define TIB (1024 * GIB)

/* Where the terabytes begin, with the second entry of the top table of four levels, and how many of
 * its entries they are. */
#define START   (512 * GIB)
#define ENTRIES 254U
#define BYTES   (ENTRIES * 512 * GIB)

#define RANDOM_READS 1000000U

/* Random pages that are checked in every byte. */
#define WHOLE_PAGES 256U

/* Links of a level that are split; an emulator translates code at the first, which do not count. */
#define SPLITS    16U
#define NOT_TIMED 4U

#define SWEEP_READS 1024U
#define SWEEP_BYTES (512 * GIB)

/* 2 MiB. */
#define ORDER_LARGE 9U

/* By the level of the table that contains the link. */
static const char *const level_names[] = {"", "page", "table", "directory", "pointer", "level5"};

/* ---- the ladder's own frames ---- */

static uint32_t checksums[ZERO_LADDER_FRAMES];

static const void *ladder_frame(unsigned level)
{
    return frame_pointer((struct pfn){zero_ladder_first.index + level});
}

static void note_content(void)
{
    for (unsigned level = 0; level < ZERO_LADDER_FRAMES; level++)
        checksums[level] = machine_crc32c(0, ladder_frame(level), PAGE_SIZE);
}

static void check_content(void)
{
    const uint64_t *words = ladder_frame(0);
    unsigned same = 0;
    uint64_t any = 0;

    for (unsigned i = 0; i < PAGE_SIZE / sizeof(*words); i++)
        any |= words[i];
    for (unsigned level = 0; level < ZERO_LADDER_FRAMES; level++)
        same += machine_crc32c(0, ladder_frame(level), PAGE_SIZE) == checksums[level];
    ktap_check(any == 0 && same == ZERO_LADDER_FRAMES,
               "the zero page is zero, and %u of %u frames of the ladder are as they were", same,
               ZERO_LADDER_FRAMES);
}

static void write_through_direct_map(void)
{
    unsigned refused = 0;

    for (unsigned level = 0; level < ZERO_LADDER_FRAMES; level++) {
        struct trap_info info = {0};
        bool ok = probe_write64((uint64_t)(uintptr_t)ladder_frame(level), 1, &info);

        refused += !ok && info.vector == TRAP_PF && info.error == (PF_P | PF_WR);
    }
    ktap_check(refused == ZERO_LADDER_FRAMES, "%u of %u stores of the kernel were refused", refused,
               ZERO_LADDER_FRAMES);
}

/* Checks that a store of ring 3 to a read-only link of each level is refused. */
static void write_from_ring3(void)
{
    struct space *space;
    unsigned refused = 0;
    unsigned levels = 0;

    if (!start_space(&space))
        return;
    if (SUCCEEDS(user_code_install(space))) {
        for (unsigned level = 1; level <= space->tree.levels; level++) {
            uint64_t start = 2 * pte_span(level) + (level < 3 ? 4 * GIB : 0);
            struct program program = user_code_program(space, user_code_write, start);

            levels += SUCCEEDS(space_map(
                space, &SPACE_AT(start, pte_span(level), RIGHTS_READ, .flags = SPACE_ZEROES),
                NULL));
            refused += program_run(&program) == PROGRAM_VIOLATION &&
                       program.reason == STATUS_DENIED && page_is_zero(start);
        }
    }
    ktap_check(levels == space->tree.levels && refused == levels,
               "%u of %u stores of ring 3 were refused", refused, levels);
    end_space(space);
}

/* ---- frames ---- */

/* Measures the tables that links of one level take, over 64 TiB or 512 tables of links. */
static bool count_frames(unsigned level)
{
    uint64_t bytes = min_u64(PTE_ENTRIES * pte_span(level + 1), 64 * TIB);
    uint64_t start = 64 * TIB;
    struct ledger before;
    struct space *space;
    uint64_t tables;
    uint64_t sum = 0;
    char name[64];
    bool ok = start_space(&space);

    if (!ok)
        return false;
    before = ledger_take();
    space_set_zero_levels(space, level);
    ok = SUCCEEDS(space_map(space, &SPACE_AT(start, bytes, RIGHTS_READ), NULL));
    for (uint64_t at = start; at < start + bytes && ok; at += pte_span(level + 1)) {
        uint64_t value = 1;

        ok = word_read(at, &value) && tree_walk(&space->tree, at).level == level;
        sum |= value;
    }
    tables = (uint64_t)ledger_growth(&before, FRAME_TABLE);
    print_to(name, sizeof(name), "frames_of_tib.%s", level_names[level]);
    ktap_metric(name, bytes >= TIB ? tables / (bytes / TIB) : tables * (TIB / bytes), "frames");
    ok = ok && ledger_growth(&before, FRAME_ANONYMOUS) == 0 && sum == 0;
    end_space(space);
    return ok;
}

/* ---- split ---- */

/* Writes a word in the middle of a link's range: the links around it keep the highest level that
 * they can. */
static bool split_one(const struct space *space, uint64_t start, unsigned level, uint64_t *ticks)
{
    uint64_t size = pte_span(level);
    uint64_t address = start + round_down(size / 2, PAGE_SIZE) + 8;
    unsigned below = level > 1 ? level - 1 : 1;
    struct ledger before = ledger_take();
    uint64_t value = 1;
    uint64_t began;
    bool ok = tree_walk(&space->tree, start).level == level;

    began = machine_ticks();
    ok = word_write(address, 42) && ok;
    *ticks += machine_ticks() - began;
    ok = ok && page_is_zero_but(address - 8, 1, 42);
    ok = ok && ledger_growth(&before, FRAME_TABLE) == level - 1 &&
         ledger_growth(&before, FRAME_ANONYMOUS) == 1;
    if (level > 1)
        ok = ok && word_read(start, &value) && value == 0 && page_is_zero(address - 8 + PAGE_SIZE);
    return ok && tree_walk(&space->tree, start).level == below &&
           tree_walk(&space->tree, start + size - 1).level == below;
}

static bool measure_splits(unsigned level)
{
    uint64_t ticks = 0;
    struct space *space;
    bool ok = start_space(&space);

    if (!ok)
        return false;
    for (unsigned i = 0; i < NOT_TIMED + SPLITS && ok; i++) {
        uint64_t start = pte_span(level) * (i + 1);

        if (i == NOT_TIMED)
            ticks = 0;

        ok = SUCCEEDS(space_map(
                 space, &SPACE_AT(start, pte_span(level), RIGHTS_READ_WRITE, .flags = SPACE_ZEROES),
                 NULL)) &&
             split_one(space, start, level, &ticks);
    }
    null_fault_metric_of("split", level_names[level], ticks / SPLITS);
    space_audit();
    end_space(space);
    return ok;
}

/* ---- sweep ---- */

static const uint64_t strides[] = {PAGE_SIZE, 16 * PAGE_SIZE, 2 * MIB, 64 * MIB, GIB};

/* Returns true if all that was read is zero. */
static bool zero_ladder_sweep(const char *way, uint64_t stride)
{
    uint64_t sum = 0;
    uint64_t began = machine_ticks();
    char name[64];

    for (unsigned i = 0; i < SWEEP_READS; i++) {
        uint64_t value = 1;

        if (!word_read(START + i * stride % SWEEP_BYTES, &value))
            return false;
        sum |= value;
    }
    print_to(name, sizeof(name), "sweep.%s.%luk", way, stride / KIB);
    ktap_metric(name, (machine_ticks() - began) / SWEEP_READS, "ticks");
    return sum == 0;
}

/* Uses fresh memory for each stride, so that no stride finds tables of another. */
static bool sweep_tree(const char *way, bool eager)
{
    bool ok = true;

    for (unsigned i = 0; i < ARRAY_COUNT(strides) && ok; i++) {
        struct space *space;

        ok = start_space(&space);
        if (!ok)
            break;
        space_set_zero_levels(space, 1);
        ok = (eager ? space_map(space,
                                &SPACE_AT(START, SWEEP_BYTES, RIGHTS_READ, .flags = SPACE_ZEROES),
                                NULL)
                    : space_map(space, &SPACE_AT(START, SWEEP_BYTES, RIGHTS_READ), NULL)) == OK;
        ok = ok && zero_ladder_sweep(way, strides[i]) &&
             (space_faults(space).zero_read == 0) == eager;
        end_space(space);
    }
    return ok;
}

/* Makes a table whose entries are all equal. */
static bool full_table(struct pte entry, struct pfn *table)
{
    struct pte *entries;

    if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, table) != OK)
        return false;
    entries = frame_pointer(*table);
    for (unsigned i = 0; i < PTE_ENTRIES; i++)
        entries[i] = entry;
    return true;
}

/* Sweeps over a large page of zeroes that is in the running space, unknown to its tree. */
static bool sweep_through(struct space *space, struct pfn pointers)
{
    struct tree_place place = tree_walk(&space->tree, START);
    struct pte *entries = frame_pointer(place.table);
    bool ok = true;

    CHECK(place.level == 4 && place.entry.word == 0);
    entries[place.index].word = phys_of(pointers).address | PTE_P | PTE_A | PTE_US;
    for (unsigned i = 0; i < ARRAY_COUNT(strides) && ok; i++)
        ok = zero_ladder_sweep("large", strides[i]);
    entries[place.index] = pte_empty();
    machine_flush_space();
    return ok && space_faults(space).zero_read == 0;
}

static bool sweep_large(struct space *space, struct pfn page)
{
    struct pfn directory;
    struct pfn pointers;
    uint64_t began = machine_ticks();
    bool ok;

    for (unsigned i = 0; i < 1U << ORDER_LARGE; i++)
        machine_clear_frame(frame_pointer((struct pfn){page.index + i}));
    null_fault_metric("large.clear", machine_ticks() - began);
    if (!full_table((struct pte){phys_of(page).address | PTE_P | PTE_A | PTE_US | PTE_PS},
                    &directory))
        return false;
    ok = full_table((struct pte){phys_of(directory).address | PTE_P | PTE_A | PTE_US}, &pointers);
    if (ok) {
        ok = sweep_through(space, pointers);
        pmm_free(pointers);
    }
    pmm_free(directory);
    return ok;
}

/* Measures a zero page of 2 MiB, which the first write must copy or split. If no block of 2 MiB is
 * free, prints no figures. */
static bool try_large(void)
{
    struct space *space;
    struct pfn page;
    bool ok;

    if (pmm_alloc_order(ORDER_LARGE, FRAME_KERNEL, FRAME_UNCLEARED, &page) != OK) {
        ktap_note("no 2 MiB in one piece: no figures of a large zero page");
        return true;
    }
    ok = start_space(&space);
    if (ok) {
        /* Makes the tables above the address, with four levels and with five. */
        ok = SUCCEEDS(
                 space_map(space, &SPACE_AT(START + SWEEP_BYTES, PAGE_SIZE, RIGHTS_READ), NULL)) &&
             sweep_large(space, page);
        end_space(space);
    }
    ktap_metric("large.frames", 1U << ORDER_LARGE, "frames");
    pmm_free_order(page, ORDER_LARGE);
    return ok;
}

/* ---- merge ---- */

#define MERGE_PAGES 512U

/* One page in this many keeps its written content. */
#define MERGE_KEPT 8U

static bool write_pages(void)
{
    bool ok = true;

    for (unsigned i = 0; i < MERGE_PAGES && ok; i++) {
        ok = page_fill(START + i * PAGE_SIZE, i + 1);
        for (unsigned word = 0; i % MERGE_KEPT != 0 && word < PTE_ENTRIES && ok; word++)
            ok = word_write(START + i * PAGE_SIZE + word * 8, 0);
    }
    return ok;
}

static unsigned count_right_pages(void)
{
    unsigned right = 0;

    for (unsigned i = 0; i < MERGE_PAGES; i++) {
        uint64_t address = START + i * PAGE_SIZE;

        right += i % MERGE_KEPT == 0 ? page_holds(address, i + 1) : page_is_zero(address);
    }
    return right;
}

static void merge_back(void)
{
    const unsigned zero = MERGE_PAGES - MERGE_PAGES / MERGE_KEPT;
    struct ledger before;
    struct space *space;
    unsigned given_back;
    uint64_t ticks;
    bool ok;

    if (!start_space(&space))
        return;
    ok = SUCCEEDS(space_map(space, &SPACE_AT(START, MERGE_PAGES * PAGE_SIZE, RIGHTS_READ_WRITE),
                            NULL)) &&
         write_pages();
    before = ledger_take();
    ticks = machine_ticks();
    given_back = zero_merge(MERGE_PAGES);
    null_fault_metric_of("merge", "page", (machine_ticks() - ticks) / MERGE_PAGES);
    ktap_metric("merge.given_back", given_back, "frames");
    ktap_check(
        ok && given_back == zero && ledger_growth(&before, FRAME_ANONYMOUS) == -(int64_t)zero,
        "%u of %u pages were zero, and their frames are given back", given_back, MERGE_PAGES);
    ktap_check(count_right_pages() == MERGE_PAGES && word_write(START + PAGE_SIZE, 42) &&
                   page_is_zero_but(START + PAGE_SIZE, 0, 42),
               "%u pages read as before, and can be written", MERGE_PAGES);
    space_audit();
    end_space(space);
}

/* ---- terabytes ---- */

static bool read_random_bytes(struct random *random)
{
    uint8_t any = 0;

    for (unsigned i = 0; i < RANDOM_READS; i++) {
        uint64_t address = START + random_below(random, BYTES / PAGE_SIZE) * PAGE_SIZE +
                           random_below(random, PAGE_SIZE);
        struct trap_info info;
        uint8_t value = 1;

        if (!probe_user_read8(address, &value, &info))
            return false;
        any |= value;
    }
    return any == 0;
}

static unsigned count_whole_pages(struct random *random)
{
    unsigned zero = 0;

    for (unsigned i = 0; i < WHOLE_PAGES; i++)
        zero += page_is_zero(START + random_below(random, BYTES / PAGE_SIZE) * PAGE_SIZE);
    return zero;
}

/* Maps terabytes of zeros. With four levels that takes the root, with five a table below it; of the
 * ladder, the page and the tables 1 to 3 are used. */
static void try_terabytes(bool eager, struct random *random)
{
    const char *way = eager ? "eager" : "lazy";
    const char *mapped_how = eager ? "eagerly" : "lazily";
    struct ledger before = ledger_take();
    struct ledger mapped;
    struct space *space;
    uint64_t frames;
    uint64_t ticks;
    bool ok;

    if (!start_space(&space))
        return;
    ticks = machine_ticks();
    ok =
        (eager ? space_map(space, &SPACE_AT(START, BYTES, RIGHTS_READ, .flags = SPACE_ZEROES), NULL)
               : space_map(space, &SPACE_AT(START, BYTES, RIGHTS_READ), NULL)) == OK;
    null_fault_metric_of("map_127t", way, machine_ticks() - ticks);
    mapped = ledger_take();
    frames = (uint64_t)ledger_growth(&before, FRAME_TABLE) + 4;
    ktap_check(ok && frames <= space->tree.levels + 1U,
               "127 TiB mapped %s cost %lu frames, root, zero page and zero tables counted",
               mapped_how, frames);
    ticks = machine_ticks();
    ok = ok && read_random_bytes(random);
    null_fault_metric_of("random_read", way, (machine_ticks() - ticks) / RANDOM_READS);
    ktap_check(ok, "a byte of each of %u random pages is zero", RANDOM_READS);
    ktap_check(count_whole_pages(random) == WHOLE_PAGES, "%u random pages are zero in every byte",
               WHOLE_PAGES);
    ktap_check(ledger_even(&mapped), "reading cost no frame");
    ktap_check(space_faults(space).zero_read <= (eager ? 0 : ENTRIES) &&
                   space_faults(space).spurious == 0 && space_faults(space).path == 0,
               "%lu faults", space_faults(space).zero_read);
    space_audit();
    end_space(space);
}

static void zero_ladder_run(const struct options *options)
{
    struct random random = random_from(options->seed);
    unsigned levels = kernel_map_levels();
    unsigned right = 0;

    note_content();
    null_fault_measure();
    for (unsigned level = 1; level <= 4; level++)
        right += count_frames(level);
    ktap_check(right == 4, "links at each of %u levels read as zero", right);
    right = 0;
    for (unsigned level = 1; level <= levels; level++)
        right += measure_splits(level);
    ktap_check(right == levels, "the first write splits its own path at %u levels", right);
    ktap_check(sweep_tree("ladder", true), "a sweep over zeroes mapped at once");
    ktap_check(sweep_tree("page", false), "a sweep over zeroes linked page by page");
    ktap_check(try_large(), "a sweep over a zero page of 2 MiB");
    merge_back();
    try_terabytes(true, &random);
    try_terabytes(false, &random);
    write_from_ring3();
    write_through_direct_map();
    check_content();
}

EXPERIMENT(zero_ladder, 030) = {
    .theme = THEME_PAGES,
    .name = "zero-ladder",
    .question = "What do the shared zero page and zero tables buy?",
    .checks = 20,
    .reserves = true,
    .run = zero_ladder_run,
    .answer =
        {
            .text = "{frames_of_tib.pointer} frames for a readable TiB, not {frames_of_tib.page}",
            .counted =
                "{frames_of_tib.pointer} frames for a readable TiB, not {frames_of_tib.page}; a "
                "first write then takes {split.page} to {split.pointer} instructions",
            .shipped = "zero tables at every level",
            .limit = "what a program saves that writes most of what it maps",
        },
};
