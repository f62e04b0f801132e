/*
 * Sections: shared memory objects, each with a tree of its own.
 *
 * Page i of a section is at address i * 4 KiB of its tree, which no processor walks and which has
 * the levels that the size needs: one table for a section of up to 2 MiB. A mapping
 * records which part of a section is where in a space: address minus origin, modulo 2^64, is the
 * place in the section (rule T1). The section has an index of its mappings, by which the leaves of
 * its pages are found (rule S3).
 *
 * A space has private tables of tickets there, with the shared attribute. A touch links the
 * section's page as a shared leaf (rule S2), never the zero page. A shared leaf may become a ticket
 * again at any time without loss. So evicting a page turns all its shared leaves into tickets, and
 * only the section's entry has the slot.
 *
 * Units: bytes; ranges of spaces are whole pages. Owns: its tree, with one count on each page in
 * it; its charge in the account (vmm/space/commit.h), for all its pages if it may be written, since
 * reads make pages too.
 * State: section_map (first mapping) -> mapped; forks copy mappings, calls cut and move them ->
 * last mapping and last hold dropped: the tree is dropped, the charge taken back.
 * A page's entry in the section's tree: empty -> (touched) leaf -> in transit -> swapped -> in
 * transit -> leaf.
 * Protectors: (s) the lock of the section's family; (m) the space's mappings_lock, then the lock of
 * the mapping's section: reading needs either, changing both and the space's lock; (l)
 * sections_lock. These are spin locks, taken with interrupts off, inside table locks. (a) atomic.
 * Fails with: STATUS_NO_MEMORY, STATUS_COMMIT; bringing a page also with STATUS_NO_SPACE,
 * STATUS_IO, STATUS_TIMEOUT, STATUS_CORRUPT as a fault does. Context: thread, with the space's
 * lock, unless a comment names faults or reclaim. Rules: S1 to S3, C1, C5, P2 to P4, T1.
 */
#ifndef VMM_SECTION_SECTION_H
#define VMM_SECTION_SECTION_H

#include <bsd/sys/queue.h>

#include "paging/plain/plain.h"
#include "vmm/page/page.h"
#include "vmm/section/mapping_index.h"
#include "vmm/section/pager.h"
#include "vmm/space/space.h"

/* Mappings visited under one hold of the section's lock; interrupts may come in between. */
#define SECTION_VISITS_TOGETHER 64U

/* A section, its snapshots, and theirs. Tables that they share name the family. */
struct section_family {
    struct mapping_index mappings; /* (s) of all its sections, by place */
    const struct pager *pager;     /* constant, as the next one */
    const void *source;            /* the pager's */
    uint32_t count;                /* (a) sections, and holds by reclaim */
    uint8_t lock;
};

struct section {
    struct tree tree;              /* plain; its root changes with (z) */
    struct section_family *family; /* constant; counted */
    const struct pager *pager;     /* constant, as the next two */
    const void *source;            /* the pager's */
    struct rights most;            /* most rights that a mapping may have */
    uint64_t size;                 /* (a) bytes; changed with (z), as the next two */
    uint64_t reach;                /* (a) the size, rounded up to pages */
    uint64_t backed;               /* (a) bytes that the pager is asked for */
    uint64_t uncut;        /* (z) bytes: end of the pages left after the section's end; 0: none */
    uint64_t charged;      /* (z) pages in the account */
    struct mutex resizing; /* (z) */
    uint32_t mapped;       /* (s) its mappings in the family's index */
    LIST_ENTRY(section) link; /* (l) among all sections, for AUDIT */
    uint32_t count;           /* (a) mappings, opens and holds */
    uint32_t opens;           /* (a) by section_create, until section_close */
    uint32_t turn;  /* (a) changed with (z): odd while a snapshot recalls all leaves, and new ones
                     * wait (L4); with each one tables stop being this section's alone */
    bool is_object; /* constant: by section_create; programs may resize it */
    bool frozen;    /* constant: a read-only snapshot; its content never changes */
};

/* Largest size: half the room of a tree of five levels. */
#define SECTION_SIZE_MAX (UINT64_C(1) << 56)

