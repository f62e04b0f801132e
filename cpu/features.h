/*
 * Processor features from CPUID, detected once.
 *
 * Each flag is named after the bit in the manuals and says what CPUID reports, not what is turned
 * on; cpu/cpu.h turns on what Faultline uses. A bit of a control register without a flag here is
 * never written: a reserved bit is a #GP on hardware and a livelock under QEMU's TCG.
 *
 * Units: bits for address widths. Owns: one static record without pointers, so that it may be
 * filled before the image moves and still be right after it. Fails with: nothing. Context: any; the
 * first call executes CPUID. Spec: Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E; leaf
 * 0x40000000 as hypervisors use it.
 */
#ifndef CPU_FEATURES_H
#define CPU_FEATURES_H

#include <stdbool.h>
#include <stdint.h>

struct cpu_features {
    /* paging */
    bool nx;       /* no-execute: CPUID.80000001H:EDX[20] */
    bool pge;      /* global pages */
    bool pat;      /* page attribute table */
    bool pages_1g; /* leaves of 1 GiB */
    bool la57;     /* five levels */
    bool pcid;     /* process-context identifiers */
    bool invpcid;
    bool smep; /* supervisor does not execute user pages */
    bool smap; /* supervisor does not touch user pages but between STAC and CLAC */
    bool umip; /* no SGDT, SIDT, SLDT, STR, SMSW for programs */
    bool pku;  /* protection keys for user pages */
    bool pks;  /* protection keys for supervisor pages */
    /* instructions and time */
    bool erms;   /* fast REP MOVSB and STOSB */
    bool sse4_2; /* the CRC32 instruction */
    bool fxsr;   /* FXSAVE and SSE */
    bool xsave;
    bool avx;
    bool fsgsbase;
    bool rdtscp;
    bool tsc;
    bool tsc_invariant;
    /* interrupts */
    bool mce;  /* machine-check exception */
    bool mca;  /* its registers */
    bool apic; /* local APIC */
    bool x2apic;
    bool tsc_deadline;
    /* identity */
    bool hypervisor; /* a hypervisor or emulator says that it is there */
    uint8_t physical_bits;
    uint8_t linear_bits;
    uint32_t max_leaf;
    uint32_t max_extended_leaf;
    uint16_t family; /* with the extended parts added in */
    uint8_t model;
    uint8_t stepping;
    char vendor[13];          /* "GenuineIntel" */
    char brand[49];           /* without leading blanks; "" = none */
    char hypervisor_name[13]; /* "TCGTCGTCGTCG"; "" = none */
};

/* Returns the features, which the first call detects. */
const struct cpu_features *cpu_features(void);

/* One leaf as CPUID returns it, sub-leaf 0. A leaf past max_leaf returns junk. */
struct cpuid_leaf {
    uint32_t a, b, c, d;
};

struct cpuid_leaf cpu_cpuid(uint32_t leaf);

/* One line of the boot summary: a feature that Faultline uses where it exists. */
struct cpu_feature_line {
    const char *name; /* "NX" */
    bool present;
    const char *words; /* the gain if present, or the loss if absent */
};

/* Calls `line` for each feature that matters to Faultline, in the order of the summary. Reads only
 * the given record. */
void cpu_features_each(const struct cpu_features *of,
                       void (*line)(const struct cpu_feature_line *line, void *context),
                       void *context);

/* Prints the processor and its features as diagnostic lines: in use, and lost. */
void cpu_features_print(void);

#endif
