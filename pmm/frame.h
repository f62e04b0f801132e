/*
 * The frame record: the state of one 4 KiB frame of physical memory (Linux: struct page).
 *
 * One record of 32 bytes per frame, at a constant base plus its index. pmm/, paging/ and vmm/ share
 * it; each field names its protector.
 *
 * Only the first frame of a block has a record in use; the others keep kind FRAME_FREE until
 * pmm_split turns the block into frames or smaller blocks.
 *
 * Protectors: (c) constant while the frame has its kind; (t) the lock of the table that contains
 * the entry that maps it; (s) the lock in this record; (a) the allocator; (r) the ring lock.
 * Owns: nothing. Context: any. Rules: docs/rules.md C1, R1, P6 and 'The frame record'.
 */
#ifndef PMM_FRAME_H
#define PMM_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/check.h"
#include "lib/units.h"

enum frame_kind {
    FRAME_FREE,      /* 0: the records of free memory need no write at the start */
    FRAME_ABSENT,    /* no RAM here */
    FRAME_RESERVED,  /* RAM that the firmware keeps, or that mem= excludes */
    FRAME_METADATA,  /* frame records, and the frame allocator's metadata */
    FRAME_ZERO,      /* the zero page: saturated, never counted */
    FRAME_KERNEL,    /* image, pools, kernel tables, stacks; the first of those that are owned */
    FRAME_TABLE,     /* a node of the one tree */
    FRAME_ROOT,      /* a prepared root that no tree uses yet (paging/tree/root.c) */
    FRAME_ANONYMOUS, /* a page of a program */
    FRAME_DEVICE,    /* DMA memory: command lists, buffers */
    FRAME_SWAP,      /* the RAM-backed swap area */
    FRAME_KINDS
};

#define FRAME_KIND_BIT(kind) (UINT32_C(1) << (kind))

/* The kinds that pmm_alloc returns and pmm_free accepts. */
#define FRAME_OWNED_KINDS                                                                          \
    (FRAME_KIND_BIT(FRAME_KERNEL) | FRAME_KIND_BIT(FRAME_TABLE) | FRAME_KIND_BIT(FRAME_ROOT) |     \
     FRAME_KIND_BIT(FRAME_ANONYMOUS) | FRAME_KIND_BIT(FRAME_DEVICE) | FRAME_KIND_BIT(FRAME_SWAP))

_Static_assert(FRAME_OWNED_KINDS == FRAME_KIND_BIT(FRAME_KINDS) - FRAME_KIND_BIT(FRAME_KERNEL),
               "frame_is_owned looks at both ends");

static inline bool frame_is_owned(uint8_t kind)
{
    return kind >= FRAME_KERNEL && kind < FRAME_KINDS;
}

/* Returns the kinds that a frame of this kind may become while the machine runs. pmm_init sets the
 * kinds of absent, reserved and used frames itself. */
static inline uint32_t frame_successors(enum frame_kind kind)
{
    switch (kind) {
    case FRAME_FREE: return FRAME_OWNED_KINDS; /* pmm_alloc and its like */
    case FRAME_KERNEL:                         /* pmm_free; pmm_retype: a page of the image */
        return FRAME_KIND_BIT(FRAME_FREE) | FRAME_KIND_BIT(FRAME_ZERO);
    case FRAME_TABLE: return FRAME_KIND_BIT(FRAME_FREE) | FRAME_KIND_BIT(FRAME_ROOT);
    case FRAME_ROOT: return FRAME_KIND_BIT(FRAME_FREE) | FRAME_KIND_BIT(FRAME_TABLE);
    case FRAME_ANONYMOUS:
    case FRAME_DEVICE:
    case FRAME_SWAP: return FRAME_KIND_BIT(FRAME_FREE); /* pmm_free */
    case FRAME_ABSENT:
    case FRAME_RESERVED:
    case FRAME_METADATA:
    case FRAME_ZERO:
    case FRAME_KINDS: break; /* for good */
    }
    return 0;
}

