/* Runs that crash on purpose: does each end with the right report? Each of these must end the run
 * as a crash, so one that returns has failed. */
#include "cpu/features.h"
#include "cpu/machine.h"
#include "cpu/registers.h"
#include "cpu/smp/shootdown.h"
#include "cpu/smp/spin.h"
#include "cpu/smp/thread.h"
#include "cpu/trap/trap.h"
#include "efi/processors.h"
#include "lib/bytes.h"
#include "paging/kernel/layout.h"
#include "swapdisk/block/block.h"
#include "swapdisk/disks.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"

/* In the kernel's half and in no window: nothing is mapped there. */
#define NOWHERE UINT64_C(0xffffe00000000000)

#define START UINT64_C(0x10000000)

/* An APIC id that no processor of a test has. */
#define ABSENT_ID     200U
#define ABSENT_MS     300U
#define LOST_BOUND_MS 500U

#define DEEP_BYTES 512U

/* Returns the last processor, which is not this one if there are several. */
static unsigned last_processor(void)
{
    return 63U - (unsigned)__builtin_clzll(machine_processors());
}

/* ---- on this processor ---- */

static void __attribute__((noinline)) read_null(void)
{
    volatile uint64_t *null = (volatile uint64_t *)machine_root().address;

    /* An address that the compiler cannot know: 0. */
    null = (volatile uint64_t *)((uintptr_t)null - machine_root().address);
    (void)*null;
}

static void run_null(const struct options *options)
{
    (void)options;
    read_null();
    ktap_check(false, "the kernel read address 0");
}

static void run_panic(const struct options *options)
{
    PANIC("deliberate, with seed %lu", options->seed);
}

static void run_jump(const struct options *options)
{
    void (*volatile nowhere)(void) = (void (*)(void))(uintptr_t)NOWHERE;

    (void)options;
    nowhere();
    ktap_check(false, "the kernel executed nothing");
}

/* Crashes inside the code that reads and writes disks: then no log may be written to one. */
static void run_driver(const struct options *options)
{
    (void)options;
    for (unsigned i = 0; i < disks_count(); i++) {
        const struct block_device *block = disks_block(i);

        if (block != NULL && block_read(block, 0, 0, NULL) == OK)
            ktap_note("it read nothing");
    }
    ktap_check(false, "a disk was asked for nothing");
}

/* Faults without a stack, where not even the page fault can be delivered. */
static void run_double_fault(const struct options *options)
{
    (void)options;
    __asm__ volatile("movq %0, %%rsp\n\tpushq $0" : : "r"(NOWHERE) : "memory");
    ktap_check(false, "the kernel pushed onto nothing");
}

static bool faulting_handler(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    (void)address;
    (void)error;
    (void)frame;
    trap_page_fault = trap_page_fault_none;
    return *(volatile uint64_t *)(uintptr_t)(NOWHERE + PAGE_SIZE) != 0;
}

static void run_handler(const struct options *options)
{
    (void)options;
    trap_page_fault = faulting_handler;
    read_null();
    ktap_check(false, "the handler read nothing");
}

/* ---- on another processor, if there is one ---- */

/* Status of bank 1: valid, with an address. QEMU lets a guest write it; hardware would refuse. */
#define IA32_MC1_STATUS  UINT32_C(0x405)
#define IA32_MC1_ADDRESS UINT32_C(0x406)
#define BANK_STATUS      UINT64_C(0x8400000000000135)

static void run_machine_check(const struct options *options)
{
    (void)options;
    if (cpu_features()->mca && strcmp(cpu_features()->hypervisor_name, "TCGTCGTCGTCG") == 0) {
        msr_write(IA32_MC1_STATUS, BANK_STATUS);
        msr_write(IA32_MC1_ADDRESS, NOWHERE);
    }
    __asm__ volatile("int $18");
}

static uint64_t __attribute__((noinline)) go_deeper(uint64_t depth)
{
    volatile uint8_t frame[DEEP_BYTES];

    frame[depth % DEEP_BYTES] = (uint8_t)depth;
    if (depth == UINT64_MAX)
        return 0;
    return go_deeper(depth + 1) + frame[depth % DEEP_BYTES];
}

static void overflow(void *argument)
{
    *(uint64_t *)argument = go_deeper(0);
}

static void run_overflow(const struct options *options)
{
    struct thread *thread;
    uint64_t result;

    (void)options;
    if (SUCCEEDS(thread_create(last_processor(), overflow, &result, &thread)))
        thread_join(thread);
    ktap_check(false, "a stack without an end");
}

