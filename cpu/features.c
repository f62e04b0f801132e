/* Processor features from CPUID. */
#include "cpu/features.h"

#include <stddef.h>

#include "cpu/cpu.h"
#include "cpu/registers.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "lib/units.h"

/* Leaves: SDM volume 2, CPUID. */
#define LEAF_VENDOR     UINT32_C(0)
#define LEAF_FEATURES   UINT32_C(1)
#define LEAF_STRUCTURED UINT32_C(7)
#define LEAF_HYPERVISOR UINT32_C(0x40000000)
#define LEAF_EXTENDED   UINT32_C(0x80000000)
#define LEAF_EXT_FLAGS  UINT32_C(0x80000001)
#define LEAF_BRAND      UINT32_C(0x80000002)
#define LEAF_POWER      UINT32_C(0x80000007)
#define LEAF_ADDRESSES  UINT32_C(0x80000008)

/* Address widths without leaf 0x80000008: SDM volume 3, 4.1.4. */
#define DEFAULT_PHYSICAL_BITS 36
#define DEFAULT_LINEAR_BITS   48

static struct cpu_features features;
static bool detected;

static bool test_bit(uint32_t word, unsigned index)
{
    return (word >> index & 1) != 0;
}

static void features_put_word(char *text, uint32_t word)
{
    for (unsigned i = 0; i < 4; i++)
        text[i] = (char)(word >> 8 * i & 0xff);
}

static void detect_identity(void)
{
    struct cpuid_leaf vendor = cpu_cpuid(LEAF_VENDOR);
    struct cpuid_leaf signature = cpu_cpuid(LEAF_FEATURES);
    uint32_t family = signature.a >> 8 & 0xf;
    uint32_t model = signature.a >> 4 & 0xf;

    features.max_leaf = vendor.a;
    features_put_word(features.vendor, vendor.b);
    features_put_word(features.vendor + 4, vendor.d);
    features_put_word(features.vendor + 8, vendor.c);
    /* The extended parts count only for the families that ran out of numbers: SDM volume 2,
     * CPUID, 'Version Information'. */
    if (family == 0x6 || family == 0xf)
        model |= signature.a >> 12 & 0xf0;
    if (family == 0xf)
        family += signature.a >> 20 & 0xff;
    features.family = (uint16_t)family;
    features.model = (uint8_t)model;
    features.stepping = (uint8_t)(signature.a & 0xf);
}

static void detect_flags(void)
{
    struct cpuid_leaf flags = cpu_cpuid(LEAF_FEATURES);

    features.tsc = test_bit(flags.d, 4);
    features.mce = test_bit(flags.d, 7);
    features.mca = test_bit(flags.d, 14);
    features.apic = test_bit(flags.d, 9);
    features.pge = test_bit(flags.d, 13);
    features.pat = test_bit(flags.d, 16);
    features.fxsr = test_bit(flags.d, 24) && test_bit(flags.d, 25);
    features.pcid = test_bit(flags.c, 17);
    features.sse4_2 = test_bit(flags.c, 20);
    features.x2apic = test_bit(flags.c, 21);
    features.tsc_deadline = test_bit(flags.c, 24);
    features.xsave = test_bit(flags.c, 26);
    features.avx = features.xsave && test_bit(flags.c, 28);
    features.hypervisor = test_bit(flags.c, 31);
    if (features.max_leaf < LEAF_STRUCTURED)
        return;
    flags = cpu_cpuid(LEAF_STRUCTURED);
    features.fsgsbase = test_bit(flags.b, 0);
    features.smep = test_bit(flags.b, 7);
    features.erms = test_bit(flags.b, 9);
    features.invpcid = test_bit(flags.b, 10);
    features.smap = test_bit(flags.b, 20);
    features.umip = test_bit(flags.c, 2);
    features.pku = test_bit(flags.c, 3);
    features.la57 = test_bit(flags.c, 16);
    features.pks = test_bit(flags.c, 31);
}

/* Reads the brand string. Some makers pad it with blanks on the left. */
static void detect_brand(void)
{
    size_t start = 0;

    for (uint32_t leaf = 0; leaf < 3; leaf++) {
        struct cpuid_leaf part = cpu_cpuid(LEAF_BRAND + leaf);
        char *at = features.brand + (size_t)leaf * 16;

        features_put_word(at, part.a);
        features_put_word(at + 4, part.b);
        features_put_word(at + 8, part.c);
        features_put_word(at + 12, part.d);
    }
    while (features.brand[start] == ' ')
        start++;
    memmove(features.brand, features.brand + start, sizeof(features.brand) - start);
}

static void detect_extended(void)
{
    features.physical_bits = DEFAULT_PHYSICAL_BITS;
    features.linear_bits = DEFAULT_LINEAR_BITS;
    features.max_extended_leaf = cpu_cpuid(LEAF_EXTENDED).a;
    if (features.max_extended_leaf >= LEAF_EXT_FLAGS) {
        struct cpuid_leaf flags = cpu_cpuid(LEAF_EXT_FLAGS);

        features.nx = test_bit(flags.d, 20);
        features.pages_1g = test_bit(flags.d, 26);
        features.rdtscp = test_bit(flags.d, 27);
    }
    if (features.max_extended_leaf >= LEAF_BRAND + 2)
        detect_brand();
    if (features.max_extended_leaf >= LEAF_POWER)
        features.tsc_invariant = test_bit(cpu_cpuid(LEAF_POWER).d, 8);
    if (features.max_extended_leaf >= LEAF_ADDRESSES) {
        struct cpuid_leaf addresses = cpu_cpuid(LEAF_ADDRESSES);

        features.physical_bits = (uint8_t)(addresses.a & 0xff);
        features.linear_bits = (uint8_t)(addresses.a >> 8 & 0xff);
    }
}

