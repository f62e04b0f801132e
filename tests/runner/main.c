/* The run: starts the services, runs the experiments, and returns the verdict. */
#include "efi/main.h"

#include <stddef.h>

#include "cpu/crash/crash.h"
#include "cpu/features.h"
#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "efi/end_run.h"
#include "efi/options/options.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "paging/print_walk.h"
#include "paging/tree/table_access.h"
#include "swapdisk/area.h"
#include "swapdisk/disks.h"
#include "tests/runner/display.h"
#include "tests/runner/end_keys.h"
#include "tests/runner/experiment.h"
#include "tests/runner/keep_log.h"
#include "tests/runner/ledger.h"
#include "tests/runner/prompt.h"
#include "tests/runner/summary.h"
#include "tests/runner/tlb_limit.h"
#include "tests/runner/watchdog.h"
#include "vmm/fault/fault.h"
#include "vmm/files/file_section.h"
#include "vmm/files/files_disk.h"
#include "vmm/page/managed.h"
#include "vmm/space/commit.h"
#include "vmm/space/end.h"
#include "vmm/space/space.h"

/* Slots of the swap area in RAM, used without a disk: 64 MiB, allocated as it is used. */
#define RAM_SLOTS 16384U

/* Frames that an idle processor clears in one step. A step takes about a microsecond, by which it
 * may delay a thread that becomes ready. */
#define IDLE_FRAMES 2U

/* Idle time before each experiment, in which processors clear frames. */
#define IDLE_US 500U

/* The run, for the deadline. */
static struct {
    const struct options *options;
    unsigned next; /* place of the first experiment whose suite has not begun */
} current;

/* Removes the first item of a comma-separated list; returns false if the list is empty. */
static bool next_item(const char **list, struct options *item)
{
    size_t length = 0;

    if (**list == '\0')
        return false;
    while ((*list)[length] != ',' && (*list)[length] != '\0')
        length++;
    CHECK(length < OPTION_RUN_SIZE);
    memcpy(item->run, *list, length);
    item->run[length] = '\0';
    *list += length + ((*list)[length] == ',' ? 1 : 0);
    return true;
}

/* Returns whether an item of run= matches the experiment. Some need their full name. */
static bool item_names(const struct options *item, const struct experiment *experiment)
{
    if (experiment->only_by_name)
        return strcmp(item->run, experiment->name) == 0;
    return option_run_matches(item, experiment->name);
}

static bool is_wanted(const struct experiment *experiment, const struct options *options)
{
    const char *list = options->run;
    struct options item = {0};

    if (*list == '\0')
        return !experiment->only_by_name;
    while (next_item(&list, &item)) {
        if (item_names(&item, experiment))
            return true;
    }
    return false;
}

bool faultline_knows(const struct options *options)
{
    const char *list = options->run;
    const struct experiment *experiment;
    struct options item = {0};
    bool all = true;

    while (next_item(&list, &item)) {
        bool any = false;

        for (unsigned i = 0; (experiment = experiment_at(i)) != NULL; i++)
            any = any || item_names(&item, experiment);
        if (!any)
            ktap_note("run=%s names no experiment", item.run);
        all = all && any;
    }
    return all;
}

static unsigned count_wanted(const struct options *options)
{
    const struct experiment *experiment;
    unsigned wanted = 0;

    for (unsigned i = 0; (experiment = experiment_at(i)) != NULL; i++)
        wanted += is_wanted(experiment, options);
    return wanted;
}

static uint32_t regions_of(const struct experiment *experiment)
{
    return experiment->regions != 0 ? experiment->regions : EXPERIMENT_REGIONS;
}

