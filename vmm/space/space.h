/*
 * Address spaces: a tree that the processor can walk, and the regions that say what is where.
 *
 * A region [start, end) holds a counted descriptor; regions stand in a range tree by address
 * (vmm/space/region_tree.h) and never overlap. Neighbours that say the same are one. The entries of
 * the tree follow them: in a private table, a ticket found at an address is the descriptor of the
 * region that covers it (rule T2).
 *
 * Units: bytes; ranges are half-open and whole pages, in the lower half, page 0 left out. Owns: its
 * regions, their counts on descriptors, its tree. State: space_create or space_fork -> live ->
 * space_destroy. At most SPACES_MAX of them (paging/kernel/layout.h), or as many as the option
 * `spaces` says, exist at once; one more is an ordinary error. Fails with: STATUS_RANGE (unaligned,
 * empty, wrapping, outside the lower half), STATUS_EXISTS (overlap), STATUS_NOT_FOUND (nothing
 * mapped there, or no gap), STATUS_LIMIT, STATUS_COMMIT (too much promised: vmm/space/commit.h),
 * STATUS_NO_MEMORY; a call that fails has changed no meaning. Context: thread. One call on a space
 * at a time: its lock is taken inside, and who waits for it sleeps. Rules: C7, C11, T1 to T4, P1.
 */
#ifndef VMM_SPACE_SPACE_H
#define VMM_SPACE_SPACE_H

#include <stddef.h>

#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "lib/status.h"
#include "paging/tree/tree.h"
#include "vmm/space/descriptor.h"
#include "vmm/space/region_tree.h"

/* Where a search for a gap begins when nothing says otherwise. */
#define SPACE_FIRST_ADDRESS UINT64_C(0x10000)

enum region_kind {
    REGION_PRIVATE, /* pages of its own; a fork copies them */
    REGION_SHARED,  /* pages of a section, which forks see too (vmm/section/section.h) */
    REGION_GUARD    /* no memory: every access is an error that says so */
};

/* What a region says beside where it is. */
struct region_attributes {
    struct descriptor *descriptor; /* NULL: a guard */
    enum region_kind kind;
    bool committed; /* private: its pages stand in the account (vmm/space/commit.h) */
    bool wired;     /* each of its pages is there and stays (space_wire) */
    bool populate;  /* its pages are being brought: until they are, no neighbour says the same */
};

struct region {
    struct region_node node; /* where: node.start and node.end; first */
    struct region_attributes what;
};

_Static_assert(offsetof(struct region, node) == 0, "a node of the range tree is its region");

/* What the faults of a space were: figures for the log. */
struct fault_counts {
    uint64_t zero_read;       /* a ticket read: the zero page */
    uint64_t first_write;     /* a ticket written: a cleared page */
    uint64_t zero_to_private; /* the zero page written */
    uint64_t large;           /* a ticket touched: a large page */
    uint64_t shared;          /* a ticket of a shared region touched: the section's page */
    uint64_t cow_copy;
    uint64_t cow_reuse;   /* the last owner's */
    uint64_t swap_in;     /* read from the area */
    uint64_t swap_cached; /* found in the frame that another entry had read */
    uint64_t around;      /* pages that first writes to others have brought */
    uint64_t path;        /* tables made or unshared on the way */
    uint64_t spurious;
    uint64_t violations;
    uint64_t failed; /* no memory, device error, lost page */
};

struct space {
    struct tree tree;
    uint64_t serial; /* 1 and up, never used again, as the address of a space is */
    struct region_tree regions;
    struct region_tree mappings; /* of sections, in the shared regions (vmm/section/section.h) */
    uint32_t region_count;
    uint64_t committed;  /* pages: the sum over its private regions */
    uint64_t wired;      /* likewise */
    uint8_t zero_levels; /* the highest level at which a read makes zeroes of a ticket, 1 to 5 */
    struct mutex lock;   /* guards the regions, and every call that changes meaning (rule P1) */
    uint64_t calls;      /* that took the lock: each may have raised rights (rule P9) */
    uint64_t
        kept; /* the lock's: the path that stays though it is empty (vmm/range/spare_tables.h) */
    struct region *spare; /* the lock's: the object of the region that went last, or NULL */
    struct fault_counts faults;
};

