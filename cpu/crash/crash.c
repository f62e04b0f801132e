/*
 * Crash reports.
 *
 *   depth 1   the whole report           (first trap or panic)
 *   depth 2 a few lines; reads no memory but the frame (the report has faulted)
 *   depth 3 the finisher only; prints nothing
 *   depth 4   halt
 *
 * Each further depth is entered by a trap or a panic inside the one before it; none returns. One
 * processor reports; it stops the others by NMI, and says where they were.
 */
#include "cpu/crash/crash.h"

#include <stdarg.h>
#include <stddef.h>

#include "cpu/crash/report.h"
#include "cpu/crash/symbols.h"
#include "cpu/interrupts/local_apic.h"
#include "cpu/percpu.h"
#include "cpu/registers.h"
#include "cpu/smp/thread.h"
#include "cpu/trap/trap.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "lib/print.h"

/* The calls that led to this place, and those that led to a trap. */
#define CALLS_HERE                                                                                 \
    ((struct crash_calls){.rip = (uint64_t)(uintptr_t)__builtin_return_address(0),                 \
                          .rbp = (uint64_t)(uintptr_t)__builtin_frame_address(0)})
#define CALLS_OF(frame_)                                                                           \
    ((struct crash_calls){.rip = (frame_)->rip, .rsp = (frame_)->rsp, .rbp = (frame_)->rbp})

#define TEXT_SIZE  200U
#define NAME_SIZE  96U
#define GUARDS_MAX (CPU_MAX * (5 + THREADS_PER_CPU)) /* its own, four of the TSS, its threads' */

/* How far above a guard page the stack pointer of an overflow may still be: a push of one word
 * faults in the guard page while the stack pointer is at its end. */
#define GUARD_REACH UINT64_C(8)

/* How long the others have to take the NMI that stops them, and how many get a backtrace. */
#define STOP_MS      1000U
#define TOLD_IN_FULL 8U

/* Each CPU's part in a crash: its own, but that others read stopped and frame. */
struct crash_state {
    unsigned depth;          /* of its reports */
    bool stopped;            /* for good, for another CPU's report */
    struct trap_frame frame; /* of the trap that its first report is about; rip 0: none */
};

struct guard {
    uint64_t low;
    uint64_t high;
    const char *name;
};

/* The code that the log keeper needs: efi/image/faultline.lds. */
extern const char image_keeper_start[];
extern const char image_keeper_end[];

static struct crash_state states[CPU_MAX];
static struct guard guards[GUARDS_MAX];
static unsigned guard_count;
static unsigned reporter; /* the processor that reports, plus 1; 0: no crash yet */
static void (*walk_printer)(uint64_t address);
static const char *(*log_keeper)(void);
static void (*end_machine)(void);

static const char *guard_at(uint64_t address, uint64_t reach)
{
    for (unsigned i = 0; i < guard_count; i++) {
        if (address >= guards[i].low && address < guards[i].high + reach)
            return guards[i].name;
    }
    return NULL;
}

/* Returns the name of the overflowed stack, or NULL. Compares the fault's address, and for a #DF
 * also the stack pointer, since CR2 may be of an older fault. */
static const char *overflowed_stack(const struct trap_frame *frame)
{
    const char *name = NULL;

    if (frame->vector == TRAP_PF || frame->vector == TRAP_DF)
        name = guard_at(frame->cr2, 0);
    if (name == NULL && frame->vector == TRAP_DF)
        name = guard_at(frame->rsp, GUARD_REACH);
    return name;
}

_Noreturn static void crash_finish(void)
{
    if (end_machine != NULL)
        end_machine();
    cpu_halt();
}

/* ---- the other processors ---- */

/* Halts this processor, and stores its frame for the report. */
_Noreturn static void stop(const struct trap_frame *frame)
{
    struct crash_state *self = &states[cpu_self()->number];

    if (frame != NULL)
        self->frame = *frame;
    __atomic_store_n(&self->stopped, true, __ATOMIC_RELEASE);
    cpu_halt();
}

