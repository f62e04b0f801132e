/*
 * Address spaces: a tree that the processor can walk, and the regions that say what is mapped
 * where.
 *
 * A region [start, end) holds a counted descriptor; regions are in a tree that forks share
 * (vmm/range_tree/range_tree.h) and never overlap. Neighbours with equal attributes are merged. The
 * entries of the tree follow them: in a private table, a ticket at an address refers to the
 * descriptor of the region that covers the address (rule T2).
 *
 * Units: bytes; ranges are half-open and whole pages, in the lower half, page 0 left out. Owns: its
 * regions, their counts on descriptors, its tree. State: space_create or space_fork -> live ->
 * space_destroy. At most SPACES_MAX of them (paging/kernel/layout.h), or as many as the option
 * `spaces` says, exist at once; creating one more fails with STATUS_LIMIT. Fails with: STATUS_RANGE
 * (unaligned, empty, wrapping, outside the lower half), STATUS_EXISTS (overlap), STATUS_NOT_FOUND
 * (nothing mapped there, or no gap), STATUS_LIMIT, STATUS_COMMIT (too much promised:
 * vmm/space/commit.h), STATUS_NO_MEMORY; a call that fails has changed no meaning. Context: thread.
 * One call at a time: each takes the space's lock; waiters sleep. Rules: C7, C11, T1 to T4, P1.
 */
#ifndef VMM_SPACE_SPACE_H
#define VMM_SPACE_SPACE_H

#include <stddef.h>

#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "lib/status.h"
#include "paging/tree/tree.h"
#include "vmm/range_tree/range_tree.h"
#include "vmm/space/counts.h"
#include "vmm/space/descriptor.h"
#include "vmm/space/region_tree.h"

/* The lowest address that a search for a gap considers. */
#define SPACE_FIRST_ADDRESS UINT64_C(0x10000)

enum region_kind {
    REGION_PRIVATE, /* pages of its own; a fork copies them */
    REGION_SHARED,  /* pages of a section, shared with forks (vmm/section/section.h) */
    REGION_GUARD,   /* no memory: every access is a violation */
    REGION_COPY     /* pages of a section until they are written: then copies of its own */
};

/* The attributes of a region, apart from its range. */
struct region_attributes {
    struct descriptor *descriptor; /* NULL: a guard */
    enum region_kind kind;
    bool committed; /* private: charged to the account (vmm/space/commit.h) */
    bool wired;     /* all its pages are present and stay (space_wire) */
    uint8_t apart;  /* enum region_apart of region.h */
    bool stack;     /* vmm/space/stack.h */
};

struct region { /* a range of the tree: valid until the space changes */
    struct {
        uint64_t start, end;
    } node;
    struct region_attributes what;
};

struct space {
    struct tree tree;
    uint64_t serial; /* from 1; never reused, unlike the address of a space */
    struct range_tree regions;
    struct region_tree mappings; /* of sections, in the shared regions (vmm/section/section.h) */
    struct section_recent recent;
    uint32_t region_count;
    uint64_t committed, wired; /* pages: the sums over its private regions */
    uint8_t zero_levels;       /* highest level of tickets that a read turns into zeros, 1 to 5 */
    uint8_t mappings_lock;     /* (vmm/section/section.h) */
    bool has_large;            /* it may map large pages: set before the first one, for good */
    struct mutex lock; /* guards the regions, and every call that changes meaning (rule P1) */
    uint64_t calls;    /* that took the lock: each may have raised rights (rule P9) */
    uint32_t changes_begun, changes_ended; /* of tree.processors (fault/entry_machine.c) */
    uint64_t kept; /* under the lock: the spare tables (vmm/range/spare_tables.h) */
    struct fault_counts faults;
    struct lend_counts lent;
};

/* Starts vmm/: descriptors, zero page, hooks of the tree. Called once. */
MUST_USE enum status vmm_init(void);

/* Limits the spaces that may exist at once, 1 to SPACES_MAX. Existing ones are kept. */
void space_set_limit(uint32_t most);
void space_set_region_limit(uint32_t regions); /* of one space; 0: any number */

MUST_USE enum status space_create(struct space **space);

/* Creates a copy by sharing at most 256 entries, whatever the parent's size. */
MUST_USE enum status space_fork(struct space *parent, struct space **child);

