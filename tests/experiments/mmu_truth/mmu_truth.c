/*
 * mmu-truth: does this processor's MMU do what the manual says, bit by bit?
 *
 * Each combination of the bits of one upper entry and of the leaf, of the control registers and the
 * protection keys, of read, write and fetch, from ring 0 and from ring 3, is made once and compared
 * with the model (tests/model/mmu.h): whether it succeeds, the error code, CR2, the data, and the
 * accessed and dirty bits that both entries have afterwards. An upper entry that names a table is
 * tried with the bits that it ignores as well, dirty and protection key, and as a large page.
 *
 * mmu-truth takes every n-th combination, evenly over all of them; mmu-truth-all takes each for the
 * upper entry of level 2, which under QEMU's TCG is about half an hour's work.
 *
 * An emulator that is known to differ has its differences listed here by name. They count as known
 * only on that emulator, by its CPUID leaf, and the log has each with its number.
 */
#include "cpu/features.h"
#include "cpu/machine.h"
#include "cpu/trap/trap.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "paging/kernel/map.h"
#include "paging/pte.h"
#include "tests/experiments/mmu_truth/scratch.h"
#include "tests/runner/experiment.h"

/* About so many combinations are taken when not all are. */
#define SAMPLE 400000U

/* Differences that are printed with their walk; all are counted. */
#define PRINTED_MAX 8U

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
#define ACCESSES        (2U * MMU_KINDS)
#define COMBINATIONS    (WORDS * ACCESSES)

/* One combination, and what became of it. */
struct trial {
    struct mmu_machine mode;
    struct mmu_access access;
    enum scratch_target target;
    unsigned upper;                  /* the level whose entry is varied beside the leaf's */
    uint64_t before[MMU_LEVELS_MAX]; /* the entries of the walk, index level - 1 */
    uint64_t after[MMU_LEVELS_MAX];
    uint64_t data; /* of the data frame, before */
    uint64_t written;
    struct mmu_result expected;
    struct scratch_outcome found;
};

/* A way in which some emulator is known to differ. */
struct deviation {
    const char *hypervisor; /* CPUID leaf 0x40000000 */
    const char *name;
    bool (*is)(const struct trial *trial);
    uint64_t count;
};

static struct {
    uint64_t made;
    uint64_t faults;
    uint64_t accessed_on_fault; /* faults that left an accessed bit behind */
    uint64_t differences;
    uint64_t by_access[ACCESSES]; /* made */
    uint64_t wrong[ACCESSES];
    uint64_t known[ACCESSES]; /* not as the manual says, as is known of this emulator */
    uint64_t reserved_bits;
} truth;

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
           (chosen(choices, CHOOSE_RESERVED) ? truth.reserved_bits : 0) |
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

/* ---- comparing ---- */

static bool bits_agree(const struct trial *trial)
{
    for (unsigned i = 0; i < trial->mode.levels; i++) {
        uint64_t wanted = trial->before[i] | trial->expected.sets[i];

        if (((trial->after[i] ^ wanted) & ~trial->expected.spares[i]) != 0 ||
            (trial->before[i] & ~trial->after[i]) != 0)
            return false;
    }
    return true;
}

static bool fault_agrees(const struct trial *trial)
{
    uint64_t differing = trial->found.error ^ trial->expected.error;

    return trial->found.vector == TRAP_PF && (differing & ~trial->expected.error_spares) == 0 &&
           trial->found.address == scratch_accessed(trial->access) &&
           *scratch_data() == trial->data;
}

static bool data_agrees(const struct trial *trial)
{
    uint64_t data = trial->access.kind == MMU_WRITE ? trial->written : trial->data;

    return *scratch_data() == data &&
           (trial->access.kind != MMU_READ || trial->found.value == trial->data);
}

static bool agrees(const struct trial *trial)
{
    if (trial->found.allowed != trial->expected.allowed || !bits_agree(trial))
        return false;
    return trial->found.allowed ? data_agrees(trial) : fault_agrees(trial);
}

static bool left_accessed(const struct trial *trial)
{
    for (unsigned i = 0; i < trial->mode.levels; i++) {
        if (trial->before[i] != trial->after[i])
            return true;
    }
    return false;
}

/* ---- known deviations ---- */

