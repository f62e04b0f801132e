/*
 * section-kinds: does one object serve blank memory and content that comes from elsewhere?
 *
 * Each kind of section goes through the same body: two spaces map it at different places and see
 * each other's writes, a fork sees them too, pages go out and come back, the section becomes
 * smaller and larger. A clean page of an archive goes without a write to the swap area and comes
 * from the archive again, and one of an image is made again, words and all; blank memory has
 * nowhere to come from, so that each page takes a slot.
 *
 * Figures, for each kind: the cost of a first touch, of a touch of a page that is there already,
 * the pages that eviction wrote, and what a cut of the section costs for each page and mapping.
 */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "swapdisk/area.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/fault/fault.h"
#include "vmm/files/image.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/section/section.h"
#include "vmm/space/commit.h"

#define PAGES   32U
#define KEPT    16U /* pages after the cut */
#define WRITTEN 8U
#define HERE    UINT64_C(0x640000000)
#define THERE   UINT64_C(0x680000000)

static uint8_t archive_bytes[PAGES * PAGE_SIZE];
static const struct archive kinds_archive = {.bytes = archive_bytes, .size = sizeof(archive_bytes)};

/* The image has the same content, once its words are set: one on each border of two pages. */
#define WORDS (PAGES - 1)
#define BASE  UINT64_C(0x7fee00000000)
static struct image_word kinds_words[WORDS];
static const struct image kinds_image = {.below = &pager_archive,
                                         .source = &kinds_archive,
                                         .base = BASE,
                                         .words = kinds_words,
                                         .count = WORDS};

struct kind {
    const char *name;
    const struct pager *pager;
    const void *source;
    bool filled; /* its pages have the content of their tags at first */
};

static const struct kind kinds[] = {{"zero", &pager_zero, NULL, false},
                                    {"archive", &pager_archive, &kinds_archive, true},
                                    {"image", &pager_image, &kinds_image, true}};

struct kinds_run {
    const struct kind *kind;
    struct section *section;
    struct space *here;
    struct space *there;
};

static uint64_t kinds_tag(unsigned page)
{
    return 0x5ec0 + page;
}

static bool kinds_is_first(const struct kinds_run *run, uint64_t base, unsigned page)
{
    uint64_t at = base + page * PAGE_SIZE;

    return run->kind->filled ? page_holds(at, kinds_tag(page)) : page_is_zero(at);
}

static void kinds_metric(const struct kinds_run *run, const char *what, uint64_t value,
                         const char *unit)
{
    char name[32];

    (void)print_to(name, sizeof(name), "%s.%s", run->kind->name, what);
    ktap_metric(name, value, unit);
}

/* ---- the body ---- */

static bool kinds_map(struct space *space, struct section *section, uint64_t at)
{
    return SUCCEEDS(space_map(space,
                              &SPACE_AT(at, PAGES * PAGE_SIZE, RIGHTS_READ_WRITE,
                                        .flags = SPACE_SHARED, .section = section),
                              NULL));
}

/* Touches every page from both spaces; the first touch makes the page. */
static void kinds_touch(struct kinds_run *run)
{
    uint64_t ticks;
    uint64_t word;
    bool ok = true;

    space_switch(run->here);
    ticks = machine_ticks();
    for (unsigned i = 0; i < PAGES; i++)
        ok = ok && word_read(HERE + i * PAGE_SIZE, &word);
    kinds_metric(run, "first_touch", (machine_ticks() - ticks) / PAGES, "ticks");
    for (unsigned i = 0; i < PAGES; i++)
        ok = ok && kinds_is_first(run, HERE, i);
    space_switch(run->there);
    ticks = machine_ticks();
    for (unsigned i = 0; i < PAGES; i++)
        ok = ok && word_read(THERE + i * PAGE_SIZE, &word);
    kinds_metric(run, "touch_of_present", (machine_ticks() - ticks) / PAGES, "ticks");
    for (unsigned i = 0; i < PAGES; i++)
        ok = ok && kinds_is_first(run, THERE, i);
    ktap_check(ok, "%s: two spaces read %u pages as they are at first", run->kind->name, PAGES);
}

static unsigned kinds_right(const struct kinds_run *run, uint64_t base)
{
    unsigned right = 0;

    for (unsigned i = 0; i < PAGES; i++)
        right += i < WRITTEN ? page_holds(base + i * PAGE_SIZE, kinds_tag(i + PAGES))
                             : kinds_is_first(run, base, i);
    return right;
}

static void kinds_share(struct kinds_run *run)
{
    struct space *fork;
    bool ok = true;

    space_switch(run->here);
    for (unsigned i = 0; i + 1 < WRITTEN; i++)
        ok = ok && page_fill(HERE + i * PAGE_SIZE, kinds_tag(i + PAGES));
    if (ok && SUCCEEDS(space_fork(run->here, &fork))) {
        space_switch(fork);
        ok = page_fill(HERE + (WRITTEN - 1) * PAGE_SIZE, kinds_tag(WRITTEN - 1 + PAGES));
        space_switch(run->there);
        ok = ok && kinds_right(run, THERE) == PAGES;
        space_destroy(fork);
    }
    ktap_check(ok, "%s: the other space sees %u written pages, one of them by a fork",
               run->kind->name, WRITTEN);
}

