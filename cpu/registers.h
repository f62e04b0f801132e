/*
 * Control registers and model-specific registers: their bits, and the instructions that reach them.
 *
 * No bit is written that CPUID does not report (cpu/features.h): a reserved one is a #GP on
 * hardware and a livelock under QEMU's TCG.
 *
 * Context: any, in ring 0. Cannot fail, given that CPUID reports the register.
 * Spec: Intel SDM volume 3, 2.5 (control registers); volume 4, table 2-2 (architectural MSRs).
 */
#ifndef CPU_REGISTERS_H
#define CPU_REGISTERS_H

#include <stdint.h>

#define CR0_PE         (UINT64_C(1) << 0)
#define CR0_MP         (UINT64_C(1) << 1)
#define CR0_EM         (UINT64_C(1) << 2)
#define CR0_TS         (UINT64_C(1) << 3)
#define CR0_ET         (UINT64_C(1) << 4)
#define CR0_NE         (UINT64_C(1) << 5)
#define CR0_WP         (UINT64_C(1) << 16)
#define CR0_AM         (UINT64_C(1) << 18)
#define CR0_NW         (UINT64_C(1) << 29)
#define CR0_CD         (UINT64_C(1) << 30)
#define CR0_PG         (UINT64_C(1) << 31)
#define CR3_PCID       UINT64_C(0xfff)     /* with CR4.PCIDE */
#define CR3_KEEP       (UINT64_C(1) << 63) /* written: nothing of the PCID is flushed */
#define CR4_DE         (UINT64_C(1) << 3)
#define CR4_PAE        (UINT64_C(1) << 5)
#define CR4_MCE        (UINT64_C(1) << 6)
#define CR4_PGE        (UINT64_C(1) << 7)
#define CR4_OSFXSR     (UINT64_C(1) << 9)
#define CR4_OSXMMEXCPT (UINT64_C(1) << 10)
#define CR4_UMIP       (UINT64_C(1) << 11)
#define CR4_LA57       (UINT64_C(1) << 12)
#define CR4_FSGSBASE   (UINT64_C(1) << 16)
#define CR4_PCIDE      (UINT64_C(1) << 17)
#define CR4_OSXSAVE    (UINT64_C(1) << 18)
#define CR4_SMEP       (UINT64_C(1) << 20)
#define CR4_SMAP       (UINT64_C(1) << 21)
#define CR4_PKE        (UINT64_C(1) << 22)
#define CR4_CET        (UINT64_C(1) << 23)
#define CR4_PKS        (UINT64_C(1) << 24)

#define RFLAGS_FIXED (UINT64_C(1) << 1) /* always 1 */
#define RFLAGS_TF    (UINT64_C(1) << 8)
#define RFLAGS_IF    (UINT64_C(1) << 9)
#define RFLAGS_DF    (UINT64_C(1) << 10)
#define RFLAGS_NT    (UINT64_C(1) << 14)
#define RFLAGS_RF    (UINT64_C(1) << 16)
#define RFLAGS_AC    (UINT64_C(1) << 18)

#define IA32_APIC_BASE UINT32_C(0x1b)
#define APIC_BASE_EXTD (UINT64_C(1) << 10) /* x2APIC mode */
#define APIC_BASE_EN   (UINT64_C(1) << 11)
#define IA32_PAT       UINT32_C(0x277)
#define IA32_PKRS      UINT32_C(0x6e1)
#define IA32_X2APIC    UINT32_C(0x800) /* the register at offset 16 * n is MSR 0x800 + n */
#define IA32_EFER      UINT32_C(0xc0000080)
#define EFER_SCE       (UINT64_C(1) << 0)
#define EFER_LME       (UINT64_C(1) << 8)
#define EFER_LMA       (UINT64_C(1) << 10)
#define EFER_NXE       (UINT64_C(1) << 11)
#define EFER_TCE       (UINT64_C(1) << 15) /* AMD: INVLPG keeps more of the caches; stays 0 */
#define IA32_STAR      UINT32_C(0xc0000081)
#define IA32_LSTAR     UINT32_C(0xc0000082)
#define IA32_FMASK     UINT32_C(0xc0000084)
#define IA32_FS_BASE   UINT32_C(0xc0000100)
#define IA32_GS_BASE   UINT32_C(0xc0000101)
#define IA32_KERNEL_GS UINT32_C(0xc0000102)

static inline uint64_t msr_read(uint32_t msr)
{
    uint32_t low;
    uint32_t high;

    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

static inline void msr_write(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr"
                     :
                     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}

/* Sets the components that XSAVE manages and programs may use. CR4.OSXSAVE must be on. */
static inline void xcr0_write(uint32_t value)
{
    __asm__ volatile("xsetbv" : : "a"(value), "c"(0), "d"(0) : "memory");
}

/* Sets the rights of the 16 keys of user pages. CR4.PKE must be on. */
static inline void pkru_write(uint32_t value)
{
    __asm__ volatile("wrpkru" : : "a"(value), "c"(0), "d"(0) : "memory");
}

#define CONTROL_REGISTER(name)                                                                     \
    static inline uint64_t name##_read(void)                                                       \
    {                                                                                              \
        uint64_t value;                                                                            \
                                                                                                   \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(value));                                     \
        return value;                                                                              \
    }                                                                                              \
                                                                                                   \
    static inline void name##_write(uint64_t value)                                                \
    {                                                                                              \
        __asm__ volatile("mov %0, %%" #name : : "r"(value) : "memory");                            \
    }

/* Kinds of INVPCID: SDM volume 2, INVPCID. */
#define INVPCID_ALL 2U /* every context, global pages included */

static inline void invpcid(uint64_t kind, uint64_t pcid, uint64_t address)
{
    const uint64_t descriptor[2] = {pcid, address};

    __asm__ volatile("invpcid %0, %1" : : "m"(descriptor), "r"(kind) : "memory");
}

CONTROL_REGISTER(cr0)
CONTROL_REGISTER(cr2)
CONTROL_REGISTER(cr3)
CONTROL_REGISTER(cr4)

#endif
