/*
 * swap-truth: does swap return what it was given?
 *
 * Damages slots behind the area's back, as a bad disk does, and reads them: a changed bit, a
 * cleared sector, a page with parts of two writes, an older write, and the page of another slot.
 * Each read must fail with the page withheld, and succeed once the right page is back in the slot.
 * Then the pages of a program are swapped out and some of them damaged: the program must be refused
 * at those, each time, and have all others.
 *
 * The figures count what was injected, found, and returned. It runs late: the area logs only the
 * first dozens of wrong pages of a run.
 */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "swapdisk/area.h"
#include "swapdisk/disks.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/page/reclaim.h"

#define START UINT64_C(0x700000000)

#define TRIALS 32U /* of each kind of damage */
#define PAGES  64U /* of the program */
#define EVERY  4U  /* one page in so many is damaged */

/* Calls of reclaim that take out the program's pages: a page used meanwhile has a second chance. */
#define ROUNDS_MOST 1024U

#define WORDS (PAGE_SIZE / sizeof(uint64_t))

/* Frames of the experiment, as bytes. */
enum { PAGE_NOW, PAGE_OLDER, PAGE_OTHER, PAGE_BAD, PAGE_READ, PAGES_OWN };

static struct {
    struct pfn frames[PAGES_OWN];
    struct slot slot;
    struct slot other; /* another slot, with the page PAGE_OTHER */
    struct random random;
    uint64_t injected;
    uint64_t found;
    uint64_t handed_out; /* damaged pages that were returned, or left in the frame */
    uint64_t whole;
    uint64_t right;
} truth;

static uint64_t *truth_page(unsigned which)
{
    return frame_pointer(truth.frames[which]);
}

/* ---- the slot's bytes, without the area ---- */

/* Transfers a slot's page without check value or generation, as only damage does. */
static bool raw_transfer(struct slot slot, unsigned which, bool write)
{
    const struct disk_chosen *disk = swap_disk();
    uint64_t lba = swap_disk_offset(slot) / SECTOR_SIZE;
    uint64_t *stored;

    if (disk != NULL && write)
        return SUCCEEDS(
            block_write(&disk->block, disk->grant, lba, SECTORS_PER_PAGE, &truth.frames[which]));
    if (disk != NULL)
        return SUCCEEDS(block_read(&disk->block, lba, SECTORS_PER_PAGE, &truth.frames[which]));
    stored = frame_pointer(swap_ram_frame(slot));
    if (write)
        memcpy(stored, truth_page(which), PAGE_SIZE);
    else
        memcpy(truth_page(which), stored, PAGE_SIZE);
    return true;
}

/* ---- kinds of damage: PAGE_BAD has the right page, and is changed ---- */

static void flip_bit(void)
{
    truth_page(PAGE_BAD)[random_below(&truth.random, WORDS)] ^= UINT64_C(1)
                                                                << random_below(&truth.random, 64);
}

static void clear_sector(void)
{
    uint64_t sector = random_below(&truth.random, SECTORS_PER_PAGE);

    memset((uint8_t *)truth_page(PAGE_BAD) + sector * SECTOR_SIZE, 0, SECTOR_SIZE);
}

static void tear_write(void)
{
    uint64_t sectors = 1 + random_below(&truth.random, SECTORS_PER_PAGE - 1);
    uint64_t done = sectors * SECTOR_SIZE;

    memcpy((uint8_t *)truth_page(PAGE_BAD) + done, (uint8_t *)truth_page(PAGE_OLDER) + done,
           PAGE_SIZE - done);
}

static void lose_write(void)
{
    memcpy(truth_page(PAGE_BAD), truth_page(PAGE_OLDER), PAGE_SIZE);
}

static void misdirect_write(void)
{
    memcpy(truth_page(PAGE_BAD), truth_page(PAGE_OTHER), PAGE_SIZE);
}

