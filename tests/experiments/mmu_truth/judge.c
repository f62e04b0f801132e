/* Judges the accesses of mmu-truth. */
#include "tests/experiments/mmu_truth/judge.h"

#include "cpu/features.h"
#include "cpu/machine.h"
#include "cpu/trap/trap.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "paging/pte.h"
#include "tests/runner/experiment.h"

/* Differences that are printed with their walk; all are counted. */
#define PRINTED_MAX 8U

/* Where a large page's frame must be zero, above PAT: SDM volume 3, tables 4-16 and 4-18. */
#define RESERVED_IN_LARGE (UINT64_C(1) << 13)

/* The CPUID leaf 0x40000000 of QEMU's TCG, the one emulator whose deviations are listed. */
#define TCG "TCGTCGTCGTCG"

/* A way in which QEMU deviates from the manual. */
struct deviation {
    enum mmu_rule rule; /* the manual's rule that decides these accesses */
    const char *name;
    bool (*is)(const struct trial *trial);
    uint64_t count;
};

/* Entries in which the manual leaves the accessed flag open after a fault. */
enum open_place {
    ABOVE_ABSENT,
    ABOVE_RESERVED,
    ABOVE_REFUSED, /* above a page whose rights or keys refuse the access */
    IN_REFUSED,    /* in the entry of that page */
    OPEN_PLACES
};

struct tally {
    uint64_t agreed;
    uint64_t known; /* deviated as QEMU is known to */
    uint64_t wrong;
};

static struct {
    uint64_t made;
    uint64_t faults;
    uint64_t accessed_on_fault; /* faults that left an accessed bit behind */
    uint64_t differences;
    struct tally by_access[ACCESSES];
    struct tally by_rule[MMU_RULES];
    uint64_t open[OPEN_PLACES]; /* entries without A before the fault */
    uint64_t marked[OPEN_PLACES];
} truth;

static const char *const rule_names[MMU_RULES] = {[MMU_RULE_P] = "P",
                                                  [MMU_RULE_RESERVED] = "reserved",
                                                  [MMU_RULE_US] = "U/S",
                                                  [MMU_RULE_RW] = "R/W",
                                                  [MMU_RULE_NX] = "NX",
                                                  [MMU_RULE_SMEP] = "SMEP",
                                                  [MMU_RULE_SMAP] = "SMAP",
                                                  [MMU_RULE_KEYS] = "keys",
                                                  [MMU_RULE_ALLOWED] = "allowed"};

/* ---- comparing ---- */

static bool bits_agree(const struct trial *trial)
{
    for (unsigned i = 0; i < trial->mode.levels; i++) {
        uint64_t wanted = trial->before[i] | trial->expected.must[i];

        if (((trial->after[i] ^ wanted) & ~trial->expected.may[i]) != 0 ||
            (trial->before[i] & ~trial->after[i]) != 0)
            return false;
    }
    return true;
}

static bool fault_agrees(const struct trial *trial)
{
    uint64_t differing = trial->found.error ^ trial->expected.error;

    return trial->found.vector == TRAP_PF && (differing & ~trial->expected.error_may) == 0 &&
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

/* Returns true if a fault of a reserved bit lacks P: that bit is in a present entry, so P must be
 * set (SDM volume 3, 4.7). */
static bool reserved_without_p(const struct trial *trial)
{
    struct trial without = *trial;

    without.expected.error &= ~PF_P;
    return (trial->expected.error & PF_RSVD) != 0 && agrees(&without);
}

/* Returns true if a page of 1 GiB worked without CPUID's bit for it, where PS is reserved at level
 * 3 (SDM volume 3, 4.5). */
static bool gib_pages_anyway(const struct trial *trial)
{
    struct trial with = *trial;

    if (trial->mode.pages_1g)
        return false;
    with.mode.pages_1g = true;
    with.expected = mmu_model(&with.mode, with.before, with.access);
    return agrees(&with) || reserved_without_p(&with);
}

/* Returns true if an entry with reserved bits was marked as accessed, though it cannot be used for
 * translation (SDM volume 3, 4.8). */
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
    {MMU_RULE_RESERVED, "a reserved bit is reported without P in the error code",
     reserved_without_p, 0},
    {MMU_RULE_RESERVED, "an entry of a 1 GiB page with reserved address bits is marked as accessed",
     accessed_though_reserved, 0},
    {MMU_RULE_RESERVED, "pages of 1 GiB work where CPUID has none", gib_pages_anyway, 0},
};