/* Skips an experiment for which the options allow too few address spaces, or regions of one. */
static bool runner_skips(const struct experiment *experiment, const struct options *options)
{
    bool few_spaces = experiment->spaces > options->spaces;
    bool few_regions = options->regions != 0 && regions_of(experiment) > options->regions;
    char reason[80];

    if (few_spaces)
        print_to(reason, sizeof(reason), "it has %u address spaces at once, spaces=%u allows fewer",
                 experiment->spaces, options->spaces);
    else if (few_regions && regions_of(experiment) == EXPERIMENT_REGIONS_ANY)
        print_to(reason, sizeof(reason), "it may have any number of regions, regions=%u is a limit",
                 options->regions);
    else if (few_regions)
        print_to(reason, sizeof(reason),
                 "it may have %u regions of a space, regions=%u allows fewer",
                 regions_of(experiment), options->regions);
    if (few_spaces || few_regions)
        ktap_suite_skip(experiment->name, reason);
    return few_spaces || few_regions;
}

/* Names the experiment that begins, for the screen, and the wanted ones after it. */
static void announce(const struct experiment *experiment, const struct options *options)
{
    const struct experiment *later;
    char next[160];
    size_t length = 0;

    next[0] = '\0';
    for (unsigned i = current.next + 1; (later = experiment_at(i)) != NULL; i++) {
        if (is_wanted(later, options) && length + strlen(later->name) + 3 < sizeof(next))
            length += print_to(next + length, sizeof(next) - length, "%s%s", length > 0 ? ", " : "",
                               later->name);
    }
    display_experiment(experiment->name, next);
}

static void run_one(const struct experiment *experiment, const struct options *options)
{
    struct ledger before = ledger_take();
    unsigned checks = experiment->checks;
    const char *missing;
    uint64_t began;

    if (runner_skips(experiment, options))
        return;
    if (experiment->more_checks != NULL)
        checks += experiment->more_checks();
    thread_sleep_us(IDLE_US);
    limits_next();
    began = machine_now_ns();
    announce(experiment, options);
    current.next++;
    ktap_suite_begin(experiment->name, checks + 1);
    ktap_note("%s", experiment->question);
    commit_choose(experiment->reserves ? OVERCOMMIT_ALWAYS : options->overcommit);
    space_set_limit((uint32_t)max_u64(experiment->spaces, 1));
    space_set_region_limit(regions_of(experiment));
    experiment->run(options);
    ktap_check(ledger_even(&before), "the ledger is even");
    missing = answer_print(&experiment->answer);
    ktap_note("took %lu ms", (machine_now_ns() - began) / 1000000);
    ktap_suite_end();
    while (swap_trim())
        progress_note();
    if (missing != NULL)
        ktap_fail("%s: its answer needs a figure that it has not measured: %s", experiment->name,
                  missing);
}

static bool runner_idle_step(void)
{
    return space_ends_step() || pmm_idle_fill(IDLE_FRAMES) > 0;
}

/* Prints the walk, the region and the frame of an address in a crash report. */
static void print_walk(uint64_t address)
{
    struct space *space = space_current();
    const struct region *region;
    struct tree_place place;

    tree_print_walk(machine_root(), kernel_map_levels(), address);
    if (space == NULL || address >= lower_half_end(space->tree.levels))
        return;
    region = space_region_at(space, address);
    if (region == NULL)
        print("#   region: none\n");
    else
        print("#   region: %016lx to %016lx%s\n", region->node.start, region->node.end,
              region->what.kind == REGION_GUARD ? ", a guard" : "");
    place = tree_walk(&space->tree, address);
    if (pte_state(place.entry, place.level) == PTE_LEAF) {
        const struct frame *record = frame_record(pte_frame(place.entry));

        print("#   frame %x: kind %u, count %u, flags %02x\n", pte_frame(place.entry).index,
              record->kind, record->count, record->flags);
    }
}

/* Names the wanted experiments that have not begun. */
static unsigned print_unreached(void)
{
    const struct experiment *experiment;
    unsigned unreached = 0;

    for (unsigned i = current.next; (experiment = experiment_at(i)) != NULL; i++) {
        if (is_wanted(experiment, current.options))
            print("%s %s", unreached++ == 0 ? "# not reached:" : ",", experiment->name);
    }
    if (unreached > 0)
        print("\n");
    return unreached;
}

