/*
 * LLFree's upper half: trees of areas, each with a counter, and one tree reserved per processor.
 *
 * A processor takes frames from its own tree, so that processors do not share cache lines. The
 * tree's counter moves into the reservation while it lasts. If no tree can be reserved, frames come
 * from any tree with enough free frames, reserved or not.
 */
#include "lib/units.h"
#include "pmm/alloc/internal.h"
#include "pmm/alloc/llfree_internal.h"

/* A tree's word: the free frames outside of reservations, and a bit for a reservation. */
#define TREE_RESERVED  (UINT32_C(1) << 31)
#define TREE_FREE_MASK UINT32_C(0xffff)

_Static_assert(TREE_FRAMES <= TREE_FREE_MASK, "a tree's counter fits");

#define TREES_PER_GIB ((1U << ORDER_GIB) / TREE_FRAMES)
#define NO_TREE       UINT32_MAX

/* Below these free frames, or above the rest, a tree is nearly full or nearly empty. Reservations
 * prefer trees between the two, so that free trees stay whole. */
#define TREE_FEW  (TREE_FRAMES / 16)
#define TREE_MANY (TREE_FRAMES - TREE_FRAMES / 16)

/* After this many frees in a row to one tree it gets reserved: more frees are likely. */
#define GIVES_TO_RESERVE 8U

/* Trees to try for a block before giving up on reservations. */
#define TRIES 4U

struct reservation {
    uint64_t word;      /* tree + 1 in the upper half, free frames of it in the lower; 0: none */
    uint64_t near;      /* a hint: the last frame taken */
    uint32_t last_tree; /* hints: the tree of the last frees, and how many came in a row */
    uint32_t gives;
    uint64_t unused[5];
};

_Static_assert(sizeof(struct reservation) == 64, "a reservation is one cache line");

struct llfree {
    struct llfree_lower lower;
    uint64_t frames;
    uint32_t *trees;
    uint32_t tree_count;
    uint32_t cpus;
    struct reservation *reservations;
    uint64_t unused[1];
};

_Static_assert(sizeof(struct llfree) % 64 == 0, "the reservations behind it are aligned");

/* ---- words ---- */

static uint32_t reserved_tree(uint64_t word)
{
    return (uint32_t)(word >> 32) - 1;
}

static uint32_t reserved_free(uint64_t word)
{
    return (uint32_t)word;
}

static uint64_t reservation_word(uint32_t tree, uint32_t free)
{
    return ((uint64_t)tree + 1) << 32 | free;
}

static uint64_t llfree_tree_start(uint32_t tree)
{
    return (uint64_t)tree * TREE_AREAS;
}

static uint64_t tree_end(const struct llfree *self, uint32_t tree)
{
    return min_u64(llfree_tree_start(tree) + TREE_AREAS, self->lower.count);
}