/* SDM volume 3, 4.7: a reserved bit is found in a present entry, so P is set as well. */
static bool reserved_without_p(const struct trial *trial)
{
    struct trial without = *trial;

    without.expected.error &= ~PF_P;
    return (trial->expected.error & PF_RSVD) != 0 && agrees(&without);
}

/* SDM volume 3, 4.5: without CPUID's bit for pages of 1 GiB, PS is reserved at level 3. */
static bool gib_pages_anyway(const struct trial *trial)
{
    struct trial with = *trial;

    if (trial->mode.pages_1g)
        return false;
    with.mode.pages_1g = true;
    with.expected = mmu_model(&with.mode, with.before, with.access);
    return agrees(&with) || reserved_without_p(&with);
}

/* SDM volume 3, 4.8: an entry that cannot be used for translation is not marked as accessed. */
static bool accessed_though_reserved(const struct trial *trial)
{
    struct trial without = *trial;
    unsigned at = trial->upper - 1;

    if (trial->upper != 3 || (trial->before[at] & PTE_PS) == 0 ||
        (trial->before[at] & RESERVED_IN_LARGE) == 0)
        return false;
    without.after[at] &= trial->before[at] | ~PTE_A;
    return reserved_without_p(&without);
}

static struct deviation deviations[] = {
    {"TCGTCGTCGTCG", "a reserved bit is reported without P in the error code", reserved_without_p,
     0},
    {"TCGTCGTCGTCG", "an entry of a 1 GiB page with reserved address bits is marked as accessed",
     accessed_though_reserved, 0},
    {"TCGTCGTCGTCG", "pages of 1 GiB work where CPUID has none", gib_pages_anyway, 0},
};

static bool is_known(const struct trial *trial)
{
    for (unsigned i = 0; i < ARRAY_COUNT(deviations); i++) {
        if (strcmp(cpu_features()->hypervisor_name, deviations[i].hypervisor) == 0 &&
            deviations[i].is(trial)) {
            deviations[i].count++;
            return true;
        }
    }
    return false;
}

/* ---- printing ---- */

static struct trial kept[PRINTED_MAX];
static unsigned kept_count;

static void describe_outcome(char *words, size_t size, bool allowed, uint64_t error)
{
    if (allowed)
        print_to(words, size, "allowed");
    else
        print_to(words, size, "#PF %lx", error);
}

static void print_trial(const struct trial *trial)
{
    static const char *const kinds[] = {"read", "write", "fetch"};
    const struct mmu_machine *mode = &trial->mode;
    char expected[32];
    char found[32];

    describe_outcome(expected, sizeof(expected), trial->expected.allowed, trial->expected.error);
    describe_outcome(found, sizeof(found), trial->found.allowed, trial->found.error);
    ktap_note("difference: %s from ring %u at %lx: expected %s, found %s (vector %u, cr2 %lx)",
              kinds[trial->access.kind], trial->access.user ? 3 : 0,
              scratch_accessed(trial->access), expected, found, trial->found.vector,
              trial->found.address);
    ktap_note("  WP %u, SMEP %u, SMAP %u, AC %u, NXE %u, PKE %u with PKRU %x, PKS %u with PKRS %x",
              mode->wp, mode->smep, mode->smap, trial->access.ac, mode->nxe, mode->pke, mode->pkru,
              mode->pks, mode->pkrs);
    for (unsigned level = mode->levels; level >= 1; level--)
        ktap_note("  level %u: %016lx before, %016lx after, %016lx expected", level,
                  trial->before[level - 1], trial->after[level - 1],
                  trial->before[level - 1] | trial->expected.sets[level - 1]);
}

static void print_kept(void)
{
    for (unsigned i = 0; i < kept_count; i++)
        print_trial(&kept[i]);
    kept_count = 0;
}

/* ---- trying ---- */

static void mmu_truth_judge(const struct trial *trial, unsigned access)
{
    truth.made++;
    truth.by_access[access]++;
    truth.faults += !trial->found.allowed;
    truth.accessed_on_fault += !trial->found.allowed && left_accessed(trial);
    if (agrees(trial))
        return;
    if (is_known(trial)) {
        truth.known[access]++;
        return;
    }
    truth.wrong[access]++;
    if (truth.differences++ < PRINTED_MAX)
        kept[kept_count++] = *trial;
}

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
    mmu_truth_judge(trial, access);
}

