/*
 * The matrix of faults: each kind of failure, at each moment, under each use of the swap disk, with
 * each way of recovery. A page may be lost only if the disk has lost it, its owner is told, the
 * counts stay even, and no other page is hurt.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pmm/pmm.h"
#include "swapdisk/area.h"
#include "swapdisk/area/slots.h"
#include "swapdisk/disks.h"
#include "tests/host/fake/hba.h"
#include "tests/host/fake/machine.h"
#include "tests/host/model/matrix_pages.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"

#define MEMORY  (16 * MIB)
#define SECTORS 4096U

/* The area is used before the failure comes: all pages were out, and half of them are back. */
enum use {
    USE_FAULT,  /* one page is read */
    USE_AHEAD,  /* a batch is read */
    USE_WRITE,  /* dirty pages are written in a batch, with clean ones */
    USE_HEADER, /* nothing was written before: the mark of use comes first */
    USE_TRIM,   /* the disk is told which slots are free */
    USE_CLOSE,  /* the area is closed */
    USES
};

/* Ways in which the driver finds the culprit. */
enum path {
    PATH_SINGLE,    /* one command at a time */
    PATH_NO_LOG,    /* 32 commands; no log of queued errors */
    PATH_LOG,       /* with a sound log */
    PATH_BAD_LOG,   /* its checksum is wrong */
    PATH_OTHER_LOG, /* it names a command that was not in flight */
    PATHS
};

enum moment { MOMENT_ONCE, MOMENT_LATER, MOMENT_EVER, MOMENTS };

#define FAILURES ((unsigned)FAKE_VANISH + 1)

struct cell {
    enum use use;
    enum path path;
    enum moment moment;
    enum fake_failure failure;
    bool identify_fails; /* once, during the recovery */
};

static struct fake_disk disk;
static struct fake_hba hba;
static struct space *space;

static struct {
    unsigned cells;
    unsigned right; /* cells after which every page is right */
    unsigned told;  /* pages whose owner was told */
    unsigned dead;  /* cells after which the disk is given up */
} counts;

/* ---- the machine of a cell ---- */

#define WORD_FEATURES 84U
#define LOGGING       (1U << 5)

static void open_disk(const struct cell *cell)
{
    struct options options = {.swap = SWAP_AUTO, .tags = cell->path == PATH_SINGLE ? 1 : 0};

    fake_clock_step_ns = 1000000;
    fake_disk_make(&disk, SECTORS, "Fake", "S1");
    if (cell->path < PATH_LOG) {
        disk.words[WORD_FEATURES] &= (uint16_t)~LOGGING;
        fake_disk_seal(&disk);
    }
    disk.bad_log = cell->path == PATH_BAD_LOG     ? FAKE_LOG_CHECKSUM
                   : cell->path == PATH_OTHER_LOG ? FAKE_LOG_OTHER_TAG
                                                  : FAKE_LOG_SOUND;
    fake_disk_prepare(&disk, 0x11);
    fake_hba_make(&hba, 1);
    fake_hba_attach(&hba, 0, FAKE_DISK, &disk);
    fake_pci_clear();
    fake_pci_add_hba((struct pci_place){0, 31, 0}, &hba);
    disks_scan(&options, true);
    assert_int_equal(swap_open(&options, 1), OK);
    assert_int_equal(swap_usage().backing, SWAP_BACKING_DISK);
}

static void read_pages(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        assert_int_equal(fault_resolve(space, matrix_page_at(i), matrix_read), OK);
}

/* Writes slots of two clusters and frees them all, so that there is something to be told. */
static void use_slots(void)
{
    struct slot slots[2 * SLOT_CLUSTER];
    struct pfn frame;

    assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &frame), OK);
    for (unsigned i = 0; i < 2 * SLOT_CLUSTER; i++) {
        assert_int_equal(swap_alloc(&slots[i]), OK);
        if (i % SLOT_CLUSTER == SLOT_CLUSTER - 1)
            assert_int_equal(swap_write(slots[i], frame), OK);
    }
    for (unsigned i = 0; i < 2 * SLOT_CLUSTER; i++)
        swap_release(slots[i]);
    pmm_free(frame);
}

static void begin(const struct cell *cell)
{
    open_disk(cell);
    model_begin(1, 4);
    space = matrix_pages_map();
    if (cell->use == USE_HEADER)
        return;
    matrix_evict_pages();
    if (cell->use == USE_AHEAD)
        read_pages(0, 3);
    else
        read_pages(MATRIX_PAGES / 2, MATRIX_PAGES);
    if (cell->use == USE_TRIM)
        use_slots();
    if (cell->use == USE_WRITE)
        matrix_write_pages(space, MATRIX_PAGES * 3 / 4, MATRIX_PAGES); /* the others are clean */
}

