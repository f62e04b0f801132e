/*
 * ring3: does ring 3 work, and do a program's errors harm only the program?
 *
 * Small pieces of user code run in pages of a space: they exit, make system calls, fault, take
 * upcalls, and do what programs must not do. Each run must end as it should, the kernel goes on,
 * and what the processor reported is compared.
 */
#include "cpu/cpu.h"
#include "cpu/features.h"
#include "cpu/fpu.h"
#include "cpu/registers.h"
#include "cpu/smp/thread.h"
#include "cpu/trap/probe.h"
#include "lib/print.h"
#include "paging/kernel/layout.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_code.h"
#include "tests/runner/user_pages.h"

#define READ_ONLY UINT64_C(0x10000000)
#define FRESH     UINT64_C(0x20000000)
#define UNMAPPED  UINT64_C(0x30000000)
#define MAPPED    UINT64_C(0x40000000)

#define NON_CANONICAL UINT64_C(0x0200000000000000)

/* Runs the user code with this argument; notes how it ended if that was not as expected. */
static bool ends_with(struct program *program, enum program_end wanted)
{
    enum program_end end = program_run(program);
    char words[256];

    if (end == wanted)
        return true;
    program_end_words(program, end, words, sizeof(words));
    ktap_note("%s", words);
    return false;
}

static bool exits_with(struct space *space, const char *code, uint64_t argument, uint64_t second,
                       uint64_t expected)
{
    struct program program = user_code_program(space, code, argument);
    bool ok;

    program.frame.rsi = second;
    ok = ends_with(&program, PROGRAM_EXITED);
    if (ok && program.exit_code != expected)
        ktap_note("it exited with %lx instead of %lx", program.exit_code, expected);
    return ok && program.exit_code == expected;
}

/* How many programs ended by a violation or trap, as they should, and how many violations the
 * programs handled themselves. */
static struct {
    uint64_t ended;
    uint64_t handled;
} programs_seen;

/* Checks that the code causes a violation with this error code and reason at this address. */
static bool violates(struct space *space, const char *code, uint64_t address, uint64_t error,
                     enum status reason)
{
    struct program program = user_code_program(space, code, address);
    char words[256];

    if (!ends_with(&program, PROGRAM_VIOLATION))
        return false;
    if (program.frame.error == error && program.frame.cr2 == address && program.reason == reason &&
        trap_from_user(&program.frame)) {
        programs_seen.ended++;
        return true;
    }
    program_end_words(&program, PROGRAM_VIOLATION, words, sizeof(words));
    ktap_note("%s; error %lx instead of %lx", words, program.frame.error, error);
    return false;
}

static bool traps(struct space *space, const char *code, uint64_t argument, unsigned vector)
{
    struct program program = user_code_program(space, code, argument);

    if (!ends_with(&program, PROGRAM_TRAPPED))
        return false;
    if (program.frame.vector != vector)
        ktap_note("vector %lu instead of %u", program.frame.vector, vector);
    programs_seen.ended += program.frame.vector == vector;
    return program.frame.vector == vector;
}

static void try_calls(struct space *space)
{
    uint64_t unsupported = (uint64_t)(int64_t)STATUS_UNSUPPORTED;
    uint64_t range = (uint64_t)(int64_t)STATUS_RANGE;

    ktap_check(exits_with(space, user_code_exit, 42, 0, 42), "a program exits with its number");
    ktap_check(exits_with(space, user_code_call, 0, PROGRAM_NULL, 0), "a system call returns");
    ktap_check(exits_with(space, user_code_call, 0, PROGRAM_CALLS, unsupported) &&
                   exits_with(space, user_code_call, 0, UINT64_MAX, unsupported),
               "a system call that does not exist is refused");
    ktap_check(exits_with(space, user_code_map, MAPPED, 0, MAPPED),
               "a page mapped by system call is written, read and unmapped");
    ktap_check(exits_with(space, user_code_map, DIRECT_MAP_BASE, 0, range) &&
                   exits_with(space, user_code_map, MAPPED + 1, 0, range),
               "an address outside the program's half, or between pages, is refused");
}

