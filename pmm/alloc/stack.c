/*
 * A free stack: the frame freed last is taken first.
 *
 * A single frame costs the same however full memory is. A block must be searched for; each frame's
 * position on the stack is recorded, so that a free frame can be removed from the middle.
 */
#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "lib/units.h"
#include "pmm/alloc/internal.h"

#define TAKEN UINT32_MAX

struct stack {
    uint64_t frames;
    uint64_t free;
    uint64_t cursor;   /* a frame: where the last search for a block ended */
    uint32_t *place;   /* of each frame on the stack, or TAKEN */
    uint32_t *entries; /* the first `free` are in use; the last of these is the top */
    uint8_t lock;
};

static bool stack_lock(struct stack *self)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&self->lock);
    return were_on;
}

static void stack_unlock(struct stack *self, bool were_on)
{
    spin_unlock(&self->lock);
    machine_interrupts_restore(were_on);
}

static void stack_push(struct stack *self, uint64_t frame)
{
    CHECK_MSG(self->place[frame] == TAKEN, "frame %lx is given back but was not taken", frame);
    self->place[frame] = (uint32_t)self->free;
    self->entries[self->free++] = (uint32_t)frame;
}

/* Removes a free frame from the stack: the top frame moves to its position. */
static void pull(struct stack *self, uint64_t frame)
{
    uint32_t place = self->place[frame];
    uint32_t top;

    CHECK_MSG(place < self->free && self->entries[place] == frame,
              "frame %lx says it stands at %u of %lu on the stack", frame, place, self->free);
    top = self->entries[--self->free];
    self->entries[place] = top;
    self->place[top] = place;
    self->place[frame] = TAKEN;
}

static bool block_is_free(const struct stack *self, uint64_t first, uint64_t size)
{
    for (uint64_t i = size; i-- > 0;) {
        if (self->place[first + i] == TAKEN)
            return false;
    }
    return true;
}

static uint64_t stack_find(const struct stack *self, uint64_t size)
{
    uint64_t blocks = self->frames / size;
    uint64_t from = self->cursor / size;

    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t first = (from + i < blocks ? from + i : from + i - blocks) * size;

        if (block_is_free(self, first, size))
            return first;
    }
    return UINT64_MAX;
}

static enum status stack_take(void *metadata, unsigned cpu, unsigned order, uint64_t *first)
{
    struct stack *self = metadata;
    uint64_t size = order_frames(order);
    bool were_on = stack_lock(self);
    uint64_t found = UINT64_MAX;

    (void)cpu;
    CHECK(order_valid(order));
    if (self->free >= size)
        found = order == 0 ? self->entries[self->free - 1] : stack_find(self, size);
    if (found != UINT64_MAX) {
        for (uint64_t frame = found; frame < found + size; frame++)
            pull(self, frame);
        if (order > 0)
            self->cursor = found;
        *first = found;
    }
    stack_unlock(self, were_on);
    return found != UINT64_MAX ? OK : STATUS_NO_MEMORY;
}

static void stack_give(void *metadata, unsigned cpu, uint64_t first, unsigned order)
{
    struct stack *self = metadata;
    bool were_on = stack_lock(self);

    (void)cpu;
    CHECK(order_valid(order) && first % order_frames(order) == 0);
    CHECK(first + order_frames(order) <= self->frames);
    for (uint64_t frame = first; frame < first + order_frames(order); frame++)
        stack_push(self, frame);
    stack_unlock(self, were_on);
}

/* Splits a block. Nothing to record: the stack holds single frames. */
static void stack_split(void *metadata, uint64_t first, unsigned order, unsigned to)
{
    const struct stack *self = metadata;

    CHECK(order_valid(order) && order_valid(to) && to < order);
    CHECK(first % order_frames(order) == 0 && first + order_frames(order) <= self->frames);
}

static void stack_join(void *metadata, uint64_t first, unsigned order, unsigned from)
{
    stack_split(metadata, first, order, from);
}

static uint64_t stack_size(uint64_t frames, unsigned cpus)
{
    (void)cpus;
    return sizeof(struct stack) + frames * 2 * sizeof(uint32_t);
}

static void stack_start(void *metadata, uint64_t frames, unsigned cpus)
{
    struct stack *self = metadata;

    (void)cpus;
    CHECK(frames > 0 && frames < TAKEN);
    *self = (struct stack){.frames = frames};
    self->place = (uint32_t *)(void *)(self + 1);
    self->entries = self->place + frames;
    memset(self->place, 0xff, frames * sizeof(uint32_t));
}

/* Pushes from the last to the first, so that the lowest frame is taken first. */
static void stack_add(void *metadata, uint64_t first, uint64_t count)
{
    struct stack *self = metadata;

    CHECK(first + count <= self->frames);
    for (uint64_t i = count; i-- > 0;)
        stack_push(self, first + i);
}

static uint64_t stack_free_frames(const void *metadata)
{
    const struct stack *self = metadata;

    return __atomic_load_n(&self->free, __ATOMIC_RELAXED);
}

static bool stack_is_free(const void *metadata, uint64_t frame)
{
    const struct stack *self = metadata;

    CHECK(frame < self->frames);
    return self->place[frame] != TAKEN;
}

static void stack_audit(const void *metadata)
{
    const struct stack *self = metadata;
    uint64_t free = 0;

    for (uint64_t frame = 0; frame < self->frames; frame++) {
        uint32_t place = self->place[frame];

        if (place == TAKEN)
            continue;
        CHECK_MSG(place < self->free && self->entries[place] == frame,
                  "frame %lx says it stands at %u of %lu", frame, place, self->free);
        free++;
    }
    CHECK_MSG(free == self->free, "%lu frames have a place, %lu are free", free, self->free);
    CHECK(self->lock == 0);
}

FRAME_ALLOCATOR(stack) = {
    .name = "stack",
    .size = stack_size,
    .start = stack_start,
    .add = stack_add,
    .take = stack_take,
    .give = stack_give,
    .split = stack_split,
    .join = stack_join,
    .free_frames = stack_free_frames,
    .is_free = stack_is_free,
    .audit = stack_audit,
};