/* ---- mappings of a space; the space's lock is held ---- */

/* Makes a blank section for the range, and maps it there; no mapping overlaps. */
MUST_USE enum status section_map(struct space *space, uint64_t start, uint64_t end);

/* Maps an existing section, from a byte offset on. The window may reach behind its end. */
MUST_USE enum status section_map_window(struct space *space, struct section *section,
                                        uint64_t offset, uint64_t start, uint64_t end, bool copies);

/* Maps the growth of a mapping that moves so that it ends at start; `last` is its last page now.
 * Maps more of the same section if that is an object, otherwise a new blank one. */
MUST_USE enum status section_map_growth(struct space *space, uint64_t last, uint64_t start,
                                        uint64_t end);

/* Returns true if a mapping of the section may have these rights. A private one may always be
 * written. */
static inline bool section_allows(const struct section *section, struct rights rights, bool copies)
{
    return (section->most.write || copies || !rights.write) &&
           (section->most.execute || !rights.execute) && (section->most.user || !rights.user);
}

/* Returns false if a section that is mapped in the range denies the rights. */
bool section_rights_allowed(const struct space *space, uint64_t start, uint64_t end,
                            struct rights rights);

/* Sets the hint of all mappings that overlap the range: a touch of a page that is resident also
 * maps resident pages of its aligned group of 2^around. */
void section_set_around(struct space *space, uint64_t start, uint64_t end, uint8_t around);

static inline bool space_has_mappings(const struct space *space)
{
    return !RB_EMPTY(&space->mappings);
}

/* Splits the mappings that cross an end of the range. STATUS_NO_MEMORY, STATUS_LIMIT (too many
 * lends): one may be split already, which changes no meaning. STATUS_AGAIN: a mapping of the range
 * is lent or borrowed, and the caller does not have the lock of lends (vmm/section/mapping.h).
 * Returns at once for a space without mappings. */
MUST_USE enum status section_cut_mappings(struct space *space, uint64_t start, uint64_t end);

MUST_USE static inline enum status section_cut(struct space *space, uint64_t start, uint64_t end)
{
    return space_has_mappings(space) ? section_cut_mappings(space, start, end) : OK;
}

/* Removes the mappings of a range, none of which crosses its ends. No entry of the range maps a
 * page. */
void section_unmap_mappings(struct space *space, uint64_t start, uint64_t end);

static inline void section_unmap_range(struct space *space, uint64_t start, uint64_t end)
{
    if (space_has_mappings(space))
        section_unmap_mappings(space, start, end);
}

/* Moves the mappings of a range, none of which crosses its ends, to the free range at `to`. */
void section_move_range(struct space *space, uint64_t start, uint64_t end, uint64_t to);

/* Copies all mappings into a space that has none, which no processor runs yet; if it fails, none.
 * STATUS_AGAIN: one is lent or borrowed, and the caller does not have the lock of lends. */
MUST_USE enum status section_copy_mappings(struct space *child, struct space *parent);

MUST_USE static inline enum status section_copy_all(struct space *child, struct space *parent)
{
    return space_has_mappings(parent) ? section_copy_mappings(child, parent) : OK;
}

/* Removes all mappings of a space at its end; its tree is not walked from now on. None lends. */
void section_unmap_all(struct space *space);

/* ---- objects (object.c); no lock is held ---- */

/* Creates a section of 0 to SECTION_SIZE_MAX bytes whose pages come from a pager; the caller has it
 * open. If it may be written, all its pages are charged (vmm/space/commit.h). Spaces map it by a
 * request that names it (space.h). */
MUST_USE enum status section_create(const struct pager *pager, const void *source, uint64_t size,
                                    struct rights most, struct section **created);

/* Closes a section; it exists as long as it is mapped. */
void section_close(struct section *section);

static inline uint64_t section_size(const struct section *section)
{
    return __atomic_load_n(&section->size, __ATOMIC_SEQ_CST);
}

/* Returns the section's size, rounded up to pages. */
static inline uint64_t section_reach(const struct section *section)
{
    return __atomic_load_n(&section->reach, __ATOMIC_SEQ_CST);
}

