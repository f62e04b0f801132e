/* A processor's MMU in software. */
#include "tests/host/fake/mmu.h"

#include <string.h>

#include "cpu/machine.h"
#include "cpu/registers.h"
#include "cpu/trap/trap.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "tests/host/fake/cpu.h"
#include "tests/host/fake/machine.h"
#include "tests/model/mmu.h"

/* Entries, from SDM volume 3, tables 4-15 to 4-20. */
#define ENTRY_P  (UINT64_C(1) << 0)
#define ENTRY_RW (UINT64_C(1) << 1)
#define ENTRY_US (UINT64_C(1) << 2)
#define ENTRY_A  (UINT64_C(1) << 5)
#define ENTRY_D  (UINT64_C(1) << 6)
#define ENTRY_PS (UINT64_C(1) << 7)
#define ENTRY_G  (UINT64_C(1) << 8)
#define ENTRY_XD (UINT64_C(1) << 63)
/* Free for software; docs/tree.md, 'Encoding of an entry'. */
#define ENTRY_MAY_WRITE (UINT64_C(1) << 11)
#define ENTRY_FRAME     UINT64_C(0x000ffffffffff000)

/* Room for all that a round of tests touches between two flushes. */
#define CACHE_SLOTS 1024U

enum cached_state { CACHED_NEVER, CACHED_STALE, CACHED_VALID };

struct cached {
    uint64_t key; /* first address of the entry's span | level of the entry */
    enum cached_state state;
    unsigned cpu;
    unsigned context;
    bool global; /* of every context */
    uint64_t frame;
    bool write;
    bool user;
    bool execute;
    bool dirty;
};

struct cache {
    struct cached slots[CACHE_SLOTS];
};

/* Leaves by address and level (the TLB), and links to tables (the paging-structure caches), of all
 * processors: each sees its own only. */
static struct cache pages;
static struct cache tables;
static unsigned levels;

static uint64_t span(unsigned level)
{
    return PAGE_SIZE << (9 * (level - 1));
}

/* ---- caches ---- */

/* Returns whether the processor may use it now: its own, of the context that it has loaded or
 * global. */
static bool is_usable(const struct cached *slot)
{
    return slot->state == CACHED_VALID && slot->cpu == machine_cpu() &&
           (slot->global || slot->context == fake_machine_context());
}

/* Returns the slot of a key, or a free slot for it. If the cache is full, evicts a slot of another
 * context, as a processor may at any time. */
static struct cached *slot_of(struct cache *cache, uint64_t address, unsigned level)
{
    uint64_t key = (address & ~(span(level) - 1)) | level;
    uint64_t hash = (key >> 12 ^ key >> 21 ^ key >> 30 ^ key >> 39 ^ key) * 0x9e3779b97f4a7c15;
    struct cached *stale = NULL;
    struct cached *other = NULL;

    for (unsigned i = 0; i < CACHE_SLOTS; i++) {
        struct cached *slot = &cache->slots[((hash >> 40) + i) % CACHE_SLOTS];

        if (slot->key == key && is_usable(slot))
            return slot;
        if (stale == NULL && slot->state != CACHED_VALID)
            stale = slot;
        if (!is_usable(slot))
            other = slot;
        if (slot->state == CACHED_NEVER)
            break;
    }
    stale = stale != NULL ? stale : other;
    CHECK(stale != NULL);
    return stale;
}

static struct cached *find(struct cache *cache, uint64_t address, unsigned level)
{
    struct cached *slot = slot_of(cache, address, level);
    uint64_t key = (address & ~(span(level) - 1)) | level;

    return slot->key == key && is_usable(slot) ? slot : NULL;
}

static void insert(struct cache *cache, uint64_t address, const struct fake_walk *walk)
{
    struct cached *slot = slot_of(cache, address, walk->level);

    *slot = (struct cached){.key = (address & ~(span(walk->level) - 1)) | walk->level,
                            .state = CACHED_VALID,
                            .cpu = machine_cpu(),
                            .context = fake_machine_context(),
                            .global = cache == &pages && (walk->entry & ENTRY_G) != 0,
                            .frame = walk->frame,
                            .write = walk->write,
                            .user = walk->user,
                            .execute = walk->execute,
                            .dirty = (walk->entry & ENTRY_D) != 0};
}

/* At a flush, cached entries may be stale, but their frames must not have been freed: flush first,
 * then drop. Entries of another context are checked when it is loaded. */
