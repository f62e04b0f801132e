/*
 * Images: a source with words that depend on where it is mapped, as a loader relocates a program.
 *
 * The pages come from the source below, and the words of the list are then set, in the frame,
 * before anybody sees it. A relocated page that nobody wrote is clean: it is dropped when memory
 * is short and made again, and takes no slot. A word may lie on two pages; each takes its part.
 *
 * Units: bytes from the section's start. Owns: nothing; the image, its list and its source exist as
 * long as its sections. Fails with: as the source's pager. Context: as a pager
 * (vmm/section/pager.h). Spec: x86-64 psABI 1.0, 4.4.1, R_X86_64_RELATIVE: base plus addend. Rules:
 * N1, N4.
 */
#ifndef VMM_FILES_IMAGE_H
#define VMM_FILES_IMAGE_H

#include "vmm/section/section.h"

/* A word of 64 bits, the lowest byte first. */
struct image_word {
    uint64_t at;
    uint64_t addend; /* the word is the base plus this, modulo 2^64 */
};

struct image {
    const struct pager *below;
    const void *source; /* the pager's below */
    uint64_t base;
    const struct image_word *words; /* ascending, none overlaps another */
    uint64_t count;
};

/* The source is a struct image. */
extern const struct pager pager_image;

/* Opens a section of an image, which is never written back. Fails as section_create, and with
 * STATUS_CORRUPT: the words are not ascending, overlap, or reach behind the size; STATUS_DENIED:
 * the source is blank memory, or is written back and might be under other sections. */
MUST_USE enum status image_open(const struct image *image, uint64_t size, struct rights most,
                                struct section **opened);

#endif
