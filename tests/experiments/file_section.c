/*
 * file-section: does a file behind pages read as its bytes on the disk?
 *
 * The file `faultline/pages.bin` on any FAT32 volume of any AHCI disk is mapped in two spaces, and
 * every byte that faults bring is compared with a generator that the maker of the disk has, too.
 * Its clean pages then go without a write to the swap area, and are read again. The disk needs no
 * preparation, and nothing is written to it: the boot test has a record of its writes.
 *
 * Figures: the pages; the cost of a first touch, which reads the disk, and of a touch of a page
 * that is there; the pages that eviction dropped and wrote.
 */
#include "vmm/files/file_section.h"
#include "cpu/machine.h"
#include "lib/check.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/fault/fault.h"
#include "vmm/page/reclaim.h"

#define PATH      "faultline/pages.bin"
#define HERE      UINT64_C(0x640000000)
#define THERE     UINT64_C(0x680000000)
#define TAG       UINT64_C(0xf11e0000) /* of the first page */
#define PAGES_MAX 512U

struct file_run {
    struct section *section;
    struct space *here;
    struct space *there;
    uint64_t size;
    unsigned pages;
};

static bool file_map(const struct file_run *run, struct space *space, uint64_t at)
{
    return SUCCEEDS(space_map(space,
                              &SPACE_AT(at, (run->pages + 1) * PAGE_SIZE, RIGHTS_READ,
                                        .flags = SPACE_SHARED, .section = run->section),
                              NULL));
}

/* Returns whether the last page has the file's bytes, whole words, and zeroes behind them (N4). */
static bool file_tail_right(const struct file_run *run, uint64_t at)
{
    const uint64_t *words = page_of_tag(TAG + run->pages - 1);
    uint64_t word;

    for (uint64_t i = 0; i < PAGE_SIZE; i += sizeof(word)) {
        bool inside = (run->pages - 1) * PAGE_SIZE + i < run->size;

        if (!word_read(at + i, &word) || word != (inside ? words[i / sizeof(word)] : 0))
            return false;
    }
    return true;
}

/* Compares every page of a mapping; returns how many are right. */
static unsigned file_right(const struct file_run *run, struct space *space, uint64_t base)
{
    unsigned right = 0;

    space_switch(space);
    for (unsigned i = 0; i + 1 < run->pages; i++)
        right += page_holds(base + i * PAGE_SIZE, TAG + i);
    return right + file_tail_right(run, base + (run->pages - 1) * PAGE_SIZE);
}

static uint64_t file_touch(const struct file_run *run, struct space *space, uint64_t base)
{
    uint64_t ticks;
    uint64_t word;

    CHECK(run->pages > 0);
    space_switch(space);
    ticks = machine_ticks();
    for (unsigned i = 0; i < run->pages; i++)
        (void)word_read(base + i * PAGE_SIZE, &word);
    return (machine_ticks() - ticks) / run->pages;
}

static void file_evict(struct file_run *run)
{
    uint64_t written = reclaim_counts().written;
    uint64_t dropped = reclaim_counts().clean;
    bool ok = true;

    for (unsigned evicted = 1; evicted > 0 && ok;)
        ok = SUCCEEDS(reclaim_pages(16, &evicted));
    written = reclaim_counts().written - written;
    dropped = reclaim_counts().clean - dropped;
    ktap_metric("written", written, "pages");
    ktap_metric("dropped", dropped, "pages");
    ktap_check(ok && dropped == run->pages && written == 0,
               "%lu clean pages go without a slot, %lu with a write", dropped, written);
    ktap_check(file_right(run, run->there, THERE) == run->pages,
               "%u pages are read from the disk again", run->pages);
}

static void file_body(struct file_run *run)
{
    struct section *again = NULL;

    ktap_metric("pages", run->pages, "pages");
    ktap_metric("first_touch", file_touch(run, run->here, HERE), "ticks");
    ktap_metric("touch_of_present", file_touch(run, run->there, THERE), "ticks");
    ktap_check(file_right(run, run->here, HERE) == run->pages,
               "%u pages of the file are right, byte by byte", run->pages);
    ktap_check(file_right(run, run->there, THERE) == run->pages,
               "another space reads the same pages");
    file_evict(run);
    ktap_check(fault_resolve(run->here, HERE + run->pages * PAGE_SIZE,
                             (struct fault_access){.user_allowed = true}) == STATUS_RANGE,
               "behind the end of the file a touch is told so");
    ktap_check(SUCCEEDS(file_section_open("\\FAULTLINE\\Pages.bin", RIGHTS_READ, &again)) &&
                   again == run->section,
               "a second open finds the same section");
    if (again != NULL)
        file_section_close(again);
    space_audit();
}

static void file_section_run(const struct options *options)
{
    struct file_run run = {.pages = 0};
    enum status status = file_section_open(PATH, RIGHTS_READ, &run.section);

    (void)options;
    if (status != OK) {
        experiment_skip_rest("no FAT32 volume of an AHCI disk has " PATH ": %s",
                             status_name(status));
        return;
    }
    run.size = section_size(run.section);
    run.pages = (unsigned)(round_up(run.size, PAGE_SIZE) / PAGE_SIZE);
    if (run.pages == 0 || run.pages > PAGES_MAX) {
        file_section_close(run.section);
        experiment_skip_rest(PATH " has %lu bytes", run.size);
        return;
    }
    if (SUCCEEDS(space_create(&run.here)) && SUCCEEDS(space_create(&run.there)) &&
        file_map(&run, run.here, HERE) && file_map(&run, run.there, THERE))
        file_body(&run);
    space_switch(NULL);
    if (run.here != NULL)
        space_destroy(run.here);
    if (run.there != NULL)
        space_destroy(run.there);
    file_section_close(run.section);
    ktap_check(file_sections_reap() == 0 && section_count() == 0, "no section of a file is left");
}

EXPERIMENT(file_section, 052) = {
    .theme = THEME_PAGES,
    .name = "file-section",
    .question = "Does a file behind pages read as its bytes on the disk?",
    .only_by_name = true, /* it needs a disk with the file */
    .spaces = 2,
    .checks = 7,
    .run = file_section_run,
    .answer =
        {
            .text = "{pages} pages of a FAT32 file come by faults; {dropped} clean ones go "
                    "without a write, and come again",
        },
};