static void check_nothing_freed(const struct cache *cache)
{
    for (unsigned i = 0; i < CACHE_SLOTS; i++) {
        const struct cached *slot = &cache->slots[i];
        const struct frame *record = frame_record((struct pfn){(uint32_t)slot->frame});

        if (is_usable(slot))
            CHECK_MSG(record->kind > FRAME_RESERVED && record->count > 0,
                      "frame %lx was freed while %lx, level %lu, was still in the TLB", slot->frame,
                      slot->key & ~UINT64_C(0xfff), slot->key & 0xfff);
    }
}

/* Drops this processor's translations of one context, or of all with the global pages. */
static void forget(struct cache *cache, bool all)
{
    for (unsigned i = 0; i < CACHE_SLOTS; i++) {
        struct cached *slot = &cache->slots[i];
        bool ours = !slot->global && slot->context == fake_machine_context();

        if (slot->state == CACHED_VALID && slot->cpu == machine_cpu() && (all || ours))
            slot->state = CACHED_STALE;
    }
}

static void flush_page(uint64_t address)
{
    check_nothing_freed(&pages);
    check_nothing_freed(&tables);
    for (unsigned level = 1; level <= 3; level++) {
        struct cached *slot = find(&pages, address, level);

        if (slot != NULL)
            slot->state = CACHED_STALE;
    }
    forget(&tables, false);
}

static void flush(bool all)
{
    check_nothing_freed(&pages);
    check_nothing_freed(&tables);
    forget(&pages, all);
    forget(&tables, all);
}

/* With PCIDs the loaded context may be older than the free of its frames; its entries are dropped
 * before use. */
static void flush_space(void)
{
    if (fake_contexts) {
        forget(&pages, false);
        forget(&tables, false);
    } else {
        flush(false);
    }
}

static void flush_all(void)
{
    flush(true);
}

void fake_mmu_start(unsigned level_count)
{
    memset(&pages, 0, sizeof(pages));
    memset(&tables, 0, sizeof(tables));
    levels = level_count;
    fake_on_flush_page = flush_page;
    fake_on_flush_space = flush_space;
    fake_on_flush_all = flush_all;
}

/* ---- walking ---- */

static uint64_t *entry_at(uint64_t table, unsigned level, uint64_t address)
{
    const struct frame *record = frame_record((struct pfn){(uint32_t)table});
    uint64_t *entries = frame_pointer((struct pfn){(uint32_t)table});

    CHECK_MSG(table < pmm_frame_limit() &&
                  (record->kind == FRAME_TABLE || record->kind == FRAME_ZERO) &&
                  record->level == level,
              "the walk of %lx meets frame %lx of kind %u as a table of level %u", address, table,
              record->kind, level);
    return &entries[address / span(level) % 512];
}

/* Evaluates one entry. Returns false if the walk ends at it. */
static bool step(struct fake_walk *walk, uint64_t entry, unsigned level)
{
    walk->level = level;
    walk->entry = entry;
    walk->present = (entry & ENTRY_P) != 0;
    if (!walk->present)
        return false;
    walk->frame = (entry & ENTRY_FRAME) >> 12;
    walk->write = walk->write && (entry & ENTRY_RW) != 0;
    walk->user = walk->user && (entry & ENTRY_US) != 0;
    walk->execute = walk->execute && (entry & ENTRY_XD) == 0;
    walk->may_write = walk->may_write && (entry & ENTRY_MAY_WRITE) != 0;
    return level > 1 && (entry & ENTRY_PS) == 0;
}

struct fake_walk fake_mmu_walk(struct phys root, unsigned level_count, uint64_t address,
                               unsigned lowest)
{
    struct fake_walk walk = {.write = true, .user = true, .execute = true, .may_write = true};
    uint64_t table = root.address >> 12;

    for (unsigned level = level_count; level >= lowest; level--) {
        if (!step(&walk, *entry_at(table, level, address), level))
            break;
        table = walk.frame;
    }
    return walk;
}

/* Returns the level at which a walk starts: the lowest cached table, or the root. */
static unsigned start_of(uint64_t address, struct fake_walk *walk, uint64_t *table)
{
    *walk = (struct fake_walk){.write = true, .user = true, .execute = true};
    *table = machine_root().address >> 12;
    for (unsigned level = 2; level <= levels; level++) {
        const struct cached *link = find(&tables, address, level);

        if (link != NULL) {
            walk->write = link->write;
            walk->user = link->user;
            walk->execute = link->execute;
            *table = link->frame;
            return level - 1;
        }
    }
    return levels;
}

/* Returns the error code of an access to a present translation, by its rights; 0: it is allowed.
 * The experiment mmu-truth compares this model with a processor. */