static void try_faults(struct space *space)
{
    uint64_t faults = space_faults(space).zero_read;
    uint64_t value = 1;

    ktap_check(exits_with(space, user_code_read, FRESH, 0, 0) &&
                   space_faults(space).zero_read == faults + 1,
               "a read of fresh memory is resolved");
    ktap_check(exits_with(space, user_code_write, FRESH + PAGE_SIZE, 0, 0) &&
                   word_read(FRESH + PAGE_SIZE, &value) && value == 1,
               "a write is, and the kernel sees it");
    ktap_check(violates(space, user_code_read, UNMAPPED, PF_US, STATUS_NOT_FOUND) &&
                   violates(space, user_code_write, UNMAPPED, PF_US | PF_WR, STATUS_NOT_FOUND),
               "accesses to unmapped memory end the program");
    ktap_check(violates(space, user_code_write, READ_ONLY, PF_US | PF_WR, STATUS_DENIED),
               "a write to read-only memory does");
    ktap_check(violates(space, user_code_read, IMAGE_BASE, PF_P | PF_US, STATUS_NOT_FOUND) &&
                   violates(space, user_code_write, DIRECT_MAP_BASE, PF_P | PF_US | PF_WR,
                            STATUS_NOT_FOUND),
               "the kernel's half is closed to it");
    ktap_check(traps(space, user_code_read, NON_CANONICAL, TRAP_GP),
               "a non-canonical address is a general-protection fault of the program");
    if (cpu_features()->nx)
        ktap_check(
            violates(space, user_code_jump, FRESH + PAGE_SIZE, PF_P | PF_US | PF_ID, STATUS_DENIED),
            "data is not executed");
    else
        ktap_skip("the processor has no NX", "data is not executed");
}

static void try_instructions(struct space *space)
{
    ktap_check(traps(space, user_code_hlt, 0, TRAP_GP),
               "a privileged instruction is a general-protection fault");
    ktap_check(traps(space, user_code_ud2, 0, TRAP_UD), "an undefined one is an invalid opcode");
}

static void try_upcalls(struct space *space)
{
    struct program program = user_code_program(space, user_code_counts, UNMAPPED);
    uint64_t refused = UNMAPPED;

    program.frame.rsi = user_code_address(user_code_count_handler);
    ktap_check(ends_with(&program, PROGRAM_EXITED) && program.exit_code == 3 &&
                   program.upcalls == 3,
               "three violations reach the handler, and the registers come back");
    programs_seen.handled = program.upcalls;
    program = user_code_program(space, user_code_write, UNMAPPED);
    program.handler = user_code_address(user_code_skip_handler);
    program.frame.rsp = UNMAPPED + PAGE_SIZE;
    ktap_check(ends_with(&program, PROGRAM_VIOLATION) && program.frame.cr2 == UNMAPPED &&
                   program.upcalls == 0 && program.frame.rsp == UNMAPPED + PAGE_SIZE,
               "without a stack for the handler the violation ends the program");
    program = user_code_program(space, user_code_call, refused);
    program.frame.rsi = PROGRAM_UPCALL_RETURN;
    ktap_check(ends_with(&program, PROGRAM_TRAPPED) && program.frame.vector == USER_SYSTEM_CALL,
               "a return from an upcall that cannot be read is refused");
}

/* Makes a system call from the last two bytes of the program's half. Its return address is not
 * canonical, or the kernel's: SYSRET to it would fault in ring 0, on the program's stack. */
static bool call_from_the_end(struct space *space)
{
    static const uint8_t syscall[] = {0x0f, 0x05};
    struct rights rights = {.write = true, .execute = true, .user = true};
    uint64_t end = cpu_user_end();
    struct program program = program_new(space, end - sizeof(syscall), USER_CODE_STACK, 0);

    if (!SUCCEEDS(space_map(space, &SPACE_AT(end - PAGE_SIZE, PAGE_SIZE, rights), NULL)) ||
        !user_copy_out(end - sizeof(syscall), syscall, sizeof(syscall), NULL))
        return false;
    return ends_with(&program, PROGRAM_TRAPPED) && program.frame.vector == TRAP_GP &&
           program.frame.rip == end && program.frame.rsp == USER_CODE_STACK;
}

/* Returns whether a return from an upcall with this frame ends the program by this vector. */
static bool forged_return(struct space *space, const struct upcall_frame *forged, unsigned vector)
{
    struct program program = user_code_program(space, user_code_call, USER_CODE_BUFFER);

    program.frame.rsi = PROGRAM_UPCALL_RETURN;
    return user_copy_out(USER_CODE_BUFFER, forged, sizeof(*forged), NULL) &&
           ends_with(&program, PROGRAM_TRAPPED) && program.frame.vector == vector &&
           (program.frame.rflags & ~(USER_FLAGS | RFLAGS_FIXED | RFLAGS_IF | RFLAGS_RF)) == 0;
}

static void try_returns(struct space *space)
{
    struct upcall_frame beyond = {.rip = cpu_user_end()};
    struct upcall_frame flags = {.rip = user_code_address(user_code_hlt), .rflags = UINT64_MAX};

    ktap_check(call_from_the_end(space),
               "SYSRET to a non-canonical address is a general-protection fault of the program");
    ktap_check(forged_return(space, &beyond, USER_SYSTEM_CALL),
               "a forged return to the kernel's half is refused");
    ktap_check(forged_return(space, &flags, TRAP_GP), "forged flags give no privilege");
}

/* ---- x87 and vector registers ---- */

#define VECTOR_ROUNDS 4U
#define VECTOR_CPU    0U /* its threads switch only where they yield */

