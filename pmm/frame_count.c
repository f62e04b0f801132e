/* Reference counts: the slow cases, a saturated count and a count that must not change. */
#include "lib/ktap.h"
#include "pmm/frame.h"

/* Returns the record; panics unless its kind has a reference count. */
static struct frame *counted(struct pfn frame)
{
    struct frame *record = frame_record(frame);

    CHECK_MSG(record->count != 0 &&
                  (record->kind == FRAME_TABLE || record->kind == FRAME_ANONYMOUS),
              "count %u of frame %x, kind %u, is not to be changed", record->count, frame.index,
              record->kind);
    return record;
}

void frame_count_saturate(struct pfn frame)
{
    struct frame *record = counted(frame);

    if (__atomic_exchange_n(&record->count, COUNT_SATURATED, __ATOMIC_ACQ_REL) != COUNT_SATURATED)
        ktap_note("frame %x has too many pointers to count: it is never freed", frame.index);
}

uint32_t frame_count_keep(struct pfn frame)
{
    (void)counted(frame);
    return COUNT_SATURATED;
}