static uint64_t violation(const struct fake_walk *walk, struct fake_access access)
{
    struct mmu_machine machine = {.levels = (uint8_t)levels,
                                  .wp = true,
                                  .smep = (fake_cr4 & CR4_SMEP) != 0,
                                  .smap = (fake_cr4 & CR4_SMAP) != 0,
                                  .nxe = true};
    struct mmu_walk page = {
        .writable = walk->write, .user = walk->user, .executable = walk->execute};
    enum mmu_kind kind = access.write ? MMU_WRITE : access.execute ? MMU_FETCH : MMU_READ;

    return mmu_judge(&machine, &page, 0, (struct mmu_access){kind, access.user, access.ac});
}

/* Walks the tables from the lowest cached entry, and caches each entry read. Returns false if an
 * entry is not present. */
static bool walk_memory(uint64_t address, struct fake_walk *walk, uint64_t **leaf)
{
    uint64_t table;
    unsigned level = start_of(address, walk, &table);

    for (;; level--) {
        uint64_t *entry = entry_at(table, level, address);
        bool goes_on = step(walk, __atomic_load_n(entry, __ATOMIC_ACQUIRE), level);

        if (!walk->present)
            return false;
        CHECK_MSG(level <= 3 || (walk->entry & ENTRY_PS) == 0,
                  "entry %lx of level %u has a reserved bit", walk->entry, level);
        if (!goes_on) {
            *leaf = entry;
            return true;
        }
        __atomic_or_fetch(entry, ENTRY_A, __ATOMIC_RELAXED);
        insert(&tables, address, walk);
        table = walk->frame;
    }
}

static struct phys place_in(const struct fake_walk *walk, uint64_t address)
{
    return (struct phys){(walk->frame << 12) + (address & (span(walk->level) - 1))};
}

/* Looks up a cached translation that needs no D set, into *walk. */
static bool look_up(uint64_t address, bool write, struct fake_walk *walk)
{
    for (unsigned level = 1; level <= 3; level++) {
        const struct cached *page = find(&pages, address, level);

        if (page != NULL && (page->dirty || !write || !page->write)) {
            *walk = (struct fake_walk){.present = true,
                                       .level = level,
                                       .frame = page->frame,
                                       .write = page->write,
                                       .user = page->user,
                                       .execute = page->execute};
            return true;
        }
    }
    return false;
}

bool fake_mmu_translate(uint64_t address, struct fake_access access, struct phys *physical,
                        uint64_t *error)
{
    struct fake_walk walk;
    uint64_t *leaf = NULL;

    if (!look_up(address, access.write, &walk) && !walk_memory(address, &walk, &leaf)) {
        *error =
            (access.write ? PF_WR : 0) | (access.user ? PF_US : 0) | (access.execute ? PF_ID : 0);
        return false;
    }
    *error = violation(&walk, access);
    if (*error != 0)
        return false;
    if (leaf != NULL) {
        walk.entry =
            __atomic_or_fetch(leaf, ENTRY_A | (access.write ? ENTRY_D : 0), __ATOMIC_ACQ_REL);
        insert(&pages, address, &walk);
    }
    *physical = place_in(&walk, address);
    return true;
}

void fake_mmu_speculate(uint64_t address)
{
    struct fake_walk walk;
    uint64_t *leaf;

    if (look_up(address, false, &walk) || !walk_memory(address, &walk, &leaf))
        return;
    walk.entry = __atomic_or_fetch(leaf, ENTRY_A, __ATOMIC_ACQ_REL);
    insert(&pages, address, &walk);
}

static void check_cache(const struct cache *cache, bool leaves)
{
    for (unsigned i = 0; i < CACHE_SLOTS; i++) {
        const struct cached *slot = &cache->slots[i];
        unsigned level = (unsigned)(slot->key & 0xfff);
        uint64_t address = slot->key & ~UINT64_C(0xfff);
        struct fake_walk now;

        if (!is_usable(slot))
            continue;
        now = fake_mmu_walk(machine_root(), levels, address, level);
        CHECK_MSG(now.present && now.level == level && now.frame == slot->frame,
                  "stale %s of %lx, level %u: frame %lx, the tables say %lx (level %u, entry %lx)",
                  leaves ? "page" : "table", address, level, slot->frame, now.frame, now.level,
                  now.entry);
        CHECK_MSG(
            slot->write <= now.write && slot->user <= now.user && slot->execute <= now.execute,
            "cached rights w%d u%d x%d of %lx, level %u, are more than w%d u%d x%d", slot->write,
            slot->user, slot->execute, address, level, now.write, now.user, now.execute);
        /* Under SMAP and SMEP a page of ring 0's is one that it may touch and run. */
        CHECK_MSG(!leaves || slot->user == now.user,
                  "page %lx, level %u, is still cached as one of ring 0's", address, level);
    }
}

void fake_mmu_check(void)
{
    check_cache(&pages, true);
    check_cache(&tables, false);
}
