/*
 * The one tree: walks, paths, and the three operations that keep the rule of sharing: share,
 * unshare, drop. Apart from hold and release, only these change reference counts.
 *
 * A tree is a root table and its number of levels; the lower half of the root is the program's.
 * Each table and page counts the entries that reference it (rule C1). A subtree is changed only
 * along a path of exclusively owned tables, which tree_make_path makes. Filling an entry does not
 * change its meaning, so that is done in place, for all sharers at once.
 *
 * Units: addresses in bytes, ranges half-open, levels 1 (leaf table) to 5.
 * Owns: every frame of kind FRAME_TABLE; anonymous frames while entries reference them.
 * Fails with: STATUS_NO_MEMORY (a reserve could not be filled), STATUS_AGAIN (a lock was held:
 * the caller retries, rule P4). A call that takes a reserve cannot run out of memory.
 * Context: interrupts off within a walk; never waits for a device.
 * Spec: Intel SDM volume 3, 4.5 and 4.10. Rules: C1 to C12, P4 to P8, R1.
 */
#ifndef PAGING_TREE_TREE_H
#define PAGING_TREE_TREE_H

#include "lib/options.h"
#include "lib/status.h"
#include "paging/pte.h"
#include "paging/tlb/root.h"
#include "paging/tlb/tlb.h"
#include "paging/zero_ladder.h"
#include "pmm/frame.h"

/* Pages that are freed together: those of a leaf table. */
#define TREE_PAGES_TOGETHER PTE_ENTRIES

/* Calls to the layers above: counts of swap slots, and pages whose last reference was dropped. */
struct tree_hooks {
    void (*slot_hold)(struct slot slot);
    void (*slot_release)(struct slot slot);
    /* Count 0: leaves its clock and the swap cache, and is freed; at most TREE_PAGES_TOGETHER. */
    void (*page_free_last)(struct pfn page);
    void (*pages_free_last)(const struct pfn *pages, unsigned count);
    /* A large page becomes pages of order `to`, each with count 1, the first with `held` more.
     * False, with nothing changed: it has other counts than these. */
    bool (*page_split)(struct pfn page, unsigned order, unsigned to, uint32_t named, uint32_t held);
    /* Before pages are merged into a larger one. page_take removes a page from its clock, so that
     * only its entry in a locked table leads to it; returns false if it is held elsewhere. page_put
     * makes a page, taken or new, findable again. */
    bool (*page_take)(struct pfn page, unsigned order);
    void (*page_put)(struct pfn page, unsigned order);
};

/* Tables allocated before the first lock, so that later steps cannot fail (rule C7). */
#define TREE_RESERVE_MAX 8U

struct tree_reserve {
    unsigned count;
    struct pfn tables[TREE_RESERVE_MAX];
};

/* The end of a walk: the lowest table on an address's path, and its entry there. */
struct tree_place {
    struct pfn table;
    struct pte entry; /* as it was read */
    uint16_t index;
    uint8_t level;
    bool own; /* every entry on the path down to the table is own */
};

/* The purpose of a path: to fill (splits tickets, keeps sharing), to change (makes it own), or to
 * build (own, and also splits empty entries). */
enum tree_purpose { TREE_FILL, TREE_CHANGE, TREE_BUILD };

/* A drop in progress: the dying tables from the highest to the lowest, and the position in each. */
#define TREE_LEVELS_MAX 5U

struct tree_dropper {
    unsigned depth;
    struct pfn tables[TREE_LEVELS_MAX];
    uint16_t next[TREE_LEVELS_MAX]; /* the entry that is dropped next */
};

/* ---- start ---- */

/* Sets the zero ladder's first frame and the hooks. Called once, before any tree exists. */
void tree_init(struct pfn zero_page, const struct tree_hooks *hooks);

/* Prepares a stock of roots, for tree_create. STATUS_NO_MEMORY is harmless. */
MUST_USE enum status tree_ready_roots(void);

/* Creates a tree with an empty lower half and the kernel's upper half. */
MUST_USE enum status tree_create(struct tree *tree);

/* Drops everything that the tree references, then its root, which no processor may have loaded; the
 * other about so many entries, from an empty dropper on, until it returns true. It leaves no page's
 * entry in a dead leaf table. PTE_ENTRIES or more make progress, fewer only in small tables. */