/* Starts vmm/: descriptors, zero page, hooks of the tree. Once. */
MUST_USE enum status vmm_init(void);

/* How many spaces may exist at once, 1 to SPACES_MAX; those that exist stay. */
void space_set_limit(uint32_t spaces);

MUST_USE enum status space_create(struct space **space);

/* A copy of the parent by sharing: at most 256 entries, whatever the parent's size. */
MUST_USE enum status space_fork(struct space *parent, struct space **child);

/* Reads make zeroes of tickets of this level and below only: 1 is single pages. A new space has all
 * levels, a fork has its parent's. */
void space_set_zero_levels(struct space *space, unsigned level);

/* Gives everything back. No processor runs in the space. */
void space_destroy(struct space *space);

/* Makes the space the one that this thread, and so its processor, runs in; NULL: the kernel's own
 * root. The thread finds it again after it has waited. */
void space_switch(struct space *space);
static inline struct space *space_current(void);

/* Maps blank private memory with these rights at a fixed address. */
MUST_USE enum status space_map_at(struct space *space, uint64_t start, uint64_t size,
                                  struct rights rights);

/* The same, with pages of 2 MiB (level 2) or 1 GiB (3) where one fits, is free as a whole and is
 * not yet touched in part; small ones serve elsewhere. A change of rights keeps the hint if all of
 * the range has it. */
MUST_USE enum status space_map_large_at(struct space *space, uint64_t start, uint64_t size,
                                        struct rights rights, unsigned level);

/* The same, but it shows zeroes at once, by the fewest entries of the zero ladder and whatever
 * level reads are held to: reading it takes no fault and no frame. Without access it is
 * space_map_at. */
MUST_USE enum status space_map_zeroes(struct space *space, uint64_t start, uint64_t size,
                                      struct rights rights);

/* How a mapping comes: a sum of these. */
enum space_populate {
    SPACE_POPULATED = 1U << 0, /* with pages in place, as a touch of each would bring them */
    SPACE_WIRED = 1U << 1      /* the same, and wired at once */
};

/* As space_map_large_at, of small pages with level 1. What prevents pages from coming is said, and
 * then nothing is mapped. Pages of a populated mapping without access, or that never fit into
 * memory together, are tickets or on the disk when the call returns. */
MUST_USE enum status space_map_with(struct space *space, uint64_t start, uint64_t size,
                                    struct rights rights, unsigned level, unsigned populate);

/* Maps it in the lowest gap that fits, at a multiple of alignment (a power of two, 4 KiB or more).
 */
MUST_USE enum status space_map(struct space *space, uint64_t size, uint64_t alignment,
                               struct rights rights, uint64_t *start);

/* Maps blank memory that is shared with all forks from now on, and with theirs: all see the same
 * pages, whoever touches one first. Rights are each space's own. It is promised whole, once for
 * all, until the last mapping of any part goes. At a fixed address, or in the lowest gap that
 * fits. */
MUST_USE enum status space_map_shared_at(struct space *space, uint64_t start, uint64_t size,
                                         struct rights rights);
MUST_USE enum status space_map_shared(struct space *space, uint64_t size, uint64_t alignment,
                                      struct rights rights, uint64_t *start);

/* Maps a guard: every access is an error that says so. */
MUST_USE enum status space_map_guard(struct space *space, uint64_t start, uint64_t size);

/* Unmaps the range; regions that reach beyond it are cut. STATUS_NOT_FOUND when nothing in the
 * range is mapped. */
MUST_USE enum status space_unmap(struct space *space, uint64_t start, uint64_t size);

/* Gives the range other rights, or none: then pages are kept, withheld (rule E3). It may begin and
 * end in the middle of regions and cover several; a hole or a guard in it is STATUS_NOT_FOUND. */
MUST_USE enum status space_protect(struct space *space, uint64_t start, uint64_t size,
                                   struct rights rights);

enum space_advice {
    SPACE_WILL_NEED, /* pages come now, as a write would bring them where writing is allowed */
    SPACE_DONT_NEED, /* pages go, and what was written is lost: the range is blank again;
                      * STATUS_BUSY where some of them are wired */
    SPACE_COLD,      /* pages go out before others when memory is short */
    SPACE_COLLAPSE,  /* pages become large ones now, as many as lie in the range as a whole */
    /* A first write, to what has not been read before, brings pages for the tickets around it too:
     * those of an aligned group, as many of them as are there in a row, there are frames at hand
     * for and the limit of resident pages allows. SPACE_RANDOM: one page again, as at the start. */
    SPACE_SEQUENTIAL,
    SPACE_RANDOM
};