/* Sets the highest level of tickets that reads turn into zeros: at first all; forks inherit it. */
void space_set_zero_levels(struct space *space, unsigned level);

/* Ends a space that no processor runs. Most memory of a large one is freed later (end.h). */
void space_destroy(struct space *space);

/* Switches this thread, for good, to a space; NULL: the kernel's own root. */
void space_switch(struct space *space);
static inline struct space *space_current(void);

/* Flags of a map request, or-ed; 0 is private memory whose pages are made on first touch. */
enum space_map_flags {
    /* All pages are made before the call returns; otherwise it fails and maps nothing. If the range
     * has no access, or more pages than memory holds, some are tickets or on the disk by then. */
    SPACE_POPULATED = 1U << 0,
    SPACE_WIRED = 1U << 1, /* populated, and wired at once (space_wire) */
    /* Shared with all later forks and their forks: all see the same pages, each space with rights
     * of its own. All pages are charged once, until the last mapping of any part is removed. */
    SPACE_SHARED = 1U << 2,
    SPACE_GUARD = 1U << 3, /* no memory: every access is a violation */
    /* Zeros at once, by the fewest entries of the zero ladder, at any level: reads do not fault. */
    SPACE_ZEROES = 1U << 4,
    SPACE_STACK = 1U << 5 /* pages below all stack pointers may be freed (vmm/space/stack.h) */
};

/* A request to map blank memory or a part of a section. */
struct space_request {
    uint64_t at; /* the address, if alignment is 0 */
    uint64_t size;
    uint64_t alignment; /* a power of two from 4 KiB: maps at the lowest gap that fits */
    struct rights rights;
    /* Private memory: 2 or 3 asks for pages of 2 MiB or 1 GiB, where one fits, a block is free and
     * no part of it has been touched; elsewhere pages are 4 KiB. A change of rights keeps the hint
     * if the whole range has it. */
    uint8_t page_level;      /* 0 and 1: 4 KiB */
    uint32_t flags;          /* enum space_map_flags */
    struct section *section; /* maps this one, privately without SPACE_SHARED; NULL: blank */
    uint64_t offset;         /* bytes into the section, whole pages */
};

/* A request for a fixed address; other fields may follow, as in .flags = SPACE_WIRED. */
#define SPACE_AT(address, bytes, access, ...)                                                      \
    ((struct space_request){.at = (address), .size = (bytes), .rights = access, __VA_ARGS__})

/* Maps the request, and sets *start to its address unless start is NULL. */
MUST_USE static inline enum status space_map(struct space *space,
                                             const struct space_request *request, uint64_t *start);

/* The halves of space_map; the compiler chooses one at the call. Most calls map small private pages
 * at a fixed address. */
MUST_USE enum status space_map_small_pages(struct space *space, uint64_t at, uint64_t size,
                                           struct rights rights);
MUST_USE enum status space_map_request(struct space *space, const struct space_request *request,
                                       uint64_t *start);

/* Unmaps the range; cuts regions that reach beyond it. STATUS_NOT_FOUND: nothing is mapped. */
MUST_USE enum status space_unmap(struct space *space, uint64_t start, uint64_t size);

/* Changes the rights of the range. Without access, pages stay resident, withheld (rule E3). It may
 * begin and end inside regions and cover several. STATUS_NOT_FOUND: it has a hole or a guard. */
MUST_USE enum status space_protect(struct space *space, uint64_t start, uint64_t size,
                                   struct rights rights);

enum space_advice {
    SPACE_WILL_NEED, /* populates now: by write faults where writing is allowed */
    SPACE_DONT_NEED, /* discards the content; STATUS_BUSY if pages are wired */
    SPACE_COLD,      /* makes the pages the first to be evicted */
    SPACE_COLLAPSE,  /* merges small pages into large ones that lie in the range */
    /* Fault-around: a first write, to a page not read before, also maps pages for adjacent tickets
     * of its aligned group, if frames are in the processor's caches and the limit of resident pages
     * allows it; of sections any first touch maps the resident ones. SPACE_RANDOM: only one. */
    SPACE_SEQUENTIAL,
    SPACE_RANDOM
};

