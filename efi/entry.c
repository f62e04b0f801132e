/*
 * The start of the run: from the firmware's call to the first experiment.
 *
 * Order: query the firmware, parse the options, start the consoles, refuse a run whose options have
 * errors. Then leave boot services, move to the upper half, set the processors up, and call the
 * layer above.
 */
#include "efi/firmware/firmware.h"

#include "cpu/clock/time.h"
#include "cpu/cpu.h"
#include "cpu/crash/crash.h"
#include "cpu/features.h"
#include "cpu/interrupts/local_apic.h"
#include "cpu/machine.h"
#include "cpu/registers.h"
#include "cpu/trap/trap.h"
#include "efi/acpi/acpi.h"
#include "efi/console/console.h"
#include "efi/console/framebuffer.h"
#include "efi/console/serial.h"
#include "efi/end_run.h"
#include "efi/firmware/reachable.h"
#include "efi/log/kept_log.h"
#include "efi/main.h"
#include "efi/menu.h"
#include "efi/options/options.h"
#include "efi/processors.h"
#include "efi/read_trace.h"
#include "efi/trace/trace.h"
#include "lib/bytes.h"
#include "lib/ktap.h"
#include "lib/print.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "pmm/pmm.h"

EFI_STATUS efi_main(EFI_HANDLE handle, EFI_SYSTEM_TABLE *table);

/* Memory that the firmware leaves for use, below which a run is refused: the kernel's own tables
 * may not fit. A machine with 60 MiB has 53 MiB of it; with 57, OVMF cannot load the image. */
#define MEMORY_LEAST (54 * MIB)

/* Registers of an HPET with its first timers, which the clock reads. */
#define HPET_SIZE 0x400U

/* Ports below this are the PC's own devices: no chipset has its PM timer there. */
#define CHIPSET_PORTS 0x400U

/* Bytes of unreadable load options that an error shows. */
#define LOAD_BYTES_SHOWN 16U

/* The options as they came, before they are parsed. */
struct option_input {
    char load[OPTION_TEXT_SIZE];
    enum option_text load_kind;
    size_t load_size;                            /* bytes that the firmware passed */
    char load_bytes[3U * LOAD_BYTES_SHOWN + 1U]; /* the first of them, in hexadecimal */
    struct config_file file;
};

/* In .bss, which moves with the image. */
static struct bootinfo bootinfo;
static struct option_input option_input;
static struct reachable reachable;
static struct kept_place {
    bool found;
    struct phys block;
    char words[240];
} kept_place;

static uint64_t read_firmware_entry(struct phys entry)
{
    return *(const volatile uint64_t *)(uintptr_t)entry.address;
}

static void find_firmware_tables(void)
{
    reachable = (struct reachable){.info = &bootinfo,
                                   .root = machine_root(),
                                   .levels = (cpu_read_cr4() & CR4_LA57) != 0 ? 5 : 4,
                                   .read = read_firmware_entry};
}

static const void *entry_map_one_to_one(struct phys address, uint64_t size)
{
    (void)size;
    return (const void *)(uintptr_t)address.address;
}

static void report_option(struct option_reporter *reporter, const char *text)
{
    (void)reporter;
    ktap_note("option error: %s", text);
}

static void read_options(const struct firmware *firmware)
{
    const EFI_LOADED_IMAGE *image = firmware->image;
    const unsigned char *bytes = image->LoadOptions;
    size_t size = bytes != NULL ? image->LoadOptionsSize : 0;

    option_input.load_size = size;
    for (size_t i = 0; i < min_u64(size, LOAD_BYTES_SHOWN); i++)
        print_to(option_input.load_bytes + 3 * i, 4, " %02x", bytes[i]);
    option_input.load_kind =
        options_text(bytes, size, option_input.load, sizeof(option_input.load));
    firmware_read_config(firmware, &option_input.file);
}

static unsigned parse_options(struct option_reporter *reporter)
{
    struct option_sources sources = {.load = option_input.load,
                                     .file = option_input.file.text,
                                     .file_size = option_input.file.size};

    return options_parse(&sources, &bootinfo.options, reporter);
}

/* Logs the load options, with '?' for characters that a terminal cannot show. */
static void report_load_options(void)
{
    static char text[OPTION_TEXT_SIZE];

    for (size_t i = 0; option_input.load[i] != '\0'; i++)
        text[i] = option_printable(option_input.load[i]);
    ktap_note("load options: %s", text);
}