void tree_destroy(struct tree *tree);
bool tree_destroy_some(struct tree *tree, struct tree_dropper *dropper, unsigned entries);

/* Shares every entry of the parent's lower half with the child, which is new. Adds the parent's
 * stale translations to the batch. Until they are flushed another processor may still write to the
 * parent's pages, so none may be copied before tree_fork_end, which follows the commit. */
void tree_fork(struct tree *child, struct tree *parent, struct tlb_batch *batch);
void tree_fork_end(struct tree *parent);

/* Called between the two, for ranges that the child no longer shares: makes the parent's path to an
 * address own again, down to the table of level `lowest`. No other tree references its tables.
 * Returns the end of the span of the lowest table reached, or of the entry where it stopped. */
uint64_t tree_own_path(struct tree *parent, uint64_t address, unsigned lowest,
                       struct tlb_batch *batch);

/* Likewise for the paths that tree_prepare_range made own before the fork. */
void tree_own_ends(struct tree *parent, uint64_t start, uint64_t end, struct tlb_batch *batch);

/* ---- walking and paths ---- */

/* Walks down to the lowest table. Interrupts are off, and stay off while the result is used. */
struct tree_place tree_walk(const struct tree *tree, uint64_t address);

/* As tree_walk, by a method of paging/tree/table_access.h; TABLES_RECURSIVE: the loaded tree's. */
struct tree_place tree_walk_by(enum table_access way, const struct tree *tree, uint64_t address);

MUST_USE enum status tree_reserve_fill(struct tree_reserve *reserve, unsigned tables);
void tree_reserve_drain(struct tree_reserve *reserve);

/* Returns the tables that tree_make_path needs at most for this path as it is now. */
unsigned tree_path_needs(const struct tree *tree, uint64_t address, unsigned level,
                         enum tree_purpose purpose);

/* Makes the table of this level on an address's path exist, and, except for TREE_FILL, the path to
 * it own. Takes at most the tables that tree_path_needs returned. STATUS_AGAIN: the caller starts
 * over, also if the mapping disappeared meanwhile. */
MUST_USE enum status tree_make_path(struct tree *tree, uint64_t address, unsigned level,
                                    enum tree_purpose purpose, struct tree_reserve *reserve,
                                    struct tlb_batch *batch);

/* Copies the locked table `from` to the new table `to` (rule C4). */
void tree_copy_table(struct pfn to, struct pfn from);

/* ---- entries of one table ---- */

/* Tries to lock a table (rule P4). False: it is held or dead, and the walk starts over. */
bool tree_lock(struct pfn table);
void tree_unlock(struct pfn table);

/* Replaces one entry of a locked table, and updates its live and held counts and the reverse map of
 * the old page. Returns the old entry with the A and D that the hardware had set. The caller
 * manages the targets' counts: the new target already counts this entry, the old one goes to
 * tlb_release. */
struct pte tree_replace_entry(struct pfn table, unsigned index, struct pte with);

/* As tree_replace_entry, at the caller's address of the entry (paging/tree/table_access.h). */
struct pte tree_replace_at(struct pfn table, struct pte *at, struct pte with);

/* Add and drop a reference to a frame; tree_release does not free at zero. */
void tree_hold(struct pfn frame);
uint32_t tree_release(struct pfn frame);

/* As tree_hold, but returns false if the count is zero. */
bool tree_try_hold(struct pfn frame);

/* Drops the target of an entry that was removed, after the TLB flush (rule C5). */
void tree_drop(const struct tlb_release *release);

/* Drops in bounded steps: begin, then repeated steps of at most `entries` each, until one returns
 * true. The dropper owns its tables in between. */
void tree_drop_begin(struct tree_dropper *dropper, const struct tlb_release *release);
MUST_USE bool tree_drop_some(struct tree_dropper *dropper, unsigned entries);

/* ---- ranges ---- */

/* First half of a range call (rule C7): makes the two boundary paths own and splits entries that
 * cross a boundary, so that the second half allocates nothing. Does not change the meaning. */
MUST_USE enum status tree_prepare_range(struct tree *tree, uint64_t start, uint64_t end,
                                        struct tlb_batch *batch);

/* Second half: replaces the fewest entries that cover [start, end) by `with` (a ticket, guard or
 * empty), drops their targets, and frees empty tables. Cannot fail. */