static bool is_known(const struct trial *trial)
{
    if (strcmp(cpu_features()->hypervisor_name, TCG) != 0)
        return false;
    for (unsigned i = 0; i < ARRAY_COUNT(deviations); i++) {
        if (deviations[i].rule == trial->expected.rule && deviations[i].is(trial)) {
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
    ktap_note("  rule: %s", rule_names[trial->expected.rule]);
    ktap_note("  WP %u, SMEP %u, SMAP %u, AC %u, NXE %u, PKE %u with PKRU %x, PKS %u with PKRS %x",
              mode->wp, mode->smep, mode->smap, trial->access.ac, mode->nxe, mode->pke, mode->pkru,
              mode->pks, mode->pkrs);
    for (unsigned level = mode->levels; level >= 1; level--)
        ktap_note("  level %u: %016lx before, %016lx after, %016lx expected", level,
                  trial->before[level - 1], trial->after[level - 1],
                  trial->before[level - 1] | trial->expected.must[level - 1]);
}

void judge_print_kept(void)
{
    for (unsigned i = 0; i < kept_count; i++)
        print_trial(&kept[i]);
    kept_count = 0;
}

/* ---- counting ---- */

static enum open_place place_of(const struct trial *trial, unsigned level)
{
    if (trial->expected.rule == MMU_RULE_P)
        return ABOVE_ABSENT;
    if (trial->expected.rule == MMU_RULE_RESERVED)
        return ABOVE_RESERVED;
    return level > trial->expected.level ? ABOVE_REFUSED : IN_REFUSED;
}

static void count_open_places(const struct trial *trial)
{
    for (unsigned i = 0; i < trial->mode.levels; i++) {
        if ((trial->expected.may[i] & ~trial->before[i] & PTE_A) != 0) {
            truth.open[place_of(trial, i + 1)]++;
            truth.marked[place_of(trial, i + 1)] += (trial->after[i] & PTE_A) != 0;
        }
    }
}

static void count(struct tally *tally, bool agreed, bool known)
{
    tally->agreed += agreed;
    tally->known += known;
    tally->wrong += !agreed && !known;
}

void judge_trial(const struct trial *trial)
{
    unsigned access = trial->access.kind + (trial->access.user ? MMU_KINDS : 0);
    bool agreed = agrees(trial);
    bool known = !agreed && is_known(trial);

    truth.made++;
    truth.faults += !trial->found.allowed;
    truth.accessed_on_fault += !trial->found.allowed && left_accessed(trial);
    count_open_places(trial);
    count(&truth.by_access[access], agreed, known);
    count(&truth.by_rule[trial->expected.rule], agreed, known);
    if (!agreed && !known && truth.differences++ < PRINTED_MAX)
        kept[kept_count++] = *trial;
}

uint64_t judge_made(void)
{
    return truth.made;
}

uint64_t judge_differences(void)
{
    return truth.differences;
}

void judge_start(void)
{
    memset(&truth, 0, sizeof(truth));
    for (unsigned i = 0; i < ARRAY_COUNT(deviations); i++)
        deviations[i].count = 0;
}

/* ---- the verdict ---- */

static void check_accesses(void)
{
    static const char *const names[] = {"reads from ring 0",   "writes from ring 0",
                                        "fetches from ring 0", "reads from ring 3",
                                        "writes from ring 3",  "fetches from ring 3"};

    for (unsigned i = 0; i < ACCESSES; i++) {
        const struct tally *tally = &truth.by_access[i];
        uint64_t made = tally->agreed + tally->known + tally->wrong;

        ktap_check(made > 0 && tally->wrong == 0,
                   "%s: %lu of %lu as the manual says, %lu as QEMU deviates", names[i],
                   tally->agreed, made, tally->known);
    }
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

/* Prints how each rule's accesses ended, as figures. */
static void judge_put_rules(void)
{
    static const char *const names[MMU_RULES] = {"present", "reserved", "user", "write",  "nx",
                                                 "smep",    "smap",     "keys", "allowed"};
    struct tally all = {0};
    char name[40];

    for (unsigned rule = 0; rule < MMU_RULES; rule++) {
        const struct tally *tally = &truth.by_rule[rule];

        print_to(name, sizeof(name), "rule.%s.agreed", names[rule]);
        ktap_metric(name, tally->agreed, "accesses");
        print_to(name, sizeof(name), "rule.%s.known", names[rule]);
        ktap_metric(name, tally->known, "accesses");
        print_to(name, sizeof(name), "rule.%s.unknown", names[rule]);
        ktap_metric(name, tally->wrong, "accesses");
        all.known += tally->known;
        all.wrong += tally->wrong;
    }
    ktap_metric("known", all.known, "accesses");
    ktap_metric("unknown", all.wrong, "accesses");
}

static void print_rules(void)
{
    for (unsigned rule = 0; rule < MMU_RULES; rule++) {
        const struct tally *tally = &truth.by_rule[rule];

        ktap_note("rule %s: %lu as the manual says, %lu as QEMU deviates, %lu different",
                  rule_names[rule], tally->agreed, tally->known, tally->wrong);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(deviations); i++) {
        if (deviations[i].count > 0)
            ktap_note("QEMU's TCG deviates, rule %s: %s: %lu accesses",
                      rule_names[deviations[i].rule], deviations[i].name, deviations[i].count);
    }
}

void judge_report(uint64_t began)
{
    static const char *const open_names[OPEN_PLACES] = {[ABOVE_ABSENT] = "accessed_above_absent",
                                                        [ABOVE_RESERVED] =
                                                            "accessed_above_reserved",
                                                        [ABOVE_REFUSED] = "accessed_above_refused",
                                                        [IN_REFUSED] = "accessed_in_refused"};

    check_accesses();
    check_features();
    print_rules();
    if (truth.differences > PRINTED_MAX)
        ktap_note("%lu more differences are not printed", truth.differences - PRINTED_MAX);
    ktap_metric("combinations", truth.made, "accesses");
    judge_put_rules();
    ktap_metric("faults", truth.faults, "faults");
    ktap_metric("accessed_on_fault", truth.accessed_on_fault, "faults");
    for (unsigned i = 0; i < OPEN_PLACES; i++)
        ktap_metric(open_names[i], 100 * truth.marked[i] / max_u64(truth.open[i], 1), "%");
    ktap_metric("each", (machine_now_ns() - began) / max_u64(truth.made, 1), "ns");
}
