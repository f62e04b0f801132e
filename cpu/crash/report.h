/*
 * The parts of a crash report, each printed as diagnostic lines; shared within cpu/ only.
 *
 * Owns: nothing. Fails with: nothing; memory is read through probes, and where there are no traps
 * yet, only near the own stack pointer. Context: a crash.
 */
#ifndef CPU_CRASH_REPORT_H
#define CPU_CRASH_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trap_frame;

/* Where a list of calls begins. */
struct crash_calls {
    uint64_t rip;
    uint64_t rsp; /* 0: unknown */
    uint64_t rbp;
};

/* Describes a trap: "#PF page fault at ...: write by the kernel: not present". guard is the
 * name of the stack that has overflowed, or NULL. */
size_t crash_words(const struct trap_frame *frame, const char *guard, char *buffer, size_t size);

void crash_print_registers(const struct trap_frame *frame);
void crash_print_code(uint64_t rip);

/* Prints each machine-check bank that has a valid error. */
void crash_print_machine_check(void);

/* Prints the command that finds file and line of an address in the image. */
void crash_print_where(uint64_t address);

/* Prints the calls that led to a trap. */
void crash_print_trap_calls(const struct trap_frame *frame);

/* Returns whether one of the calls is in the code from start to end. */
bool crash_calls_meet(const struct crash_calls *calls, const char *start, const char *end);

#endif
