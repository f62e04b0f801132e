/* The processors. */
#include "efi/processors.h"

#include "cpu/crash/crash.h"
#include "cpu/interrupts/local_apic.h"
#include "cpu/machine.h"
#include "cpu/smp/shootdown.h"
#include "cpu/smp/start.h"
#include "cpu/smp/thread.h"
#include "efi/acpi/madt.h"
#include "lib/bytes.h"
#include "lib/ktap.h"
#include "lib/print.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "pmm/memory_map.h"
#include "pmm/pmm.h"
#include "pmm/pool.h"

/* A stack for traps must hold a whole crash report. */
#define TRAP_STACK_PAGES   4U
#define IDLE_STACK_PAGES   4U
#define THREAD_STACK_PAGES 8U

/* A processor starts within a millisecond; in an emulator on a busy host it may take seconds. */
#define START_BOUND_MS 5000U

/* End of the memory for the trampoline. The extended BIOS data area above may be missing from the
 * memory map. */
#define TRAMPOLINE_END UINT64_C(0x9f000)

#define NAME_SIZE 40U
#define NAMES_MAX (CPU_MAX * (5U + THREADS_PER_CPU))

static struct {
    enum status madt_status;
    struct madt madt;
    volatile void *registers;
    struct phys trampoline;
    uint32_t limit;
    uint32_t boot_id;
    unsigned count;
    unsigned dead_count;
    uint32_t dead[MADT_PROCESSORS_MAX]; /* ids */
    enum status problem;                /* why no processor could be started; OK: they could */
    char names[NAMES_MAX][NAME_SIZE];
    unsigned name_count;
} processors = {.madt_status = STATUS_NOT_FOUND, .count = 1};

void processors_find(const struct acpi *acpi)
{
    if (acpi != NULL)
        processors.madt_status = acpi_find_madt(acpi, &processors.madt);
}

/* Maps a stack above a guard page, and registers the guard's name for crash reports. */
static uint64_t named_stack(unsigned pages, const char *format, unsigned cpu, unsigned number)
{
    uint64_t size = pages * PAGE_SIZE;
    char *name = processors.names[processors.name_count++];
    enum status status;
    uint64_t top;

    CHECK(processors.name_count <= NAMES_MAX);
    print_to(name, NAME_SIZE, format, cpu, number);
    status = kernel_map_stack(pages, &top);
    if (status != OK)
        PANIC("%s: %s", name, status_name(status));
    crash_add_guard(top - size - PAGE_SIZE, top - size, name);
    return top;
}

struct cpu_stacks processors_trap_stacks(unsigned number)
{
    return (struct cpu_stacks){
        .rsp0 = named_stack(TRAP_STACK_PAGES, "stack of cpu %u for programs", number, 0),
        .double_fault =
            named_stack(TRAP_STACK_PAGES, "stack of cpu %u for double faults", number, 0),
        .nmi = named_stack(TRAP_STACK_PAGES, "stack of cpu %u for NMIs", number, 0),
        .machine_check =
            named_stack(TRAP_STACK_PAGES, "stack of cpu %u for machine checks", number, 0)};
}

/* Finds the highest usable page below 1 MiB; pmm/ allocates none of them. */
static bool find_trampoline(void)
{
    const struct memory_map *map = memory_map();

    for (uint32_t i = 0; i < map->count; i++) {
        const struct memory_range *range = &map->ranges[i];
        uint64_t end = min_u64(range->end, TRAMPOLINE_END);

        if (range->kind == MEMORY_USABLE && !range->kernel && range->start < end &&
            end - PAGE_SIZE > 0)
            processors.trampoline.address = end - PAGE_SIZE;
    }
    return processors.trampoline.address != 0;
}

/* Makes the root with which a processor starts (rule A4): a copy of the firmware's root below 4
 * GiB, which CR3 can name in protected mode. */
static enum status processors_make_root(struct pfn *root)
{
    enum status status = pmm_alloc_low(FRAME_KERNEL, FRAME_UNCLEARED, root);

    if (status == OK)
        machine_copy_frame(frame_pointer(*root), phys_pointer(kernel_map_firmware_root()));
    return status;
}

static struct cpu_start processors_describe(uint32_t apic_id, unsigned number, struct pfn root)
{
    return (struct cpu_start){
        .apic_id = apic_id,
        .number = number,
        .trampoline = processors.trampoline,
        .trampoline_window = phys_pointer(processors.trampoline),
        .root = phys_of(root),
        .kernel_root = kernel_map_root(),
        .local_apic = processors.registers,
    };
}

static void add_thread_stacks(unsigned cpu)
{
    for (unsigned i = 1; i <= THREADS_PER_CPU; i++)
        thread_add_stack(cpu,
                         named_stack(THREAD_STACK_PAGES, "stack of cpu %u, thread %u", cpu, i));
}