static void detect_hypervisor(void)
{
    struct cpuid_leaf name;

    if (!features.hypervisor)
        return;
    name = cpu_cpuid(LEAF_HYPERVISOR);
    features_put_word(features.hypervisor_name, name.b);
    features_put_word(features.hypervisor_name + 4, name.c);
    features_put_word(features.hypervisor_name + 8, name.d);
}

struct cpuid_leaf cpu_cpuid(uint32_t leaf)
{
    struct cpuid_leaf out;

    __asm__ volatile("cpuid"
                     : "=a"(out.a), "=b"(out.b), "=c"(out.c), "=d"(out.d)
                     : "a"(leaf), "c"(0));
    return out;
}

const struct cpu_features *cpu_features(void)
{
    if (!detected) {
        detect_identity();
        detect_flags();
        detect_extended();
        detect_hypervisor();
        detected = true;
    }
    return &features;
}

void cpu_features_each(const struct cpu_features *of,
                       void (*line)(const struct cpu_feature_line *line, void *context),
                       void *context)
{
    const struct {
        const char *name;
        bool present;
        const char *with;
        const char *without;
    } rows[] = {
        {"WP", true, "the kernel obeys read-only pages too", ""},
        {"NX", of->nx, "data is not executable", "data can be executed"},
        {"SMEP", of->smep, "the kernel cannot execute user pages",
         "the kernel could be made to execute user pages"},
        {"SMAP", of->smap, "the kernel touches user pages only where it says so",
         "the kernel could touch user pages by accident"},
        {"UMIP", of->umip, "programs cannot read the descriptor tables' addresses",
         "programs can read the descriptor tables' addresses"},
        {"PGE", of->pge, "kernel translations stay when the address space changes",
         "each change of address space drops the kernel's translations"},
        {"PCID", of->pcid && of->pge, "a program's translations stay while another one runs",
         "each change of address space drops the program's translations"},
        {"INVPCID", of->invpcid, "everything is dropped by one instruction",
         "everything is dropped by switching global pages off and on"},
        {"PAT", of->pat, "the screen is write-combining", "the screen is uncached, and slow"},
        {"1 GiB pages", of->pages_1g, "the direct map uses them",
         "the direct map takes a table for each GiB"},
        {"ERMS", of->erms, "strings of bytes move as fast as words",
         "strings of bytes move slower than words"},
        {"SSE4.2", of->sse4_2, "check values by the CRC32 instruction",
         "check values by a table, slower"},
        {"AVX", of->avx, "programs have it, and a thread switch keeps its registers",
         "programs have x87 and SSE only; a thread switch keeps their registers"},
        {"MCE", of->mce, "machine checks are reported", "a machine check resets the machine"},
        {"invariant TSC", of->tsc_invariant, "the clock's rate does not change",
         "the clock's rate may change with power states"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct cpu_feature_line out = {rows[i].name, rows[i].present,
                                       rows[i].present ? rows[i].with : rows[i].without};

        line(&out, context);
    }
}

static void print_line(const struct cpu_feature_line *line, void *context)
{
    (void)context;
    print("#   %s%s: %s\n", line->present ? "" : "no ", line->name, line->words);
}

/* Prints features that the processor has and Faultline leaves off. Where a control register or an
 * MSR says whether a feature is on, that decides. */
static void print_unused(const struct cpu_features *of)
{
    uint64_t cr4 = cpu_read_cr4();
    const struct {
        const char *name;
        bool present;
    } rows[] = {
        {"LA57", of->la57 && (cr4 & CR4_LA57) == 0},
        {"PKU", of->pku && (cr4 & CR4_PKE) == 0},
        {"PKS", of->pks && (cr4 & CR4_PKS) == 0},
        {"PCID", of->pcid && (cr4 & CR4_PCIDE) == 0},
        {"FSGSBASE", of->fsgsbase && (cr4 & CR4_FSGSBASE) == 0},
        {"RDTSCP", of->rdtscp},
        {"x2APIC", of->x2apic && (msr_read(IA32_APIC_BASE) & APIC_BASE_EXTD) == 0},
        {"TSC-deadline", of->tsc_deadline},
    };

    print("# not in use:");
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (rows[i].present)
            print(" %s", rows[i].name);
    }
    print("\n");
}

void cpu_features_print(void)
{
    const struct cpu_features *of = cpu_features();

    print("# processor: %s, %s family %u model %u stepping %u\n",
          of->brand[0] != '\0' ? of->brand : "unnamed", of->vendor, of->family, of->model,
          of->stepping);
    print("# addresses: %u bits physical, %u bits linear\n", of->physical_bits, of->linear_bits);
    if (of->hypervisor)
        print("# hypervisor: %s\n",
              of->hypervisor_name[0] != '\0' ? of->hypervisor_name : "present, without a name");
    print_unused(of);
    cpu_features_each(of, print_line, NULL);
}
