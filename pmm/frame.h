/*
 * The frame record: what is known of each 4 KiB frame of physical memory.
 *
 * One record of 32 bytes a frame, found by index at a constant base. pmm/, paging/ and vmm/ agree
 * on it; each field names its protector.
 *
 * The frames of a block behind its first keep kind FRAME_FREE: the first one's record speaks for
 * all until pmm_split makes frames, or smaller blocks, of their own out of them.
 *
 * Protectors: (c) constant while the frame has its kind; (t) the lock of the table that contains
 * the entry in question; (s) the lock in this very record; (a) the allocator; (r) the ring lock.
 * Owns: nothing. Context: any. Rules: RULES.md C1, R1, P6 and 'The frame record'.
 */
#ifndef PMM_FRAME_H
#define PMM_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "lib/check.h"
#include "lib/units.h"

enum frame_kind {
    FRAME_FREE,      /* zero: the records of free memory need no writing at the start */
    FRAME_ABSENT,    /* no RAM here */
    FRAME_RESERVED,  /* RAM that the firmware keeps, and what mem= leaves alone */
    FRAME_KERNEL,    /* image, frame records, pools, kernel tables, stacks */
    FRAME_TABLE,     /* a node of the one tree */
    FRAME_ANONYMOUS, /* a page of a program */
    FRAME_ZERO,      /* the zero page: saturated, never counted */
    FRAME_DEVICE,    /* memory that a device reads or writes by itself: command lists, buffers */
    FRAME_SWAP,      /* the store of the RAM-backed swap area */
    FRAME_KINDS
};

enum frame_flag {
    FRAME_DEAD = 1U << 0,  /* a table taken out of the tree: who locks it starts over (P6) */
    FRAME_DIRTY = 1U << 1, /* the D bit of entries that no longer name it, folded in (E8) */
    FRAME_TIED = 1U << 2,  /* holds a count on the swap slot that it was read from (C9) */
    FRAME_IO = 1U << 3,    /* the target of a transfer under way */
    FRAME_BLOCK = 1U << 5, /* (a) first of a block of more than one frame; level is its order */
    FRAME_JUNK = 1U << 6,  /* (a) FRAME_FREE: filled with junk, which is checked (PMM_JUNK) */
    FRAME_SEEN = 1U << 7,  /* visited by AUDIT */
};

/* A count that is never changed: zero page, kernel. Tested past 16 bits. */
#define COUNT_SATURATED UINT32_MAX

struct frame {
    uint32_t count;        /* (t)(s) entries that name it, and holds; FRAME_FREE: 0 */
    uint8_t kind;          /* (a) enum frame_kind */
    uint8_t level;         /* (c) FRAME_TABLE: 1 to 5; (a) FRAME_BLOCK: 1 to 9, 18 */
    uint16_t live;         /* (s) FRAME_TABLE: entries that are not empty; else policy's */
    uint16_t held;         /* (s) FRAME_TABLE: entries that carry a count, 0 to 512 */
    uint16_t back_index;   /* (t) FRAME_ANONYMOUS: index of the named entry in back_table */
    uint32_t slot_or_base; /* (t) FRAME_ANONYMOUS: tied slot; (c) FRAME_TABLE: base / 2 MiB, low */
    uint32_t back_table;   /* (t) FRAME_ANONYMOUS: frame of the table whose entry is named */
    uint32_t link_next;    /* (r) FRAME_TABLE: ring; else policy's */
    uint32_t link_prev;    /* (r) FRAME_TABLE: ring; else policy's */
    uint8_t lock;          /* 0 free, 1 held */
    uint8_t flags;         /* (s) enum frame_flag */
    uint16_t base_high;    /* (c) FRAME_TABLE: base / 2 MiB, bits 32 and up (five levels) */
};

_Static_assert(sizeof(struct frame) == 32, "a frame record is 32 bytes");
_Static_assert(offsetof(struct frame, slot_or_base) == 12, "packed without holes");

/* The base of the records; on the host the tests choose another. */
#ifndef FRAME_RECORDS_BASE
#define FRAME_RECORDS_BASE UINT64_C(0xffffc00000000000)
#endif

/* The base of the direct map of physical memory. */
#ifndef DIRECT_MAP_BASE
#define DIRECT_MAP_BASE UINT64_C(0xffff800000000000)
#endif

/* The record of a frame. The caller knows that the frame is one of the machine's. */
static inline struct frame *frame_record(struct pfn frame)
{
    return (struct frame *)(uintptr_t)FRAME_RECORDS_BASE + frame.index;
}

static inline struct pfn frame_pfn(const struct frame *record)
{
    return (struct pfn){(uint32_t)(record - (const struct frame *)(uintptr_t)FRAME_RECORDS_BASE)};
}

/* A frame's content, or any RAM, through the direct map. */
static inline void *phys_pointer(struct phys physical)
{
    return (void *)(uintptr_t)(DIRECT_MAP_BASE + physical.address);
}

static inline void *frame_pointer(struct pfn frame)
{
    return phys_pointer(phys_of(frame));
}

#endif
