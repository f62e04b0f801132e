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
 * Units: bytes; ranges of spaces are whole pages. Owns: its tree, with one count on each page in
 * it; its promise in the account (vmm/space/commit.h), for all its pages if it may be written,
 * since even reading makes pages. State: section_map (first mapping) -> mappings copied by forks,
 * cut, moved -> the last mapping   and the last hold go: the tree is dropped and the promise taken
 * back. A page's entry in the section's tree:   empty -> (touched) leaf -> in transit -> swapped
 * -> in transit -> leaf Protectors: (s) the lock of the section's family; (m) the space's
 * mappings_lock, then the lock of the mapping's section: reading needs either, changing both and
 * the space's lock; (l) sections_lock. These are spin locks, taken with interrupts off, inside
 * table locks. (a) atomic. Fails with: STATUS_NO_MEMORY, STATUS_COMMIT; bringing a page also with
 * STATUS_NO_SPACE, STATUS_IO, STATUS_TIMEOUT, STATUS_CORRUPT as a fault does. Context: thread,
 * with the space's lock; what a fault or reclaim calls says so. Rules: S1 to S3, C1, C5, P2 to P4,
 * T1.
 */
#ifndef VMM_SECTION_SECTION_H
#define VMM_SECTION_SECTION_H

#include <bsd/sys/queue.h>

#include "vmm/page/page.h"
#include "vmm/section/mapping_index.h"
#include "vmm/section/pager.h"
#include "vmm/space/space.h"

/* Mappings visited under one hold of the section's lock; interrupts may come in between. */
#define SECTION_VISITS_TOGETHER 64U

/* A section and its snapshots, and theirs: tables that they share name the family. */
struct section_family {
    struct mapping_index mappings; /* (s) of all its sections, by place */
    const struct pager *pager;     /* constant, as the next one */
    const void *source;            /* the pager's */
    uint32_t count;                /* (a) sections, and holds by reclaim */
    uint8_t lock;
};

struct section {
    struct tree tree;
    struct section_family *family; /* constant; counted */
    const struct pager *pager;     /* constant, as the next two */
    const void *source;            /* the pager's */
    struct rights most;            /* what a mapping may allow */
    uint64_t size;                 /* (a) bytes; changed with (z) */
    uint64_t backed;               /* (a) bytes that the pager is asked for; changed with (z) */
    uint64_t uncut;                /* (z) bytes: where pages behind the end may be; 0: none are */
    uint64_t charged;              /* (z) pages in the account */
    struct mutex resizing;         /* (z) */
    uint32_t mapped;               /* (s) its mappings in the family's index */
    LIST_ENTRY(section) link;      /* (l) among all sections, for AUDIT */
    uint32_t count;                /* (a) mappings, opens and holds */
    uint32_t opens;                /* (a) by section_create, until section_close */
    bool marked;    /* (a) changed with (z): a snapshot recalls all leaves, new ones wait (L4) */
    bool is_object; /* constant: by section_create; programs may resize it */
    bool frozen;    /* constant: a snapshot that no one may write; its content never changes */
};

/* Largest size: what a tree of four levels has room for. */
#define SECTION_SIZE_MAX (UINT64_C(1) << 47)

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

/* Maps an existing section, from a byte offset on. The window may reach behind its end. */
MUST_USE enum status section_map_window(struct space *space, struct section *section,
                                        uint64_t offset, uint64_t start, uint64_t end);

/* Maps what follows a mapping, whose last page is given, when it grows and moves to end at start:
 * more of the same section if that is an object, otherwise a new blank one. */
MUST_USE enum status section_map_growth(struct space *space, uint64_t last, uint64_t start,
                                        uint64_t end);

/* Returns true if a mapping of the section may have these rights. */
static inline bool section_allows(const struct section *section, struct rights rights)
{
    return (section->most.write || !rights.write) && (section->most.execute || !rights.execute) &&
           (section->most.user || !rights.user);
}

/* Returns false if a section in the range, which is whole mappings or parts, denies the rights. */
bool section_rights_allowed(const struct space *space, uint64_t start, uint64_t end,
                            struct rights rights);

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

