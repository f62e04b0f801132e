/*
 * The matrix of faults for two disks: each kind of failure, of either disk, at each moment, under
 * each use, with and without queues, as halves of a mirror and as two areas.
 *
 * Of a mirror no page may ever be lost by the failure of one half, and no call may fail. Of two
 * areas only pages of the failing one may be, and every page can be written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pmm/pmm.h"
#include "swapdisk/area.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/swap_rig.h"
#include "tests/host/model/matrix_pages.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"

#define MEMORY (16 * MIB)

/* Slots before the first page's: the pages lie on both sides of the end of a cluster, so that both
 * disks have some, and of a mirror each half is read first for some. */
#define SKIPPED 56U

enum use {
    USE_FAULT,  /* pages are read, with read-ahead */
    USE_WRITE,  /* dirty pages are written in batches, beside clean ones */
    USE_HEADER, /* nothing was written before: the mark of use comes first */
    USE_HEAL,   /* pages are read whose copy on the other disk is wrong; a mirror only */
    USE_CLOSE,
    USES
};

enum path { PATH_SINGLE, PATH_NO_LOG, PATH_LOG, PATHS };

enum moment { MOMENT_ONCE, MOMENT_LATER, MOMENT_EVER, MOMENTS };

#define FAILURES ((unsigned)FAKE_VANISH + 1)

struct cell {
    bool mirror;
    unsigned disk; /* that fails */
    enum use use;
    enum path path;
    enum moment moment;
    enum fake_failure failure;
};

static struct space *space;

static struct {
    unsigned cells;
    unsigned right; /* cells after which every page is right */
    unsigned told;  /* pages whose owner was told */
    unsigned healed;
    unsigned given_up; /* disks */
} counts;

#define WORD_FEATURES 84U
#define LOGGING       (1U << 5)

static void open_disks(const struct cell *cell)
{
    rig_start(2);
    fake_clock_step_ns = 1000000;
    rig.options.tags = cell->path == PATH_SINGLE ? 1 : 0;
    for (unsigned i = 0; i < 2 && cell->path < PATH_LOG; i++) {
        rig.disks[i].words[WORD_FEATURES] &= (uint16_t)~LOGGING;
        fake_disk_seal(&rig.disks[i]);
    }
    rig_group(cell->mirror ? SET_MIRROR : SET_STRIPE, 0, 2);
    rig_open();
    assert_int_equal(swap_area_count(), cell->mirror ? 1 : 2);
}

/* Moves the search for free slots on. */
static void skip_slots(void)
{
    struct slot slots[SKIPPED];

    for (unsigned i = 0; i < SKIPPED; i++)
        assert_int_equal(swap_alloc(&slots[i]), OK);
    for (unsigned i = 0; i < SKIPPED; i++)
        swap_release(slots[i]);
}

static void begin(const struct cell *cell)
{
    open_disks(cell);
    skip_slots();
    model_begin(1, 4);
    space = matrix_pages_map();
    if (cell->use == USE_HEADER)
        return;
    matrix_evict_pages();
    for (unsigned i = MATRIX_PAGES / 2; i < MATRIX_PAGES && cell->use == USE_WRITE; i++)
        assert_int_equal(fault_resolve(space, matrix_page_at(i), matrix_read), OK);
    if (cell->use == USE_WRITE)
        matrix_write_pages(space, MATRIX_PAGES * 3 / 4, MATRIX_PAGES); /* the others are clean */
}

/* Spoils some pages on the disk that does not fail. */
static void spoil(const struct cell *cell)
{
    for (unsigned i = 0; i < MATRIX_PAGES; i += 4)
        rig_slot_bytes(1 - cell->disk, pte_slot(matrix_entry(space, i)))[9] ^= 1;
}

static void arm(const struct cell *cell)
{
    rig_fail(cell->disk, cell->failure, cell->moment == MOMENT_EVER ? UINT64_MAX / 2 : 1);
    rig.disks[cell->disk].fail_from += cell->moment == MOMENT_LATER;
}

/* Uses the disks while one fails. Sets lost[i] for each page whose owner is told. */
static void use_disks(const struct cell *cell, bool *lost)
{
    enum status status;
    unsigned evicted;

    for (unsigned i = 0; (cell->use == USE_FAULT || cell->use == USE_HEAL) && i < MATRIX_PAGES;
         i++) {
        status = fault_resolve(space, matrix_page_at(i), matrix_read);
        assert_true(status == OK || matrix_is_told(status));
        lost[i] = status != OK;
    }
    /* Clean pages of an area that dies in the middle stay once (rule D2), and are written later. */
    for (unsigned i = 0; (cell->use == USE_WRITE || cell->use == USE_HEADER) && i < 4; i++) {
        status = reclaim_pages(16, &evicted);
        assert_true(status == OK || (!cell->mirror && i < 3 && matrix_is_told(status)));
    }
}

