/*
 * A heap for programs: blocks of any size in one range of addresses, and free memory given back.
 *
 * Blocks up to 2 KiB come from *runs*: 1 or 4 pages of objects of one size class, with a bit for
 * each. Larger blocks are whole pages. Free pages form *spans*, which merge with their neighbours.
 * All records are beside the pages, none in free memory: a free page can be given back without a
 * touch, and a program that writes behind a block damages no record of another one.
 *
 * A free page is *dirty* from its use until it is given back to the kernel. The policy says when
 * that happens; heap_scavenge does it for any function over the dirty free areas.
 *
 * The code has no data of its own, calls nothing outside of lib/heap, and stores no address of
 * itself, so that a copy of it runs at any address: in ring 3, and in host tests.
 *
 * Units: bytes; pages of 4 KiB. Owns: the range that heap_create is given, which reads as zeroes
 * then. The records are at its start. State: heap_create -> in use, to the end of the range;
 * in use -> lost, when a wait for the lock is given up: then every call fails at once.
 * Fails with: STATUS_NO_MEMORY (no free span is long enough), STATUS_RANGE (no block begins there),
 * STATUS_NOT_FOUND (the block is free already: a double free), STATUS_TIMEOUT (the heap is lost).
 * Context: any thread that may wait for the lock by `wait`; not a signal or upcall handler, but for
 * heap_on_notice.
 */
#ifndef LIB_HEAP_HEAP_H
#define LIB_HEAP_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/status.h"

#define HEAP_PAGE        UINT64_C(4096)
#define HEAP_CLASSES     24U
#define HEAP_SMALL_MOST  2048U /* bytes of the largest class */
#define HEAP_SPAN_LISTS  64U
#define HEAP_RUN_OBJECTS 256U /* 16 bytes in a page: the most objects of a run */

enum heap_policy_kind { HEAP_NEVER, HEAP_AT_ONCE, HEAP_BACKGROUND, HEAP_ON_NOTICE, HEAP_POLICIES };

/* When free pages are given back. Plain values, since the table must work at any address. */
struct heap_policy {
    char name[12];
    bool at_once;        /* when they become free */
    bool on_notice;      /* all of them, when memory is short */
    uint16_t step_pages; /* most pages given back in each heap_step; 0: none */
};

/* The four policies, by enum heap_policy_kind. */
extern const struct heap_policy heap_policies[HEAP_POLICIES];

/* The functions that the heap calls, with `context`. */
struct heap_source {
    void *context;
    /* Makes whole pages blank again. Returns false if the kernel refuses: they stay dirty. */
    bool (*give_back)(void *context, void *at, size_t size);
    /* Another thread of the program has the lock. Called again until that one has released it, with
     * the number of calls before. Returns false to give up: that thread has ended. */
    bool (*wait)(void *context, uint64_t waits);
};

enum heap_kind { HEAP_FREE, HEAP_RUN, HEAP_RUN_REST, HEAP_LARGE, HEAP_LARGE_REST };

/* The record of a page. Free spans have length in their first and last page. */
struct heap_page {
    uint8_t kind;
    uint8_t size_class; /* run */
    bool dirty;         /* may be resident */
    uint8_t unused;
    uint32_t length;     /* pages: of a span, run or large block, in its first */
    uint32_t next, prev; /* page numbers in one list: spans of a length, runs with a free object */
    uint32_t head;       /* the rest of a run: its first page */
    uint32_t used;       /* run: objects in use */
    uint64_t bits[HEAP_RUN_OBJECTS / 64];
    uint64_t size; /* large: bytes asked for */
};

_Static_assert(sizeof(struct heap_page) == 64, "one record is a cache line");

struct heap {
    uint32_t lock;
    uint32_t pages; /* in all, without those of the records */
    uint8_t *base;  /* the first of them */
    const struct heap_policy *policy;
    struct heap_source source;
    uint32_t cursor;      /* where the next step of scavenging begins */
    bool lost;            /* a wait for the lock was given up: records may be half changed */
    bool notice_missed;   /* heap_on_notice met the lock: the holder scavenges at its end */
    uint64_t dirty_free;  /* pages */
    uint64_t given_back;  /* pages, in all */
    uint64_t live_bytes;  /* of the blocks in use, rounded up to their class or page */
    uint64_t live_blocks; /* in use */
    uint64_t span_lists;  /* a bit for each list of spans that is not empty */
    uint32_t spans[HEAP_SPAN_LISTS]; /* list n: spans of n + 1 pages, the last: longer ones too */
    uint32_t runs[HEAP_CLASSES];     /* with a free object */
    struct heap_page page[];
};

/* Makes a heap of a range of whole pages; NULL if it is too small for one page. */
struct heap *heap_create(void *range, size_t size, const struct heap_policy *policy,
                         const struct heap_source *source);

/* Returns a block at a multiple of the alignment: a power of two, up to 4 KiB; blocks have 16 at
 * least. NULL: no span is long enough, the size or alignment is out of range, or the heap is
 * lost. */
void *heap_alloc(struct heap *heap, size_t size, size_t alignment);

/* Frees a block; NULL is fine. On failure nothing has changed. */
MUST_USE enum status heap_free(struct heap *heap, void *block);

/* Returns the usable bytes of a block in use, 0 for any other address. */
size_t heap_size(struct heap *heap, const void *block);

/* Calls the functor for free areas of whole dirty pages, at most `most` pages in all; those for
 * which it returns true are no longer dirty. Returns their number. The functor may not call the
 * heap. */
size_t heap_scavenge(struct heap *heap, size_t most,
                     bool (*functor)(void *context, void *at, size_t size), void *context);

/* Performs a short step of the policy's background work. Returns whether there is more to do. */
bool heap_step(struct heap *heap);

/* Handles a low-memory notice by the policy; `low`: memory is short. May be called by a handler
 * that has interrupted the heap's code. */
void heap_on_notice(struct heap *heap, bool low);

/* Returns NULL, or a description of the first record that contradicts another one. */
const char *heap_audit(struct heap *heap);

#endif
