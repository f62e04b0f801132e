/*
 * The log of a crash, in the log area of the swap disk.
 *
 * A run that ends well writes its log by swap_log_write(). After a crash nothing of the normal way
 * may be used: locks may be held for ever, and memory may be damaged. So the disk's port is taken
 * as it is, the headers are read once more, and polled commands, each tried once, write the log
 * under the grant that the run has.
 *
 * Owns: a few frames, from crash_log_ready to crash_log_over. State: over -> (ready) -> ready ->
 * (over) -> over; crash_log_write in any state, once. Fails with: see crash_log_write.
 * Context: thread; crash_log_write: a crash, with all other processors stopped.
 * Spec: docs/disk-safety.md, rule 19.
 */
#ifndef SWAPDISK_LOG_CRASH_LOG_H
#define SWAPDISK_LOG_CRASH_LOG_H

#include <stddef.h>

#include "lib/status.h"

/* Gets ready for a crash if the open swap area is on a disk with a log area and there is memory. */
void crash_log_ready(void);

/* Ends that. Called before swap_close. */
void crash_log_over(void);

/* Writes a log into the log area and makes it durable. Fails with STATUS_NOT_FOUND (no disk, no log
 * area, or not ready), STATUS_REFUSED (the driver was in the middle of something, or the grant
 * forbids it), STATUS_CORRUPT (the headers are not as this run left them), STATUS_IO,
 * STATUS_TIMEOUT. All waits together have a bound of ten seconds. Calls no allocator and takes no
 * lock. */
MUST_USE enum status crash_log_write(const char *text, size_t size);

#endif
