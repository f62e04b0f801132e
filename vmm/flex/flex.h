/*
 * Flexpages: a space lends a range of its memory to another one, gives it away, or takes it back.
 *
 * What is lent is pages of sections, by shared mappings. Lending makes one mapping in the borrower,
 * whatever the size, a child of the lender's mapping (vmm/section/mapping.h); its pages come by
 * touches. A borrower may lend on. Rights only narrow along a chain (rule H1).
 *
 * A revoke takes rights from all that descends from a range, in three steps (rule H3): the regions
 * of each borrower become guards and their entries empty; one flush of everything on all
 * processors; then the pages are dropped and the guards removed. A revoke that leaves some rights
 * lowers them, then flushes once. It locks one space at a time, under the lock of lends.
 *
 *     lend: first-hand or borrowed -> borrowed, with less or equal rights
 *     give: as lend; then the giver's mapping goes, and what it had lent is lent by the new one
 *     revoke, unmap by a lender, end of a lender -> unmapped in all that descends
 *     fork: the child's copy of a borrowed mapping borrows from the same lender; what the parent
 *           has lent stays lent by the parent alone
 *     move, cut: the tree of lends stays, and is cut at the same place (rule H2)
 *
 * Units: bytes; ranges are whole pages. Owns: nothing. Both spaces exist until a call returns.
 * Fails with: STATUS_RANGE, STATUS_EXISTS (something is mapped at the target), STATUS_NOT_FOUND
 * (the range has a hole or a guard), STATUS_DENIED (no rights; memory that is not shared),
 * STATUS_LIMIT (rule H6), STATUS_NO_MEMORY. A call that fails has changed no meaning. Context:
 * thread, no lock held. Rules: H1 to H6.
 */
#ifndef VMM_FLEX_FLEX_H
#define VMM_FLEX_FLEX_H

#include "vmm/space/space.h"

/* Lends [start, start + size) of a space to another one, or to another place of the same. The
 * borrower's most rights are these and the lender's, at each page. */
MUST_USE enum status flex_lend(struct space *from, uint64_t start, uint64_t size, struct space *to,
                               uint64_t at, struct rights rights);

/* Lends, then removes the range from the giver: the new mapping takes its place among its lender's
 * and its borrowers' mappings, whose rights are narrowed to these. */
MUST_USE enum status flex_give(struct space *from, uint64_t start, uint64_t size, struct space *to,
                               uint64_t at, struct rights rights);

/* What a revoke found. */
struct flex_taken {
    uint32_t mappings; /* that lost rights */
    uint32_t flushes;  /* of everything: 1, or 0 without mappings; more if memory was short */
    bool accessed;     /* a processor used one of their pages since it was mapped there last */
    bool dirty;        /* and wrote to one; the pages are marked written in any case */
};

/* Takes from all mappings that descend from the range the rights that `keep` has not, for good;
 * keep.none unmaps them. With `own` the range itself is treated alike, which must then be shared
 * memory as a whole. `taken` may be NULL. */
MUST_USE enum status flex_revoke(struct space *space, uint64_t start, uint64_t size,
                                 struct rights keep, bool own, struct flex_taken *taken);

/* Limits the mappings that may borrow from those of one space; 0: the default of 8,192. */
void flex_set_limit(uint32_t lends);

/* ---- for calls on ranges and for the end of spaces ---- */

/* Revokes all that was lent from the range, which the caller unmaps next; the range is cut before,
 * so that this needs no memory. The lock of lends is held, and stays held until it is unmapped. */
MUST_USE enum status flex_free_range(struct space *space, uint64_t start, uint64_t end);

/* Cuts all mappings that descend from those of the range at its ends (rule H2). The lock of lends
 * is held. */
MUST_USE enum status flex_cut(struct space *space, uint64_t start, uint64_t end);

/* Between tree_fork and tree_fork_end: make the tables at the ends of what is borrowed own again,
 * first in the child, then in the parent (rule H2). If the child's fails, with STATUS_NO_MEMORY,
 * nothing may be mapped in it when the parent's turn comes. The lock of lends is held, and the
 * parent is locked. */
MUST_USE enum status flex_fork_child(struct space *child);
void flex_fork_parent(struct space *parent);

/* Revokes all that a space has lent, and takes it out of the tree of lends. Needs no memory. No
 * processor runs in the space, and no one lends to it any more. */
void flex_end(struct space *space);

#endif
