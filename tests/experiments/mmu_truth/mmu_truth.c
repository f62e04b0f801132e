/*
 * mmu-truth: does this processor's MMU do what the manual says, bit by bit?
 *
 * Makes each combination once: the bits of one upper entry and of the leaf, the control registers,
 * the protection keys, read, write and fetch, ring 0 and ring 3. Each is compared with the model
 * (tests/model/mmu.h): success, error code, CR2, data, and the accessed and dirty bits of both
 * entries. An upper entry that names a table is also tried with the bits that it ignores, dirty and
 * protection key, and as a large page.
 *
 * mmu-truth takes every n-th combination, evenly over all of them. mmu-truth-all takes each one for
 * the upper entry of level 2: half an hour under QEMU's TCG. tests/experiments/mmu_truth/judge.h
 * judges.
 */
#include "cpu/features.h"
#include "cpu/machine.h"
#include "paging/kernel/map.h"
#include "paging/pte.h"
#include "tests/experiments/mmu_truth/judge.h"
#include "tests/runner/experiment.h"

/* Combinations of a sample, about. */
#define SAMPLE 400000U

/* The key that the keyed entries have, and its bits in PKRU and IA32_PKRS. */
#define KEY             5U
#define KEY_SHIFT       59U
#define KEY_RIGHTS(two) ((uint32_t)(two) << (2 * KEY))

/* Where a large page's frame must be zero, above PAT: SDM volume 3, tables 4-16 and 4-18. */
#define RESERVED_IN_LARGE (UINT64_C(1) << 13)

/* A combination of entry bits, as a number. */
enum choice {
    CHOOSE_P,
    CHOOSE_RW,
    CHOOSE_US,
    CHOOSE_A,
    CHOOSE_NX,
    CHOOSE_RESERVED, /* above the physical address width */
    CHOOSE_D,
    CHOOSE_KEY,
    CHOICES,
    CHOOSE_LOW_RESERVED = CHOICES, /* large pages only */
    CHOICES_OF_LARGE
};

/* Upper entries with a leaf below, then upper entries that are large pages. The leaf's own bit 7 is
 * not tried: it chooses a memory type, and a frame that is reached by two of them at once means
 * nothing (SDM volume 3, 12.12.4). */
#define WORDS_WITH_LEAF (1U << (2 * CHOICES))
#define WORDS           (WORDS_WITH_LEAF + (1U << CHOICES_OF_LARGE))
#define COMBINATIONS    (WORDS * ACCESSES)

/* Bit 51, if this processor reserves it. */
static uint64_t reserved_bits;

/* ---- words ---- */

static bool chosen(unsigned choices, enum choice choice)
{
    return (choices >> choice & 1) != 0;
}

static uint64_t mmu_truth_word_of(unsigned choices, bool large)
{
    return (chosen(choices, CHOOSE_P) ? PTE_P : 0) | (chosen(choices, CHOOSE_RW) ? PTE_RW : 0) |
           (chosen(choices, CHOOSE_US) ? PTE_US : 0) | (chosen(choices, CHOOSE_A) ? PTE_A : 0) |
           (chosen(choices, CHOOSE_NX) ? PTE_NX : 0) | (chosen(choices, CHOOSE_D) ? PTE_D : 0) |
           (chosen(choices, CHOOSE_RESERVED) ? reserved_bits : 0) |
           (chosen(choices, CHOOSE_KEY) ? (uint64_t)KEY << KEY_SHIFT : 0) |
           (chosen(choices, CHOOSE_LOW_RESERVED) ? RESERVED_IN_LARGE : 0) | (large ? PTE_PS : 0);
}

/* Writes the two entries of a combination; the others on the path stay open. */
static void write_entries(const struct trial *trial, unsigned number)
{
    bool large = number >= WORDS_WITH_LEAF;
    unsigned upper = large ? number - WORDS_WITH_LEAF : number >> CHOICES;
    unsigned leaf = number & ((1U << CHOICES) - 1);

    *scratch_entry(trial->target, trial->upper) =
        scratch_base(trial->target, trial->upper, large) | mmu_truth_word_of(upper, large);
    *scratch_entry(trial->target, 1) =
        large ? 0 : scratch_base(trial->target, 1, false) | mmu_truth_word_of(leaf, false);
}

static void mmu_truth_read_entries(const struct trial *trial, uint64_t *words)
{
    for (unsigned level = 1; level <= trial->mode.levels; level++)
        words[level - 1] = *scratch_entry(trial->target, level);
}

/* ---- trying ---- */

static void try_one(struct trial *trial, unsigned number)
{
    unsigned access = number % ACCESSES;

    trial->access.kind = (enum mmu_kind)(access % MMU_KINDS);
    trial->access.user = access >= MMU_KINDS;
    trial->target = trial->access.kind == MMU_FETCH ? SCRATCH_CODE : SCRATCH_DATA;
    trial->written = UINT64_C(0x1000000000) + number;
    trial->data = ~trial->written;
    *scratch_data() = trial->data;
    write_entries(trial, number / ACCESSES);
    mmu_truth_read_entries(trial, trial->before);
    trial->expected = mmu_model(&trial->mode, trial->before, trial->access);
    trial->found = scratch_access(trial->access, trial->written);
    mmu_truth_read_entries(trial, trial->after);
    judge_trial(trial);
}

/* Returns whether a combination is possible. If physical addresses have all 52 bits, none is
 * reserved above them. */