/* The pages of a group for what is called sequential from now on: a power of two, 1 to 16, which it
 * is at the start. */
void space_set_around(unsigned pages);

/* Advice on a range as space_protect takes it. What prevents pages from coming (STATUS_NO_MEMORY,
 * STATUS_IO, ...) is said; those that came stay. SPACE_COLLAPSE leaves alone what others share or
 * use (STATUS_AGAIN), and what no block is free for (STATUS_NO_MEMORY), and goes on with the
 * rest. */
MUST_USE enum status space_advise(struct space *space, uint64_t start, uint64_t size,
                                  enum space_advice advice);

/* Wires a range as space_protect takes it: from the return of the call on each of its pages is
 * there, in a frame of its own, and stays there until it is unwired or unmapped: nothing evicts,
 * moves or merges it, and no access that the rights allow takes a fault, whatever the rights become
 * meanwhile. A fork copies wired pages for the child at once, where they are not wired; while it
 * does, a write by another processor waits. Pages that move stay wired, and what a wired mapping
 * grows by becomes so. Wires do not nest: what is wired already stays as it is. What never was
 * writable is promised now (vmm/space/commit.h). A range without access that is not wired yet is
 * STATUS_DENIED, and so is shared memory. More wired pages than the limit are STATUS_LIMIT, before
 * any work; what prevents pages from coming is said, and then nothing is wired that was not
 * before. */
MUST_USE enum status space_wire(struct space *space, uint64_t start, uint64_t size);

/* Gives what is wired of the range back: its pages may go as all others. */
MUST_USE enum status space_unwire(struct space *space, uint64_t start, uint64_t size);

/* How many pages of all spaces are wired, and how many may be: a half of what memory and the limit
 * of resident pages allow, unless set; UINT64_MAX sets that again. What is wired stays. */
uint64_t space_wired_pages(void);
uint64_t space_wired_limit(void);
void space_set_wired_limit(uint64_t pages);

/* What is mapped where. */
struct space_view {
    uint64_t start;
    uint64_t end;
    struct rights rights; /* none: a guard, or no access */
    enum region_kind kind;
    bool committed;
    bool wired;
    uint64_t resident; /* pages, those that it shares with a fork included; the zero page is none,
                        * and of a section's those that the space itself has touched since they
                        * came */
};

/* The region that covers the address, or the first one after it; STATUS_NOT_FOUND: none. */
MUST_USE enum status space_query(struct space *space, uint64_t address, struct space_view *view);

/* Makes the part of a region that begins at start larger or smaller: what is too much at its end is
 * unmapped, what is new is blank, with the rights of the region; of a shared one it is shared with
 * forks from now on, and not with those before. STATUS_NOT_FOUND: the old range does not lie in one
 * region; STATUS_EXISTS: there is no room behind it. */
MUST_USE enum status space_remap(struct space *space, uint64_t start, uint64_t old_size,
                                 uint64_t new_size);

/* The same, but where there is no room behind it the part moves, with what it holds, to a gap:
 * *place says where it begins then. STATUS_NOT_FOUND: there is no gap either. */
MUST_USE enum status space_remap_moving(struct space *space, uint64_t start, uint64_t old_size,
                                        uint64_t new_size, uint64_t *place);

/* Moves the part of a region, with what it holds, to a free place. However many pages it has, few
 * entries move: the distance is a multiple of tree_move_alignment for its size, otherwise
 * STATUS_RANGE. STATUS_EXISTS: something is mapped there. */
MUST_USE enum status space_move(struct space *space, uint64_t start, uint64_t size, uint64_t to);

/* The region that covers an address, or NULL. Valid until the next change of the space. */
const struct region *space_region_at(struct space *space, uint64_t address);

/* Spaces that exist. */
unsigned space_count(void);

/* Compares the regions with each other, and every tree with its counts, for all spaces that exist;
 * panics with values on a difference. */
struct tree_census space_audit(void);

static inline struct space *space_current(void)
{
    return machine_space();
}

#endif