static const struct {
    const char *name;
    void (*damage)(void);
} kinds[] = {{"bit", flip_bit},
             {"sector", clear_sector},
             {"torn", tear_write},
             {"lost", lose_write},
             {"misdirected", misdirect_write}};

#define KINDS ARRAY_COUNT(kinds)

/* ---- the area ---- */

static bool write_page_of(struct slot slot, unsigned which, uint64_t tag)
{
    memcpy(truth_page(which), page_of_tag(tag), PAGE_SIZE);
    return SUCCEEDS(swap_write(slot, truth.frames[which]));
}

/* Reads the slot; returns true if the area returned exactly the right page. */
static bool reads_right(enum status *status)
{
    memset(truth_page(PAGE_READ), 0x5a, PAGE_SIZE);
    *status = swap_read(truth.slot, truth.frames[PAGE_READ]);
    return *status == OK && memcmp(truth_page(PAGE_READ), truth_page(PAGE_NOW), PAGE_SIZE) == 0;
}

/* Damages the slot and reads it; then puts the right page back and reads that. Returns true if both
 * ended as they must. */
static bool try_damage(unsigned kind, unsigned trial)
{
    uint64_t tag = (uint64_t)(kind + 1) << 40 | (uint64_t)trial << 8;
    enum status status;
    bool found;
    bool right;

    if (!write_page_of(truth.slot, PAGE_OLDER, tag) ||
        !write_page_of(truth.slot, PAGE_NOW, tag | 1) ||
        !write_page_of(truth.other, PAGE_OTHER, tag | 2) ||
        !raw_transfer(truth.slot, PAGE_BAD, false))
        return false;
    if (memcmp(truth_page(PAGE_BAD), truth_page(PAGE_NOW), PAGE_SIZE) != 0)
        return false; /* the area stores pages as they are, or this damages something else */
    kinds[kind].damage();
    if (!raw_transfer(truth.slot, PAGE_BAD, true))
        return false;
    truth.injected++;
    (void)reads_right(&status);
    found = status == STATUS_CORRUPT;
    truth.found += found;
    truth.handed_out += memcmp(truth_page(PAGE_READ), truth_page(PAGE_BAD), PAGE_SIZE) == 0;
    if (!raw_transfer(truth.slot, PAGE_NOW, true))
        return false;
    truth.whole++;
    right = reads_right(&status);
    truth.right += right;
    return found && right;
}

static void try_kinds(void)
{
    for (unsigned kind = 0; kind < KINDS; kind++) {
        unsigned ended_well = 0;

        for (unsigned trial = 0; trial < TRIALS; trial++)
            ended_well += try_damage(kind, trial);
        ktap_check(ended_well == TRIALS,
                   "%s: %u of %u damaged pages are found, and read once whole", kinds[kind].name,
                   ended_well, TRIALS);
    }
}

/* ---- a program ---- */

static uint64_t program_page_at(unsigned number)
{
    return START + number * PAGE_SIZE;
}

static bool is_out(const struct space *space, unsigned number)
{
    return leaf_state(space, program_page_at(number)) == PTE_SWAPPED;
}

/* Evicts until all pages of the program are out. */
static bool take_out(const struct space *space)
{
    unsigned out = 0;

    for (unsigned round = 0; round < ROUNDS_MOST && out < PAGES; round++) {
        unsigned evicted;

        if (!SUCCEEDS(reclaim_pages(PAGES / EVERY, &evicted)))
            return false;
        out = 0;
        for (unsigned i = 0; i < PAGES; i++)
            out += is_out(space, i);
    }
    return out == PAGES;
}

/* Flips a bit in the slot of a page that is out. */
static bool damage_page(const struct space *space, unsigned number)
{
    struct slot slot = pte_slot(leaf_entry(space, program_page_at(number)));

    if (!raw_transfer(slot, PAGE_BAD, false))
        return false;
    flip_bit();
    return raw_transfer(slot, PAGE_BAD, true);
}