void tree_replace_range(struct tree *tree, uint64_t start, uint64_t end, struct pte with,
                        struct tlb_batch *batch);

/* As tree_replace_range, with links of the zero ladder with these rights. */
void tree_zero_range(struct tree *tree, uint64_t start, uint64_t end, struct rights rights,
                     struct tlb_batch *batch);

/* First half of a change of rights: tree_prepare_range, and all tables of the range made own. */
MUST_USE enum status tree_prepare_protect(struct tree *tree, uint64_t start, uint64_t end,
                                          struct tlb_batch *batch);

/* Second half: gives the entries of the range these rights. Tickets become `ticket`; without any
 * access zero mappings do too, and pages become withheld. Empty and guard stay. Cannot fail. */
void tree_protect_range(struct tree *tree, uint64_t start, uint64_t end, struct pte ticket,
                        struct rights rights, struct tlb_batch *batch);

/* ---- moving (move.c) ---- */

/* Returns the alignment that the distance of a move of this size must have. */
uint64_t tree_move_alignment(const struct tree *tree, uint64_t size);

/* First half of a move to an empty, disjoint range: makes the source's tables own, and the boundary
 * paths of both. To give up afterwards, replace the target by empty, which frees its tables. */
MUST_USE enum status tree_prepare_move(struct tree *tree, uint64_t from, uint64_t to, uint64_t size,
                                       struct tlb_batch *batch);

/* Second half: moves all entries from source to target; each is flushed before it appears there.
 * Waits for pages in transit, so that no batch may be open. Cannot fail. */
void tree_move_range(struct tree *tree, uint64_t from, uint64_t to, uint64_t size);

/* ---- merging (merge.c) ---- */

/* A request to replace a table of 512 pages by one large page. */
struct tree_merge {
    uint64_t address;     /* of the first of them, aligned */
    unsigned level;       /* of the large page: 2 or 3 */
    struct rights rights; /* of all of them; not none */
    struct pte ticket;    /* the entries without a page */
    struct pfn block;     /* the caller's block to copy to; PFN_NONE: none */
    uint64_t *progress;   /* for faults: counts up while the table is out of use (rule P9) */
    uint64_t missing;     /* the answer TREE_MERGE_MISSING: the address of a page that is out */
};

/* The result of a merge. All but the first two leave the tree unchanged. */
enum tree_merged {
    TREE_MERGED,         /* in place: the pages were one block already */
    TREE_MERGE_COPIED,   /* into the block, which is the tree's now */
    TREE_MERGE_NO_BLOCK, /* a copy is possible, but needs a block */
    TREE_MERGE_MISSING,  /* a page is on the swap disk */
    TREE_MERGE_IN_USE,   /* a lock, a page or a transfer is busy; retry */
    TREE_MERGE_SHARED,   /* a page has other references */
    TREE_MERGE_UNFIT,    /* not all of it has the rights, or is of the next smaller size */
    TREE_MERGE_NOTHING   /* no own table of pages, or no page in it */
};

/* Merges the pages of one own table into a large page; pages of 2 MiB only in place. The caller has
 * locked the tree's regions, so that only faults and reclaim run meanwhile. Waits for other
 * processors; no batch may be open. */
MUST_USE enum tree_merged tree_merge(struct tree *tree, struct tree_merge *merge);

/* ---- the reverse map (rule R1) ---- */

/* An entry that references a page. */
struct tree_pointer {
    struct pfn table;
    uint16_t index;
};

/* Returns the address that the entry maps in its space. */
uint64_t tree_pointer_address(struct tree_pointer pointer);

/* Finds the entries that reference an anonymous page in this state (leaf or in transit), through
 * the ring of its tables. Stores at most max and returns the number of all. */
unsigned tree_find_pointers(struct pfn page, enum pte_state state, struct tree_pointer *pointers,
                            unsigned max);

/* Returns true if all references to the page, except the caller's, are entries of the ring in this
 * state: no entry is about to be dropped, and no one else holds the page. A later rmap_hold_cached
 * sees the flags that the caller set before this call. */
bool tree_all_in_state(struct pfn page, enum pte_state state);

/* Looks the slot up in the swap cache: returns the page that another entry of the ring, at the same
 * index, has read from it, with one more reference; or PFN_NONE. The ring serves as the lookup
 * structure, since all entries of one slot have one index in tables of one ring. The table is
 * locked. */
