/*
 * The binary buddy system: a block of 2^n frames is halved for a smaller request and joined with
 * its buddy when both are free.
 *
 * Free blocks of each order form a doubly linked list, two numbers per frame. One byte per frame
 * records the block that begins there, which detects a block freed with the wrong order.
 */
#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "lib/units.h"
#include "pmm/alloc/internal.h"

/* Blocks are joined up to 1 GiB, also through orders that callers cannot request. */
#define ORDERS (ORDER_GIB + 1)

/* The state byte: order of the block that begins at the frame, free or taken; or none. */
#define STATE_FREE  0x80U
#define STATE_TAKEN 0x40U
#define STATE_NONE  0U

#define NONE UINT32_MAX

struct link {
    uint32_t next;
    uint32_t prev;
};

struct buddy {
    uint64_t frames;
    uint64_t free;
    struct link *links;
    uint8_t *states;
    uint32_t heads[ORDERS];
    uint8_t lock;
};

static bool buddy_lock(struct buddy *self)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&self->lock);
    return were_on;
}

static void buddy_unlock(struct buddy *self, bool were_on)
{
    spin_unlock(&self->lock);
    machine_interrupts_restore(were_on);
}

static void insert(struct buddy *self, uint64_t block, unsigned order)
{
    uint32_t next = self->heads[order];

    self->links[block] = (struct link){.next = next, .prev = NONE};
    if (next != NONE)
        self->links[next].prev = (uint32_t)block;
    self->heads[order] = (uint32_t)block;
    self->states[block] = (uint8_t)(STATE_FREE | order);
}

static void withdraw(struct buddy *self, uint64_t block, unsigned order)
{
    struct link link = self->links[block];

    CHECK_MSG(self->states[block] == (STATE_FREE | order), "block %lx of order %u has state %x",
              block, order, self->states[block]);
    if (link.prev != NONE)
        self->links[link.prev].next = link.next;
    else
        self->heads[order] = link.next;
    if (link.next != NONE)
        self->links[link.next].prev = link.prev;
    self->states[block] = STATE_NONE;
}

/* Frees a block, then joins it with its buddy while the buddy is free too. */
static void buddy_release(struct buddy *self, uint64_t block, unsigned order)
{
    self->free += order_frames(order);
    for (; order < ORDER_GIB; order++) {
        uint64_t other = block ^ order_frames(order);

        if (other + order_frames(order) > self->frames ||
            self->states[other] != (STATE_FREE | order))
            break;
        withdraw(self, other, order);
        block = min_u64(block, other);
    }
    insert(self, block, order);
}

/* Takes the smallest block that is large enough, and halves it down to the order. */
static uint64_t acquire(struct buddy *self, unsigned order)
{
    unsigned at = order;
    uint64_t block;

    while (at < ORDERS && self->heads[at] == NONE)
        at++;
    if (at == ORDERS)
        return NONE;
    block = self->heads[at];
    withdraw(self, block, at);
    while (at > order) {
        at--;
        insert(self, block + order_frames(at), at);
    }
    self->states[block] = (uint8_t)(STATE_TAKEN | order);
    self->free -= order_frames(order);
    return block;
}

static enum status buddy_take(void *metadata, unsigned cpu, unsigned order, uint64_t *first)
{
    struct buddy *self = metadata;
    bool were_on = buddy_lock(self);
    uint64_t block;

    (void)cpu;
    CHECK(order_valid(order));
    block = acquire(self, order);
    buddy_unlock(self, were_on);
    *first = block;
    return block != NONE ? OK : STATUS_NO_MEMORY;
}

static void check_taken(const struct buddy *self, uint64_t first, unsigned order)
{
    CHECK(order_valid(order) && first + order_frames(order) <= self->frames);
    CHECK_MSG(self->states[first] == (STATE_TAKEN | order),
              "frame %lx is given back, split or joined with order %u, its state is %x", first,
              order, self->states[first]);
}

static void buddy_give(void *metadata, unsigned cpu, uint64_t first, unsigned order)
{
    struct buddy *self = metadata;
    bool were_on = buddy_lock(self);

    (void)cpu;
    check_taken(self, first, order);
    self->states[first] = STATE_NONE;
    buddy_release(self, first, order);
    buddy_unlock(self, were_on);
}

