/* The x87, SSE and AVX registers of ring-3 programs. */
#include "cpu/fpu.h"

#include <stddef.h>

#include "cpu/features.h"
#include "cpu/percpu.h"
#include "cpu/registers.h"
#include "lib/check.h"

/* Components of XCR0: SDM volume 1, 13.1. */
#define XCR0_X87 UINT32_C(1)
#define XCR0_SSE UINT32_C(2)
#define XCR0_AVX UINT32_C(4)

/* CPUID.0DH: EAX has the components that XCR0 may enable, EBX the size for those that it does. */
#define LEAF_XSAVE UINT32_C(0xd)

/* FINIT's control word, and MXCSR at reset: SDM volume 1, 8.1.5 and 10.2.3. */
#define INITIAL_FCW   UINT8_C(0x7f), UINT8_C(0x03)
#define INITIAL_MXCSR UINT8_C(0x80), UINT8_C(0x1f)
#define AT_MXCSR      24

/* XRSTOR takes the other registers as initial, since XSTATE_BV is 0; FXRSTOR loads zeroes. */
static const struct fpu_state initial = {.legacy = {INITIAL_FCW, [AT_MXCSR] = INITIAL_MXCSR}};

static uint32_t components; /* in XCR0; 0: FXSAVE is used */

static void fpu_save(struct fpu_state *state)
{
    if (components != 0)
        __asm__ volatile("xsave64 %0" : "+m"(*state) : "a"(components), "d"(0));
    else
        __asm__ volatile("fxsave64 %0" : "+m"(*state));
}

static void fpu_load(const struct fpu_state *state)
{
    if (components != 0)
        __asm__ volatile("xrstor64 %0" : : "m"(*state), "a"(components), "d"(0));
    else
        __asm__ volatile("fxrstor64 %0" : : "m"(*state));
}

void fpu_init(void)
{
    const struct cpu_features *features = cpu_features();
    uint64_t cr4 = cr4_read() & ~(CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE);

    cr4 |= features->fxsr ? CR4_OSFXSR | CR4_OSXMMEXCPT : 0;
    cr4 |= features->xsave ? CR4_OSXSAVE : 0;
    cr4_write(cr4);
    if (!features->xsave)
        return;
    components = XCR0_X87 | XCR0_SSE | (features->avx ? XCR0_AVX : 0);
    components &= cpu_cpuid(LEAF_XSAVE).a;
    xcr0_write(components);
    CHECK(cpu_cpuid(LEAF_XSAVE).b <= sizeof(struct fpu_state));
}

bool fpu_has_avx(void)
{
    return (components & XCR0_AVX) != 0;
}

/* Prepares an initial state. XSAVE writes only the first word of the header, and XRSTOR demands
 * zeros in the others. */
void fpu_begin(struct fpu_state *state)
{
    struct cpu *cpu = cpu_self();

    CHECK(cpu->fpu == NULL);
    for (unsigned i = 0; i < sizeof(state->header) / sizeof(state->header[0]); i++)
        state->header[i] = 0;
    fpu_load(&initial);
    cpu->fpu = state;
}

void fpu_end(void)
{
    cpu_self()->fpu = NULL;
}

void fpu_switch(struct fpu_state **left, struct fpu_state *next)
{
    struct cpu *cpu = cpu_self();

    *left = cpu->fpu;
    cpu->fpu = next;
    if (*left != NULL)
        fpu_save(*left);
    if (next != NULL)
        fpu_load(next);
}
