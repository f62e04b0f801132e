/*
 * The processors' caches of single frames, and the steps of the fast path in pmm/pmm.h.
 *
 * Each processor has two caches: frames of any content, and zeroed frames. A cache's state is lock
 * and size in one word: one exchange locks it, one store unlocks it. Others that find it held go to
 * the allocator instead of waiting.
 *
 * State of a cache: held or closed (0) -> empty (1) -> 1 + the number of its frames.
 * Units: frames. Owns: frames of kind FRAME_FREE. Fails with: nothing. Context: any.
 * Protectors: (h) the holder of the cache, for reading too; (k) the clock's lock.
 */
#ifndef PMM_CACHE_H
#define PMM_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/cpu.h"
#include "lib/status.h"
#include "pmm/frame.h"

/* 1: frames are filled with junk when freed, and the junk is checked at the next allocation. */
#ifndef PMM_JUNK
#define PMM_JUNK 0
#endif

#define PMM_CACHE_FRAMES 256U
#define PMM_CACHE_HELD   0U
#define PMM_CACHE_EMPTY  1U
#define PMM_CACHE_LOW    16U /* fewer frames than this are refilled by pmm_refill */

_Static_assert(PMM_CACHE_LOW <= PMM_CACHE_FRAMES / 2, "a refill fits beside what is left");

enum pmm_cache_content { PMM_CACHE_ANY, PMM_CACHE_ZERO, PMM_CACHES };

/* A processor's clock: its list of resident pages. vmm/page/page.h owns it; it lies beside the
 * caches of frames, so that a fault finds both by one address. Zeroes until page_init. */
struct page_clock {
    uint8_t lock;
    uint32_t first; /* (k) looked at next; UINT32_MAX: none */
    uint32_t last;  /* (k) arrived last */
    uint64_t size;  /* (k) pages */
    /* First word of the record of a page in the clock: count 1, the kind, and the processor's
     * number + 1 as `live`. */
    uint64_t record;
    uint64_t bit; /* of the processor, in page_clocks_begun */
} __attribute__((aligned(64)));

struct pmm_cache {
    uint32_t state;
    bool open;                         /* false: HELD without a holder, until it is opened */
    uint32_t frames[PMM_CACHE_FRAMES]; /* (h) the last one is allocated next */
    uint64_t by_kind[FRAME_KINDS];     /* (h) handed out less given back here, modulo 2^64 */
    uint64_t hits;                     /* PMM_CACHE_ZERO: frames handed out */
    uint64_t missed;                   /* PMM_CACHE_ZERO: frames cleared when they were wanted */
    struct page_clock clock;           /* PMM_CACHE_ANY: of the same processor */
} __attribute__((aligned(2048)));

_Static_assert(sizeof(struct pmm_cache) == 2048, "found by a shift");

/* One for each processor; of the one behind them only the clock is used (vmm/page/managed.h). */
extern struct pmm_cache pmm_caches[CPU_MAX + 1][PMM_CACHES];
extern uint32_t pmm_frame_end;

/* Returns both caches of a processor. Computed in bytes, so that the compiler keeps one address and
 * does not index the table again for each field. */
static inline struct pmm_cache *pmm_caches_of(unsigned cpu)
{
    return (struct pmm_cache *)((uintptr_t)pmm_caches + cpu * sizeof(pmm_caches[0]));
}

/* Slow paths of pmm_alloc and pmm_free; state is the value that the exchange returned. */
MUST_USE enum status pmm_alloc_slow(struct pmm_cache *cache, uint32_t state, enum frame_kind kind,
                                    bool clear, struct pfn *frame);
void pmm_refill_zeroed(struct pmm_cache *cache);
void pmm_free_slow(struct pmm_cache *cache, uint32_t state, enum frame_kind kind, struct pfn frame);
void pmm_free_clean_slow(struct pmm_cache *cache, uint32_t state, enum frame_kind kind,
                         struct pfn frame);
bool pmm_take_zeroed_slow(struct pmm_cache *cache, uint32_t state, enum frame_kind kind,
                          struct pfn *frame);
_Noreturn void pmm_free_refused(struct pfn frame);