struct pfn rmap_hold_cached(struct pfn table, unsigned index, struct slot slot);

/* Takes a flag off a page by which rmap_hold_cached finds it: the page may be freed afterwards. */
void rmap_clear_flag(struct pfn page, uint8_t flag);

/* Locks the table of an entry that tree_find_pointers found, if the entry still references the page
 * in this state. STATUS_NOT_FOUND: it does not, or the table is being dropped. STATUS_AGAIN: the
 * lock is held. Interrupts are off. */
MUST_USE enum status tree_lock_pointer(struct pfn page, enum pte_state state,
                                       struct tree_pointer pointer);

/* Called after an entry was replaced directly: if it was the page's back pointer, chooses another
 * entry of the ring. The table is locked. */
void tree_repoint(struct pfn page, struct pfn table, unsigned index);

/* Splits a large page that the caller holds, in all tables that map it, into 512 pages of the next
 * smaller size; the caller then holds the first. Takes a table of the reserve. STATUS_AGAIN: a
 * table's lock is held, or an entry is just being removed. */
MUST_USE enum status tree_split_held(struct pfn page, struct tree_reserve *reserve,
                                     struct tlb_batch *batch);

/* Clears a flag by which a page is found; false: its count is not 1, and the flag stays. */
bool tree_claim(struct pfn page, uint8_t flag);

/* Sets the page's back pointer to the entry, for a page that was just mapped there. */
void rmap_reference(struct pfn page, struct pfn table, unsigned index);

/* Sets the page's back pointer to the entry; it had another entry at this index before. */
void rmap_set_pointer(struct pfn page, struct pfn table, unsigned index);

/* Marks a space's leaf table, which is locked: it has pages that a private mapping copied from a
 * section. Those do not become the zero page, since a change of rights makes a ticket of that,
 * which shows the section's page again. Copies of the table are marked too. */
static inline void tree_mark_copies(struct pfn table)
{
    frame_record(table)->table.section_high = 1;
}

static inline bool tree_has_copies(struct pfn table)
{
    return frame_record(table)->table.section_high != 0;
}

/* ---- proof ---- */

/* Totals of all trees. */
struct tree_census {
    uint64_t tables[6];     /* by level */
    uint64_t leaves;        /* entries that reference a page other than the zero page */
    uint64_t zero_links[6]; /* entries that map zeros, by level */
    uint64_t swapped;       /* entries */
};

/* Walks all trees. Panics unless each count equals the reachable references, live and held fit the
 * entries, an own entry is the only reference, and none is corrupt. No other walk may go on. */
typedef void tree_visit(const struct tree *tree, void *context);
struct tree_census tree_audit(void (*visit_all)(tree_visit *visit, void *context));

/* ---- the fast path ---- */

/* Guards the links of the rings that have this lock, and their pages' back pointers (rmap.c). */
#define TREE_RING_LOCKS 256U
extern struct tree_ring_lock {
    uint8_t lock;
    uint32_t changes; /* of the tables in its rings */
} __attribute__((aligned(64))) tree_ring_locks[TREE_RING_LOCKS];

/* Returns the lock of a table's ring. A merge of rings changes it: look again behind the lock. */
static inline struct tree_ring_lock *tree_ring_lock_of(const struct frame *table)
{
    return &tree_ring_locks[__atomic_load_n(&table->table.ring_or_section, __ATOMIC_RELAXED) %
                            TREE_RING_LOCKS];
}

/* Returns true if a page's back pointer is an entry of this table that was just replaced. The
 * caller still owns that entry's reference. If false, the ring's lock is not needed, for this
 * reason: A back pointer is set in three ways. When a page is mapped or moved, the lock of the
 * entry's table is held, by the caller here or by no one. When a large page is split, its parts are
 * in a table that no other processor can reach yet. Otherwise rmap_choose_another sets it without
 * the lock of this table, because another entry of the ring was removed. It stores the back
 * pointer, then reads the entry again. The caller here stored the entry, then reads the back
 * pointer. With a fence between store and load on both sides, at least one side sees the other's
 * store: either the new back pointer is seen here and the ring's lock is taken, or the changed
 * entry is seen there and the search goes on. */
static inline bool rmap_points_into(const struct frame *record, struct pfn table)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return __atomic_load_n(&record->page.back_table, __ATOMIC_RELAXED) == table.index;
}

#endif
