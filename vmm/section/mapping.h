/*
 * Mappings: which part of which section a space shows where; and the tree of lends.
 *
 * A mapping that is lent to a space makes a mapping there, its child: the child borrows, the parent
 * lends. So one node a lend is all that the database has, whatever the size. A child shows a part
 * of what its parent shows, and never has more rights (rule H1). The section keeps the pages; a
 * chain of lends shows the same ones.
 *
 * A mapping that has ever lent or borrowed is *tied*: its ends are ends of regions, which never
 * merge with neighbours; and every call that unmaps, cuts, moves or forks it holds the lock of
 * lends. That is taken before the lock of any space, and never while one is held.
 *
 * Units: bytes; ranges of spaces are whole pages. Owns: a count of its section.
 * State: mapping_make (or _borrowed) -> inserted -> removed and freed.
 * Protectors: (m) the space's mappings_lock, then the lock of the section's family; changed with
 * the space's lock too; (s) the lock of the family; (f) the lock of lends.
 * Fails with: STATUS_NO_MEMORY, STATUS_LIMIT (too many lends of one space, rule H6).
 * Context: thread; the space's lock is held unless a comment says otherwise. Rules: S3, T1, H1, H2.
 */
#ifndef VMM_SECTION_MAPPING_H
#define VMM_SECTION_MAPPING_H

#include <bsd/sys/queue.h>

#include "vmm/section/section.h"

LIST_HEAD(mapping_list, mapping);

struct mapping {
    struct region_node node;         /* (m) where; in the space's mappings; first */
    struct mapping_index_node place; /* (s) where in the section; in its index */
    struct section *section;         /* constant; counted */
    struct space *space;             /* constant */
    uint64_t origin;                 /* (m) the address of the section's first page, modulo 2^64 */
    bool copies;                     /* constant: private, a write copies the page */
    uint8_t around;                  /* (m) a touch maps up to 2^around resident neighbours */
    bool tied;                       /* (f) has lent or borrowed */
    struct rights most;              /* (f) and the space's lock: most rights of its pages */
    struct mapping *lender;          /* (f) its parent; NULL: it does not borrow */
    struct mapping_list borrowers;   /* (f) its children */
    LIST_ENTRY(mapping) sibling;     /* (f) in its lender's list */
    struct mapping *next;            /* (f) in the list of a call in progress (vmm/flex) */
    bool listed;                     /* (f) in that list */
    struct rights keep;              /* (f) what that call leaves of its rights */
};

_Static_assert(offsetof(struct mapping, node) == 0, "a node of the range tree is its mapping");

static inline struct mapping *mapping_of(struct region_node *node)
{
    return (struct mapping *)node;
}

/* Return the first mapping that ends after the address, and the next mapping; NULL if there is
 * none. */
static inline struct mapping *section_find(const struct space *space, uint64_t address)
{
    return mapping_of(region_tree_find(&space->mappings, address));
}

static inline struct mapping *section_next_of(struct mapping *mapping)
{
    return mapping_of(region_tree_next(&mapping->node));
}

/* Allocates a mapping that is in no space yet, with a count of the section. */
MUST_USE enum status mapping_make(struct space *space, struct section *section, uint64_t start,
                                  uint64_t end, uint64_t origin, struct mapping **made);

/* Frees a mapping that was not inserted. */
void mapping_discard(struct mapping *mapping);

/* Inserts a mapping into its space, and into the index of its section. */
void mapping_insert(struct mapping *mapping);

/* ---- the tree of lends; the lock of lends is held ---- */

void lends_lock(void);
void lends_unlock(void);

/* Returns true if some thread holds the lock of lends, for checks. */
bool lends_locked(void);

/* Lock a space, and unlock it; the caller holds the lock of lends. */
void lends_lock_space(struct space *space);
void lends_unlock_space(struct space *space);

/* Limits the mappings that may borrow from those of one space; 0: the default. */
void lends_set_limit(uint32_t limit);

/* Returns OK, or STATUS_LIMIT if the space may not lend this many more. */
MUST_USE enum status lends_check(const struct space *lender, uint64_t more);

static inline bool space_is_tied(const struct space *space)
{
    return __atomic_load_n(&space->lent.ties, __ATOMIC_RELAXED) > 0;
}

/* Returns the rights that both have. */
static inline struct rights rights_common(struct rights a, struct rights b)
{
    return (struct rights){.none = a.none || b.none,
                           .write = a.write && b.write && !a.none && !b.none,
                           .execute = a.execute && b.execute && !a.none && !b.none,
                           .user = a.user && b.user && !a.none && !b.none};
}

static inline bool rights_within(struct rights rights, struct rights most)
{
    return rights.none || (!most.none && (most.write || !rights.write) &&
                           (most.execute || !rights.execute) && (most.user || !rights.user));
}

/* Ties a mapping; its ends are ends of regions. */
void mapping_tie(struct mapping *mapping);

/* Takes a mapping, which lends nothing, out of the tree; its space ends. */
void mapping_untie(struct mapping *mapping);

/* Makes a mapping, which is inserted and tied, the child of another one. */
void mapping_borrow(struct mapping *mapping, struct mapping *lender);

/* Takes it from its lender, if it has one; what it lends stays its own. */
void mapping_unborrow(struct mapping *mapping);

/* Gives all that a mapping lends to another one of the same place. */
void mapping_bequeath(struct mapping *from, struct mapping *heir);

/* Removes a mapping, which lends nothing, from its space and its section, and frees it. */
void mapping_remove(struct mapping *mapping);

#endif
