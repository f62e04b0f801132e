/* zero-page: what does reading fresh memory cost? */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/user_pages.h"

#define PAGES 10000U

/* The page that is written, in the middle of a leaf table. */
#define WRITTEN 5000U

/* Returns the number of pages that read as zero in every byte and whose entries map the zero
 * page. */
static unsigned count_zero_pages(const struct space *space, uint64_t start)
{
    unsigned right = 0;

    for (unsigned i = 0; i < PAGES; i++) {
        uint64_t address = start + i * PAGE_SIZE;

        right += page_is_zero(address) &&
                 pfn_equal(pte_frame(leaf_entry(space, address)), tree_zero_page());
    }
    return right;
}

static void zero_page_read_all(struct space *space, uint64_t start)
{
    struct ledger before = ledger_take();
    uint64_t ticks = machine_ticks();
    uint64_t sum = 0;
    unsigned readable = 0;
    unsigned right;

    for (unsigned i = 0; i < PAGES; i++) {
        uint64_t value = 1;

        readable += word_read(start + i * PAGE_SIZE + i % 512 * 8, &value);
        sum |= value;
    }
    ticks = machine_ticks() - ticks;
    ktap_check(readable == PAGES && sum == 0, "%u of %u pages read as zero", readable, PAGES);
    ktap_check(space_faults(space).zero_read == PAGES, "one fault a page: %lu",
               space_faults(space).zero_read);
    ktap_check(ledger_growth(&before, FRAME_ANONYMOUS) == 0, "no frame but the zero page");
    right = count_zero_pages(space, start);
    ktap_check(right == PAGES, "%u pages are zero in every byte and show the zero page", right);
    ktap_metric("pages_read", PAGES, "pages");
    ktap_metric("frames", 1 + (uint64_t)ledger_growth(&before, FRAME_ANONYMOUS), "frames");
    ktap_metric("tables", (uint64_t)ledger_growth(&before, FRAME_TABLE), "frames");
    ktap_metric("read", ticks / PAGES, "ticks");
}

static void write_one(struct space *space, uint64_t start)
{
    struct ledger before = ledger_take();
    uint64_t address = start + WRITTEN * PAGE_SIZE;

    ktap_check(word_write(address + 8, 42) && page_is_zero_but(address, 1, 42),
               "a written page has the word and zeroes");
    ktap_check(ledger_growth(&before, FRAME_ANONYMOUS) == 1 &&
                   space_faults(space).zero_to_private == 1,
               "the write made one private frame");
    ktap_check(page_is_zero(address - PAGE_SIZE) && page_is_zero(address + PAGE_SIZE),
               "its neighbours are zero");
}

static void check_zero_frame(void)
{
    const struct frame *record = frame_record(tree_zero_page());
    const uint64_t *words = frame_pointer(tree_zero_page());
    uint64_t any = 0;

    for (unsigned i = 0; i < PAGE_SIZE / sizeof(*words); i++)
        any |= words[i];
    ktap_check(any == 0 && record->count == COUNT_SATURATED,
               "the zero frame is zero and was never counted");
}

static void zero_page_run(const struct options *options)
{
    struct space *space;
    uint64_t start;

    (void)options;
    if (!start_space(&space))
        return;
    /* Reads page by page: the experiment zero-ladder measures larger zeroes. */
    space_set_zero_levels(space, 1);
    if (SUCCEEDS(space_map(space,
                           &(struct space_request){.size = PAGES * PAGE_SIZE,
                                                   .alignment = 2 * MIB,
                                                   .rights = RIGHTS_READ_WRITE},
                           &start))) {
        zero_page_read_all(space, start);
        write_one(space, start);
        check_zero_frame();
    }
    space_audit();
    ktap_check(true, "audit");
    end_space(space);
}

EXPERIMENT(zero_page, 020) = {
    .theme = THEME_PAGES,
    .name = "zero-page",
    .question = "What does reading fresh memory cost?",
    .checks = 9,
    .run = zero_page_run,
    .answer =
        {
            .text = "{frames} frame for {pages_read} pages read; {tables} tables",
        },
};
