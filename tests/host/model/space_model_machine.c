/* The machine of the model on the host: the software MMU, and the environment of the test. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "cpu/machine.h"
#include "cpu/registers.h"
#include "cpu/trap/trap.h"
#include "tests/host/fake/cpu.h"
#include "tests/host/fake/kernel_map.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/mmu.h"
#include "tests/host/model/space_model_host.h"
#include "tests/model/space_internal.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/space/end.h"

/* Faults that one access may take: tables, the page, and one or two for a stale TLB. */
#define FAULTS_MAX 8U

/* The address of the instruction that makes all accesses: the handler tells repeated faults of one
 * instruction from a hang. */
#define PROGRAM_RIP UINT64_C(0x401000)

struct model *model(void)
{
    static struct model only;

    return &only;
}

uint8_t *model_byte(struct space *space, uint64_t address, struct fault_access access)
{
    enum status status = fault_resolve(space, address, access);
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&space->tree, address);
    struct pte *entry = (struct pte *)frame_pointer(place.table) + place.index;

    machine_interrupts_restore(were_on);
    CHECK_MSG(status == OK && place.level == 1, "%lx: %s, level %u", address, status_name(status),
              place.level);
    entry->word |= PTE_A | (access.write ? PTE_D : 0);
    return (uint8_t *)frame_pointer(pte_frame(*entry)) + address % PAGE_SIZE;
}

uint64_t model_ops(uint64_t otherwise)
{
    const char *text = getenv("FAULTLINE_TEST_OPS");

    return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

uint64_t model_seed(void)
{
    const char *text = getenv("FAULTLINE_TEST_SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : 1;

    printf("# seed %" PRIu64 "\n", seed);
    fflush(stdout);
    return seed;
}

/* Prints how to repeat the run. Called if a check fails. */
static void say_where(int signal_number)
{
    char words[256];

    model_describe(words, sizeof(words));
    fprintf(stderr, "# %s\n", words);
    signal(signal_number, SIG_DFL);
}

void model_machine_begin(void)
{
    signal(SIGABRT, say_where);
    fake_kernel_map_set_levels(model()->levels);
    fault_start();
    fake_cr4 = (chance(50) ? CR4_SMAP : 0) | (chance(50) ? CR4_SMEP : 0);
    fake_contexts = (model()->seed & 2) != 0;
    space_set_end_work((model()->seed & 4) != 0 ? 0 : SPACE_END_WORK);
    fake_mmu_start(model()->levels);
}

enum overcommit_policy model_machine_overcommit(void)
{
    if (chance(60))
        return OVERCOMMIT_ALWAYS;
    return chance(50) ? OVERCOMMIT_HEURISTIC : OVERCOMMIT_NEVER;
}

/* Accesses a word as a processor does: translates, faults, tries again. */
static enum status translate(const struct model_op *op, uint64_t address, struct phys *physical)
{
    struct fake_access access = {
        .write = op->write, .execute = op->execute, .user = op->user, .ac = op->ac};
    struct trap_frame frame = {.rip = PROGRAM_RIP, .rflags = op->ac ? UINT64_C(1) << 18 : 0};
    uint64_t error;

    for (unsigned i = 0; i < FAULTS_MAX; i++) {
        bool resolved;

        if (fake_mmu_translate(address, access, physical, &error))
            return OK;
        CHECK(machine_interrupts_off());
        frame.cr2 = address;
        frame.error = error;
        resolved = trap_page_fault(address, error, &frame);
        machine_interrupts_restore(true);
        if (!resolved)
            return fault_last_reason();
        /* Checks that no other processor has a stale translation of the page. */
        fake_mmu_check();
    }
    PANIC("%u faults at %lx, and no end", FAULTS_MAX, address);
}

/* Returns a word of a page. Its frame must belong to a program. */
static uint64_t *word_at(struct phys physical, bool write)
{
    const struct frame *record = frame_record(pfn_of(physical));

    /* Large pages have the record of their first frame. */
    if (record->kind == FRAME_FREE)
        record = frame_record((struct pfn){pfn_of(physical).index & ~(PTE_ENTRIES - 1)});
    CHECK_MSG(record->kind == FRAME_ANONYMOUS || (!write && record->kind == FRAME_ZERO),
              "an access reaches frame %lx of kind %u", physical.address >> 12, record->kind);
    CHECK((record->flags & FRAME_IO) == 0);
    return phys_pointer(physical);
}

enum status model_machine_access(const struct model_op *op, uint64_t known, uint64_t written)
{
    uint64_t address = model_address(op);
    struct phys physical;
    enum status status = translate(op, address, &physical);

    if (status != OK)
        return status;
    CHECK_MSG(*word_at(physical, op->write) == known, "%lx holds %lx, the model says %lx", address,
              *word_at(physical, op->write), known);
    if (op->write)
        *word_at(physical, true) = written;
    return OK;
}

struct model_walk model_machine_walk(const struct model_op *op)
{
    const struct space *space = model()->spaces[op->space].space;
    struct fake_walk walk =
        fake_mmu_walk(phys_of(space->tree.root), model()->levels, model_address(op), 1);

    return (struct model_walk){.level = walk.level, .entry = walk.entry};
}

bool model_machine_alone(void)
{
    return true;
}

bool model_machine_kernel_may(const struct model_op *op)
{
    return op->execute ? (fake_cr4 & CR4_SMEP) == 0 : (fake_cr4 & CR4_SMAP) == 0 || op->ac;
}

uint64_t model_machine_wired_most(void)
{
    return resident_limit == UINT64_MAX ? 64 : 4;
}

void model_machine_look(uint64_t address)
{
    fake_mmu_speculate(address);
}

void model_machine_check(void)
{
    fake_mmu_check();
}
