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
#include "vmm/space/counts.h"
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

struct space {
    struct tree tree;
    uint64_t serial; /* 1 and up, never used again, as the address of a space is */
    struct region_tree regions;
    struct region_tree mappings; /* of sections, in the shared regions (vmm/section/section.h) */
    uint32_t region_count;
    uint64_t committed, wired; /* pages: the sums over its private regions */
    uint8_t zero_levels;   /* the highest level at which a read makes zeroes of a ticket, 1 to 5 */
    uint8_t mappings_lock; /* (vmm/section/section.h) */
    struct mutex lock;     /* guards the regions, and every call that changes meaning (rule P1) */
    uint64_t calls;        /* that took the lock: each may have raised rights (rule P9) */
    uint32_t changes_begun, changes_ended; /* of tree.processors (fault/entry_machine.c) */
    uint64_t kept;        /* the lock's: an empty path that stays (vmm/range/spare_tables.h) */
    struct region *spare; /* the lock's: the object of the region that went last, or NULL */
    struct fault_counts faults;
};

/* Starts vmm/: descriptors, zero page, hooks of the tree. Once. */
MUST_USE enum status vmm_init(void);

/* How many spaces may exist at once, 1 to SPACES_MAX; those that exist stay. */
void space_set_limit(uint32_t spaces);
void space_set_region_limit(uint32_t regions); /* of one space; 0: any number */

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

/* How memory is mapped: a sum of these, 0 for private memory whose pages come when touched. */
enum space_map_flags {
    /* Every page is present when the call returns; otherwise the call fails, and nothing is mapped.
     * Without access, or where more pages are mapped than memory holds, some are tickets or on the
     * disk by then. */
    SPACE_POPULATED = 1U << 0,
    SPACE_WIRED = 1U << 1, /* populated, and wired at once (space_wire) */
    /* Shared with all later forks, and with theirs: all see the same pages. Each space has rights
     * of its own. All pages are charged once, until the last mapping of any part is removed. */
    SPACE_SHARED = 1U << 2,
    SPACE_GUARD = 1U << 3, /* no memory: every access is a violation */
    /* Shows zeroes at once, by the fewest entries of the zero ladder and whatever level reads are
     * held to: reads take no fault and no frame. */
    SPACE_ZEROES = 1U << 4
};

/* A range to map: of blank memory, or of a section. */
struct space_request {
    uint64_t at; /* where, if alignment is 0 */
    uint64_t size;
    uint64_t alignment; /* a power of two, 4 KiB or more: in the lowest gap that fits */
    struct rights rights;
    /* Private memory: 2 or 3 hints for pages of 2 MiB or 1 GiB, where one fits, a block is free and
     * no part of it has been touched; pages of 4 KiB serve elsewhere. A change of rights keeps the
     * hint if the whole range has it. */
    uint8_t page_level;      /* 0 and 1: 4 KiB */
    uint32_t flags;          /* enum space_map_flags */
    struct section *section; /* SPACE_SHARED: maps this one (vmm/section/section.h); NULL: blank */
    uint64_t offset;         /* bytes into the section, whole pages */
};

/* A request for a fixed place; other fields may follow, as in .flags = SPACE_WIRED. */
#define SPACE_AT(address, bytes, access, ...)                                                      \
    ((struct space_request){.at = (address), .size = (bytes), .rights = access, __VA_ARGS__})

/* Maps what is requested. Returns in *start where it begins, unless that is NULL. */
MUST_USE static inline enum status space_map(struct space *space,
                                             const struct space_request *request, uint64_t *start);

/* Two parts of space_map: most calls map small private pages at a fixed address, for which the
 * compiler decides at the call. */
MUST_USE enum status space_map_small_pages(struct space *space, uint64_t at, uint64_t size,
                                           struct rights rights);
MUST_USE enum status space_map_request(struct space *space, const struct space_request *request,
                                       uint64_t *start);

/* Unmaps the range; regions that reach beyond it are cut. STATUS_NOT_FOUND when nothing in the
 * range is mapped. */
MUST_USE enum status space_unmap(struct space *space, uint64_t start, uint64_t size);

/* Gives the range other rights, or none: then pages are kept, withheld (rule E3). It may begin and
 * end in the middle of regions and cover several; a hole or a guard in it is STATUS_NOT_FOUND. */
MUST_USE enum status space_protect(struct space *space, uint64_t start, uint64_t size,
                                   struct rights rights);

enum space_advice {
    SPACE_WILL_NEED, /* pages come now, as a write would bring them where writing is allowed */
    SPACE_DONT_NEED, /* the range is blank again; STATUS_BUSY where some pages are wired */
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

unsigned space_count(void); /* those that exist */
/* Compares the regions with each other, and every tree with its counts, for all spaces that exist;
 * panics with values on a difference. */
struct tree_census space_audit(void);

static inline enum status space_map(struct space *space, const struct space_request *request,
                                    uint64_t *start)
{
    if (start == NULL && request->alignment == 0 && request->flags == 0 && request->page_level <= 1)
        return space_map_small_pages(space, request->at, request->size, request->rights);
    return space_map_request(space, request, start);
}

static inline struct space *space_current(void)
{
    return machine_space();
}

#endif