void pmm_junk_fill(struct pfn frame);
void pmm_junk_check(struct pfn frame);

/* Panics unless every word of the frame is zero. */
void pmm_zero_check(struct pfn frame);

/* Counts an event without a locked instruction; two processors at once may lose one. */
static inline void pmm_note(uint64_t *figure)
{
    __atomic_store_n(figure, __atomic_load_n(figure, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

/* Returns true if the record of a cached frame is untouched: all zero. */
static inline bool pmm_is_free(const struct frame *record)
{
    return *(const uint64_t *)(const void *)record == 0;
}

static inline void pmm_check_free(struct pfn frame)
{
    const struct frame *record = frame_record(frame);

    CHECK_MSG(pmm_is_free(record), "free frame %x has kind %u, count %u", frame.index, record->kind,
              record->count);
}

/* Prepares the record of a newly allocated frame, in four stores: all fields but one are
 * constants. */
static inline void pmm_prepare(struct pfn frame, enum frame_kind kind)
{
    uint64_t *words = (uint64_t *)(void *)frame_record(frame);

    _Static_assert(offsetof(struct frame, count) == 0 && offsetof(struct frame, kind) == 4 &&
                       offsetof(struct frame, level) == 5 && offsetof(struct frame, live) == 6,
                   "first word: count 1, kind");
    _Static_assert(offsetof(struct frame, table.held) == 8 &&
                       offsetof(struct frame, page.back_index) == 10 &&
                       offsetof(struct frame, page.slot) == 12,
                   "second word: no slot");
    _Static_assert(offsetof(struct frame, page.back_table) == 16 &&
                       offsetof(struct frame, page.list_next) == 20,
                   "third word: no table, no link");
    _Static_assert(offsetof(struct frame, page.list_prev) == 24 &&
                       offsetof(struct frame, lock) == 28 &&
                       offsetof(struct frame, base_high) == 30,
                   "fourth word: no link");
    words[0] = 1 | (uint64_t)kind << 32;
    words[1] = (uint64_t)UINT32_MAX << 32;
    words[2] = UINT64_MAX;
    words[3] = UINT32_MAX;
}

/* As pmm_prepare, for a page that an entry is about to map. first: the record's first word (count
 * 1, kind, and the owner's value of `live`). place: the entry's offset in its table, in bytes.
 * flags: FRAME_DIRTY if the page is about to be written, else 0. The owner sets list_prev
 * itself. */
static inline void pmm_prepare_page(struct frame *record, uint64_t first, uint32_t table,
                                    uint32_t place, uint8_t flags)
{
    uint32_t held_and_index = place / 8 << 16;

    *(uint64_t *)(void *)record = first;
    __builtin_memcpy(&record->table.held, &held_and_index, sizeof(held_and_index));
    record->page.slot = UINT32_MAX;
    record->page.back_table = table;
    record->page.list_next = UINT32_MAX;
    record->lock = 0;
    record->flags = flags;
    record->base_high = 0;
    record->marks = 0;
}

/* Returns true if a single frame may be freed. The zero page, the kernel image and firmware memory
 * are saturated, so they may not. */
static inline bool pmm_may_free(const struct frame *record)
{
    uint16_t lock_and_flags;

    _Static_assert(offsetof(struct frame, flags) == offsetof(struct frame, lock) + 1,
                   "lock and flags are looked at together");
    __builtin_memcpy(&lock_and_flags, &record->lock, sizeof(lock_and_flags));
    return frame_is_owned(record->kind) && record->count <= 1 &&
           (lock_and_flags & (0xff | FRAME_BLOCK << 8)) == 0;
}

/* Clears count, kind, level and live in one store; pmm_prepare writes the rest later. */
static inline void pmm_mark_free(struct frame *record)
{
    *(uint64_t *)(void *)record = 0;
}

_Static_assert(FRAME_FREE == 0, "pmm_mark_free");

/* Sets *frame to the frame at a place of the pool of cleared frames, from 0; returns false behind
 * the last. Another processor may take it at any time: for pictures. */
bool pmm_zero_pool_frame(uint32_t place, struct pfn *frame);

#endif
