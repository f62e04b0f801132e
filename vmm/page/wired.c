/* Wired pages. Eviction, merging of zeroes, deactivation and splitting find pages in the clocks and
 * in the list of large pages, and withdraw a page first. A wired page is in none of them, so that
 * none of these needs a check. */
#include "cpu/machine.h"
#include "vmm/page/large.h"
#include "vmm/page/page.h"

/* Frames in wired pages; changed atomically. */
static uint64_t wired;

static uint64_t wired_frames_of(const struct frame *record)
{
    return (record->flags & FRAME_BLOCK) != 0 ? UINT64_C(1) << record->level : 1;
}

uint64_t page_wired(void)
{
    return __atomic_load_n(&wired, __ATOMIC_RELAXED);
}

uint64_t page_resident(void)
{
    return page_clock_size() + page_wired();
}

void page_mark_wired(struct pfn page)
{
    struct frame *record = frame_record(page);

    CHECK_MSG(record->kind == FRAME_ANONYMOUS &&
                  (record->flags & (FRAME_WIRED | FRAME_SWAP_CACHED | FRAME_IO)) == 0,
              "page %x of kind %u with flags %x is to be wired", page.index, record->kind,
              record->flags);
    __atomic_or_fetch(&record->flags, FRAME_WIRED, __ATOMIC_RELAXED);
    __atomic_add_fetch(&wired, wired_frames_of(record), __ATOMIC_RELAXED);
}

void page_forget_wire(struct pfn page)
{
    struct frame *record = frame_record(page);

    CHECK((record->flags & FRAME_WIRED) != 0 && page_wired() >= wired_frames_of(record));
    __atomic_and_fetch(&record->flags, (uint8_t)~FRAME_WIRED, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&wired, wired_frames_of(record), __ATOMIC_RELAXED);
}

bool page_wire(struct pfn page)
{
    if ((frame_record(page)->flags & FRAME_BLOCK) != 0)
        large_withdraw(page); /* who splits it locks the table first */
    else if (!page_withdraw(page))
        return false;
    page_mark_wired(page);
    return true;
}

void page_unwire(struct pfn page)
{
    page_forget_wire(page);
    if ((frame_record(page)->flags & FRAME_BLOCK) != 0)
        large_publish(page);
    else
        page_publish(page);
}