/* Takes no interrupt any more: it does not answer. */
static void stop_answering(void *argument)
{
    space_switch(argument);
    machine_interrupts_off();
    for (;;)
        machine_pause();
}

static void run_lost(const struct options *options)
{
    struct space *space;
    struct thread *thread;

    (void)options;
    if (last_processor() == 0) {
        ktap_skip("one processor", "a shootdown that is not answered");
        return;
    }
    if (!start_space(&space) ||
        !SUCCEEDS(space_map(space, &SPACE_AT(START, PAGE_SIZE, RIGHTS_READ_WRITE), NULL)) ||
        !word_write(START, 1) ||
        !SUCCEEDS(thread_create(last_processor(), stop_answering, space, &thread)))
        return;
    while ((__atomic_load_n(&space->tree.processors, __ATOMIC_ACQUIRE) >> last_processor() & 1) ==
           0)
        machine_relax();
    delay_us(100000);
    shootdown_set_bound_ms(LOST_BOUND_MS);
    ktap_check(!SUCCEEDS(space_unmap(space, START, PAGE_SIZE)), "a shootdown that is not answered");
}

/* Hangs, with interrupts off if another processor can notice it. */
static void run_hang(const struct options *options)
{
    (void)options;
    if (last_processor() != 0)
        machine_interrupts_off();
    for (;;)
        machine_pause();
}

#ifdef LOCK_CHECKS
static void run_lock_order(const struct options *options)
{
    static uint8_t locks[2];
    bool were_on = machine_interrupts_off();

    (void)options;
    for (unsigned first = 0; first < 2; first++) {
        spin_lock(&locks[first]);
        spin_lock(&locks[1 - first]);
        spin_unlock(&locks[1 - first]);
        spin_unlock(&locks[first]);
    }
    machine_interrupts_restore(were_on);
    ktap_check(false, "two locks in both orders");
}
#else
static void run_lock_order(const struct options *options)
{
    (void)options;
    ktap_skip("this build has no lock checks", "two locks in both orders");
}
#endif

static void run_dead(const struct options *options)
{
    (void)options;
    ktap_check(processors_try(ABSENT_ID, ABSENT_MS) == STATUS_TIMEOUT,
               "a processor that is not there does not answer within %u ms", ABSENT_MS);
}

#define CRASHES(identifier, order, its_name, its_question, function)                               \
    EXPERIMENT(identifier, order) = {                                                              \
        .theme = THEME_CRASHES,                                                                    \
        .name = (its_name),                                                                        \
        .question = (its_question),                                                                \
        .checks = 1,                                                                               \
        .only_by_name = true,                                                                      \
        .run = (function),                                                                         \
        .answer.text = "none; the run ends in its report",                                         \
    }

CRASHES(crash_null, 460, "crash-null", "What does a stray access of the kernel look like?",
        run_null);
CRASHES(crash_panic, 470, "crash-panic", "What does a panic look like?", run_panic);
CRASHES(crash_driver, 475, "crash-driver", "Is a disk left alone after a crash of its driver?",
        run_driver);
CRASHES(crash_jump, 480, "crash-jump", "What does a jump into nowhere look like?", run_jump);
CRASHES(crash_double_fault, 490, "crash-double-fault",
        "What does a fault that cannot be delivered look like?", run_double_fault);
CRASHES(crash_handler, 500, "crash-handler",
        "What does a fault inside the fault handler look like?", run_handler);
CRASHES(crash_machine_check, 515, "crash-machine-check",
        "Does the report of a machine check have its banks?", run_machine_check);
CRASHES(crash_overflow, 510, "crash-overflow",
        "What does the overflow of a thread's stack look like?", run_overflow);
CRASHES(crash_lost, 520, "crash-lost-shootdown",
        "What does a processor that does not answer look like?", run_lost);
CRASHES(crash_lock_order, 530, "crash-lock-order",
        "Does the test build notice locks that are taken in both orders?", run_lock_order);
CRASHES(crash_hang, 540, "crash-hang", "Does the watchdog end a run that does not go on?",
        run_hang);
EXPERIMENT(dead_processor, 420) = {
    .theme = THEME_PROCESSOR,
    .name = "dead-processor",
    .question = "Is a processor that does not start waited for without an end?",
    .checks = 1,
    .only_by_name = true,
    .run = run_dead,
    .answer =
        {
            .text = "No: it is given up",
        },
};
