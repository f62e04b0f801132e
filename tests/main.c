/* The run: from a machine that is ours to a verdict. */
#include "efi/main.h"

#include <stddef.h>

#include "cpu/crash.h"
#include "cpu/features.h"
#include "cpu/machine.h"
#include "efi/options.h"
#include "lib/bytes.h"
#include "paging/kernel_map.h"
#include "paging/table_way.h"
#include "swapdisk/area.h"
#include "swapdisk/disks.h"
#include "tests/experiment.h"
#include "tests/ledger.h"
#include "tests/summary.h"
#include "tests/watchdog.h"
#include "vmm/fault.h"
#include "vmm/space.h"

/* Slots of the area in RAM that serves without a disk: 64 MiB, taken only as it is used. */
#define RAM_SLOTS 16384U

/* Frames cleared before each experiment, as a processor without work would clear them. */
#define IDLE_FRAMES 256U

/* Whether a comma-separated list has this very word. */
static bool list_names(const char *list, const char *word)
{
    size_t length = strlen(word);

    for (const char *at = list; *at != '\0';) {
        size_t item = 0;

        while (at[item] != ',' && at[item] != '\0')
            item++;
        if (item == length && strncmp(at, word, length) == 0)
            return true;
        at += item + (at[item] == ',' ? 1 : 0);
    }
    return false;
}

static bool is_wanted(const struct experiment *experiment, const struct options *options)
{
    if (experiment->only_by_name)
        return list_names(options->run, experiment->name);
    return option_run_matches(options, experiment->name);
}

static unsigned count_wanted(const struct options *options)
{
    unsigned wanted = 0;

    for (unsigned i = 0; experiments[i] != NULL; i++)
        wanted += is_wanted(experiments[i], options);
    return wanted;
}

static void run_one(const struct experiment *experiment, const struct options *options)
{
    struct ledger before = ledger_take();
    uint64_t began;

    pmm_idle_fill(IDLE_FRAMES);
    began = machine_now_ns();
    ktap_suite_begin(experiment->name, experiment->checks + 1);
    ktap_note("%s", experiment->question);
    experiment->run(options);
    ktap_check(ledger_even(&before), "the ledger is even");
    ktap_note("took %lu ms", (machine_now_ns() - began) / 1000000);
    ktap_suite_end();
}

static void print_walk(uint64_t address)
{
    tree_print_walk(machine_root(), kernel_map_levels(), address);
}

/* Disks are looked at and the swap area is opened before the first experiment. */
static void start_services(const struct bootinfo *info)
{
    enum status status;

    crash_set_walk_printer(print_walk);
    pte_ticket_key((uint16_t)(info->options.seed * UINT64_C(0x9e3779b97f4a7c15) >> 48));
    disks_scan(&info->options, cpu_features()->hypervisor);
    summary_print_disks();
    status = swap_open(&info->options, RAM_SLOTS);
    if (status == OK)
        status = vmm_init();
    if (status != OK)
        PANIC("the services of memory: %s", status_name(status));
    table_way_choose(info->options.tables);
    ktap_note("tables: reached by the %s way", table_way_name(table_way()));
    fault_start();
    watchdog_start(info->options.watchdog);
    machine_interrupts_restore(true);
}

static void stop_services(void)
{
    enum status status = swap_close();

    if (status != OK)
        ktap_note("closing the swap area: %s", status_name(status));
    disks_stop();
}

enum verdict faultline_main(const struct bootinfo *info)
{
    const struct options *options = &info->options;
    unsigned wanted = count_wanted(options);

    summary_print_machine(info);
    if (wanted == 0) {
        ktap_note("run=%s names no experiment; there are:", options->run);
        for (unsigned i = 0; experiments[i] != NULL; i++)
            ktap_note("  %s: %s", experiments[i]->name, experiments[i]->question);
        ktap_bail_out(VERDICT_FAIL, "nothing to run");
        return VERDICT_FAIL;
    }
    start_services(info);
    ktap_plan(wanted);
    for (unsigned i = 0; experiments[i] != NULL; i++) {
        if (is_wanted(experiments[i], options))
            run_one(experiments[i], options);
    }
    stop_services();
    return ktap_end();
}