void trap_stop_if_asked(const struct trap_frame *frame)
{
    unsigned who = __atomic_load_n(&reporter, __ATOMIC_ACQUIRE);

    if (who != 0 && who != cpu_self()->number + 1)
        stop(frame);
}

/* Returns the other running processors, one bit each. */
static uint64_t other_processors(void)
{
    return traps_ready() ? machine_processors() & ~(UINT64_C(1) << cpu_self()->number) : 0;
}

static uint64_t unstopped_processors(void)
{
    uint64_t left = other_processors();

    for (uint64_t at = left; at != 0; at &= at - 1) {
        unsigned cpu = (unsigned)__builtin_ctzll(at);

        if (__atomic_load_n(&states[cpu].stopped, __ATOMIC_ACQUIRE))
            left &= ~(UINT64_C(1) << cpu);
    }
    return left;
}

static void stop_others(void)
{
    struct deadline end = deadline_after_ms(STOP_MS);

    for (uint64_t at = unstopped_processors(); at != 0; at &= at - 1)
        (void)local_apic_send(cpu_table[__builtin_ctzll(at)].apic_id, ICR_NMI);
    while (unstopped_processors() != 0 && !deadline_passed(end))
        machine_pause();
}

static void print_other(unsigned cpu, bool in_full)
{
    const struct trap_frame *frame = &states[cpu].frame;
    char name[NAME_SIZE];

    if (!__atomic_load_n(&states[cpu].stopped, __ATOMIC_ACQUIRE)) {
        print("# cpu %u: does not respond to an NMI\n", cpu);
    } else if (frame->rip == 0) {
        print("# cpu %u: panicked too\n", cpu);
    } else {
        symbols_print_to(name, sizeof(name), frame->rip);
        print("# cpu %u was at %016lx %s, interrupts %s\n", cpu, frame->rip, name,
              (frame->rflags & RFLAGS_IF) != 0 ? "on" : "off");
        if (frame->vector != TRAP_NMI)
            print("# cpu %u: %s, cr2 %016lx, error 0x%lx\n", cpu,
                  trap_mnemonic((unsigned)frame->vector), frame->cr2, frame->error);
        if (in_full)
            crash_print_trap_calls(frame);
    }
}

static void print_others(void)
{
    unsigned told = 0;

    for (uint64_t at = other_processors(); at != 0; at &= at - 1)
        print_other((unsigned)__builtin_ctzll(at), told++ < TOLD_IN_FULL);
}

/* ---- keeping the log ---- */

/* Returns why the log keeper may not be called; NULL if it may. */
static const char *keeper_refused(const struct crash_calls *calls)
{
    const struct trap_frame *frame = &states[cpu_self()->number].frame;

    if (states[cpu_self()->number].depth > 1)
        return "the report of the crash crashed";
    if (frame->rip != 0 && frame->vector == TRAP_MC)
        return "the machine reports an error of its own";
    if (unstopped_processors() != 0)
        return "a processor does not stop";
    if (crash_calls_meet(calls, image_keeper_start, image_keeper_end))
        return "the crash came from the disk driver";
    return NULL;
}

/* Lets the log keeper write, and says what came of it behind the verdict. */
static void try_to_keep(const struct crash_calls *calls)
{
    const char *words;

    if (log_keeper == NULL)
        return;
    words = keeper_refused(calls);
    if (words != NULL) {
        print("# the log is not on the disk: %s\n", words);
        return;
    }
    words = log_keeper();
    if (words != NULL)
        print("# %s\n", words);
}

void crash_keep_log(void)
{
    try_to_keep(&CALLS_HERE);
}

void crash_set_log_keeper(const char *(*keeper)(void))
{
    log_keeper = keeper;
}

/* ---- reports ---- */

/* Enters the next depth of this processor's reports and returns it; does not return if another
 * processor already reports. From here on no page fault is resolved, since the fault handler may be
 * the code that failed. */