/* Where the processor's physical addresses have all 52 bits, none is reserved above them. */
static bool is_legal(unsigned number)
{
    unsigned word = number / ACCESSES;
    unsigned upper = word >= WORDS_WITH_LEAF ? word - WORDS_WITH_LEAF : word >> CHOICES;

    return truth.reserved_bits != 0 || !(chosen(upper, CHOOSE_RESERVED) ||
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
    print_kept();
}

/* ---- modes ---- */

enum mode_bit { MODE_WP, MODE_SMEP, MODE_SMAP, MODE_AC, MODE_NXE, MODE_BITS };

/* Keys off; then all rights of the key in PKRU; then all in IA32_PKRS. */
#define KEY_MODES 9U
#define MODES     (KEY_MODES << MODE_BITS)

/* The mode of this number; false when this processor does not have it. */
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

/* How far apart the combinations of a sample are: coprime to their number, 2^10 * 3^2 * 43, so that
 * over the modes it falls on all of them. */
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
                      truth.made, truth.differences);
    }
}

/* ---- the verdict ---- */

static void check_accesses(void)
{
    static const char *const names[] = {"reads from ring 0",   "writes from ring 0",
                                        "fetches from ring 0", "reads from ring 3",
                                        "writes from ring 3",  "fetches from ring 3"};

    for (unsigned i = 0; i < ACCESSES; i++)
        ktap_check(truth.by_access[i] > 0 && truth.wrong[i] == 0,
                   "%s: %lu of %lu as the manual says, %lu known failures", names[i],
                   truth.by_access[i] - truth.wrong[i] - truth.known[i], truth.by_access[i],
                   truth.known[i]);
}

static void check_features(void)
{
    const struct {
        const char *name;
        bool present;
    } features[] = {{"NX", cpu_features()->nx},
                    {"SMEP", cpu_features()->smep},
                    {"SMAP", cpu_features()->smap},
                    {"protection keys of user pages", cpu_features()->pku},
                    {"protection keys of supervisor pages", cpu_features()->pks}};

    for (unsigned i = 0; i < ARRAY_COUNT(features); i++) {
        if (features[i].present)
            ktap_check(truth.made > 0, "%s on and off", features[i].name);
        else
            ktap_skip("the processor lacks it", "%s on and off", features[i].name);
    }
}

static void mmu_truth_report(uint64_t began)
{
    for (unsigned i = 0; i < ARRAY_COUNT(deviations); i++) {
        if (deviations[i].count > 0)
            ktap_note("known failure of %s: %s: %lu combinations", deviations[i].hypervisor,
                      deviations[i].name, deviations[i].count);
    }
    if (truth.differences > PRINTED_MAX)
        ktap_note("%lu more differences are not printed", truth.differences - PRINTED_MAX);
    ktap_metric("combinations", truth.made, "accesses");
    ktap_metric("faults", truth.faults, "faults");
    ktap_metric("accessed_on_fault", truth.accessed_on_fault, "faults");
    ktap_metric("each", (machine_now_ns() - began) / max_u64(truth.made, 1), "ns");
}

static void start(void)
{
    memset(&truth, 0, sizeof(truth));
    for (unsigned i = 0; i < ARRAY_COUNT(deviations); i++)
        deviations[i].count = 0;
    truth.reserved_bits = cpu_features()->physical_bits < 52 ? UINT64_C(1) << 51 : 0;
}

static void run_with(unsigned highest, bool all)
{
    uint64_t began = machine_now_ns();
    enum status status;

    start();
    status = scratch_start();
    if (!ktap_check(status == OK, "scratch tables: %s", status_name(status)))
        return;
    try_all_modes(2, highest, all ? 1 : sample_stride(highest - 1));
    scratch_end();
    check_accesses();
    check_features();
    mmu_truth_report(began);
}

/* The upper entry stands at each level above the leaf's. */
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
};

EXPERIMENT(mmu_truth_all, 130) = {
    .theme = THEME_PROCESSOR,
    .name = "mmu-truth-all",
    .question = "Does this MMU do what the manual says, in every combination?",
    .checks = 12,
    .only_by_name = true,
    .run = mmu_truth_run_all,
};
