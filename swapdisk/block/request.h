/*
 * A disk request: one transfer, flush or TRIM, submitted now and completed later.
 *
 * The caller fills in the first part and keeps the object, its list of frames and the frames until
 * the request has ended. Many requests may be under way on one device, and they complete in any
 * order; a flush covers only writes that have ended before it was submitted.
 *
 * Units: sectors of 512 bytes, 8 to a frame; the last frame may be used in part.
 * Owns: nothing. State: new -> (submit) -> waiting -> issued -> ended.
 * Fails with: the status of the device's own calls (swapdisk/block/block.h).
 * Context: submit: any thread, with no spin lock held; wait: a thread that may wait.
 */
#ifndef SWAPDISK_BLOCK_REQUEST_H
#define SWAPDISK_BLOCK_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/smp/thread.h"
#include "lib/status.h"
#include "lib/units.h"

struct swap_grant;

enum disk_operation { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_TRIM };

/* Sectors whose data nothing needs any more. */
#define DISK_RANGES_MAX        64U
#define DISK_RANGE_SECTORS_MAX 65535U

struct disk_range {
    uint64_t lba;
    uint32_t sectors; /* 1 to DISK_RANGE_SECTORS_MAX */
};

struct disk_ranges {
    unsigned count; /* at least 1 */
    struct disk_range range[DISK_RANGES_MAX];
};

enum disk_progress { REQUEST_NEW, REQUEST_WAITING, REQUEST_ISSUED, REQUEST_ENDED };

/* Protectors: (c) the caller's, constant from submit to the end; (d) the device's lock; (a) atomic.
 * The device ends a request inside its lock; a waiter that sees the end takes that lock once before
 * it lets the request go. */
struct disk_request {
    enum disk_operation operation; /* (c) */
    bool alone;       /* (c) never queued beside others: data that no check value proves (D5) */
    uint64_t lba;     /* (c) */
    unsigned sectors; /* (c) 0: a flush or TRIM */
    union {
        const struct pfn *frames;         /* (c) of a transfer */
        const struct disk_ranges *ranges; /* (c) of a TRIM */
    };
    const struct swap_grant *grant; /* (c) permits a write or TRIM */

    struct disk_request *next; /* (d) */
    uint64_t limit_ns;         /* (d) when the device counts as hanging */
    bool single;               /* (d) uses a non-queued command */
    bool sleeps;               /* (d) its waiter sleeps until `wake` */
    struct semaphore wake;     /* (d) the end, or work for the waiter */
    enum status status;        /* (d) valid once it has ended */
    uint8_t progress;          /* (a) enum disk_progress */
};

static inline bool request_ended(const struct disk_request *request)
{
    return __atomic_load_n(&request->progress, __ATOMIC_ACQUIRE) == REQUEST_ENDED;
}

static inline void request_end(struct disk_request *request, enum status status)
{
    request->status = status;
    __atomic_store_n(&request->progress, REQUEST_ENDED, __ATOMIC_RELEASE);
    if (request->sleeps)
        semaphore_up(&request->wake);
}

#endif
