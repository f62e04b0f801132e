/* Freeing several frames at once. */
#include "pmm/internal.h"

/* So many frames go to the processor's cache: the next pages of the same program are likely to need
 * them. More go to the allocator, together with their neighbours. */
#define FEW 32U

/* Expected frame-record contents in pmm_free_many. */
struct free_form {
    uint64_t word; /* the first one: count, kind, level and live */
    uint16_t bad;  /* bits of lock and flags that must not be set */
    void (*flagged)(struct pfn frame);
};

/* Slow path: unexpected lock or flag bits. */
__attribute__((noinline)) static void free_unusual(struct pfn frame, const struct free_form *form)
{
    const struct frame *record = frame_record(frame);

    if (record->lock != 0 || (record->flags & FRAME_BLOCK) != 0)
        pmm_free_refused(frame);
    form->flagged(frame);
}

static inline void free_one(struct pfn frame, const struct free_form *form)
{
    struct frame *record = frame_record(frame);
    uint16_t lock_and_flags;

    __builtin_memcpy(&lock_and_flags, &record->lock, sizeof(lock_and_flags));
    if (__builtin_expect(*(const uint64_t *)(const void *)record != form->word, 0))
        pmm_free_refused(frame);
    if (__builtin_expect((lock_and_flags & form->bad) != 0, 0))
        free_unusual(frame, form);
    if (PMM_JUNK)
        pmm_junk_fill(frame);
    pmm_mark_free(record);
}

/* Puts a few frames into the running processor's cache, the first on top. Returns false if it is
 * locked or has no room. */
static bool free_into_cache(const struct pfn *frames, unsigned count, enum frame_kind kind,
                            const struct free_form *form)
{
    struct pmm_cache *cache = &pmm_caches_of(machine_cpu())[PMM_CACHE_ANY];
    uint32_t state = __atomic_exchange_n(&cache->state, PMM_CACHE_HELD, __ATOMIC_ACQUIRE);
    uint32_t *place;

    if (state == PMM_CACHE_HELD)
        return false;
    if (state - PMM_CACHE_EMPTY + count > PMM_CACHE_FRAMES) {
        __atomic_store_n(&cache->state, state, __ATOMIC_RELEASE);
        return false;
    }
    place = &cache->frames[(size_t)state - PMM_CACHE_EMPTY];
    for (unsigned i = count; i > 0; i--) {
        free_one(frames[i - 1], form);
        *place++ = frames[i - 1].index;
    }
    cache->by_kind[kind] -= count;
    __atomic_store_n(&cache->state, state + count, __ATOMIC_RELEASE);
    return true;
}

/* ---- frames in any order ---- */

/* Frames of the same 64 neighbours go back to the allocator together. Where they do not follow each
 * other, groups are gathered here; another one in the same place sends its predecessor back. */
#define GROUPS 64U

/* A run of at least this many frames of a group goes back at once. */
#define LONG_RUN 16U

struct free_groups {
    bool used;
    struct free_group {
        uint64_t mask; /* 0: none */
        uint32_t group;
        uint32_t count;
    } of[GROUPS];
};

static void give_group(const struct free_group *group)
{
    zones_give_group((struct pfn){group->group * 64}, group->mask, group->count);
}

/* Adds a short run of frames. */
static inline void gather(struct free_groups *groups, struct free_group run)
{
    struct free_group *place = &groups->of[run.group % GROUPS];

    if (!groups->used) {
        for (unsigned i = 0; i < GROUPS; i++)
            groups->of[i].mask = 0;
        groups->used = true;
    }
    if (place->mask != 0 && place->group == run.group) {
        CHECK_MSG((place->mask & run.mask) == 0, "frames %x from group %x are freed twice",
                  (uint32_t)(place->mask & run.mask), run.group);
        place->mask |= run.mask;
        place->count += run.count;
        return;
    }
    if (place->mask != 0)
        give_group(place);
    *place = run;
}

static void give_gathered(const struct free_groups *groups)
{
    for (unsigned i = 0; i < GROUPS; i++)
        if (groups->of[i].mask != 0)
            give_group(&groups->of[i]);
}

void pmm_free_many(const struct pfn *frames, unsigned count, enum frame_kind kind, uint8_t flags,
                   void (*flagged)(struct pfn frame))
{
    const struct free_form form = {.word = (uint64_t)kind << 32,
                                   .bad = (uint16_t)(0xff | (flags | FRAME_BLOCK) << 8),
                                   .flagged = flagged};
    const struct pfn *at = frames;
    const struct pfn *end = frames + count;
    struct free_groups groups; /* large, so it is not cleared */

    CHECK(frame_is_owned((uint8_t)kind));
    if (count <= FEW && free_into_cache(frames, count, kind, &form))
        return;
    groups.used = false;
    while (at < end) {
        const struct pfn *first = at;
        struct pfn frame = *at;
        struct free_group run = {.mask = 0, .group = frame.index / 64};

        do {
            free_one(frame, &form);
            run.mask |= UINT64_C(1) << frame.index % 64;
            if (++at == end)
                break;
            frame = *at;
        } while (frame.index / 64 == run.group);
        run.count = (uint32_t)(at - first);
        if (run.count < LONG_RUN)
            gather(&groups, run);
        else
            give_group(&run);
    }
    if (groups.used)
        give_gathered(&groups);
    count_shared(kind, (uint64_t)0 - count);
    pmm_note_pressure();
}