static void kinds_evict(struct kinds_run *run)
{
    uint64_t written = reclaim_counts().written;
    uint64_t dropped = reclaim_counts().clean;
    unsigned right;
    bool ok = true;

    for (unsigned evicted = 1; evicted > 0 && ok;)
        ok = SUCCEEDS(reclaim_pages(16, &evicted));
    written = reclaim_counts().written - written;
    dropped = reclaim_counts().clean - dropped;
    kinds_metric(run, "written", written, "pages");
    kinds_metric(run, "dropped", dropped, "pages");
    ktap_check(ok && written == (run->kind->filled ? WRITTEN : PAGES) && written + dropped == PAGES,
               "%s: %lu pages go out with a write, %lu without", run->kind->name, written, dropped);
    right = kinds_right(run, THERE);
    space_switch(run->here);
    right += kinds_right(run, HERE);
    kinds_metric(run, "right", right, "reads");
    ktap_check(right == 2 * PAGES, "%s: %u of %u reads are right when they are back",
               run->kind->name, right, 2 * PAGES);
}

static bool ends_at(struct space *space, uint64_t address)
{
    return fault_resolve(space, address, (struct fault_access){.user_allowed = true}) ==
           STATUS_RANGE;
}

static void kinds_resize(struct kinds_run *run)
{
    uint64_t ticks = machine_ticks();
    bool ok = SUCCEEDS(section_resize(run->section, KEPT * PAGE_SIZE - 8));

    kinds_metric(run, "cut", (machine_ticks() - ticks) / (2 * (PAGES - KEPT)), "ticks");
    ktap_check(ok && ends_at(run->here, HERE + KEPT * PAGE_SIZE) &&
                   ends_at(run->there, THERE + (PAGES - 1) * PAGE_SIZE) &&
                   kinds_is_first(run, HERE, KEPT - 2),
               "%s: behind a smaller section's end a touch is told so", run->kind->name);
    ok = SUCCEEDS(section_resize(run->section, PAGES * PAGE_SIZE));
    for (unsigned i = KEPT; i < PAGES; i++)
        ok = ok && page_is_zero(HERE + i * PAGE_SIZE);
    ktap_check(ok, "%s: what it grows by is zero", run->kind->name);
}

static void run_kind(const struct kind *kind)
{
    struct kinds_run run = {.kind = kind};
    bool ok = SUCCEEDS(section_create(kind->pager, kind->source, PAGES * PAGE_SIZE,
                                      RIGHTS_READ_WRITE, &run.section));

    if (!ok || !SUCCEEDS(space_create(&run.here)) || !SUCCEEDS(space_create(&run.there)))
        return;
    if (kinds_map(run.here, run.section, HERE) && kinds_map(run.there, run.section, THERE)) {
        kinds_touch(&run);
        kinds_share(&run);
        kinds_evict(&run);
        kinds_resize(&run);
        space_audit();
    }
    space_switch(NULL);
    space_destroy(run.here);
    space_destroy(run.there);
    section_close(run.section);
}

/* Fills the archive; for an image it lacks the words. */
static void kinds_fill(bool image)
{
    for (unsigned i = 0; i < PAGES; i++)
        memcpy(archive_bytes + i * PAGE_SIZE, page_of_tag(kinds_tag(i)), PAGE_SIZE);
    for (unsigned i = 0; i < WORDS && image; i++) {
        uint64_t at = (i + 1) * PAGE_SIZE - 3;
        uint64_t word;

        memcpy(&word, archive_bytes + at, sizeof(word));
        kinds_words[i] = (struct image_word){.at = at, .addend = word - BASE};
        memset(archive_bytes + at, 0xee, sizeof(word));
    }
}

static void section_kinds_run(const struct options *options)
{
    uint64_t committed = commit_pages();

    (void)options;
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        kinds_fill(kinds[i].pager == &pager_image);
        run_kind(&kinds[i]);
    }
    ktap_metric("kinds", sizeof(kinds) / sizeof(kinds[0]), "kinds");
    ktap_check(section_count() == 0 && commit_pages() == committed,
               "no section is left, and nothing is promised for one");
}

EXPERIMENT(section_kinds, 051) = {
    .theme = THEME_PAGES,
    .name = "section-kinds",
    .question = "Do sharing, swap, COW and files all fit?",
    .spaces = 3,
    .checks = 19,
    .run = section_kinds_run,
    .answer =
        {
            .text = "{kinds} kinds of section pass one body so far; an archive and an image drop "
                    "{image.dropped} clean pages and write {image.written}, blank memory writes "
                    "{zero.written}",
            .limit = "files, which file-section tries; physical memory, stacks and spaces are to "
                     "come",
        },
};
