/*
 * file-write: do stores reach the file, and nothing else?
 *
 * The file `faultline/written.bin` of the disk that files= names is mapped for writing. Each
 * generation stores other words into all of its pages, by faults, and makes them durable. They are
 * then read from the disk beside the section, by a second reader of the volume. The disk's own log
 * of writes, and its state after a power cut, are the boot tests'.
 *
 * Figures: the pages; the ticks of making one durable; the pages that reclaim had written to slots
 * before they went to the file.
 */
#include "cpu/machine.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/fs/file.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/files/file_section.h"
#include "vmm/files/files_disk.h"
#include "vmm/page/reclaim.h"

#define PATH        "faultline/written.bin"
#define LOCKED      "faultline/locked.bin" /* its entry is read-only */
#define HERE        UINT64_C(0x6c0000000)
#define TAG         UINT64_C(0xf17e0000) /* of the first page, in generation 0 */
#define GENERATION  UINT64_C(0x1000)     /* between the tags of two */
#define GENERATIONS 6U
#define PAGES_MAX   512U

struct write_run {
    const struct files_disk *disk;
    struct file_writer writer;
    struct space *space;
    uint64_t size;
    unsigned pages;
};

static uint64_t written_tag(unsigned generation, unsigned page)
{
    return TAG + generation * GENERATION + page;
}

/* Stores a generation into all pages; on the last one behind the file's end, too. */
static bool store_all(const struct write_run *run, unsigned generation)
{
    bool ok = true;

    for (unsigned i = 0; i < run->pages; i++)
        ok = ok && page_fill(HERE + i * PAGE_SIZE, written_tag(generation, i));
    return ok;
}

/* Returns whether a page that was read from the disk has the words of its generation. */
static bool page_read_right(const struct write_run *run, const uint64_t *words, unsigned generation,
                            unsigned page)
{
    const uint64_t *expected = page_of_tag(written_tag(generation, page));
    uint64_t bytes = run->size - page * PAGE_SIZE;

    for (unsigned i = 0; i < PAGE_SIZE / sizeof(*words) && (i + 1) * sizeof(*words) <= bytes; i++) {
        if (words[i] != expected[i])
            return false;
    }
    return true;
}

/* Reads the file from the disk, beside the section; returns how many pages are of a generation. */
static unsigned written_on_disk(const struct write_run *run, unsigned generation)
{
    struct disk_file *file;
    struct pfn frame;
    unsigned right = 0;

    if (!SUCCEEDS(pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &frame)))
        return 0;
    if (SUCCEEDS(disk_file_open(&run->disk->block, PATH, &file))) {
        for (unsigned i = 0; i < run->pages; i++)
            right += disk_file_read(file, i, frame) == OK &&
                     page_read_right(run, frame_pointer(frame), generation, i);
        disk_file_close(file);
    }
    pmm_free(frame);
    return right;
}

static void write_generations(struct write_run *run)
{
    uint64_t ticks = 0;
    unsigned right = 0;
    bool ok = true;

    for (unsigned i = 1; i < GENERATIONS; i++) {
        uint64_t start;

        ok = ok && store_all(run, i);
        ktap_note("generation %u", i);
        start = machine_ticks();
        ok = ok && SUCCEEDS(file_section_sync(&run->writer, 0, UINT64_MAX));
        ticks += machine_ticks() - start;
        right += written_on_disk(run, i) == run->pages;
    }
    ktap_metric("pages", run->pages, "pages");
    ktap_metric("durable", ticks / (GENERATIONS - 1) / run->pages, "ticks");
    ktap_metric("generations", right, "generations");
    ktap_check(ok && right == GENERATIONS - 1, "%u of %u generations are on the disk, whole", right,
               GENERATIONS - 1);
}

/* Pages that reclaim has moved to slots of the swap area go to the file from there. */
static void write_from_slots(struct write_run *run)
{
    uint64_t written = reclaim_counts().written;
    bool ok = store_all(run, GENERATIONS);

    for (unsigned evicted = 1; evicted > 0 && ok;)
        ok = SUCCEEDS(reclaim_pages(16, &evicted));
    written = reclaim_counts().written - written;
    ktap_check(written_on_disk(run, GENERATIONS - 1) == run->pages,
               "reclaim writes nothing to the file");
    ok = ok && SUCCEEDS(file_section_sync(&run->writer, 0, UINT64_MAX));
    ktap_metric("from_slots", written, "pages");
    ktap_check(ok && written == run->pages && written_on_disk(run, GENERATIONS) == run->pages,
               "%lu pages went to slots first, and then to the file", written);
}

/* The last unmap leaves pages dirty, and closing writes them (W4). */
static void write_at_close(struct write_run *run)
{
    bool ok = store_all(run, GENERATIONS + 1);

    space_switch(NULL);
    space_destroy(run->space);
    ok = ok && SUCCEEDS(file_section_close_writer(&run->writer));
    ktap_check(ok && written_on_disk(run, GENERATIONS + 1) == run->pages,
               "%u pages that nothing mapped any more went to the file at its close", run->pages);
    ktap_check(file_sections_reap() == 0, "no section of a file is left");
}

static void refuse_locked(const struct write_run *run)
{
    struct file_writer writer;
    const char *reason = "it was opened";
    enum status status =
        file_section_open_to_write(&run->disk->block, LOCKED, run->disk->grant, &writer, &reason);

    if (status == OK)
        (void)!file_section_close_writer(&writer);
    ktap_check(status == STATUS_REFUSED || status == STATUS_NOT_FOUND,
               "a read-only file is not written: %s", reason);
}

static void file_write_body(struct write_run *run)
{
    if (!SUCCEEDS(space_create(&run->space)))
        return;
    if (!SUCCEEDS(space_map(run->space,
                            &SPACE_AT(HERE, run->pages * PAGE_SIZE, RIGHTS_READ_WRITE,
                                      .flags = SPACE_SHARED, .section = run->writer.section),
                            NULL))) {
        space_destroy(run->space);
        return;
    }
    space_switch(run->space);
    write_generations(run);
    write_from_slots(run);
    space_audit();
    write_at_close(run);
}

static void file_write_run(const struct options *options)
{
    struct write_run run = {.disk = files_disk()};
    const char *reason = "";
    enum status status;

    (void)options;
    if (run.disk == NULL) {
        experiment_skip_rest("no disk with files may be written: files=UUID names one");
        return;
    }
    status =
        file_section_open_to_write(&run.disk->block, PATH, run.disk->grant, &run.writer, &reason);
    if (status != OK) {
        experiment_skip_rest(PATH ": %s: %s", status_name(status), reason);
        return;
    }
    run.size = section_size(run.writer.section);
    run.pages = (unsigned)(round_up(run.size, PAGE_SIZE) / PAGE_SIZE);
    if (run.pages == 0 || run.pages > PAGES_MAX) {
        (void)!file_section_close_writer(&run.writer);
        experiment_skip_rest(PATH " has %lu bytes", run.size);
        return;
    }
    refuse_locked(&run);
    file_write_body(&run);
}

EXPERIMENT(file_write, 053) = {
    .theme = THEME_PAGES,
    .name = "file-write",
    .question = "Do stores reach the file, and nothing else?",
    .only_by_name = true, /* it needs a disk with the file */
    .spaces = 1,
    .checks = 6,
    .run = file_write_run,
    .answer =
        {
            .text = "{generations} generations of {pages} pages are on the disk; {from_slots} "
                    "pages went to slots before",
            .limit = "what a power cut leaves: the boot test power-cut",
        },
};