static bool is_legal(unsigned number)
{
    unsigned word = number / ACCESSES;
    unsigned upper = word >= WORDS_WITH_LEAF ? word - WORDS_WITH_LEAF : word >> CHOICES;

    return reserved_bits != 0 || !(chosen(upper, CHOOSE_RESERVED) ||
                                   (word < WORDS_WITH_LEAF && chosen(word, CHOOSE_RESERVED)));
}

static void try_mode(const struct mmu_machine *mode, bool ac, unsigned upper, unsigned first,
                     unsigned stride)
{
    struct trial trial = {.mode = *mode, .access = {.ac = ac}, .upper = upper};

    scratch_enter(mode);
    for (unsigned target = 0; target < SCRATCH_TARGETS; target++)
        scratch_open_path((enum scratch_target)target);
    for (unsigned number = first; number < COMBINATIONS; number += stride) {
        if (is_legal(number))
            try_one(&trial, number);
    }
    scratch_leave();
    judge_print_kept();
}

/* ---- modes ---- */

enum mode_bit { MODE_WP, MODE_SMEP, MODE_SMAP, MODE_AC, MODE_NXE, MODE_BITS };

/* Keys off; then all rights of the key in PKRU; then all in IA32_PKRS. */
#define KEY_MODES 9U
#define MODES     (KEY_MODES << MODE_BITS)

/* Sets the mode of this number. Returns false if the processor does not have it. */
static bool choose_mode(unsigned number, struct mmu_machine *mode, bool *ac)
{
    const struct cpu_features *features = cpu_features();
    unsigned keys = number >> MODE_BITS;

    *mode = scratch_machine();
    mode->wp = (number >> MODE_WP & 1) != 0;
    mode->smep = (number >> MODE_SMEP & 1) != 0;
    mode->smap = (number >> MODE_SMAP & 1) != 0;
    mode->nxe = (number >> MODE_NXE & 1) != 0;
    mode->pke = keys >= 1 && keys <= 4;
    mode->pks = keys >= 5;
    mode->pkru = mode->pke ? KEY_RIGHTS(keys - 1) : 0;
    mode->pkrs = mode->pks ? KEY_RIGHTS(keys - 5) : 0;
    *ac = (number >> MODE_AC & 1) != 0;
    return mode->smep <= features->smep && mode->smap <= features->smap &&
           mode->nxe <= features->nx && mode->pke <= features->pku && mode->pks <= features->pks;
}

/* Returns the distance between the combinations of a sample. It is coprime to their number, 2^10 *
 * 3^2 * 43, so that all of them are met over the modes. */
static unsigned sample_stride(unsigned uppers)
{
    unsigned modes = 0;
    unsigned stride;

    _Static_assert(COMBINATIONS == 1024U * 9U * 43U, "its prime factors are 2, 3 and 43");
    for (unsigned number = 0; number < MODES; number++) {
        struct mmu_machine mode;
        bool ac;

        modes += choose_mode(number, &mode, &ac);
    }
    stride = modes * uppers * (COMBINATIONS / 64) / (SAMPLE / 64) | 1;
    while (stride % 3 == 0 || stride % 43 == 0)
        stride += 2;
    return stride;
}

static void try_all_modes(unsigned lowest, unsigned highest, unsigned stride)
{
    for (unsigned number = 0; number < MODES; number++) {
        struct mmu_machine mode;
        bool ac;

        if (!choose_mode(number, &mode, &ac))
            continue;
        for (unsigned upper = lowest; upper <= highest; upper++)
            try_mode(&mode, ac, upper, (number * 31 + upper * 7) % stride, stride);
        if (stride == 1) /* it takes long: so that somebody sees how far it is */
            ktap_note("mode %u of %u: %lu combinations so far, %lu differences", number + 1, MODES,
                      judge_made(), judge_differences());
    }
}

static void run_with(unsigned highest, bool all)
{
    uint64_t began = machine_now_ns();
    enum status status;

    judge_start();
    reserved_bits = cpu_features()->physical_bits < 52 ? UINT64_C(1) << 51 : 0;
    status = scratch_start();
    if (!ktap_check(status == OK, "scratch tables: %s", status_name(status)))
        return;
    try_all_modes(2, highest, all ? 1 : sample_stride(highest - 1));
    scratch_end();
    judge_report(began);
}

/* Tries a sample with the upper entry at each level above the leaf's. */
static void run_sample(const struct options *options)
{
    (void)options;
    run_with(kernel_map_levels(), false);
}

static void mmu_truth_run_all(const struct options *options)
{
    (void)options;
    run_with(2, true);
}

EXPERIMENT(mmu_truth, 120) = {
    .theme = THEME_PROCESSOR,
    .name = "mmu-truth",
    .question = "Does this MMU do what the manual says, bit by bit?",
    .checks = 12,
    .run = run_sample,
    .answer =
        {
            .text = "{unknown} accesses deviate in ways that are not known; {known} of "
                    "{combinations} do in ways that are known of QEMU's TCG",
            .limit = "combinations beyond the sample; mmu-truth-all tries every one of two levels",
        },
};

EXPERIMENT(mmu_truth_all, 130) = {
    .theme = THEME_PROCESSOR,
    .name = "mmu-truth-all",
    .question = "Does this MMU do what the manual says, in every combination?",
    .checks = 12,
    .only_by_name = true,
    .run = mmu_truth_run_all,
    .answer =
        {
            .text = "{unknown} accesses deviate in ways that are not known; {known} of "
                    "{combinations} do in ways that are known of QEMU's TCG",
        },
};
