/*
 * spurious: are faults and interrupts without a cause harmless, and is a repeated one an error?
 *
 * A page fault is spurious when the entries allow the access already. The processor makes one from
 * a translation that was raised to writable meanwhile; the others here are made by hand, as calls
 * of the handler with a frame of their own (rule P9): so the frame, and nothing else, says whether
 * there was progress, and in which mode the access was made.
 */
#include "cpu/cpu.h"
#include "cpu/machine.h"
#include "cpu/registers.h"
#include "cpu/trap/trap.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/fault/fault.h"

#define START  UINT64_C(0x10000000)
#define OTHER  (START + PAGE_SIZE)
#define RIP    UINT64_C(0x1000)
#define REPEAT 64U

/* The workload whose spurious faults are counted. */
#define RATE_START  UINT64_C(0x20000000)
#define RATE_PAGES  256U
#define RATE_ROUNDS 16U

/* Calls the handler as the processor would, with interrupts off. */
static bool call_handler(uint64_t address, uint64_t error, struct trap_frame frame)
{
    bool were_on = machine_interrupts_off();
    bool resolved;

    frame.cr2 = address;
    frame.error = error;
    resolved = trap_page_fault(address, error, &frame);

    machine_interrupts_restore(were_on);
    return resolved;
}

/* Simulates the fault of a store from ring 3. */
static bool fault_at(uint64_t address, uint64_t rip)
{
    return call_handler(address, PF_P | PF_WR | PF_US,
                        (struct trap_frame){.rip = rip, .cs = SELECTOR_USER_CODE});
}

/* Simulates the fault of a store from ring 0, with or without EFLAGS.AC. */
static bool kernel_fault_at(uint64_t address, uint64_t rip, uint64_t flags)
{
    return call_handler(
        address, PF_P | PF_WR,
        (struct trap_frame){.rip = rip, .cs = SELECTOR_KERNEL_CODE, .rflags = flags});
}

static void page_faults(struct space *space)
{
    uint64_t before = space_faults(space).spurious;
    bool right;

    ktap_check(fault_at(START, RIP) && space_faults(space).spurious == before + 1,
               "a fault without a cause is counted, and the program goes on");
    ktap_check(!fault_at(START, RIP) && fault_last_reason() == STATUS_DENIED,
               "the same once more, with nothing in between, is a violation");
    right = word_write(OTHER, 1);
    ktap_check(right && fault_at(START, RIP), "after another fault it is a new one");
    right = true;
    for (unsigned i = 0; i < REPEAT; i++)
        right = right && fault_at(START, RIP + 1 + i);
    ktap_check(right, "%u at different instructions all go on", REPEAT);
}

/* Checks that a kernel access which the mode forbids is not taken for spurious, although the
 * entries allow a program's access. */
static void modes(const struct space *space)
{
    uint64_t before = space_faults(space).spurious;
    bool refused;

    if (!cpu_smap_on()) {
        ktap_skip("the processor lacks SMAP", "what SMAP forbids is a violation");
        return;
    }
    refused = !kernel_fault_at(START, RIP, 0) && fault_last_reason() == STATUS_DENIED &&
              space_faults(space).spurious == before;
    ktap_check(refused && kernel_fault_at(START, RIP, RFLAGS_AC) &&
                   space_faults(space).spurious == before + 1,
               "what SMAP forbids is a violation, and with AC it is spurious");
}

/* Raises rights: the last owner's page becomes writable without a flush. The cached translation is
 * stale, so the store faults once more or not at all. */
static void raised_rights(struct space *space)
{
    uint64_t before = space_faults(space).spurious;
    struct space *child;
    uint64_t value = 0;
    bool right = SUCCEEDS(space_fork(space, &child));

    if (right)
        space_destroy(child);
    right = right && word_read(START, &value) && word_write(START, 7) && word_read(START, &value) &&
            value == 7;
    ktap_check(right, "a store through a translation that allowed less gets through");
    ktap_metric("after_raise", space_faults(space).spurious - before, "faults");
}

static uint64_t spurious_count_faults(const struct fault_counts *counts)
{
    return counts->zero_read + counts->first_write + counts->zero_to_private + counts->cow_copy +
           counts->cow_reuse + counts->spurious;
}

/* Runs a workload that raises rights: rounds of fork, a child's end, then reads and writes of each
 * page by the last owner. Prints how many of its faults were spurious. */
static void spurious_rate(struct space *space)
{
    struct fault_counts before = space_faults(space);
    struct fault_counts after;
    uint64_t value;
    bool ok = SUCCEEDS(
        space_map(space, &SPACE_AT(RATE_START, RATE_PAGES * PAGE_SIZE, RIGHTS_READ_WRITE), NULL));

    for (unsigned round = 0; round < RATE_ROUNDS && ok; round++) {
        struct space *child;

        for (uint64_t at = RATE_START; at < RATE_START + RATE_PAGES * PAGE_SIZE; at += PAGE_SIZE)
            ok = ok && word_read(at, &value) && word_write(at, round);
        ok = ok && SUCCEEDS(space_fork(space, &child));
        if (ok)
            space_destroy(child);
    }
    after = space_faults(space);
    ktap_metric("spurious", after.spurious - before.spurious, "faults");
    ktap_metric("faults", spurious_count_faults(&after) - spurious_count_faults(&before), "faults");
    ktap_check(ok && space_faults(space).violations == before.violations,
               "%u rounds of rights that are raised, and no violation", RATE_ROUNDS);
}

static void interrupts(void)
{
    struct trap_counts before = trap_counts();

    __asm__ volatile("int $0xff" : : : "memory");
    __asm__ volatile("int $0x27" : : : "memory");
    ktap_check(trap_counts().spurious == before.spurious + 2,
               "interrupts that no controller has in service are counted and dropped");
}

static void spurious_run(const struct options *options)
{
    struct space *space;

    (void)options;
    if (!start_space(&space))
        return;
    ktap_check(
        SUCCEEDS(space_map(space, &SPACE_AT(START, 2 * PAGE_SIZE, RIGHTS_READ_WRITE), NULL)) &&
            word_write(START, 1),
        "a page that may be written");
    page_faults(space);
    modes(space);
    raised_rights(space);
    spurious_rate(space);
    interrupts();
    end_space(space);
}

EXPERIMENT(spurious, 220) = {
    .theme = THEME_PROCESSOR,
    .name = "spurious",
    .question = "Do faults and interrupts without a cause do no harm?",
    .spaces = 2,
    .checks = 9,
    .run = spurious_run,
    .answer =
        {
            .text =
                "None does harm, and each kind is counted; {spurious} of {faults} faults have no "
                "cause where rights are raised",
            .limit = "how often hardware makes them: TCG looks at the tables again by itself",
        },
};