/* Logs the options that this machine cannot have; returns how many. */
static unsigned refuse_options(const struct options *options)
{
    unsigned errors = 0;

    if (options->serial == SERIAL_PORT && !serial_owns_port(options->serial_port)) {
        ktap_note(
            "option error: serial=%#x: no serial port is known there; accepted: 0x3f8, 0x2f8, "
            "0x3e8, 0x2e8, or the port of a PCI serial controller",
            options->serial_port);
        errors++;
    }
    if (options->la57 == LA57_ON && !cpu_features()->la57) {
        ktap_note("option error: la57=1: this processor has no five-level paging (LA57)");
        errors++;
    }
    return errors;
}

/* Logs the options and their errors; returns the number of errors. */
static unsigned report_options(void)
{
    struct option_reporter reporter = {.report = report_option};
    unsigned errors = 0;

    if (option_input.load_kind == OPTION_TEXT_FIRMWARE)
        ktap_note("load options: the firmware's mark, no options");
    else if (option_input.load_kind == OPTION_TEXT_READ)
        report_load_options();
    if (option_input.file.text != NULL)
        ktap_note("faultline.cfg: %zu bytes", option_input.file.size);
    if (option_input.load_kind == OPTION_TEXT_BINARY) {
        ktap_note("option error: load options: %zu bytes that are no text:%s",
                  option_input.load_size, option_input.load_bytes);
        errors++;
    }
    if (option_input.load_kind == OPTION_TEXT_LONG) {
        ktap_note("option error: load options: longer than %u characters", OPTION_TEXT_SIZE - 1);
        errors++;
    }
    if (option_input.file.error != NULL) {
        ktap_note("option error: faultline.cfg: %s", option_input.file.error);
        errors++;
    }
    errors += parse_options(&reporter);
    return errors + refuse_options(&bootinfo.options);
}

/* Ends a run that cannot begin, because of the failed step. */
static _Noreturn void give_up(const char *step, enum status status)
{
    ktap_bail_out(VERDICT_FAIL, "%s: %s; nothing was touched", step, status_name(status));
    finish_run(VERDICT_FAIL);
}

/* Refuses a machine with too little memory, before anything changes. */
static void check_memory(void)
{
    uint64_t found = 0;

    for (uint32_t i = 0; i < bootinfo.region_count; i++) {
        const struct memory_region *region = &bootinfo.regions[i];

        if (region->kind == MEMORY_USABLE || region->kind == MEMORY_LOADER ||
            region->kind == MEMORY_BOOT_SERVICES)
            found += region->pages * PAGE_SIZE;
    }
    if (found >= MEMORY_LEAST)
        return;
    ktap_bail_out(VERDICT_FAIL,
                  "too little memory: %lu KiB for use, %lu KiB are needed; nothing was touched",
                  found / KIB, MEMORY_LEAST / KIB);
    finish_run(VERDICT_FAIL);
}

/* Reads the trace of trace=; ends the run if it is no trace. */
static void read_trace(const struct firmware *firmware)
{
    const char *name = bootinfo.options.trace;
    const char *problem;

    if (name[0] == '\0')
        return;
    problem = read_trace_file(firmware, name);
    if (problem != NULL) {
        ktap_note("option error: trace=%s: %s", name, problem);
        ktap_bail_out(VERDICT_FAIL, "1 option error; nothing was touched");
        finish_run(VERDICT_FAIL);
    }
    ktap_note(
        "trace: %s: %u requests for %u objects; %u of size 0 left out, %u for more than a page",
        name, trace_given()->requests, trace_given()->pages, trace_given()->left_out,
        trace_given()->large);
}

/* Starts the consoles and logs which were found. A run needs no screen, so a missing one is only a
 * note. */
static void start_log(const struct acpi *acpi, enum status acpi_status, const char *screen)
{
    consoles_start(&reachable, acpi);
    finish_start(&bootinfo);
    ktap_begin();
    if (kept_place.words[0] != '\0')
        ktap_note("report=boot: %s", kept_place.words);
    if (kept_place.found)
        kept_log_survive(kept_place.block);
    ktap_note("serial: %s", serial_description());
    ktap_note("screen: %s", bootinfo.screen.width != 0 ? console_description() : screen);
    ktap_note("the run ends by: %s", finish_description());
    if (acpi_status != OK)
        ktap_note("ACPI tables: %s", status_name(acpi_status));
}