static inline bool frame_may_become(enum frame_kind kind, enum frame_kind next)
{
    return next < FRAME_KINDS && (frame_successors(kind) & FRAME_KIND_BIT(next)) != 0;
}

enum frame_flag {
    FRAME_DEAD = 1U << 0,        /* a table that has left the tree: after locking it, retry (P6) */
    FRAME_DIRTY = 1U << 1,       /* the D bits of entries that no longer map it, collected (E8) */
    FRAME_SWAP_CACHED = 1U << 2, /* in the swap cache: owns a count of the slot in page.slot (C9) */
    FRAME_IO = 1U << 3,          /* the target of a transfer under way */
    FRAME_WIRED = 1U << 4,       /* (t) never evicted: it is in no clock (vmm/page/page.h) */
    FRAME_BLOCK = 1U << 5,       /* (a) first of a block of several frames; level is its order */
    FRAME_SHARED = 1U << 6 /* FRAME_ANONYMOUS: a section's page, mapped by shared leaves (S3) */
};

/* Apart from the flags, which the fast path compares as a whole. */
enum frame_mark {
    FRAME_JUNK = 1U << 0, /* (a) FRAME_FREE: filled with junk, which is checked (PMM_JUNK) */
    FRAME_SEEN = 1U << 1  /* FRAME_TABLE: visited by AUDIT */
};

/* Saturated counts never change: those of the zero page, of the kernel, and of a frame with more
 * references than fit. A count from COUNT_STILL on is saturated; the margin around COUNT_SATURATED
 * is for processors that read the count just before. */
#define COUNT_SATURATED UINT32_C(0xe0000000)
#define COUNT_STILL     UINT32_C(0xc0000000)

struct frame {
    uint32_t count; /* (t)(s) entries that map or refer to it, and holds; FRAME_FREE: 0 */
    uint8_t kind;   /* (a) enum frame_kind */
    uint8_t level;  /* (c) FRAME_TABLE: 1 to 5; (a) FRAME_BLOCK: 1 to 9, 18 */
    union {
        uint16_t live; /* (s) FRAME_TABLE, FRAME_ROOT: entries that are not empty */
        /* (s) FRAME_ANONYMOUS: 1 + the CPU whose clock lists it, PAGE_MANAGED, or 0 */
        uint16_t clock;
    };
    union {
        struct {                      /* FRAME_TABLE, FRAME_ROOT */
            uint16_t held;            /* (s) entries that own a reference, 0 to 512 */
            uint16_t section_high;    /* (s) with ring_or_section, the sections whose table it is;
                                       * in a space: has private copies of a section's pages */
            uint32_t base_low;        /* (c) first address / 2 MiB; base_high has bits 32 and up */
            uint32_t ring_or_section; /* (r) its low bits choose the lock of the ring; (s) */
            uint32_t ring_next; /* (r) the ring of tables that share pages (paging/tree/rmap.c) */
            uint32_t ring_prev;
        } table;
        struct {                 /* FRAME_ANONYMOUS */
            uint16_t history;    /* (s) enum page_history, for the policy (vmm/page/managed.h) */
            uint16_t back_index; /* (t) back pointer: index of the entry in back_table */
            uint32_t slot;       /* (t) FRAME_SWAP_CACHED: the slot that has the same content */
            uint32_t back_table; /* (t) back pointer: frame of a table with an entry that maps it */
            uint32_t list_next;  /* the clock's list, or that of large pages; each has its lock */
            uint32_t list_prev;
        } page;
    };
    uint8_t lock;      /* 0 free, 1 held */
    uint8_t flags;     /* (s) enum frame_flag */
    uint8_t base_high; /* (c) FRAME_TABLE: see base_low; only five levels need it */
    uint8_t marks;     /* enum frame_mark */
};

