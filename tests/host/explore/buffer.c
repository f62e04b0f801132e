/*
 * Store buffers: x86 lets a processor's later loads pass its own stores, and nothing else.
 *
 * A processor that runs sees its own stores, so they are made in memory at once, and the content
 * before each is kept until a locked instruction or a fence empties the buffer. When another
 * processor goes on, the schedule may hold back the youngest of these stores: memory has the
 * content before them until the first processor runs again, or answers an interrupt. Stores stay in
 * order.
 */
#include <string.h>

#include "tests/host/explore/internal.h"

static void exchange(struct held_store *store)
{
    uint8_t bytes[STORE_BYTES_MAX];

    memcpy(bytes, (const void *)store->at, store->size);
    memcpy((void *)store->at, store->bytes, store->size);
    memcpy(store->bytes, bytes, store->size);
}

static void show(struct processor *processor)
{
    for (unsigned i = 0; i < processor->store_count && processor->hides; i++)
        exchange(&processor->stores[i]);
    processor->hides = false;
}

/* Makes this many of the oldest stores visible to others. */
static void forget_oldest(struct processor *self, unsigned count)
{
    self->store_count -= count;
    memmove(&self->stores[0], &self->stores[count], self->store_count * sizeof(self->stores[0]));
}

void explorer_buffer(uintptr_t at, size_t size)
{
    struct processor *self = explorer_self();
    struct held_store *store;

    if (!explorer->settings.delays)
        return;
    if (size > STORE_BYTES_MAX) {
        explorer_drain(self);
        return;
    }
    if (self->store_count == STORES_MAX)
        forget_oldest(self, 1);
    store = &self->stores[self->store_count++];
    store->at = at;
    store->size = size;
    memcpy(store->bytes, (const void *)at, size);
}

void explorer_drain(struct processor *processor)
{
    show(processor);
    processor->store_count = 0;
}

bool explorer_has_stores(void)
{
    const struct processor *self = explorer_self();

    for (unsigned i = 0; i < self->store_count; i++) {
        if (explorer_is_shared(self->stores[i].at))
            return true;
    }
    return false;
}

void explorer_hide(unsigned count)
{
    struct processor *self = explorer_self();

    if (count < self->store_count)
        forget_oldest(self, self->store_count - count);
    for (unsigned i = self->store_count; i > 0; i--)
        exchange(&self->stores[i - 1]);
    self->hides = true;
}

void explorer_show(void)
{
    show(explorer_self());
}