static inline bool section_is_marked(const struct section *section)
{
    return (__atomic_load_n(&section->turn, __ATOMIC_SEQ_CST) & 1) != 0;
}

/* Changes the size of a section. A cut loses the pages after the new end: they leave every space at
 * once, and a touch there is STATUS_RANGE until the section grows; then they are zero (N4, W2).
 * Fails with: STATUS_RANGE, STATUS_COMMIT; STATUS_DENIED (frozen, or written back to its source);
 * STATUS_IO and the like if the new last page, whose tail becomes zero, cannot be read: the size
 * has changed then. STATUS_TIMEOUT: a page that is cut off is in use after 90 s. The smaller size
 * applies nevertheless, and no touch reaches the page; a larger one is refused until a later call
 * succeeds. The same size again completes what such a call could not. */
MUST_USE enum status section_resize(struct section *section, uint64_t size);

/* Creates a section with the current content of this one; neither sees later writes to the other.
 * All leaves become tickets first; the trees are then shared, at a cost independent of the size.
 * The caller has the snapshot open. If `most` has no right to write the snapshot is frozen:
 * resizing or writing it is STATUS_DENIED. Fails with: STATUS_DENIED (more rights than the
 * section's to execute or for users, or pages of either could be written to a file),
 * STATUS_COMMIT, STATUS_NO_MEMORY; STATUS_TIMEOUT: a page is in use for too long. Nothing has
 * changed then. */
MUST_USE enum status section_snapshot(struct section *section, struct rights most,
                                      struct section **snapshot);

/* Copy from and to a section's pages; mappings see the change at once (rule N2). Set *done to the
 * bytes copied: fewer at the section's end (STATUS_RANGE if none) or on an error. */
MUST_USE enum status section_read(struct section *section, uint64_t offset, void *to,
                                  uint64_t bytes, uint64_t *done);
MUST_USE enum status section_write(struct section *section, uint64_t offset, const void *from,
                                   uint64_t bytes, uint64_t *done);

/* ---- pages; for faults and reclaim ---- */

/* Where an address of a space lies in a section. */
struct section_place {
    struct section *section;
    uint64_t at; /* address in the section's tree */
    bool copies; /* by a private mapping */
};

/* Finds the place of an address, and holds its section. Returns false if no section is mapped
 * there. */
bool section_hold_at(struct space *space, uint64_t address, struct section_place *place);

/* Returns true if the address is at that place now, before the section's end. While the table of
 * its ticket is locked and the ticket is there, the place is stable. The end may move at any time;
 * the call that moves it then recalls the leaf. */
bool section_is_at(struct space *space, uint64_t address, const struct section_place *place);

/* Drops a hold. The last one frees the section, in time proportional to its pages. */
void section_put(struct section *section);

/* The use of a page: the caller reads it, or it will be written or mapped. */
enum section_purpose { SECTION_READ, SECTION_USE };

/* Makes the page at a place resident, and holds it for the caller. With SECTION_USE a page that a
 * snapshot has too is copied first, unless the section is frozen. The space, if there is one,
 * counts a read from the disk. STATUS_RANGE: the place is behind the section's end. STATUS_AGAIN:
 * start over. No lock is held, and it may wait for the disk. */
MUST_USE enum status section_bring(struct space *space, const struct section_place *where,
                                   enum section_purpose purpose, struct page_reserve *reserve,
                                   struct pfn *page);

/* Turns the leaves of the page at a place in all mappings into tickets. Returns their number: the
 * caller owns that many counts, and drops them after a flush of everything. */
unsigned section_recall(struct section_family *family, uint64_t place, struct pfn page);

/* ---- proof ---- */

/* Returns how many sections exist. */
unsigned section_count(void);

/* Compares the mappings of a space with its regions; panics on a difference. */
void section_audit_space(const struct space *space);

/* Compares every section with its index, and returns the charged pages; visits the trees of all. */
uint64_t section_audit(void);
void section_visit_trees(tree_visit *visit, void *context);

#endif