static void arm(const struct cell *cell)
{
    disk.failure = cell->failure;
    disk.fail_from = disk.commands + (cell->moment == MOMENT_LATER ? 1 : 0);
    disk.fail_count = cell->moment == MOMENT_EVER ? UINT64_MAX - disk.fail_from : 1;
    disk.identify_failures = cell->identify_fails ? 1 : 0;
}

/* ---- what a cell does and what must hold ---- */

/* Uses the disk while it fails. Of a batch during which the disk dies no page goes. */
static void use_disk(const struct cell *cell)
{
    enum status status = OK;
    unsigned evicted;

    switch (cell->use) {
    case USE_FAULT: status = fault_resolve(space, matrix_page_at(1), matrix_read); break;
    case USE_AHEAD:
        for (unsigned i = 3; i < MATRIX_PAGES && status == OK; i++)
            status = fault_resolve(space, matrix_page_at(i), matrix_read);
        break;
    case USE_WRITE:
    case USE_HEADER:
        status = reclaim_pages(16, &evicted);
        assert_true(swap_serves((struct slot){0}) || evicted == 0); /* rule D2 */
        break;
    case USE_TRIM:
        while (swap_trim()) {
        }
        break;
    default: break;
    }
    assert_true(status == OK || matrix_is_told(status));
}

/* Returns whether the disk claims to have done what it has not: no driver notices that before it
 * reads. Queued commands have no byte count (rule D5). */
static bool disk_lies(const struct cell *cell)
{
    return cell->failure == FAKE_FLIP || cell->failure == FAKE_SILENT ||
           (cell->failure == FAKE_SHORT && cell->path != PATH_SINGLE);
}

/* Reads all pages. Each is right or told; one that is in memory after the failure is right. */
static unsigned check_pages(const bool *in_memory)
{
    unsigned told = 0;

    for (unsigned i = 0; i < MATRIX_PAGES; i++)
        told += !matrix_page_is_right(space, i, in_memory[i]);
    return told;
}

/* Only a disk that lies or is given up may lose pages after one failure. */
static void check_told(const struct cell *cell, unsigned told)
{
    if (cell->moment != MOMENT_EVER && swap_serves((struct slot){0}) && !disk_lies(cell))
        assert_int_equal(told, 0);
    if (cell->use == USE_TRIM && swap_serves((struct slot){0}))
        assert_int_equal(told, 0);
    if (cell->moment != MOMENT_EVER && cell->failure != FAKE_VANISH && !cell->identify_fails)
        assert_true(swap_serves((struct slot){0}));
    counts.told += told;
    counts.right += told == 0;
    counts.dead += !swap_serves((struct slot){0});
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
    status = swap_close();
    assert_true(status == OK || matrix_is_told(status));
    disks_stop();
    assert_int_equal(hba.complaints, 0);
    fake_pci_clear();
    fake_disk_free(&disk);
}

static void run_cell(const struct cell *cell)
{
    bool in_memory[MATRIX_PAGES];

    begin(cell);
    if (cell->use != USE_CLOSE) {
        arm(cell);
        use_disk(cell);
        disk.fail_count = 0;
        disk.identify_failures = 0;
    }
    for (unsigned i = 0; i < MATRIX_PAGES; i++)
        in_memory[i] = pte_present(matrix_entry(space, i));
    check_told(cell, check_pages(in_memory));
    end(cell);
    counts.cells++;
}

static void each_cell_ends_right_or_told(void **state)
{
    (void)state;
    for (unsigned use = 0; use < USES; use++) {
        for (unsigned number = 0; number < PATHS * MOMENTS * FAILURES * 2; number++) {
            struct cell cell = {.use = (enum use)use,
                                .path = (enum path)(number % PATHS),
                                .moment = (enum moment)(number / PATHS % MOMENTS),
                                .failure =
                                    (enum fake_failure)(number / (PATHS * MOMENTS) % FAILURES),
                                .identify_fails = number >= PATHS * MOMENTS * FAILURES};

            /* A TRIM is never queued: two ways of recovery tell all. */
            if (use == USE_TRIM && cell.path != PATH_SINGLE && cell.path != PATH_LOG)
                continue;
            run_cell(&cell);
        }
    }
    print_message("# %u cells: %u end with every page right, %u pages told, %u disks given up\n",
                  counts.cells, counts.right, counts.told, counts.dead);
    assert_true(counts.cells >= 1000);
    assert_true(counts.right > counts.cells / 3 && counts.told > 0 && counts.dead > 0);
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
    static const struct CMUnitTest tests[] = {cmocka_unit_test(each_cell_ends_right_or_told)};

    return cmocka_run_group_tests(tests, set_up, NULL);
}
