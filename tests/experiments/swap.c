/* swap: does a working set larger than memory go out to the disk and come back intact? */
#include "cpu/machine.h"
#include "lib/print.h"
#include "swapdisk/area.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/user_pages.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"

#define START UINT64_C(0x700000000)

/* The pages may use 2 MiB of memory; the working set is five times that. */
#define RESIDENT 512U
#define PAGES    2560U

/* Parent and child may have all their pages out, each in a slot of its own, and some more that are
 * still those of pages in the swap cache. */
#define SLOTS_NEEDED (2 * PAGES + RESIDENT)

/* Pages named in the log, for the host to find on the disk. */
#define SAMPLES 16U

/* Tags are unique for each page, round and run, so that an old page is not taken for a new one. */
static uint64_t base_tag;

static uint64_t tag_of(unsigned page, unsigned round)
{
    return base_tag + ((uint64_t)round << 32) + page;
}

static uint64_t swap_page_at(unsigned number)
{
    return START + number * PAGE_SIZE;
}

/* Fills in a random order of the pages (Fisher and Yates). */
static void swap_shuffle(uint16_t *order, struct random *random)
{
    for (unsigned i = 0; i < PAGES; i++)
        order[i] = (uint16_t)i;
    for (unsigned i = PAGES - 1; i > 0; i--) {
        unsigned other = (unsigned)random_below(random, i + 1);
        uint16_t swapped = order[i];

        order[i] = order[other];
        order[other] = swapped;
    }
}

static unsigned fill_in_order(const uint16_t *order, unsigned round, unsigned every)
{
    unsigned done = 0;

    for (unsigned i = 0; i < PAGES; i++) {
        if (order[i] % every == 0)
            done += page_fill(swap_page_at(order[i]), tag_of(order[i], round));
    }
    return done;
}

/* Checks the pages in an order. Those whose number `every` divides were written again in the second
 * round. */
static unsigned check_in_order(const uint16_t *order, unsigned every)
{
    unsigned right = 0;

    for (unsigned i = 0; i < PAGES; i++)
        right += page_holds(swap_page_at(order[i]),
                            tag_of(order[i], every != 0 && order[i] % every == 0 ? 1 : 0));
    return right;
}

/* Names pages of the second round that are out, by where they are on the disk, their first word and
 * their check value. */
static unsigned name_samples(const struct space *space)
{
    unsigned named = 0;

    for (unsigned i = 0; i < PAGES && named < SAMPLES; i += 3) {
        struct pte entry = leaf_entry(space, swap_page_at(i));
        uint64_t tag = tag_of(i, 1);

        if (pte_state(entry, 1) != PTE_SWAPPED)
            continue;
        ktap_note("swap-page slot=%u offset=%lu check=%08x tag=%016lx", pte_slot(entry).index,
                  swap_disk_offset(pte_slot(entry)), machine_crc32c(0, page_of_tag(tag), PAGE_SIZE),
                  tag);
        named++;
    }
    return named;
}

static void out_and_back(struct space *space, const struct options *options)
{
    static uint16_t order[PAGES];
    struct random random = random_from(options->seed);
    uint64_t ticks = machine_ticks();
    unsigned right;

    swap_shuffle(order, &random);
    right = fill_in_order(order, 0, 1);
    ktap_check(right == PAGES && page_clock_size() <= RESIDENT,
               "%u pages written, %lu of them resident", right, page_clock_size());
    ktap_metric("write", (machine_ticks() - ticks) / PAGES, "ticks");
    swap_shuffle(order, &random);
    ticks = machine_ticks();
    right = check_in_order(order, 0);
    ktap_check(right == PAGES, "%u pages came back intact, in random order", right);
    ktap_metric("read", (machine_ticks() - ticks) / PAGES, "ticks");
    swap_shuffle(order, &random);
    right = fill_in_order(order, 1, 3);
    swap_shuffle(order, &random);
    ktap_check(right == (PAGES + 2) / 3 && check_in_order(order, 3) == PAGES,
               "a third written again, all intact");
    ktap_check(space_faults(space).swap_in >= PAGES, "%lu pages were read from the area",
               space_faults(space).swap_in);
}

