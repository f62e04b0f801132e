/* A model of the x86-64 MMU, written from the manual alone. */
#include "tests/model/mmu.h"

#include "lib/check.h"

/* Bits of an entry: SDM volume 3, tables 4-14 to 4-20. */
#define BIT(n)         (UINT64_C(1) << (n))
#define ENTRY_PRESENT  BIT(0)
#define ENTRY_WRITE    BIT(1)
#define ENTRY_USER     BIT(2)
#define ENTRY_ACCESSED BIT(5)
#define ENTRY_DIRTY    BIT(6)
#define ENTRY_SIZE     BIT(7)
#define ENTRY_XD       BIT(63)
#define ENTRY_KEY(e)   ((unsigned)((e) >> 59) & 15U)
#define ADDRESS_BITS   52U
#define ADDRESS_MASK   UINT64_C(0x000ffffffffff000)

/* Where the frame of a large page begins to be reserved: above PAT, bit 12. */
#define LARGE_RESERVED_FROM 13U

/* Page-fault error code: SDM volume 3, figure 4-12. */
#define ERROR_P    BIT(0)
#define ERROR_WR   BIT(1)
#define ERROR_US   BIT(2)
#define ERROR_RSVD BIT(3)
#define ERROR_ID   BIT(4)
#define ERROR_PK   BIT(5)

/* A key's two bits in PKRU and IA32_PKRS: SDM volume 3, 4.6.2. */
#define KEY_ACCESS_DISABLE 1U
#define KEY_WRITE_DISABLE  2U

static uint64_t bits_between(unsigned from, unsigned end)
{
    return end > from ? (BIT(end) - 1) & ~(BIT(from) - 1) : 0;
}

static unsigned shift_of(unsigned level)
{
    return 12U + 9U * (level - 1);
}

/* PS is a page at level 2 always, at level 3 where CPUID has 1-GByte pages. */
static bool may_be_large(const struct mmu_machine *machine, unsigned level)
{
    return level == 2 || (level == 3 && machine->pages_1g);
}

uint64_t mmu_reserved_bits(const struct mmu_machine *machine, unsigned level, uint64_t entry)
{
    uint64_t reserved = bits_between(machine->physical_bits, ADDRESS_BITS);

    CHECK(level >= 1 && level <= machine->levels);
    if (!machine->nxe)
        reserved |= ENTRY_XD;
    if (level == 1 || (entry & ENTRY_SIZE) == 0)
        return reserved;
    if (!may_be_large(machine, level))
        return reserved | ENTRY_SIZE;
    return reserved | bits_between(LARGE_RESERVED_FROM, shift_of(level));
}

void mmu_begin(struct mmu_walk *walk, const struct mmu_machine *machine)
{
    CHECK(machine->levels == 4 || machine->levels == MMU_LEVELS_MAX);
    *walk = (struct mmu_walk){.level = machine->levels,
                              .outcome = MMU_GOES_ON,
                              .writable = true,
                              .user = true,
                              .executable = true};
}

static enum mmu_step classify(const struct mmu_walk *walk, const struct mmu_machine *machine)
{
    if ((walk->entry & ENTRY_PRESENT) == 0)
        return MMU_NOT_PRESENT;
    if ((walk->entry & mmu_reserved_bits(machine, walk->level, walk->entry)) != 0)
        return MMU_RESERVED;
    return walk->level == 1 || (walk->entry & ENTRY_SIZE) != 0 ? MMU_LEAF : MMU_GOES_ON;
}

enum mmu_step mmu_step(struct mmu_walk *walk, const struct mmu_machine *machine, uint64_t entry)
{
    CHECK(walk->outcome == MMU_GOES_ON && walk->level >= 1);
    walk->entry = entry;
    walk->outcome = classify(walk, machine);
    if (walk->outcome == MMU_NOT_PRESENT || walk->outcome == MMU_RESERVED)
        return walk->outcome;
    walk->used |= 1U << (walk->level - 1);
    walk->writable = walk->writable && (entry & ENTRY_WRITE) != 0;
    walk->user = walk->user && (entry & ENTRY_USER) != 0;
    walk->executable = walk->executable && !(machine->nxe && (entry & ENTRY_XD) != 0);
    if (walk->outcome == MMU_GOES_ON)
        walk->level--;
    return walk->outcome;
}

/* Returns the error-code bits of the kind of access. I/D is set only if NX or SMEP can refuse a
 * fetch. */
static uint64_t access_bits(const struct mmu_machine *machine, struct mmu_access access)
{
    bool tells_fetches = machine->nxe || machine->smep;

    return (access.kind == MMU_WRITE ? ERROR_WR : 0) | (access.user ? ERROR_US : 0) |
           (access.kind == MMU_FETCH && tells_fetches ? ERROR_ID : 0);
}

/* Returns the rule that decides without keys: by the mode of the access, then by the mode of the
 * address (SDM volume 3, 4.6.1). */