/* Starts a processor with the next number. If it does not answer, the next one gets its stacks. */
static void start_one(uint32_t apic_id, struct pfn root)
{
    static struct cpu_stacks stacks;
    static uint64_t stack;
    static unsigned stacks_for;
    struct cpu_start how = processors_describe(apic_id, processors.count, root);

    if (stacks_for != processors.count) {
        stacks = processors_trap_stacks(processors.count);
        stack = named_stack(IDLE_STACK_PAGES, "stack of cpu %u", processors.count, 0);
        stacks_for = processors.count;
    }
    how.stacks = stacks;
    how.stack = stack;
    if (cpu_start(&how, START_BOUND_MS) != OK) {
        processors.dead[processors.dead_count++] = apic_id;
        return;
    }
    add_thread_stacks(processors.count);
    processors.count++;
}

static bool may_start_more(void)
{
    return processors.count < CPU_MAX &&
           (processors.limit == 0 || processors.count < processors.limit);
}

static enum status start_all(void)
{
    struct pfn root;
    enum status status = processors_make_root(&root);

    if (status != OK)
        return status;
    for (unsigned i = 0; i < processors.madt.count && may_start_more(); i++) {
        if (processors.madt.ids[i] != processors.boot_id &&
            (local_apic_is_x2() || processors.madt.ids[i] < UINT8_MAX))
            start_one(processors.madt.ids[i], root);
    }
    pmm_free(root);
    return OK;
}

/* Threads come from a pool, as all objects of one size do. */
static struct pool threads = {.name = "thread"};

static enum status take_thread(void **object)
{
    return pool_alloc(&threads, object);
}

static void give_thread(void *object)
{
    pool_free(&threads, object);
}

static const struct thread_memory thread_memory = {take_thread, give_thread};

void processors_start(uint32_t limit, volatile void *registers)
{
    threads.object_size = (uint16_t)round_up(thread_size(), 16);
    threads_come_from(&thread_memory);
    thread_add_stack(0, named_stack(IDLE_STACK_PAGES, "stack of cpu %u when idle", 0, 0));
    add_thread_stacks(0);
    threads_start(0);
    shootdown_start();
    local_apic_timer_start();
    processors.registers = registers;
    processors.limit = limit;
    if (!local_apic_present()) {
        processors.problem = STATUS_UNSUPPORTED;
        return;
    }
    processors.boot_id = local_apic_id();
    cpu_set_apic_id(processors.boot_id);
    if (processors.madt_status != OK || processors.madt.count < 2)
        return;
    processors.problem = find_trampoline() ? start_all() : STATUS_NO_MEMORY;
}

unsigned processors_count(void)
{
    return processors.count;
}

enum status processors_try(uint32_t apic_id, unsigned bound_ms)
{
    struct cpu_start how;
    struct pfn root;
    enum status status = STATUS_UNSUPPORTED;

    if (processors.count == CPU_MAX || !local_apic_present() ||
        (processors.trampoline.address == 0 && !find_trampoline()))
        return STATUS_UNSUPPORTED;
    status = processors_make_root(&root);
    if (status != OK)
        return status;
    how = processors_describe(apic_id, CPU_MAX - 1, root);
    how.stack =
        STACK_WINDOW_BASE; /* unmapped: an unexpected processor would stop at its first push */
    status = cpu_start(&how, bound_ms);
    pmm_free(root);
    return status;
}

static void print_found(void)
{
    const struct madt *madt = &processors.madt;

    if (processors.madt_status != OK)
        ktap_note("processors: the MADT: %s; only the first processor is used",
                  status_name(processors.madt_status));
    else if (madt->disabled + madt->repeated + madt->left_out > 0)
        ktap_note(
            "processors: the MADT has %u more that are disabled, %u listed twice, %u too many",
            madt->disabled, madt->repeated, madt->left_out);
}

void processors_print(void)
{
    unsigned known = processors.madt_status == OK ? processors.madt.count : 1;

    print_found();
    for (unsigned i = 0; i < processors.dead_count; i++)
        ktap_note("processors: APIC id %u did not answer within %u ms: not used",
                  processors.dead[i], START_BOUND_MS);
    if (processors.problem != OK)
        ktap_note("processors: none could be started: %s", status_name(processors.problem));
    ktap_note("processors: %u of %u run%s%s", processors.count, known,
              processors.limit != 0 && processors.limit < known ? ", as cpus= limits them" : "",
              !local_apic_present() ? "; no local APIC"
              : local_apic_is_x2()  ? "; x2APIC"
                                    : "; xAPIC");
    if (local_apic_timer_hz() != 0)
        ktap_note("processors: the local APIC's timer runs at %lu kHz",
                  local_apic_timer_hz() / 1000);
}
