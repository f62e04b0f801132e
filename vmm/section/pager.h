/*
 * Pagers: where the pages of a section come from.
 *
 * A section asks its pager for each page that is touched for the first time. The section's entry is
 * in transit meanwhile, so that one caller asks for all, and no lock is held. A clean page is
 * dropped when memory is short, and asked for again; a written one goes to a slot of the swap area,
 * which is newer from then on.
 *
 * Units: pages of 4 KiB, counted from the section's start. Owns: nothing; a pager's source lives
 * as long as its sections. Fails with: what the pager says (STATUS_IO, STATUS_TIMEOUT,
 * STATUS_CORRUPT); the fault that asked is told, the entry is as before, and the next touch asks
 * again. Context: a fault or a thread; may wait for a device, with a bound. It may not touch
 * memory of a section, nor take a lock of vmm/. Rules: N1, N4.
 */
#ifndef VMM_SECTION_PAGER_H
#define VMM_SECTION_PAGER_H

#include <stddef.h>
#include <stdint.h>

#include "lib/status.h"
#include "lib/units.h"

struct pager {
    const char *name;
    /* Fills the frame with the page's content; bytes after the source's end are zero. NULL: pages
     * are blank at first, and a page that was never written is kept, not asked for again. */
    enum status (*get)(const void *source, uint64_t page, struct pfn frame);
    /* Writes a page to the source, from a frame that may change meanwhile; the page is dirty again
     * then. NULL: written pages go to slots of the swap area only. */
    enum status (*put)(const void *source, uint64_t page, struct pfn frame);
    /* Makes what was put durable. */
    enum status (*flush)(const void *source);
    /* Called once, after the section's last hold. NULL: nothing to do. */
    void (*end)(const void *source);
};

/* Blank memory; the source is NULL. */
extern const struct pager pager_zero;

/* An archive: bytes that are in memory already, which the section does not change. */
struct archive {
    const uint8_t *bytes;
    uint64_t size;
};

/* The source is a struct archive. */
extern const struct pager pager_archive;

#endif