/* Reads all pages. Each is right or told; one that is in memory after the failure is right. */
static void check_pages(const bool *in_memory, bool *lost)
{
    for (unsigned i = 0; i < MATRIX_PAGES; i++)
        lost[i] |= !matrix_page_is_right(space, i, in_memory[i]);
}

/* Returns the disk of a page that is out, or 2. */
static unsigned disk_of_page(unsigned number)
{
    struct pte entry = matrix_entry(space, number);

    return pte_present(entry) || pte_state(entry, 1) != PTE_SWAPPED ? 2
                                                                    : rig_disk_of(pte_slot(entry));
}

/* A page is lost only where no sound copy was left: never of a mirror, unless the other copy was
 * spoiled; of two areas only on the failing disk. */
static void check_lost(const struct cell *cell, const bool *lost)
{
    unsigned told = 0;

    for (unsigned i = 0; i < MATRIX_PAGES; i++) {
        told += lost[i];
        if (!lost[i])
            continue;
        if (cell->mirror)
            assert_true(cell->use == USE_HEAL && i % 4 == 0);
        else
            assert_true(disk_of_page(i) == 2 || disk_of_page(i) == cell->disk);
    }
    counts.told += told;
    counts.right += told == 0;
}

static void end(const struct cell *cell)
{
    enum status status;

    if (cell->use == USE_CLOSE)
        arm(cell);
    space_audit();
    swap_audit();
    space_destroy(space);
    model_end();
    for (unsigned i = 0; i < swap_area_count(); i++) {
        for (unsigned disk = 0; disk < swap_area_usage(i).disks; disk++)
            counts.given_up += !swap_area_usage(i).disk[disk].writable;
    }
    counts.healed += (unsigned)swap_usage().healed;
    status = swap_close();
    assert_true(status == OK || matrix_is_told(status));
    rig_end();
}

static void run_cell(const struct cell *cell)
{
    bool in_memory[MATRIX_PAGES];
    bool lost[MATRIX_PAGES] = {false};

    begin(cell);
    if (cell->use == USE_HEAL)
        spoil(cell);
    if (cell->use != USE_CLOSE) {
        arm(cell);
        use_disks(cell, lost);
        rig.disks[cell->disk].fail_count = 0;
    }
    for (unsigned i = 0; i < MATRIX_PAGES; i++)
        in_memory[i] = pte_present(matrix_entry(space, i));
    check_lost(cell, lost);
    check_pages(in_memory, lost);
    check_lost(cell, lost);
    end(cell);
    counts.cells++;
}

static void run_all(bool mirror)
{
    memset(&counts, 0, sizeof(counts));
    for (unsigned number = 0; number < 2 * USES * PATHS * MOMENTS * FAILURES; number++) {
        struct cell cell = {.mirror = mirror,
                            .disk = number % 2,
                            .use = (enum use)(number / 2 % USES),
                            .path = (enum path)(number / (2 * USES) % PATHS),
                            .moment = (enum moment)(number / (2 * USES * PATHS) % MOMENTS),
                            .failure = (enum fake_failure)(number / (2 * USES * PATHS * MOMENTS))};

        if (!mirror && (cell.use == USE_HEAL || cell.path == PATH_NO_LOG))
            continue;
        run_cell(&cell);
    }
    print_message(
        "# %s: %u cells, %u end with every page right, %u pages told, %u healed, %u disks "
        "given up\n",
        mirror ? "mirror" : "two areas", counts.cells, counts.right / 2, counts.told / 2,
        counts.healed, counts.given_up);
}

static void one_half_of_a_mirror_fails(void **state)
{
    (void)state;
    run_all(true);
    assert_true(counts.cells >= 700 && counts.healed > 300 && counts.given_up > 50);
}

static void one_of_two_areas_fails(void **state)
{
    (void)state;
    run_all(false);
    assert_true(counts.cells >= 380 && counts.told > 0 && counts.given_up > 50);
}

static int set_up(void **state)
{
    (void)state;
    model_start(MEMORY);
    fake_pci_clear();
    return 0;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(one_half_of_a_mirror_fails),
                                              cmocka_unit_test(one_of_two_areas_fails)};

    return cmocka_run_group_tests(tests, set_up, NULL);
}