static bool llfree_tree_claim(uint32_t *word, uint32_t frames)
{
    uint32_t old = __atomic_load_n(word, __ATOMIC_ACQUIRE);

    while ((old & TREE_FREE_MASK) >= frames) {
        if (__atomic_compare_exchange_n(word, &old, old - frames, true, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            return true;
    }
    return false;
}

static void tree_return(struct llfree *self, uint32_t tree, uint32_t frames)
{
    uint32_t old = __atomic_fetch_add(&self->trees[tree], frames, __ATOMIC_ACQ_REL);

    CHECK_MSG((old & TREE_FREE_MASK) + frames <= TREE_FRAMES, "tree %x with word %x gets %u back",
              tree, old, frames);
}

/* Adds to a reservation if it is still of that tree. */
static bool reservation_return(struct reservation *own, uint32_t tree, uint32_t frames)
{
    uint64_t old = __atomic_load_n(&own->word, __ATOMIC_ACQUIRE);

    while (old != 0 && reserved_tree(old) == tree) {
        if (__atomic_compare_exchange_n(&own->word, &old, old + frames, true, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            return true;
    }
    return false;
}

/* Claims frames from a reservation. Returns their tree, or NO_TREE. */
static uint32_t reservation_claim(struct reservation *own, uint32_t frames)
{
    uint64_t old = __atomic_load_n(&own->word, __ATOMIC_ACQUIRE);

    while (old != 0 && reserved_free(old) >= frames) {
        if (__atomic_compare_exchange_n(&own->word, &old, old - frames, true, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            return reserved_tree(old);
    }
    return NO_TREE;
}

/* Claims up to `most` frames. Returns how many. */
static uint32_t reservation_claim_some(struct reservation *own, uint32_t most, uint32_t *tree)
{
    uint64_t old = __atomic_load_n(&own->word, __ATOMIC_ACQUIRE);

    while (reserved_free(old) > 0) {
        uint32_t claimed = reserved_free(old) < most ? reserved_free(old) : most;

        if (__atomic_compare_exchange_n(&own->word, &old, old - claimed, true, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE)) {
            *tree = reserved_tree(old);
            return claimed;
        }
    }
    return 0;
}

/* ---- reservations ---- */

/* Ends a reservation: its free frames return to the tree's counter. */
static void unreserve(struct llfree *self, uint64_t word)
{
    uint32_t tree = reserved_tree(word);
    uint32_t old;

    if (word == 0)
        return;
    old = __atomic_fetch_add(&self->trees[tree], reserved_free(word) - TREE_RESERVED,
                             __ATOMIC_ACQ_REL);
    CHECK_MSG((old & TREE_RESERVED) != 0 &&
                  (old & TREE_FREE_MASK) + reserved_free(word) <= TREE_FRAMES,
              "tree %x with word %x is left with %u frames", tree, old, reserved_free(word));
}

/* Reserves the tree if it is not reserved and has between least and most free frames. */
static bool try_reserve(struct llfree *self, struct reservation *own, uint32_t tree, uint32_t least,
                        uint32_t most)
{
    uint32_t old = __atomic_load_n(&self->trees[tree], __ATOMIC_ACQUIRE);

    while ((old & TREE_RESERVED) == 0 && old >= least && old <= most) {
        if (__atomic_compare_exchange_n(&self->trees[tree], &old, TREE_RESERVED, true,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            unreserve(self, __atomic_exchange_n(&own->word, reservation_word(tree, old),
                                                __ATOMIC_ACQ_REL));
            return true;
        }
    }
    return false;
}

static bool reserve_between(struct llfree *self, struct reservation *own, uint32_t from,
                            uint32_t least, uint32_t most)
{
    for (uint32_t i = 0; i < self->tree_count; i++) {
        uint32_t tree = from + i < self->tree_count ? from + i : from + i - self->tree_count;

        if (try_reserve(self, own, tree, least, most))
            return true;
    }
    return false;
}

/* Reserves another tree with enough free frames, partly used ones first. The search begins behind
 * the current tree, or where this processor's share of memory begins. */
static bool llfree_reserve(struct llfree *self, unsigned cpu, uint32_t frames)
{
    struct reservation *own = &self->reservations[cpu];
    uint64_t word = __atomic_load_n(&own->word, __ATOMIC_RELAXED);
    uint32_t from = word != 0 ? (reserved_tree(word) + 1) % self->tree_count
                              : (uint32_t)((uint64_t)cpu * self->tree_count / self->cpus);
    uint32_t few = frames > TREE_FEW ? frames : TREE_FEW;

    return reserve_between(self, own, from, few, TREE_MANY) ||
           reserve_between(self, own, from, frames, TREE_FRAMES);
}

/* Moves frames that others freed into this processor's tree to the reservation. */
static bool refill_reservation(struct llfree *self, struct reservation *own, uint32_t frames)
{
    uint64_t word = __atomic_load_n(&own->word, __ATOMIC_ACQUIRE);
    uint32_t tree = reserved_tree(word);
    uint32_t more;

    if (word == 0)
        return false;
    more = __atomic_load_n(&self->trees[tree], __ATOMIC_ACQUIRE) & TREE_FREE_MASK;
    if (more == 0 || reserved_free(word) + more < frames ||
        !llfree_tree_claim(&self->trees[tree], more))
        return false;
    if (!reservation_return(own, tree, more))
        tree_return(self, tree, more);
    return true;
}

static void drain_all(struct llfree *self)
{
    for (unsigned cpu = 0; cpu < self->cpus; cpu++)
        unreserve(self, __atomic_exchange_n(&self->reservations[cpu].word, 0, __ATOMIC_ACQ_REL));
}

/* ---- take ---- */

/* Takes the bits of claimed frames. Returns the claim if the free frames are too scattered. */
static enum status take_claimed(struct llfree *self, struct reservation *own, uint32_t tree,
                                unsigned order, uint64_t *first)
{
    uint64_t near = __atomic_load_n(&own->near, __ATOMIC_RELAXED);
    enum status status =
        lower_take(&self->lower, llfree_tree_start(tree), tree_end(self, tree), near, order, first);

    if (status == OK)
        __atomic_store_n(&own->near, *first, __ATOMIC_RELAXED);
    else if (!reservation_return(own, tree, 1U << order))
        tree_return(self, tree, 1U << order);
    return status;
}

/* Takes the bits of some claimed frames of the own tree, and returns the rest of the claim. */
static unsigned take_some_claimed(struct llfree *self, struct reservation *own, uint32_t tree,
                                  uint32_t claimed, uint64_t *first, uint64_t *mask)
{
    uint64_t near = __atomic_load_n(&own->near, __ATOMIC_RELAXED);
    unsigned count;

    *first = near / 64 * 64;
    if (claimed == 64 && *first / TREE_FRAMES == tree && *first / AREA_FRAMES < self->lower.count &&
        lower_take_word(&self->lower, *first)) {
        __atomic_store_n(&own->near, *first + 64, __ATOMIC_RELAXED);
        *mask = UINT64_MAX;
        return 64;
    }
    count = lower_take_some(&self->lower, llfree_tree_start(tree), tree_end(self, tree), near,
                            claimed, first, mask);
    if (count > 0) /* go on at the next word */
        __atomic_store_n(&own->near, *first + 64, __ATOMIC_RELAXED);
    if (count < claimed && !reservation_return(own, tree, claimed - count))
        tree_return(self, tree, claimed - count);
    return count;
}

static unsigned llfree_take_some(void *metadata, unsigned cpu, uint64_t *first, uint64_t *mask)
{
    struct llfree *self = metadata;
    struct reservation *own = &self->reservations[cpu];

    CHECK(cpu < self->cpus);
    for (unsigned tries = 0; tries < TRIES; tries++) {
        uint32_t tree;
        uint32_t claimed = reservation_claim_some(own, 64, &tree);
        unsigned count = 0;

        if (claimed > 0)
            count = take_some_claimed(self, own, tree, claimed, first, mask);
        if (count > 0)
            return count;
        if ((claimed > 0 || !refill_reservation(self, own, 1)) && !llfree_reserve(self, cpu, 1))
            break;
    }
    return 0;
}

static enum status take_of_trees(struct llfree *self, struct reservation *own, unsigned order,
                                 uint64_t *first)
{
    for (uint32_t tree = 0; tree < self->tree_count; tree++) {
        if (llfree_tree_claim(&self->trees[tree], 1U << order) &&
            take_claimed(self, own, tree, order, first) == OK)
            return OK;
    }
    return STATUS_NO_MEMORY;
}

/* Last resort when no tree can be reserved: takes from any tree or reservation. The free frames of
 * a block may be counted partly in a tree and partly in its reservation, so reservations are ended
 * first. */
static enum status take_anywhere(struct llfree *self, struct reservation *own, unsigned order,
                                 uint64_t *first)
{
    uint32_t frames = 1U << order;

    if (take_of_trees(self, own, order, first) == OK)
        return OK;
    for (unsigned cpu = 0; cpu < self->cpus; cpu++) {
        uint32_t tree = reservation_claim(&self->reservations[cpu], frames);

        if (tree != NO_TREE && take_claimed(self, own, tree, order, first) == OK)
            return OK;
    }
    if (order == 0)
        return STATUS_NO_MEMORY;
    drain_all(self);
    return take_of_trees(self, own, order, first);
}

/* Claims all trees of one aligned GiB, or none. Returns false if one is not free. */
static bool claim_gib(struct llfree *self, uint32_t from)
{
    for (uint32_t i = 0; i < TREES_PER_GIB; i++) {
        uint32_t whole = TREE_FRAMES;

        if (__atomic_compare_exchange_n(&self->trees[from + i], &whole, 0, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            continue;
        while (i-- > 0)
            tree_return(self, from + i, TREE_FRAMES);
        return false;
    }
    return true;
}

static enum status llfree_take_gib(struct llfree *self, uint64_t *first)
{
    drain_all(self);
    for (uint32_t from = 0; from + TREES_PER_GIB <= self->tree_count; from += TREES_PER_GIB) {
        if (!claim_gib(self, from))
            continue;
        for (uint64_t area = llfree_tree_start(from);
             area < llfree_tree_start(from + TREES_PER_GIB); area++)
            CHECK_MSG(lower_take_area(&self->lower, area), "area %lx of a free tree is in use",
                      area);
        *first = (uint64_t)from * TREE_FRAMES;
        return OK;
    }
    return STATUS_NO_MEMORY;
}

static enum status llfree_take(void *metadata, unsigned cpu, unsigned order, uint64_t *first)
{
    struct llfree *self = metadata;
    struct reservation *own = &self->reservations[cpu];
    uint32_t frames = 1U << order;

    CHECK(cpu < self->cpus && order_valid(order));
    if (order == ORDER_GIB)
        return llfree_take_gib(self, first);
    for (unsigned tries = 0; tries < TRIES; tries++) {
        uint32_t tree = reservation_claim(own, frames);

        if (tree != NO_TREE) {
            if (take_claimed(self, own, tree, order, first) == OK)
                return OK;
        } else if (refill_reservation(self, own, frames)) {
            continue;
        }
        if (!llfree_reserve(self, cpu, frames))
            break;
    }
    return take_anywhere(self, own, order, first);
}

/* ---- give ---- */

/* Reserves the tree after several frees to it in a row, if it is unreserved. */
static void note_give(struct llfree *self, struct reservation *own, uint32_t tree)
{
    uint32_t gives = __atomic_load_n(&own->gives, __ATOMIC_RELAXED);

    if (__atomic_load_n(&own->last_tree, __ATOMIC_RELAXED) != tree) {
        __atomic_store_n(&own->last_tree, tree, __ATOMIC_RELAXED);
        gives = 0;
    }
    if (++gives >= GIVES_TO_RESERVE) {
        gives = 0;
        try_reserve(self, own, tree, 1, TREE_FRAMES - 1);
    }
    __atomic_store_n(&own->gives, gives, __ATOMIC_RELAXED);
}

/* Adds freed frames, whose bits are clear already, to a counter. */
static void count_given(struct llfree *self, struct reservation *own, uint32_t tree,
                        uint32_t frames)
{
    if (!reservation_return(own, tree, frames)) {
        tree_return(self, tree, frames);
        note_give(self, own, tree);
    }
}

static void give_gib(struct llfree *self, uint64_t first)
{
    CHECK(first % (UINT64_C(1) << ORDER_GIB) == 0);
    for (uint32_t i = 0; i < TREES_PER_GIB; i++) {
        uint32_t tree = (uint32_t)(first / TREE_FRAMES) + i;

        for (uint64_t area = llfree_tree_start(tree); area < llfree_tree_start(tree + 1); area++)
            lower_give(&self->lower, area * AREA_FRAMES, ORDER_HUGE);
        tree_return(self, tree, TREE_FRAMES);
    }
}

static void llfree_give(void *metadata, unsigned cpu, uint64_t first, unsigned order)
{
    struct llfree *self = metadata;
    struct reservation *own = &self->reservations[cpu];
    uint32_t tree = (uint32_t)(first / TREE_FRAMES);

    CHECK(cpu < self->cpus && order_valid(order));
    CHECK_MSG(first + order_frames(order) <= self->frames, "frame %lx, order %u, of %lx frames",
              first, order, self->frames);
    if (order == ORDER_GIB) {
        give_gib(self, first);
        return;
    }
    lower_give(&self->lower, first, order);
    count_given(self, own, tree, 1U << order);
}

static void llfree_give_some(void *metadata, unsigned cpu, uint64_t first, uint64_t mask,
                             unsigned count)
{
    struct llfree *self = metadata;

    CHECK(cpu < self->cpus && first < self->frames);
    lower_give_some(&self->lower, first, mask, count);
    count_given(self, &self->reservations[cpu], (uint32_t)(first / TREE_FRAMES), count);
}

static void llfree_split(void *metadata, uint64_t first, unsigned order, unsigned to)
{
    struct llfree *self = metadata;

    CHECK(order_valid(order) && order_valid(to) && to < order);
    CHECK(first % order_frames(order) == 0 && first + order_frames(order) <= self->frames);
    if (order < ORDER_HUGE || to == ORDER_HUGE)
        return; /* small blocks are bits, a GiB is 512 areas: nothing to change */
    for (uint64_t at = first; at < first + order_frames(order); at += AREA_FRAMES)
        lower_split_area(&self->lower, at / AREA_FRAMES);
}

static void llfree_join(void *metadata, uint64_t first, unsigned order, unsigned from)
{
    struct llfree *self = metadata;

    CHECK(order_valid(order) && order_valid(from) && from < order);
    CHECK(first % order_frames(order) == 0 && first + order_frames(order) <= self->frames);
    if (order < ORDER_HUGE || from == ORDER_HUGE)
        return; /* as in a split */
    for (uint64_t at = first; at < first + order_frames(order); at += AREA_FRAMES)
        lower_join_area(&self->lower, at / AREA_FRAMES);
}

/* ---- start and audit ---- */

static uint64_t area_count(uint64_t frames)
{
    return (frames + AREA_FRAMES - 1) / AREA_FRAMES;
}

static uint64_t tree_count(uint64_t frames)
{
    return (frames + TREE_FRAMES - 1) / TREE_FRAMES;
}

static uint64_t llfree_size(uint64_t frames, unsigned cpus)
{
    return sizeof(struct llfree) + cpus * sizeof(struct reservation) +
           area_count(frames) * (sizeof(struct llfree_area) + sizeof(uint16_t)) +
           tree_count(frames) * sizeof(uint32_t) + 2 * sizeof(uint64_t);
}

static void llfree_start(void *metadata, uint64_t frames, unsigned cpus)
{
    struct llfree *self = metadata;
    uint8_t *at = (uint8_t *)metadata + sizeof(*self);

    CHECK(frames > 0 && cpus > 0 && (uintptr_t)metadata % 64 == 0);
    *self =
        (struct llfree){.frames = frames, .cpus = cpus, .tree_count = (uint32_t)tree_count(frames)};
    self->reservations = (struct reservation *)(void *)at;
    at += cpus * sizeof(struct reservation);
    self->lower.areas = (struct llfree_area *)(void *)at;
    at += area_count(frames) * sizeof(struct llfree_area);
    self->trees = (uint32_t *)(void *)at;
    at += tree_count(frames) * sizeof(uint32_t);
    self->lower.words = (uint16_t *)(void *)at;
    memset(self->reservations, 0, cpus * sizeof(struct reservation));
    memset(self->trees, 0, self->tree_count * sizeof(uint32_t));
    lower_start(&self->lower, area_count(frames));
}

static void llfree_add(void *metadata, uint64_t first, uint64_t count)
{
    struct llfree *self = metadata;

    CHECK(first + count <= self->frames);
    while (count > 0) {
        uint64_t part = min_u64(count, AREA_FRAMES - first % AREA_FRAMES);

        lower_add(&self->lower, first, part);
        tree_return(self, (uint32_t)(first / TREE_FRAMES), (uint32_t)part);
        first += part;
        count -= part;
    }
}

static uint64_t llfree_free_frames(const void *metadata)
{
    const struct llfree *self = metadata;
    uint64_t free = 0;

    for (uint32_t tree = 0; tree < self->tree_count; tree++)
        free += __atomic_load_n(&self->trees[tree], __ATOMIC_RELAXED) & TREE_FREE_MASK;
    for (unsigned cpu = 0; cpu < self->cpus; cpu++)
        free += reserved_free(__atomic_load_n(&self->reservations[cpu].word, __ATOMIC_RELAXED));
    return free;
}

static bool llfree_is_free(const void *metadata, uint64_t frame)
{
    const struct llfree *self = metadata;

    CHECK(frame < self->frames);
    return lower_is_free(&self->lower, frame);
}

static void llfree_audit(const void *metadata)
{
    const struct llfree *self = metadata;

    for (uint32_t tree = 0; tree < self->tree_count; tree++) {
        uint32_t word = self->trees[tree];
        uint64_t counted = word & TREE_FREE_MASK;
        unsigned holders = 0;
        uint64_t free = 0;

        for (uint64_t area = llfree_tree_start(tree); area < tree_end(self, tree); area++)
            free += lower_audit_area(&self->lower, area);
        for (unsigned cpu = 0; cpu < self->cpus; cpu++) {
            uint64_t own = self->reservations[cpu].word;

            if (own != 0 && reserved_tree(own) == tree) {
                counted += reserved_free(own);
                holders++;
            }
        }
        CHECK_MSG(counted == free && holders == ((word & TREE_RESERVED) != 0 ? 1U : 0U),
                  "tree %x has %lu free frames, counts %lu, word %x, %u reservations", tree, free,
                  counted, word, holders);
    }
}

FRAME_ALLOCATOR(llfree) = {
    .name = "llfree",
    .size = llfree_size,
    .start = llfree_start,
    .add = llfree_add,
    .take = llfree_take,
    .take_some = llfree_take_some,
    .give = llfree_give,
    .give_some = llfree_give_some,
    .split = llfree_split,
    .join = llfree_join,
    .free_frames = llfree_free_frames,
    .is_free = llfree_is_free,
    .audit = llfree_audit,
};