/* Forks while pages are swapped out; each side then changes its own. */
static void fork_while_out(struct space *parent)
{
    struct space *child;
    bool ok = SUCCEEDS(space_fork(parent, &child));
    unsigned right = 0;

    if (!ktap_check(ok, "a fork while pages are out"))
        return;
    space_switch(child);
    for (unsigned i = 0; i < PAGES; i += 5)
        ok = ok && page_fill(swap_page_at(i), tag_of(i, 2));
    space_switch(parent);
    for (unsigned i = 0; i < PAGES; i++)
        right += page_holds(swap_page_at(i), tag_of(i, i % 3 == 0 ? 1 : 0));
    ktap_check(ok && right == PAGES, "%u of the parent's pages are as they were", right);
    space_audit();
    space_switch(child);
    right = 0;
    for (unsigned i = 0; i < PAGES; i++)
        right += page_holds(swap_page_at(i), tag_of(i, i % 5 == 0 ? 2 : i % 3 == 0 ? 1 : 0));
    ktap_check(right == PAGES, "%u of the child's pages are right", right);
    ktap_metric("found_in_other_side",
                space_faults(child).swap_cached + space_faults(parent).swap_cached, "faults");
    space_switch(parent);
    space_destroy(child);
}

/* The figures of each disk, if there are several: a stripe shows as equal shares, a mirror as equal
 * writes and divided reads. */
static void swap_report_areas(void)
{
    for (unsigned i = 0; i < swap_area_count(); i++) {
        struct swap_area_usage usage = swap_area_usage(i);

        for (unsigned disk = 0; disk < usage.disks; disk++) {
            char name[48];

            if ((swap_area_count() == 1 && usage.disks == 1) || usage.disk[disk].serial == NULL)
                continue;
            print_to(name, sizeof(name), "area_%u_disk_%u_written", i, disk);
            ktap_metric(name, usage.disk[disk].usage.pages_written, "pages");
            print_to(name, sizeof(name), "area_%u_disk_%u_read", i, disk);
            ktap_metric(name, usage.disk[disk].usage.pages_read, "pages");
            print_to(name, sizeof(name), "area_%u_disk_%u_healed", i, disk);
            ktap_metric(name, usage.disk[disk].usage.healed, "pages");
        }
    }
}

static void swap_report(const struct space *space, const struct swap_usage *before)
{
    struct swap_usage usage = swap_usage();
    struct reclaim_counts counts = reclaim_counts();

    ktap_note("swap area: %u slots %s", usage.slots,
              usage.backing == SWAP_BACKING_DISK ? "on the disk" : "in RAM");
    ktap_metric("working_set", PAGES, "pages");
    ktap_metric("resident", RESIDENT, "pages");
    ktap_metric("pages_written", usage.pages_written, "pages");
    ktap_metric("pages_read", usage.pages_read, "pages");
    ktap_metric("clean_evictions", counts.clean, "pages");
    ktap_metric("second_chances", counts.second_chances, "pages");
    ktap_metric("faults", space_faults(space).swap_in, "faults");
    ktap_metric("read_ahead", read_ahead_pages(), "pages");
    ktap_metric("read_ahead_wasted", counts.wasted, "pages");
    swap_report_areas();
    ktap_check(usage.corrupt == before->corrupt && usage.errors == before->errors,
               "no transfer failed, no check value lied");
}

static void swap_run(const struct options *options)
{
    struct swap_usage before = swap_usage();
    uint64_t limit = resident_limit;
    struct space *space;
    unsigned samples;

    if (swap_usage().slots < SLOTS_NEEDED) {
        experiment_skip_rest("the swap area has %u slots, this needs %u", swap_usage().slots,
                             SLOTS_NEEDED);
        return;
    }
    if (!start_space(&space))
        return;
    base_tag = options->seed << 40 ^ UINT64_C(0x5a00000000000000);
    page_set_limit(RESIDENT);
    if (!experiment_may_promise(2 * PAGES)) {
        experiment_skip_rest("overcommit=never does not promise enough");
    } else if (SUCCEEDS(space_map(space, &SPACE_AT(START, PAGES * PAGE_SIZE, RIGHTS_READ_WRITE),
                                  NULL))) {
        out_and_back(space, options);
        space_audit();
        fork_while_out(space);
        samples = name_samples(space);
        ktap_check(samples > 0, "%u pages that are out are named above", samples);
        swap_report(space, &before);
        space_audit();
    }
    end_space(space);
    page_set_limit(limit);
}

EXPERIMENT(swap, 060) = {
    .theme = THEME_PAGES,
    .name = "swap",
    .question = "Does a working set larger than memory come back intact from the disk?",
    .spaces = 2,
    .checks = 9,
    .run = swap_run,
    .answer =
        {
            .text = "Yes: {working_set} pages through {resident} come back intact; {pages_read} "
                    "read, {pages_written} written",
            .limit = "workloads with locality: this one goes in random order, under the clock with "
                     "second chances",
        },
};
