/*
 * Physical memory: which frames there are, and who has them.
 *
 * Units: frames of 4 KiB. Owns: every frame of kind FRAME_FREE, and the frame records.
 * State of a frame: FREE -> (alloc) -> any other kind with count 1 -> (free) -> FREE.
 * Fails with: STATUS_NO_MEMORY. Freeing cannot fail; a double free or the freeing of what was
 * never allocated is a CHECK.
 * Context: any, also in a fault; never waits.
 */
#ifndef PMM_PMM_H
#define PMM_PMM_H

#include <stdbool.h>

#include "lib/bootinfo.h"
#include "lib/status.h"
#include "pmm/frame.h"

/* Takes over what the memory map (pmm/memory_map.h) says is free, at most limit bytes of it (0:
 * all); the records of all RAM are mapped and zero. The first MiB stays reserved: other processors
 * start there. STATUS_NO_MEMORY when fewer frames are left than anything can be done with. */
MUST_USE enum status pmm_init(uint64_t limit);

enum frame_clear { FRAME_UNCLEARED, FRAME_CLEARED };

/* Hands out one frame with count 1 and all other fields zero, or SLOT_NONE and PFN_NONE where
 * those are fields; its content is zero when asked for, otherwise junk. */
MUST_USE enum status pmm_alloc(enum frame_kind kind, enum frame_clear clear, struct pfn *frame);

/* As pmm_alloc, below 4 GiB: for devices that cannot reach more. */
MUST_USE enum status pmm_alloc_low(enum frame_kind kind, enum frame_clear clear, struct pfn *frame);

/* Takes back a frame whose count has come to 0, or that is held by its caller alone. */
void pmm_free(struct pfn frame);

/* Gives a frame that is in use another kind, as the zero page of the image gets its own. */
void pmm_retype(struct pfn frame, enum frame_kind kind);

struct pmm_usage {
    uint64_t total; /* frames in use or free */
    uint64_t by_kind[FRAME_KINDS];
};

/* How many frames there are of each kind: the ledger. O(1). */
struct pmm_usage pmm_usage(void);

/* Frames that exist, 0 to pmm_frame_limit() - 1; records exist for all of them. */
uint32_t pmm_frame_limit(void);

/* Walks every record and compares it with the usage and the free list; panics on a difference. */
void pmm_audit(void);

#endif