static void damage_program(const struct space *space)
{
    unsigned refused = 0;
    unsigned right = 0;
    uint64_t value = 0;
    bool ok = true;

    for (unsigned i = 0; i < PAGES; i++)
        ok = ok && page_fill(program_page_at(i), UINT64_C(7) << 40 | i);
    ok = ok && take_out(space);
    for (unsigned i = 0; i < PAGES; i += EVERY)
        ok = ok && damage_page(space, i);
    if (!ktap_check(ok, "%u pages of a program are out, and %u damaged", PAGES, PAGES / EVERY)) {
        experiment_skip_rest("the pages of the program could not be damaged");
        return;
    }
    for (unsigned i = 0; i < PAGES; i++) {
        if (i % EVERY != 0)
            right += page_holds(program_page_at(i), UINT64_C(7) << 40 | i);
        else
            refused += !word_read(program_page_at(i), &value) &&
                       !word_write(program_page_at(i), value) && is_out(space, i);
    }
    ktap_check(refused == PAGES / EVERY, "it is refused at each of those, for reads and writes");
    ktap_check(right == PAGES - PAGES / EVERY, "it has the other %u", right);
    ktap_metric("program.damaged", PAGES / EVERY, "pages");
    ktap_metric("program.refused", refused, "pages");
    ktap_metric("program.right", right, "pages");
}

/* ---- the experiment ---- */

static bool alloc_frames(void)
{
    for (unsigned i = 0; i < PAGES_OWN; i++) {
        if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &truth.frames[i]) == OK)
            continue;
        while (i > 0)
            pmm_free(truth.frames[--i]);
        return false;
    }
    return true;
}

/* Makes the slots and frames, tries all damage on them, and frees them. */
static void try_area(void)
{
    if (!SUCCEEDS(swap_alloc(&truth.slot)))
        return;
    if (SUCCEEDS(swap_alloc(&truth.other))) {
        try_kinds();
        swap_release(truth.other);
    }
    swap_release(truth.slot);
}

static void try_program(void)
{
    struct space *space;

    if (!start_space(&space))
        return;
    if (SUCCEEDS(space_map(space, &SPACE_AT(START, PAGES * PAGE_SIZE, RIGHTS_READ_WRITE), NULL)))
        damage_program(space);
    end_space(space);
}

static void swap_truth_run(const struct options *options)
{
    memset(&truth, 0, sizeof(truth));
    truth.random = random_from(options->seed);
    if (swap_area_count() != 1 || swap_area_usage(0).disks != 1 || swap_usage().slots < 2 * PAGES) {
        experiment_skip_rest("a mirror heals what is damaged, and of several areas one is known");
        return;
    }
    if (!SUCCEEDS(alloc_frames() ? OK : STATUS_NO_MEMORY))
        return;
    try_area();
    try_program();
    for (unsigned i = 0; i < PAGES_OWN; i++)
        pmm_free(truth.frames[i]);
    ktap_metric("injected", truth.injected, "pages");
    ktap_metric("found", truth.found, "pages");
    ktap_metric("handed_out", truth.handed_out, "pages");
    ktap_metric("whole", truth.whole, "pages");
    ktap_metric("right", truth.right, "pages");
    ktap_check(truth.handed_out == 0, "no damaged page was handed out");
}

static unsigned swap_truth_checks(void)
{
    return KINDS;
}

EXPERIMENT(swap_truth, 415) = {
    .theme = THEME_PAGES,
    .name = "swap-truth",
    .question = "Does swap return what it was given, or say that it cannot?",
    .checks = 4,
    .more_checks = swap_truth_checks,
    .run = swap_truth_run,
    .answer =
        {
            .text = "Yes: {found} of {injected} damaged pages are found; {handed_out} handed out; "
                    "{right} of {whole} whole ones come back; a program is refused at "
                    "{program.refused} of {program.damaged} and has {program.right} others",
            .limit = "damage that keeps the 32 bits of a check value",
        },
};