_Static_assert(sizeof(struct frame) == 32, "a frame record is 32 bytes");
_Static_assert(offsetof(struct frame, live) == 6 && offsetof(struct frame, table) == 8 &&
                   offsetof(struct frame, page) == 8 && offsetof(struct frame, lock) == 28,
               "packed without holes");
_Static_assert(offsetof(struct frame, table.ring_next) == offsetof(struct frame, page.list_next) &&
                   offsetof(struct frame, table.ring_prev) ==
                       offsetof(struct frame, page.list_prev),
               "pmm_prepare ends the list of either kind");
_Static_assert(UINT64_C(1) << (57 - 21) <= UINT64_C(1) << (32 + 8), "base_high holds any base");

/* The base of the records; on the host the tests choose another. */
#ifndef FRAME_RECORDS_BASE
#define FRAME_RECORDS_BASE UINT64_C(0xffffc00000000000)
#endif

/* The base of the direct map of physical memory. */
#ifndef DIRECT_MAP_BASE
#define DIRECT_MAP_BASE UINT64_C(0xffff800000000000)
#endif

/* Returns the record of a frame, which must exist in this machine. */
static inline struct frame *frame_record(struct pfn frame)
{
    return (struct frame *)(uintptr_t)FRAME_RECORDS_BASE + frame.index;
}

static inline struct pfn frame_pfn(const struct frame *record)
{
    return (struct pfn){(uint32_t)(record - (const struct frame *)(uintptr_t)FRAME_RECORDS_BASE)};
}

/* Handle the slow cases of counting: a saturated count, and a frame without a count. */
void frame_count_saturate(struct pfn frame);
uint32_t frame_count_keep(struct pfn frame);

/* Adds a reference (rule C1). A count that would overflow is saturated, which the log reports once:
 * the frame is then never freed. Only pages and tables have references, and at least one. */
static inline void frame_count_up(struct pfn frame)
{
    struct frame *record = frame_record(frame);
    uint32_t count = __atomic_load_n(&record->count, __ATOMIC_RELAXED);

    if (__builtin_expect(count - 1 >= COUNT_STILL - 1, 0))
        frame_count_saturate(frame);
    else
        __atomic_add_fetch(&record->count, 1, __ATOMIC_RELAXED);
}

/* Adds a reference unless the count is 0, for a frame whose last reference may be dropped
 * meanwhile. Returns false if it was. */
static inline bool frame_count_up_unless_0(struct pfn frame)
{
    struct frame *record = frame_record(frame);
    uint32_t count = __atomic_load_n(&record->count, __ATOMIC_RELAXED);

    do {
        if (count == 0)
            return false;
        if (count >= COUNT_STILL) {
            frame_count_saturate(frame);
            return true;
        }
    } while (!__atomic_compare_exchange_n(&record->count, &count, count + 1, false,
                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    return true;
}

/* Drops a reference. Returns the references left, or COUNT_SATURATED for a saturated count. */
static inline uint32_t frame_count_down(struct pfn frame)
{
    struct frame *record = frame_record(frame);
    uint32_t count = __atomic_load_n(&record->count, __ATOMIC_RELAXED);

    if (__builtin_expect(count - 1 >= COUNT_STILL - 1, 0))
        return frame_count_keep(frame);
    return __atomic_sub_fetch(&record->count, 1, __ATOMIC_ACQ_REL);
}

/* Return the address of RAM, or of a frame's content, in the direct map. */
static inline void *phys_pointer(struct phys physical)
{
    return (void *)(uintptr_t)(DIRECT_MAP_BASE + physical.address);
}

static inline void *frame_pointer(struct pfn frame)
{
    return phys_pointer(phys_of(frame));
}

/* Returns the frame of an address in the direct map. */
static inline struct pfn frame_of_pointer(const void *pointer)
{
    return (struct pfn){(uint32_t)(((uintptr_t)pointer - DIRECT_MAP_BASE) >> PAGE_SHIFT)};
}

#endif
