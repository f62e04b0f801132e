/*
 * The end of a run that went wrong.
 *
 *   depth 1   the whole report           (first trap or panic)
 *   depth 2   a few lines, no memory read but the frame   (the report has faulted)
 *   depth 3   the finisher, without words
 *   depth 4   halt
 *
 * Each further depth is entered by a trap or a panic inside the one before it; none returns.
 */
#include "cpu/crash.h"

#include <stdarg.h>
#include <stddef.h>

#include "cpu/crash_report.h"
#include "cpu/percpu.h"
#include "cpu/symbols.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "lib/print.h"

#define TEXT_SIZE  200U
#define NAME_SIZE  96U
#define GUARDS_MAX (CPU_MAX * (5 + THREADS_PER_CPU)) /* its own, four of the TSS, its threads' */

/* How far above a guard page the stack pointer of an overflow may still be: a push of one word
 * faults in the guard page while the stack pointer is at its end. */
#define GUARD_REACH UINT64_C(8)

struct guard {
    uint64_t low;
    uint64_t high;
    const char *name;
};

static struct guard guards[GUARDS_MAX];
static unsigned guard_count;
static void (*walk_printer)(uint64_t address);
static void (*end_machine)(void);

static const char *guard_at(uint64_t address, uint64_t reach)
{
    for (unsigned i = 0; i < guard_count; i++) {
        if (address >= guards[i].low && address < guards[i].high + reach)
            return guards[i].name;
    }
    return NULL;
}

/* The stack that a trap shows to have overflowed: by the address of the fault, or for a #DF also
 * by the stack pointer, since CR2 may be an older fault's. */
static const char *overflowed(const struct trap_frame *frame)
{
    const char *name = NULL;

    if (frame->vector == TRAP_PF || frame->vector == TRAP_DF)
        name = guard_at(frame->cr2, 0);
    if (name == NULL && frame->vector == TRAP_DF)
        name = guard_at(frame->rsp, GUARD_REACH);
    return name;
}

_Noreturn static void finish(void)
{
    if (end_machine != NULL)
        end_machine();
    cpu_halt();
}

/* One deeper in this processor's reports. Nothing resolves a page fault from here on: whoever did
 * may be what has failed. */
static unsigned enter(void)
{
    unsigned depth;

    machine_interrupts_off();
    depth = ++cpu_self()->crashes;
    if (depth > 3)
        cpu_halt();
    trap_page_fault = trap_page_fault_none;
    if (cpu_traps_ready())
        cpu_disarm_nmi();
    if (depth > 2)
        finish();
    return depth;
}

/* The first report's line: it may stand in the middle of another one. */
static void print_heading(const char *what)
{
    print("\n# crash on cpu %u: %s\n", cpu_self()->number, what);
}

_Noreturn static void end(const char *what)
{
    ktap_bail_out(VERDICT_CRASH, "%s", what);
    finish();
}

/* The second report: the trap that the first one met, and what the first was about. */
_Noreturn static void crash_in_crash(const char *what, uint64_t rip)
{
    const struct trap_frame *first = &cpu_self()->crash;
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
    end(what);
}

void crash_trap(const struct trap_frame *frame)
{
    unsigned depth = enter();
    struct trap_frame *saved = &cpu_self()->crash;
    char what[TEXT_SIZE];
    char name[NAME_SIZE];

    crash_words(frame, overflowed(frame), what, sizeof(what));
    if (depth > 1)
        crash_in_crash(what, frame->rip);
    *saved = *frame;
    print_heading(what);
    symbols_print_to(name, sizeof(name), saved->rip);
    print("# at %016lx %s\n", saved->rip, name);
    crash_print_registers(saved);
    crash_print_code(saved->rip);
    crash_print_trap_calls(saved);
    if ((saved->vector == TRAP_PF || saved->vector == TRAP_DF) && walk_printer != NULL)
        walk_printer(saved->cr2);
    end(what);
}

void panic_at(const char *file, int line, const char *format, ...)
{
    unsigned depth = enter();
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
    end(what);
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