static unsigned crash_enter(const struct trap_frame *frame)
{
    unsigned who = 0;
    unsigned depth;

    machine_interrupts_off();
    depth = ++states[cpu_self()->number].depth;
    if (depth > 3)
        cpu_halt();
    if (depth == 1 && !__atomic_compare_exchange_n(&reporter, &who, cpu_self()->number + 1, false,
                                                   __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        stop(frame);
    trap_page_fault = trap_page_fault_none;
    print_divert(NULL);
    if (depth == 1)
        stop_others();
    if (traps_ready())
        traps_disarm_nmi();
    if (depth > 2)
        crash_finish();
    return depth;
}

/* Prints the heading. The empty line ends a log line that the crash may have cut. */
static void print_heading(const char *what)
{
    if (print_has_line_start())
        print_set_line_start(KTAP_AFTER_END);
    print("\n# crash on cpu %u: %s\n", cpu_self()->number, what);
}

/* Prints the end of the report and ends the run. */
_Noreturn static void end(const char *what, uint64_t rip, const struct crash_calls *calls)
{
    crash_print_where(rip);
    ktap_bail_out(VERDICT_CRASH, "%s", what);
    try_to_keep(calls);
    crash_finish();
}

/* Prints the second report: the trap inside the first report, and the trap that the first one
 * reported. */
_Noreturn static void crash_in_crash(const char *what, uint64_t rip)
{
    const struct trap_frame *first = &states[cpu_self()->number].frame;
    char name[NAME_SIZE];

    print("\n# crash within the report of a crash: %s\n", what);
    if (rip != 0) {
        symbols_print_to(name, sizeof(name), rip);
        print("# at %016lx %s\n", rip, name);
    }
    if (first->rip != 0) {
        symbols_print_to(name, sizeof(name), first->rip);
        print("# the first: %s at %016lx %s, cr2 %016lx, error 0x%lx\n",
              trap_mnemonic((unsigned)first->vector), first->rip, name, first->cr2, first->error);
    }
    end(what, rip != 0 ? rip : first->rip, NULL);
}

void trap_unhandled(const struct trap_frame *frame)
{
    unsigned depth = crash_enter(frame);
    struct trap_frame *saved = &states[cpu_self()->number].frame;
    char what[TEXT_SIZE];
    char name[NAME_SIZE];

    crash_words(frame, overflowed_stack(frame), what, sizeof(what));
    if (depth > 1)
        crash_in_crash(what, frame->rip);
    *saved = *frame;
    print_heading(what);
    symbols_print_to(name, sizeof(name), saved->rip);
    print("# at %016lx %s\n", saved->rip, name);
    crash_print_registers(saved);
    crash_print_code(saved->rip);
    crash_print_trap_calls(saved);
    if (saved->vector == TRAP_MC)
        crash_print_machine_check();
    if ((saved->vector == TRAP_PF || saved->vector == TRAP_DF) && walk_printer != NULL)
        walk_printer(saved->cr2);
    print_others();
    end(what, saved->rip, &CALLS_OF(saved));
}

void panic_at(const char *file, int line, const char *format, ...)
{
    unsigned depth = crash_enter(NULL);
    char what[TEXT_SIZE];
    size_t length = print_to(what, sizeof(what), "%s:%d: ", file, line);
    va_list arguments;

    if (length < sizeof(what)) {
        va_start(arguments, format);
        print_to_va(what + length, sizeof(what) - length, format, arguments);
        va_end(arguments);
    }
    if (depth > 1)
        crash_in_crash(what, 0);
    print_heading(what);
    crash_print_backtrace();
    print_others();
    end(what, (uint64_t)(uintptr_t)__builtin_return_address(0) - 1, &CALLS_HERE);
}

void crash_take_over(void)
{
    (void)crash_enter(NULL);
}

bool crash_begun(void)
{
    return __atomic_load_n(&reporter, __ATOMIC_RELAXED) != 0;
}

void crash_set_walk_printer(void (*printer)(uint64_t address))
{
    walk_printer = printer;
}

void crash_set_finisher(void (*finisher)(void))
{
    end_machine = finisher;
}

void crash_add_guard(uint64_t low, uint64_t high, const char *name)
{
    CHECK(low < high);
    CHECK(guard_count < GUARDS_MAX);
    guards[guard_count] = (struct guard){low, high, name};
    guard_count++;
}
