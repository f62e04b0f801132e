/* The ledger: counts of objects in use. */
#include "tests/runner/ledger.h"

#include "cpu/smp/thread.h"
#include "lib/ktap.h"
#include "pmm/pool.h"
#include "swapdisk/area.h"
#include "vmm/page/shrinker.h"
#include "vmm/space/end.h"
#include "vmm/space/space.h"

struct ledger ledger_take(void)
{
    space_finish_ends();
    return (struct ledger){.frames = pmm_usage(),
                           .slots = swap_usage().used,
                           .descriptors = descriptor_count(),
                           .descriptor_frames =
                               descriptor_limit / (PAGE_SIZE / sizeof(struct descriptor)),
                           .spaces = space_count(),
                           .ends = space_ends(),
                           .threads = thread_count(),
                           .objects = pool_objects()};
}

static bool same(const char *what, uint64_t before, uint64_t after)
{
    if (before == after)
        return true;
    ktap_note("ledger: %s: %lu before, %lu after", what, before, after);
    return false;
}

bool ledger_even(const struct ledger *before)
{
    static const char *const kinds[] = {"free frames",     "absent frames", "reserved frames",
                                        "metadata frames", "the zero page", "kernel frames",
                                        "table frames",    "waiting roots", "anonymous frames",
                                        "device frames",   "swap frames"};
    struct ledger after;
    bool even = true;

    _Static_assert(ARRAY_COUNT(kinds) == FRAME_KINDS, "one name for each kind");
    (void)shrinkers_free(UINT64_MAX, false); /* memory kept for reuse is no leak */
    after = ledger_take();
    /* A descriptor index with exhausted generations is never reused, so their table grows: no
     * leak. */
    after.frames.by_kind[FRAME_KERNEL] -= after.descriptor_frames - before->descriptor_frames;
    after.frames.by_kind[FRAME_FREE] += after.descriptor_frames - before->descriptor_frames;
    for (unsigned kind = 0; kind < FRAME_KINDS; kind++)
        even &= same(kinds[kind], before->frames.by_kind[kind], after.frames.by_kind[kind]);
    even &= same("slots", before->slots, after.slots);
    even &= same("descriptors", before->descriptors, after.descriptors);
    even &= same("address spaces", before->spaces, after.spaces);
    even &= same("ended spaces with memory", before->ends, after.ends);
    even &= same("objects of pools", before->objects, after.objects);
    even &= same("threads", before->threads, after.threads);
    return even;
}

int64_t ledger_growth(const struct ledger *before, enum frame_kind kind)
{
    space_finish_ends();
    return (int64_t)(pmm_usage().by_kind[kind] - before->frames.by_kind[kind]);
}