/* Starts the clock of all time-outs; the firmware's timer interrupt is already off. */
static void start_clock(const struct acpi *acpi, enum status acpi_status)
{
    struct time_clocks clocks = {0};
    struct acpi_pm_timer timer;
    struct phys hpet;

    if (acpi_status == OK && acpi_find_pm_timer(acpi, &timer) == OK &&
        timer.counter.space == ACPI_SPACE_IO && timer.counter.address >= CHIPSET_PORTS &&
        timer.counter.address <= UINT16_MAX) {
        clocks.pm_timer_port = (uint16_t)timer.counter.address;
        clocks.pm_timer_32bit = timer.wide;
    }
    if (acpi_status == OK && acpi_find_hpet(acpi, &hpet) == OK &&
        reachable_device(&reachable, hpet, HPET_SIZE))
        clocks.hpet = (volatile void *)(uintptr_t)hpet.address;
    time_init(&clocks);
}

static volatile void *mask_local_apic(const struct bootinfo *info)
{
    volatile void *registers = reachable_map_local_apic(info, local_apic_base());

    local_apic_mask(registers);
    return registers;
}

/* The first code in the upper half. The consoles come first, since a panic before that has no
 * output. */
static void continue_in_upper_half(struct bootinfo *info)
{
    struct cpu_stacks stacks;
    volatile void *local_apic;
    enum status status;
    uint64_t leaves;

    console_relocated();
    end_run_relocated();
    crash_add_guard(STACK_WINDOW_BASE, STACK_WINDOW_BASE + PAGE_SIZE, "stack of cpu 0");
    stacks = processors_trap_stacks(0);
    traps_init(&stacks);
    local_apic = mask_local_apic(info);
    pmm_choose(frame_allocator(info->options.pmm));
    status = pmm_init(info->options.memory_limit);
    if (status != OK)
        give_up("physical memory", status);
    leaves = kernel_map_prove_rights();
    if (leaves > 0)
        ktap_note("kernel mappings: %lu leaves, no frame both writable and executable", leaves);
    processors_start(info->options.cpus, local_apic);
    finish_run(faultline_main(info));
}

EFI_STATUS efi_main(EFI_HANDLE handle, EFI_SYSTEM_TABLE *table)
{
    enum status acpi_status = STATUS_NOT_FOUND;
    struct firmware firmware;
    const char *screen;
    enum status status;
    unsigned errors;
    struct acpi acpi;

    status = firmware_open(handle, table, &firmware);
    if (status != OK)
        return EFI_UNSUPPORTED;
    /* The firmware's watchdog would reset the machine after five minutes. */
    firmware.services->SetWatchdogTimer(0, 0, 0, NULL);
    read_options(&firmware);
    parse_options(NULL);
    firmware_collect(&firmware, &bootinfo);
    if (bootinfo.options.report == REPORT_BOOT)
        kept_place.found = firmware_keep_log(&firmware, &kept_place.block, kept_place.words,
                                             sizeof(kept_place.words));
    find_firmware_tables();
    screen = firmware_find_screen(&firmware, &bootinfo.screen);
    status = firmware_read_map(&firmware, &bootinfo);
    if (status == OK)
        acpi_status = acpi_open(&bootinfo, entry_map_one_to_one, &acpi);
    start_log(acpi_status == OK ? &acpi : NULL, acpi_status, screen);
    processors_find(acpi_status == OK ? &acpi : NULL);
    if (status != OK)
        give_up("the firmware's memory map", status);
    errors = report_options();
    if (errors > 0) {
        ktap_bail_out(VERDICT_FAIL, "%u option error%s; nothing was touched", errors,
                      errors == 1 ? "" : "s");
        finish_run(VERDICT_FAIL);
    }

    check_memory();
    menu_open(&firmware, option_input.load,
              &(struct option_sources){.file = option_input.file.text,
                                       .file_size = option_input.file.size},
              &bootinfo.options, refuse_options);
    read_trace(&firmware);
    finish_start(&bootinfo);
    firmware_confirm_swap(&firmware, &bootinfo.options);
    status = firmware_leave(&firmware, &bootinfo);
    if (status != OK)
        give_up("ExitBootServices", status);
    machine_interrupts_off();
    start_clock(&acpi, acpi_status);
    kernel_map_enter(&bootinfo, continue_in_upper_half);
}