/* MXCSR 1f80, FCW 37f, no x87 register in use: SDM volume 1, 8.1.5 and 10.2.3. */
#define VECTORS_INITIAL UINT64_C(0x37f00001f80)

struct vector_program {
    struct space *space;
    struct trap_frame frame;
    uint64_t cr4;
    bool exited;
};

static unsigned vector_yields;

static enum trap_return yield_or_exit(struct trap_frame *frame)
{
    if (frame->rax == PROGRAM_EXIT)
        return TRAP_UNRESOLVED;
    vector_yields++;
    thread_yield();
    return TRAP_RETURN_FAST;
}

static void run_vectors(void *argument)
{
    struct vector_program *program = argument;

    space_switch(program->space);
    user_run(&program->frame);
    program->cr4 = cpu_read_cr4();
    program->exited = program->frame.vector == USER_SYSTEM_CALL;
    space_switch(NULL);
}

/* Runs two programs on one processor that yield to each other, and checks that each keeps its
 * vector registers. */
static bool vectors_survive(struct space *space)
{
    struct vector_program programs[2];
    struct thread *threads[2];
    bool ok = true;

    vector_yields = 0;
    for (unsigned i = 0; i < 2; i++) {
        programs[i].space = space;
        programs[i].frame = user_frame(user_code_address(user_code_vectors),
                                       USER_CODE_STACK - i * PAGE_SIZE, 0x1234000 + i * 0x2000);
        programs[i].frame.rsi = VECTOR_ROUNDS;
        programs[i].frame.rdx = fpu_has_avx();
        if (!SUCCEEDS(thread_create(VECTOR_CPU, run_vectors, &programs[i], &threads[i])))
            PANIC("no thread");
    }
    for (unsigned i = 0; i < 2; i++) {
        thread_join(threads[i]);
        if (!programs[i].exited || programs[i].frame.rdi != 0)
            ktap_note("program %u: vector %lu, %lu registers changed", i, programs[i].frame.vector,
                      programs[i].frame.rdi);
        ok = ok && programs[i].exited && programs[i].frame.rdi == 0;
    }
    return ok && vector_yields == 2 * VECTOR_ROUNDS * (fpu_has_avx() ? 2 : 1);
}

/* Runs a program on each processor that reports its initial registers. */
static bool vectors_equal(struct space *space)
{
    bool ok = true;

    for (uint64_t at = machine_processors(); at != 0; at &= at - 1) {
        unsigned cpu = (unsigned)__builtin_ctzll(at);
        struct vector_program program = {
            .space = space,
            .frame = user_frame(user_code_address(user_code_vectors_initial), USER_CODE_STACK, 0)};
        struct thread *thread;
        bool equal;

        if (!SUCCEEDS(thread_create(cpu, run_vectors, &program, &thread)))
            PANIC("no thread");
        thread_join(thread);
        equal =
            program.exited && program.frame.rdi == VECTORS_INITIAL && program.cr4 == cpu_read_cr4();
        if (!equal)
            ktap_note("cpu %u: vector %lu, registers %lx, cr4 %lx", cpu, program.frame.vector,
                      program.frame.rdi, program.cr4);
        ok = ok && equal;
    }
    return ok;
}

static void try_vectors(struct space *space)
{
    trap_system_call = yield_or_exit;
    ktap_check(vectors_survive(space), "x87, SSE%s registers survive a switch of threads",
               fpu_has_avx() ? " and AVX" : "");
    ktap_check(vectors_equal(space),
               "a program begins with the same registers and CR4 on every processor");
}

static void ring3_run(const struct options *options)
{
    struct space *space;
    enum status status;

    (void)options;
    programs_seen.ended = programs_seen.handled = 0;
    if (!start_space(&space))
        return;
    status = user_code_install(space);
    if (status == OK)
        status = space_map(space, &SPACE_AT(READ_ONLY, MIB, RIGHTS_READ), NULL);
    if (status == OK)
        status = space_map(space, &SPACE_AT(FRESH, MIB, RIGHTS_READ_WRITE), NULL);
    if (ktap_check(status == OK, "pieces of user code are in place: %s", status_name(status))) {
        try_calls(space);
        try_faults(space);
        try_instructions(space);
        try_upcalls(space);
        try_returns(space);
        try_vectors(space);
        ktap_metric("ended", programs_seen.ended, "programs");
        ktap_metric("handled", programs_seen.handled, "violations");
    }
    space_audit();
    end_space(space);
}

EXPERIMENT(ring3, 100) = {
    .theme = THEME_PROCESSOR,
    .name = "ring3",
    .question = "Does ring 3 work, and is what a program does wrong its own affair?",
    .checks = 23,
    .run = ring3_run,
    .answer =
        {
            .text = "Yes: {ended} wrong programs ended, the kernel went on; {handled} violations "
                    "were handled by the program itself",
        },
};