static enum mmu_rule mmu_rights_rule(const struct mmu_machine *machine, const struct mmu_walk *page,
                                     struct mmu_access access)
{
    if (access.user && !page->user)
        return MMU_RULE_US;
    if (access.kind == MMU_FETCH && !page->executable)
        return MMU_RULE_NX;
    if (!access.user && page->user) {
        if (access.kind == MMU_FETCH && machine->smep)
            return MMU_RULE_SMEP;
        if (access.kind != MMU_FETCH && machine->smap && !access.ac)
            return MMU_RULE_SMAP;
    }
    if (access.kind == MMU_WRITE && !page->writable && (access.user || machine->wp))
        return MMU_RULE_RW;
    return MMU_RULE_ALLOWED;
}

/* Returns whether the page's key allows an access. A key restricts data accesses only; with CR0.WP
 * = 0 ring 0 ignores write disable, but not access disable (SDM volume 3, 4.6.2). */
static bool key_allows(const struct mmu_machine *machine, const struct mmu_walk *page, unsigned key,
                       struct mmu_access access)
{
    uint32_t rights = page->user ? machine->pkru : machine->pkrs;
    bool watched = page->user ? machine->pke : machine->pks;

    if (!watched || access.kind == MMU_FETCH)
        return true;
    rights >>= 2 * key;
    if ((rights & KEY_ACCESS_DISABLE) != 0)
        return false;
    return (rights & KEY_WRITE_DISABLE) == 0 || access.kind != MMU_WRITE ||
           !(access.user || machine->wp);
}

enum mmu_rule mmu_rule_of(const struct mmu_machine *machine, const struct mmu_walk *walk,
                          unsigned key, struct mmu_access access)
{
    enum mmu_rule rule = mmu_rights_rule(machine, walk, access);

    if (rule != MMU_RULE_ALLOWED || key_allows(machine, walk, key, access))
        return rule;
    return MMU_RULE_KEYS;
}

uint64_t mmu_judge(const struct mmu_machine *machine, const struct mmu_walk *walk, unsigned key,
                   struct mmu_access access)
{
    bool by_rights = mmu_rights_rule(machine, walk, access) == MMU_RULE_ALLOWED;
    bool by_key = key_allows(machine, walk, key, access);

    if (by_rights && by_key)
        return 0;
    return ERROR_P | access_bits(machine, access) | (by_key ? 0 : ERROR_PK);
}

/* Sets the expected A and D bits. An allowed access sets A in each entry that it used, and an
 * allowed write sets D in the page's entry (SDM volume 3, 4.8). The section does not say whether an
 * access that ends in a fault sets A in the entries that it used before: some processors do, others
 * mark a walk only when it succeeds. A fault never sets D, and no access marks an entry that it did
 * not use. */
static void leave_bits(struct mmu_result *result, const struct mmu_walk *walk,
                       struct mmu_access access)
{
    uint64_t *marked = result->allowed ? result->must : result->may;

    for (unsigned i = 0; i < MMU_LEVELS_MAX; i++) {
        if ((walk->used >> i & 1) != 0)
            marked[i] = ENTRY_ACCESSED;
    }
    if (result->allowed && access.kind == MMU_WRITE)
        result->must[walk->level - 1] |= ENTRY_DIRTY;
}

struct mmu_result mmu_end(const struct mmu_walk *walk, const struct mmu_machine *machine,
                          struct mmu_access access)
{
    struct mmu_result result = {.level = walk->level};

    CHECK(walk->outcome != MMU_GOES_ON);
    if (walk->outcome == MMU_NOT_PRESENT) {
        result.rule = MMU_RULE_P;
        result.error = access_bits(machine, access);
    } else if (walk->outcome == MMU_RESERVED) {
        result.rule = MMU_RULE_RESERVED;
        result.error = ERROR_P | ERROR_RSVD | access_bits(machine, access);
    } else {
        result.rule = mmu_rule_of(machine, walk, ENTRY_KEY(walk->entry), access);
        result.error = mmu_judge(machine, walk, ENTRY_KEY(walk->entry), access);
    }
    /* The mode of the address refuses the access before a key of IA32_PKRS could. */
    if (result.rule == MMU_RULE_US)
        result.error_may = result.error & ERROR_PK;
    result.allowed = result.rule == MMU_RULE_ALLOWED;
    if (result.allowed)
        result.physical_base = walk->entry & ADDRESS_MASK & ~(BIT(shift_of(walk->level)) - 1);
    leave_bits(&result, walk, access);
    return result;
}

struct mmu_result mmu_model(const struct mmu_machine *machine, const uint64_t *entries,
                            struct mmu_access access)
{
    struct mmu_walk walk;

    mmu_begin(&walk, machine);
    while (mmu_step(&walk, machine, entries[walk.level - 1]) == MMU_GOES_ON) {
    }
    return mmu_end(&walk, machine, access);
}
