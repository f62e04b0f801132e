/* Verified reads: each sector twice, into frames whose pattern shows if nothing arrived. */
#include "swapdisk/format/verified_read.h"

#include <stdbool.h>

#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/frame.h"
#include "swapdisk/format/identify.h"

/* Bytes of 0 and FF are the most usual data, which the pattern and its complement must not be. */
#define ORDINARY_PATTERN 0x5aU

/* Returns a byte that changes from call to call, so that stale data cannot pass for new data. */
static uint8_t next_pattern(void)
{
    static uint32_t calls;
    uint32_t mixed = ((uint32_t)machine_ticks() + ++calls) * UINT32_C(0x9e3779b1);

    uint8_t pattern = (uint8_t)(mixed >> 24);

    return pattern == 0 || pattern == UINT8_MAX ? ORDINARY_PATTERN : pattern;
}

static enum status read_over(const struct sector_source *source, uint64_t lba, unsigned sectors,
                             struct pfn frame, uint8_t pattern)
{
    memset(frame_pointer(frame), pattern, PAGE_SIZE);
    return source->read(source->context, lba, sectors, frame);
}

/* Returns whether the frame still has the pattern after the sectors: the read did not write past
 * them. */
static bool is_rest_unchanged(struct pfn frame, unsigned sectors, uint8_t pattern)
{
    const uint8_t *bytes = frame_pointer(frame);

    for (size_t i = (size_t)sectors * SECTOR_SIZE; i < PAGE_SIZE; i++) {
        if (bytes[i] != pattern)
            return false;
    }
    return true;
}

enum status source_read(const struct sector_source *source, uint64_t lba, unsigned sectors,
                        struct pfn frame, struct pfn second)
{
    /* The two patterns differ in every byte, so a byte that did not arrive differs between the
     * frames. */
    uint8_t pattern = next_pattern();
    uint8_t inverse = (uint8_t)~pattern;
    size_t size = (size_t)sectors * SECTOR_SIZE;
    unsigned whole = (unsigned)round_up(sectors, UINT64_C(1) << source->shift);
    enum status status;

    CHECK(sectors >= 1 && sectors <= SECTORS_PER_PAGE && !pfn_equal(frame, second));
    if (lba >= source->sectors || whole > source->sectors - lba ||
        lba % (UINT64_C(1) << source->shift) != 0)
        return STATUS_RANGE;
    status = read_over(source, lba, whole, frame, pattern);
    if (status == OK)
        status = read_over(source, lba, whole, second, inverse);
    if (status != OK)
        return status;
    if (memcmp(frame_pointer(frame), frame_pointer(second), (size_t)whole * SECTOR_SIZE) != 0 ||
        !is_rest_unchanged(frame, whole, pattern) || !is_rest_unchanged(second, whole, inverse))
        return STATUS_IO;
    memset((uint8_t *)frame_pointer(frame) + size, 0, PAGE_SIZE - size);
    return OK;
}
