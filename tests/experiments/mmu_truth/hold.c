/* mmu-hold: keeps pages of every size in scratch tables for a while, so that a debugger outside can
 * compare the tables, and the model's reading of them, with its own. */
#include "cpu/features.h"
#include "cpu/machine.h"
#include "paging/kernel/map.h"
#include "paging/pte.h"
#include "tests/experiments/mmu_truth/scratch.h"
#include "tests/runner/experiment.h"

/* How long each size stays. */
#define HOLD_MS 2500U

/* Words of the entry that ends the walk: of the data and of the code, one by one other bits. */
#define DATA_BITS (PTE_P | PTE_RW | PTE_US)
#define CODE_BITS (PTE_P | PTE_US | PTE_A)

static uint64_t nx_bit(void)
{
    return cpu_features()->nx ? PTE_NX : 0;
}

static void mmu_truth_hold_describe(uint64_t address, uint64_t word, unsigned level,
                                    const char *what)
{
    ktap_note("hold va=%lx pa=%lx flags=%s%s%s%s%s what=%s", round_down(address, pte_span(level)),
              word & PTE_FRAME_MASK, (word & PTE_RW) != 0 ? "W" : "-",
              (word & PTE_US) != 0 ? "U" : "-", (word & PTE_A) != 0 ? "A" : "-",
              (word & PTE_D) != 0 ? "D" : "-", (word & PTE_NX) != 0 ? "X" : "-", what);
}

/* Makes the entry of this level the page's, makes one access from ring 3, and compares with the
 * model. */
static bool map_and_touch(const struct mmu_machine *mode, enum scratch_target target,
                          unsigned level, uint64_t bits, enum mmu_kind kind)
{
    volatile uint64_t *entry = scratch_entry(target, level);
    uint64_t entries[MMU_LEVELS_MAX] = {0};
    struct mmu_access access = {.kind = kind, .user = true};
    struct mmu_result expected;
    struct scratch_outcome found;

    scratch_open_path(target);
    *entry = scratch_base(target, level, true) | bits | (level > 1 ? PTE_PS : 0);
    for (unsigned i = 1; i <= mode->levels; i++)
        entries[i - 1] = *scratch_entry(target, i);
    expected = mmu_model(mode, entries, access);
    found = scratch_access(access, 0);
    return expected.allowed && found.allowed && expected.level == level &&
           expected.physical_base == scratch_base(target, level, true) &&
           *entry == (entries[level - 1] | expected.must[level - 1]);
}

static void mmu_truth_hold_hold(const struct mmu_machine *mode, unsigned level, const char *size)
{
    struct deadline end;
    bool ok;

    scratch_enter(mode);
    ok = map_and_touch(mode, SCRATCH_CODE, level, CODE_BITS, MMU_FETCH);
    /* Both frames may lie in one larger page, whose entry the data's replaces. */
    if (level == 1)
        mmu_truth_hold_describe(scratch_address(SCRATCH_CODE), *scratch_entry(SCRATCH_CODE, level),
                                level, size);
    ok = map_and_touch(mode, SCRATCH_DATA, level, DATA_BITS | nx_bit(), MMU_WRITE) && ok;
    mmu_truth_hold_describe(scratch_address(SCRATCH_DATA), *scratch_entry(SCRATCH_DATA, level),
                            level, size);
    ktap_note("holding for %u ms", HOLD_MS);
    for (end = deadline_after_ms(HOLD_MS); !deadline_passed(end);) {
    }
    scratch_leave();
    ktap_check(ok, "%s pages are as the model says", size);
}

static void mmu_truth_hold_run(const struct options *options)
{
    struct mmu_machine mode;
    enum status status = scratch_start();

    (void)options;
    if (!ktap_check(status == OK, "scratch tables: %s", status_name(status)))
        return;
    mode = scratch_machine();
    mode.wp = true;
    mode.nxe = cpu_features()->nx;
    mmu_truth_hold_hold(&mode, 1, "small");
    mmu_truth_hold_hold(&mode, 2, "large");
    if (mode.pages_1g)
        mmu_truth_hold_hold(&mode, 3, "huge");
    else
        ktap_skip("the processor has none", "huge pages are as the model says");
    scratch_end();
}

EXPERIMENT(mmu_hold, 450) = {
    .theme = THEME_PROCESSOR,
    .name = "mmu-hold",
    .question = "What does the machine's own view say of pages of every size?",
    .checks = 4,
    .only_by_name = true,
    .run = mmu_truth_hold_run,
    .answer =
        {
            .text = "none; a debugger or monitor reads the pages",
        },
};
