/*
 * Sections: memory that is shared for real, with a tree of its own.
 *
 * A section is an object whose pages stand in its own tree, page i at address i * 4 KiB; no
 * processor walks that tree. A mapping says where a part of a section stands in a space: address
 * minus origin, modulo 2^64, is the place in the section (rule T1). The section has an index of its
 * mappings, and the leaves of its pages are found through that (rule S3).
 *
 * A space has private tables of tickets there, which say 'shared'; a touched ticket is linked to
 * the section's page as a shared leaf (rule S2): always to a frame of the section's own, never to
 * the zero page. A shared leaf may become the ticket again at any time, which loses nothing. So
 * evicting a page turns all its shared leaves back into tickets, and only the section's entry
 * names the slot.
 *
 * Units: bytes, whole pages. Owns: its tree, with one count on each page in it; its promise in the
 * account (vmm/space/commit.h), for all its pages and whatever the rights, since even reading makes
 * pages. State: section_map (first mapping) -> mappings copied by forks, cut, moved -> the last
 * mapping   and the last hold go: the tree is dropped and the promise taken back. A page's entry in
 * the section's tree:   empty -> (touched) leaf -> in transit -> swapped -> in transit -> leaf
 * Protectors: (s) the section's lock; (m) the space's mappings_lock, then the lock of the mapping's
 * section: reading needs either, changing both and the space's lock; (l) sections_lock. These are
 * spin locks, taken with interrupts off, inside table locks. (a) atomic. Fails with:
 * STATUS_NO_MEMORY, STATUS_COMMIT; bringing a page also with STATUS_NO_SPACE, STATUS_IO,
 * STATUS_TIMEOUT, STATUS_CORRUPT as a fault does. Context: thread, with the space's lock; what a
 * fault or reclaim calls says so. Rules: S1 to S3, C1, C5, P2 to P4, T1.
 */
#ifndef VMM_SECTION_SECTION_H
#define VMM_SECTION_SECTION_H

#include <bsd/sys/queue.h>

#include "vmm/page/page.h"
#include "vmm/section/mapping_index.h"
#include "vmm/space/space.h"

/* Mappings visited under one hold of the section's lock; interrupts may come in between. */
#define SECTION_VISITS_TOGETHER 64U

struct section {
    struct tree tree;
    uint64_t pages;                /* constant */
    struct mapping_index mappings; /* (s) */
    LIST_ENTRY(section) link;      /* (l) among all sections, for AUDIT */
    uint32_t count;                /* (a) mappings and holds */
    uint8_t lock;
};

/* Where a part of a section is mapped in a space. */
struct mapping {
    struct region_node node;         /* (m) where; in the space's mappings; first */
    struct mapping_index_node place; /* (s) where in the section; in its index */
    struct section *section;         /* constant; counted */
    struct space *space;             /* constant */
    uint64_t origin;                 /* (m) the address of the section's first page, modulo 2^64 */
};

_Static_assert(offsetof(struct mapping, node) == 0, "a node of the range tree is its mapping");

/* ---- mappings of a space; the space's lock is held ---- */

/* Makes a blank section for the range, and maps it there; no mapping overlaps. */
MUST_USE enum status section_map(struct space *space, uint64_t start, uint64_t end);

static inline bool space_has_mappings(const struct space *space)
{
    return !RB_EMPTY(&space->mappings);
}

/* Makes a boundary at each end of the range: a mapping across it becomes two. STATUS_NO_MEMORY: a
 * boundary may be there already, which means nothing. A space without mappings is left by one
 * look. */
MUST_USE enum status section_cut_mappings(struct space *space, uint64_t start, uint64_t end);

MUST_USE static inline enum status section_cut(struct space *space, uint64_t start, uint64_t end)
{
    return space_has_mappings(space) ? section_cut_mappings(space, start, end) : OK;
}

/* Removes the mappings of a range, whose ends are boundaries. No entry of the range maps a page. */
void section_unmap_mappings(struct space *space, uint64_t start, uint64_t end);

static inline void section_unmap_range(struct space *space, uint64_t start, uint64_t end)
{
    if (space_has_mappings(space))
        section_unmap_mappings(space, start, end);
}

/* Moves the mappings of a range, whose ends are boundaries, to the free range at `to`. */
void section_move_range(struct space *space, uint64_t start, uint64_t end, uint64_t to);

/* Copies all mappings into a space that has none, which no processor runs yet. STATUS_NO_MEMORY:
 * some may be copied; section_unmap_all takes them out. */
MUST_USE enum status section_copy_mappings(struct space *child, struct space *parent);

MUST_USE static inline enum status section_copy_all(struct space *child, struct space *parent)
{
    return space_has_mappings(parent) ? section_copy_mappings(child, parent) : OK;
}

/* Removes all mappings of a space at its end; its tree is not walked from now on. */
void section_unmap_all(struct space *space);

/* ---- pages; for faults and reclaim ---- */

/* Where an address of a space lies in a section. */
struct section_place {
    struct section *section;
    uint64_t at; /* address in the section's tree */
};

/* Finds the place of an address, and holds the section; false if no section is mapped there. */
bool section_hold_at(struct space *space, uint64_t address, struct section_place *place);

/* True if the address lies at that place now. With the table of its ticket locked, this stays true
 * as long as the ticket is there. */
bool section_is_at(struct space *space, uint64_t address, const struct section_place *place);

/* Adds a hold, unless the section is ending: then it returns false. */
MUST_USE bool section_try_hold(struct section *section);

/* Drops a hold. The last one frees the section, in time proportional to its pages. */
void section_put(struct section *section);

/* Brings the page at a place to memory, and holds it for the caller. The space counts a read from
 * the disk. STATUS_AGAIN: start over. No lock is held, and it may wait for the disk. */
MUST_USE enum status section_bring(struct space *space, const struct section_place *where,
                                   struct page_reserve *reserve, struct pfn *page);

/* ---- proof ---- */

/* Returns how many sections exist. */
unsigned section_count(void);

/* Compares the mappings of a space with its regions; panics on a difference. */
void section_audit_space(const struct space *space);

/* Compares every section with its index, stores the trees, at most max of them, and adds the
 * charged pages; returns how many. */
unsigned section_audit(struct tree *trees, unsigned max, uint64_t *committed);

#endif