/* ---- objects (object.c); no lock is held ---- */

/* Makes a section of so many bytes, 0 to SECTION_SIZE_MAX, whose pages come from a pager; the
 * caller has opened it. If it may be written all its pages are promised (vmm/space/commit.h).
 * Spaces map it by a request that names it (space.h). */
MUST_USE enum status section_create(const struct pager *pager, const void *source, uint64_t size,
                                    struct rights most, struct section **created);

/* Ends what section_create began; the section lives on as long as it is mapped. */
void section_close(struct section *section);

static inline uint64_t section_size(const struct section *section)
{
    return __atomic_load_n(&section->size, __ATOMIC_SEQ_CST);
}

/* Gives a section another size. What is cut off is lost: its pages leave every space at once, with
 * one flush if no fault is under way, and a touch there is STATUS_RANGE until the section grows;
 * then it is zero (rules N4, W2). Fails with: STATUS_RANGE, STATUS_COMMIT; STATUS_IO and the like
 * if the new last page, whose tail becomes zero, cannot be read: the size has changed then.
 * STATUS_TIMEOUT: a page that is cut off is still in use after 90 s. A smaller size holds all
 * the same, and no touch reaches the page; a larger one is refused until a later call succeeds. */
MUST_USE enum status section_resize(struct section *section, uint64_t size);

/* Makes a section with the content that this one has now, whose later writes neither of them shows
 * the other. All leaves become tickets first; the trees are then shared, whatever the size is. The
 * caller has opened the snapshot. If `most` has no right to write the snapshot is frozen: resizing
 * or writing it is STATUS_DENIED. Fails with: STATUS_DENIED (more rights than the section's to
 * execute or for users), STATUS_COMMIT, STATUS_NO_MEMORY; STATUS_TIMEOUT: a page is in use for too
 * long. Nothing has changed then. */
MUST_USE enum status section_snapshot(struct section *section, struct rights most,
                                      struct section **snapshot);

/* Copy from and to a section's pages, which mappings see at once (rule N2); *done says how many
 * bytes were, fewer at its end (STATUS_RANGE if none) or on an error. */
MUST_USE enum status section_read(struct section *section, uint64_t offset, void *to,
                                  uint64_t bytes, uint64_t *done);
MUST_USE enum status section_write(struct section *section, uint64_t offset, const void *from,
                                   uint64_t bytes, uint64_t *done);

/* ---- pages; for faults and reclaim ---- */

/* Where an address of a space lies in a section. */
struct section_place {
    struct section *section;
    uint64_t at; /* address in the section's tree */
};

/* Finds the place of an address, and holds the section; false if no section is mapped there. */
bool section_hold_at(struct space *space, uint64_t address, struct section_place *place);

/* Returns true if the address lies at that place now, before the section's end. With the table of
 * its ticket locked the place stays as long as the ticket is there. The end may move at any time;
 * whoever moves it then recalls the leaf. */
bool section_is_at(struct space *space, uint64_t address, const struct section_place *place);

/* Drops a hold. The last one frees the section, in time proportional to its pages. */
void section_put(struct section *section);

/* The purpose of a page that is brought: to be read by the caller, or to be written, or mapped. */
enum section_purpose { SECTION_READ, SECTION_USE };

/* Brings the page at a place to memory, and holds it for the caller. For use the page is then the
 * section's alone: one that a snapshot has too is copied first, unless the section is frozen. The
 * space, if there is one, counts a read from the disk. STATUS_RANGE: the place is behind the
 * section's end. STATUS_AGAIN: start over. No lock is held, and it may wait for the disk. */
MUST_USE enum status section_bring(struct space *space, const struct section_place *where,
                                   enum section_purpose purpose, struct page_reserve *reserve,
                                   struct pfn *page);

/* ---- proof ---- */

/* Returns how many sections exist. */
unsigned section_count(void);

/* Compares the mappings of a space with its regions; panics on a difference. */
void section_audit_space(const struct space *space);

/* Compares every section with its index, stores the trees, at most max of them, and adds the
 * charged pages; returns how many. */
unsigned section_audit(struct tree *trees, unsigned max, uint64_t *committed);

#endif