static void buddy_split(void *metadata, uint64_t first, unsigned order, unsigned to)
{
    struct buddy *self = metadata;
    bool were_on = buddy_lock(self);

    check_taken(self, first, order);
    CHECK(order_valid(to) && to < order);
    for (uint64_t at = first; at < first + order_frames(order); at += order_frames(to))
        self->states[at] = (uint8_t)(STATE_TAKEN | to);
    buddy_unlock(self, were_on);
}

static void buddy_join(void *metadata, uint64_t first, unsigned order, unsigned from)
{
    struct buddy *self = metadata;
    bool were_on = buddy_lock(self);

    CHECK(order_valid(order) && order_valid(from) && from < order);
    CHECK(first % order_frames(order) == 0 && first + order_frames(order) <= self->frames);
    for (uint64_t at = first; at < first + order_frames(order); at += order_frames(from)) {
        check_taken(self, at, from);
        self->states[at] = STATE_NONE;
    }
    self->states[first] = (uint8_t)(STATE_TAKEN | order);
    buddy_unlock(self, were_on);
}

static uint64_t buddy_size(uint64_t frames, unsigned cpus)
{
    (void)cpus;
    return sizeof(struct buddy) + frames * (sizeof(struct link) + 1);
}

static void buddy_start(void *metadata, uint64_t frames, unsigned cpus)
{
    struct buddy *self = metadata;

    (void)cpus;
    CHECK(frames > 0 && frames < NONE);
    *self = (struct buddy){.frames = frames};
    memset(self->heads, 0xff, sizeof(self->heads));
    self->links = (struct link *)(void *)(self + 1);
    self->states = (uint8_t *)(self->links + frames);
    memset(self->states, STATE_NONE, frames);
}

/* Frees the range as the fewest aligned blocks. */
static void buddy_add(void *metadata, uint64_t first, uint64_t count)
{
    struct buddy *self = metadata;

    CHECK(first + count <= self->frames);
    while (count > 0) {
        unsigned order = 0;

        while (order < ORDER_GIB && first % order_frames(order + 1) == 0 &&
               order_frames(order + 1) <= count)
            order++;
        buddy_release(self, first, order);
        first += order_frames(order);
        count -= order_frames(order);
    }
}

static uint64_t buddy_free_frames(const void *metadata)
{
    const struct buddy *self = metadata;

    return __atomic_load_n(&self->free, __ATOMIC_RELAXED);
}

static bool buddy_is_free(const void *metadata, uint64_t frame)
{
    const struct buddy *self = metadata;

    CHECK(frame < self->frames);
    for (unsigned order = 0; order < ORDERS; order++) {
        if (self->states[frame & ~(order_frames(order) - 1)] == (STATE_FREE | order))
            return true;
    }
    return false;
}

static void buddy_audit(const void *metadata)
{
    const struct buddy *self = metadata;
    uint64_t listed = 0;
    uint64_t marked = 0;

    for (uint64_t frame = 0; frame < self->frames; frame++) {
        if ((self->states[frame] & STATE_FREE) != 0)
            marked += order_frames(self->states[frame] & ~STATE_FREE);
    }
    for (unsigned order = 0; order < ORDERS; order++) {
        for (uint32_t at = self->heads[order]; at != NONE; at = self->links[at].next) {
            CHECK_MSG(self->states[at] == (STATE_FREE | order) && listed < self->frames,
                      "block %x in the list of order %u has state %x", at, order, self->states[at]);
            listed += order_frames(order);
        }
    }
    CHECK_MSG(listed == self->free && marked == self->free,
              "%lu frames listed, %lu marked, %lu free", listed, marked, self->free);
    CHECK(self->lock == 0);
}

FRAME_ALLOCATOR(buddy) = {
    .name = "buddy",
    .size = buddy_size,
    .start = buddy_start,
    .add = buddy_add,
    .take = buddy_take,
    .give = buddy_give,
    .split = buddy_split,
    .join = buddy_join,
    .free_frames = buddy_free_frames,
    .is_free = buddy_is_free,
    .audit = buddy_audit,
};