/* Sets the group size of later SPACE_SEQUENTIAL calls: a power of two from 1 to 16; 16 at the
 * start. */
void space_set_around(unsigned pages);

/* Applies advice to a range as for space_protect. If a page cannot be populated, returns that
 * status (STATUS_NO_MEMORY, STATUS_IO, ...); pages already populated stay. SPACE_COLLAPSE skips
 * pages that others share or use (STATUS_AGAIN) or that no block is free for (STATUS_NO_MEMORY),
 * and continues with the rest. */
MUST_USE enum status space_advise(struct space *space, uint64_t start, uint64_t size,
                                  enum space_advice advice);

/* Wires a range, which may be any that space_protect accepts: when the call returns each page has a
 * frame of its own, and keeps it until it is unwired or unmapped. Nothing evicts, moves or merges
 * it, and no access that the rights allow takes a fault, even after a change of rights. A fork
 * copies wired pages for the child at once, unwired there; writes by other processors wait
 * meanwhile. A move keeps pages wired, and growth of a wired mapping is wired too. Wires do not
 * nest. Memory that never was writable is charged now (vmm/space/commit.h). STATUS_DENIED: part of
 * the range has no access and is not wired yet, or is shared. STATUS_LIMIT: too many wired pages.
 * If a page cannot be populated, returns that status and wires nothing new. */
MUST_USE enum status space_wire(struct space *space, uint64_t start, uint64_t size);

/* Unwires the wired pages of the range: they may be evicted again. */
MUST_USE enum status space_unwire(struct space *space, uint64_t start, uint64_t size);

/* Return the wired pages of all spaces, and the limit; set the limit. The default, which UINT64_MAX
 * restores, is half of what memory and the limit of resident pages allow. Pages already wired stay
 * wired. */
uint64_t space_wired_pages(void);
uint64_t space_wired_limit(void);
void space_set_wired_limit(uint64_t pages);

/* The answer of space_query: a region. */
struct space_view {
    uint64_t start;
    uint64_t end;
    struct rights rights; /* rights.none: a guard, or no access */
    enum region_kind kind;
    bool committed;
    bool wired;
    uint64_t resident; /* mapped pages without the zero page; counts pages shared with forks */
};

/* Describes the region that covers the address, or the next one. STATUS_NOT_FOUND: none. */
MUST_USE enum status space_query(struct space *space, uint64_t address, struct space_view *view);

/* Resizes the part of a region that begins at start. A smaller size unmaps the end; a larger one
 * adds blank memory with the region's rights. In a shared region the new part is shared with later
 * forks only. STATUS_NOT_FOUND: the old range does not lie in one region; STATUS_EXISTS: there is
 * no room behind it. */
MUST_USE enum status space_remap(struct space *space, uint64_t start, uint64_t old_size,
                                 uint64_t new_size);

/* As space_remap, but if there is no room behind it, moves the part with its content to a gap and
 * sets *place to the new address. STATUS_NOT_FOUND: there is no gap either. */
MUST_USE enum status space_remap_moving(struct space *space, uint64_t start, uint64_t old_size,
                                        uint64_t new_size, uint64_t *place);

/* Moves a part of a region, with its content, to a free place. Only few entries move, however many
 * pages there are; so the distance must be a multiple of tree_move_alignment for the size,
 * otherwise STATUS_RANGE. STATUS_EXISTS: something is mapped there. */
MUST_USE enum status space_move(struct space *space, uint64_t start, uint64_t size, uint64_t to);

/* Returns the region that covers an address, or NULL; valid until the space changes. */
const struct region *space_region_at(struct space *space, uint64_t address);

unsigned space_count(void); /* spaces that exist */
/* Audits all spaces: compares the regions with each other, and every tree with its counts. Panics
 * with values on a difference. */
struct tree_census space_audit(void);

static inline enum status space_map(struct space *space, const struct space_request *request,
                                    uint64_t *start)
{
    if (start == NULL && request->alignment == 0 && request->section == NULL &&
        request->flags == 0 && request->page_level <= 1)
        return space_map_small_pages(space, request->at, request->size, request->rights);
    return space_map_request(space, request, start);
}

static inline struct space *space_current(void)
{
    return machine_space();
}

#endif
