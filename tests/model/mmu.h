/*
 * A model of the x86-64 MMU: what one access does, by the manual alone.
 *
 * Pure C without tables, caches or memory of its own: the caller hands it the entries that a walk
 * meets, from the top down, and the model says whether the walk goes on, whether the access is
 * allowed, with which error code it faults, and which accessed and dirty bits the processor leaves
 * behind. The experiment mmu-truth holds the processor to it, and host tests can use it as their
 * MMU. It is written from the manual and shares nothing with paging/, not even the names of bits.
 *
 * Units: levels 1 (the table of 4 KiB pages) to 5; words as they stand in memory.
 * Owns: nothing. State: mmu_begin -> mmu_step while it says MMU_GOES_ON -> mmu_end.
 * Fails with: nothing. Context: any.
 * Spec: Intel SDM volume 3, 4.5 (entries), 4.6.1 (access rights), 4.6.2 (protection keys), 4.7
 * (error code), 4.8 (accessed and dirty).
 */
#ifndef TESTS_MODEL_MMU_H
#define TESTS_MODEL_MMU_H

#include <stdbool.h>
#include <stdint.h>

#define MMU_LEVELS_MAX 5U

/* Features and modes, as CPUID and the registers give them. */
struct mmu_machine {
    uint8_t levels;        /* 4 or 5 */
    uint8_t physical_bits; /* MAXPHYADDR */
    bool pages_1g;
    bool wp;       /* CR0.WP */
    bool smep;     /* CR4.SMEP */
    bool smap;     /* CR4.SMAP */
    bool pke;      /* CR4.PKE: keys of user addresses */
    bool pks;      /* CR4.PKS: keys of supervisor addresses */
    bool nxe;      /* IA32_EFER.NXE */
    uint32_t pkru; /* two bits a key: access disabled, write disabled */
    uint32_t pkrs; /* IA32_PKRS, likewise */
};

enum mmu_kind { MMU_READ, MMU_WRITE, MMU_FETCH, MMU_KINDS };

struct mmu_access {
    enum mmu_kind kind;
    bool user; /* a user-mode access: made in ring 3, and not implicit */
    bool ac;   /* EFLAGS.AC, for an explicit access of ring 0 */
};

enum mmu_step { MMU_GOES_ON, MMU_LEAF, MMU_NOT_PRESENT, MMU_RESERVED };

/* A walk under way. */
struct mmu_walk {
    unsigned level;        /* of the entry that comes next, or of the last one */
    enum mmu_step outcome; /* of the last step */
    bool writable;         /* R/W, U/S and no XD in every entry until here */
    bool user;
    bool executable;
    uint64_t entry; /* the last one */
    unsigned used;  /* bit n: the entry of level n + 1 was used for translation */
};

/* The rule of the manual that decides an access. */
enum mmu_rule {
    MMU_RULE_P,        /* an entry is not present */
    MMU_RULE_RESERVED, /* an entry has reserved bits */
    MMU_RULE_US,       /* user access to a supervisor page */
    MMU_RULE_RW,       /* write to a read-only page */
    MMU_RULE_NX,       /* fetch from a page without execute rights */
    MMU_RULE_SMEP,     /* supervisor fetch from a user page */
    MMU_RULE_SMAP,     /* supervisor access to a user page */
    MMU_RULE_KEYS,     /* protection keys alone */
    MMU_RULE_ALLOWED,
    MMU_RULES
};

/* The result of an access. Bits are those of the entry's word: accessed is 5, dirty is 6. A
 * processor sets the bits of `must`, chooses those of `may`, and sets no other bit. */
struct mmu_result {
    bool allowed;
    enum mmu_rule rule;
    uint64_t error;                /* page-fault error code, if not allowed */
    uint64_t error_may;            /* bits of it that the manual leaves open */
    uint64_t physical_base;        /* of the page, if allowed */
    unsigned level;                /* where the walk ended */
    uint64_t must[MMU_LEVELS_MAX]; /* index level - 1 */
    uint64_t may[MMU_LEVELS_MAX];
};

/* ---- the whole ---- */

void mmu_begin(struct mmu_walk *walk, const struct mmu_machine *machine);

/* Evaluates the entry of walk->level. On MMU_GOES_ON, the next entry is in the table that it refers
 * to. */
enum mmu_step mmu_step(struct mmu_walk *walk, const struct mmu_machine *machine, uint64_t entry);

/* Returns the result of the access, after the last step. */
struct mmu_result mmu_end(const struct mmu_walk *walk, const struct mmu_machine *machine,
                          struct mmu_access access);

/* Walks the given entries, index level - 1, and returns the result of the access. */
struct mmu_result mmu_model(const struct mmu_machine *machine, const uint64_t *entries,
                            struct mmu_access access);

/* ---- its parts ---- */

/* Returns the bits that must be zero in a present entry of this level. */
uint64_t mmu_reserved_bits(const struct mmu_machine *machine, unsigned level, uint64_t entry);

/* Returns the rule that decides an access to a page with the rights of all levels and a key. */
enum mmu_rule mmu_rule_of(const struct mmu_machine *machine, const struct mmu_walk *walk,
                          unsigned key, struct mmu_access access);

/* Returns the error code of such an access; 0 if it is allowed. */
uint64_t mmu_judge(const struct mmu_machine *machine, const struct mmu_walk *walk, unsigned key,
                   struct mmu_access access);

#endif