/* Ends a run whose time is over, in any state. A line of the log may be half printed. */
static void end_at_deadline(void)
{
    unsigned unreached;

    crash_take_over();
    print("\n");
    unreached = print_unreached();
    ktap_bail_out(VERDICT_FAIL, "deadline: %u s have passed, %u experiment%s not reached",
                  current.options->deadline, unreached, unreached == 1 ? "" : "s");
    crash_keep_log();
    finish_run(VERDICT_FAIL);
}

static enum status choose_policy(uint32_t number)
{
    if (number == 0)
        return OK;
    ktap_note("policy: %s", policy_at(number - 1)->name);
    return managed_choose(policy_at(number - 1), pmm_usage().total);
}

/* Scans the disks and opens the swap area. On failure the run cannot begin. */
static enum status start_services(const struct bootinfo *info)
{
    enum status status;

    crash_set_walk_printer(print_walk);
    pte_ticket_key((uint16_t)(info->options.seed * UINT64_C(0x9e3779b97f4a7c15) >> 48));
    disks_scan(&info->options, cpu_features()->hypervisor);
    summary_print_disks();
    status = swap_open(&info->options, RAM_SLOTS);
    if (status == OK)
        files_disk_open(&info->options);
    if (status == OK)
        status = vmm_init();
    if (status == OK)
        status = choose_policy(info->options.policy);
    if (status != OK)
        return status;
    table_access_choose(info->options.tables);
    ktap_note("tables: reached by the %s way", table_access_name(table_access()));
    tlb_limit_start();
    space_set_limit(info->options.spaces);
    space_set_region_limit(info->options.regions);
    fault_start();
    thread_set_idle_work(runner_idle_step);
    keep_log_ready(&info->options);
    limits_start(info->options.watchdog, info->options.deadline, end_at_deadline);
    machine_interrupts_restore(true);
    disks_start_interrupts();
    return OK;
}

/* Writes what is left of files, unless another system has written to their disk (rule 16), and ends
 * the grant. */
static void settle_files(void)
{
    enum status status = files_disk_last_look();
    unsigned left = status == OK ? file_sections_reap() : 0;

    if (status != OK)
        ktap_fail("the disk with files: %s", status_name(status));
    if (left > 0)
        ktap_fail("%u files have pages that could not be written", left);
    files_disk_close();
}

/* Ends the services, and writes the log to the disk. All that can fail comes before the verdict. */
static enum status stop_services(void)
{
    enum status status = managed_choose(NULL, 0);
    enum status kept;

    CHECK(status == OK);
    space_finish_ends();
    settle_files();
    status = swap_settle();
    if (status != OK)
        ktap_fail("closing the swap area: %s", status_name(status));
    disks_log_totals();
    summary_print_pcids();
    kept = keep_log();
    status = swap_close();
    CHECK(status == OK); /* settled before: nothing is left that could fail */
    disks_stop();
    return kept;
}

enum verdict faultline_main(const struct bootinfo *info)
{
    const struct options *options = &info->options;
    const struct experiment *experiment;
    unsigned wanted = count_wanted(options);
    enum verdict verdict;
    enum status status;
    enum status kept;

    experiments_audit();
    display_listen();
    summary_print_machine(info);
    if (!faultline_knows(options)) {
        ktap_note("there are:");
        experiments_print();
        ktap_bail_out(VERDICT_FAIL, "nothing to run");
        return VERDICT_FAIL;
    }
    current.options = options;
    status = start_services(info);
    if (status != OK) {
        ktap_bail_out(VERDICT_FAIL, "the swap area and the kernel's pages: %s",
                      status_name(status));
        return VERDICT_FAIL;
    }
    ktap_plan(wanted);
    display_start();
    for (unsigned i = 0; (experiment = experiment_at(i)) != NULL; i++) {
        current.next = i;
        if (is_wanted(experiment, options))
            run_one(experiment, options);
        current.next = i + 1;
    }
    kept = stop_services();
    limits_end();
    verdict = ktap_end();
    display_end(kept);
    if (options->prompt)
        prompt_take_commands(options, run_one);
    end_keys();
    return verdict;
}
