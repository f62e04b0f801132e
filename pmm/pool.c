/* Pools of objects of one size. */
#include "pmm/pool.h"

#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "lib/bytes.h"
#include "pmm/pmm.h"

/* A free object holds the link of the free list, and a mark that objects in use do not have. */
struct free_object {
    struct free_object *next;
    uint64_t mark;
};

/* The header at the start of each frame of a pool. */
struct pool_frame {
    struct pool *pool;
    struct free_object *free;
    struct pool_frame *next; /* among the partial ones */
    struct pool_frame *prev;
    uint32_t in_use;
};

#define FRAME_HEADER 48U
#define FREE_MARK    UINT64_C(0x66726565706f6f6c)

/* Objects of a chain that are taken or freed under one hold of the lock, with interrupts off. */
#define CHAIN_TOGETHER 32U

_Static_assert(sizeof(struct pool_frame) <= FRAME_HEADER && FRAME_HEADER % 16 == 0,
               "objects behind the header are aligned to 16 bytes");

/* Of all pools. */
static uint64_t objects;
static uint64_t calls;
static bool shut_now;

uint64_t pool_objects(void)
{
    return __atomic_load_n(&objects, __ATOMIC_RELAXED);
}

uint64_t pool_calls(void)
{
    return __atomic_load_n(&calls, __ATOMIC_RELAXED);
}

void pool_shut(bool shut)
{
    __atomic_store_n(&shut_now, shut, __ATOMIC_RELAXED);
}

__attribute__((noinline)) static void link_frame(struct pool *pool, struct pool_frame *frame)
{
    frame->prev = NULL;
    frame->next = pool->partial;
    if (frame->next != NULL)
        frame->next->prev = frame;
    pool->partial = frame;
}

__attribute__((noinline)) static void unlink_frame(struct pool *pool, struct pool_frame *frame)
{
    if (frame->prev != NULL)
        frame->prev->next = frame->next;
    else
        pool->partial = frame->next;
    if (frame->next != NULL)
        frame->next->prev = frame->prev;
}

__attribute__((noinline)) static enum status add_frame(struct pool *pool)
{
    struct pool_frame *frame;
    struct pfn pfn;
    enum status status = pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &pfn);

    if (status != OK)
        return status;
    frame = frame_pointer(pfn);
    frame->pool = pool;
    for (uint64_t at = FRAME_HEADER; at + pool->object_size <= PAGE_SIZE; at += pool->object_size) {
        struct free_object *object = (struct free_object *)(void *)((uint8_t *)frame + at);

        object->next = frame->free;
        object->mark = FREE_MARK;
        frame->free = object;
    }
    link_frame(pool, frame);
    return OK;
}

/* holds: the pool's lock. Clears only the mark; the rest keeps its old content. */
static enum status take_object(struct pool *pool, struct free_object **taken)
{
    enum status status = pool->partial == NULL ? add_frame(pool) : OK;
    struct pool_frame *frame = pool->partial;

    if (status != OK)
        return status;
    *taken = frame->free;
    CHECK_MSG((*taken)->mark == FREE_MARK, "a free object of pool %s was written to", pool->name);
    (*taken)->mark = 0;
    frame->free = (*taken)->next;
    frame->in_use++;
    pool->in_use++;
    __atomic_fetch_add(&objects, 1, __ATOMIC_RELAXED);
    if (frame->free == NULL)
        unlink_frame(pool, frame);
    return OK;
}

/* Returns an object to its frame. Returns true if that frame is now free. holds: the pool's lock */
static bool give_object(struct pool *pool, struct free_object *freed)
{
    struct pool_frame *frame =
        (struct pool_frame *)(uintptr_t)round_down((uintptr_t)freed, PAGE_SIZE);

    CHECK_MSG(frame->pool == pool && frame->in_use > 0, "%p is not of pool %s", (void *)freed,
              pool->name);
    CHECK_MSG(freed->mark != FREE_MARK, "%p of pool %s is freed twice", (void *)freed, pool->name);
    if (frame->free == NULL)
        link_frame(pool, frame);
    freed->next = frame->free;
    freed->mark = FREE_MARK;
    frame->free = freed;
    frame->in_use--;
    pool->in_use--;
    __atomic_fetch_sub(&objects, 1, __ATOMIC_RELAXED);
    if (frame->in_use != 0)
        return false;
    unlink_frame(pool, frame);
    frame->pool = NULL;
    pmm_free(pfn_of((struct phys){(uintptr_t)frame - DIRECT_MAP_BASE}));
    return true;
}

/* Frees up to CHAIN_TOGETHER objects of a chain under one hold of the lock. Returns the rest. */
static struct free_object *pool_give_some(struct pool *pool, struct free_object *first,
                                          uint32_t *frames)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&pool->lock);
    for (unsigned i = 0; i < CHAIN_TOGETHER && first != NULL; i++) {
        struct free_object *next = first->next;

        *frames += give_object(pool, first);
        first = next;
    }
    spin_unlock(&pool->lock);
    machine_interrupts_restore(were_on);
    return first;
}

/* Adds up to `most` objects to the front of a chain under one hold of the lock. */
static enum status pool_take_some(struct pool *pool, uint32_t most, struct free_object **chain)
{
    bool were_on = machine_interrupts_off();
    enum status status = OK;

    spin_lock(&pool->lock);
    for (uint32_t i = 0; i < most && status == OK; i++) {
        struct free_object *taken;

        status = take_object(pool, &taken);
        if (status == OK) {
            taken->next = *chain;
            *chain = taken;
        }
    }
    spin_unlock(&pool->lock);
    machine_interrupts_restore(were_on);
    return status;
}

enum status pool_alloc_chain(struct pool *pool, uint32_t count, void **first)
{
    struct free_object *chain = NULL;
    enum status status = OK;

    CHECK(pool->object_size >= sizeof(struct free_object) && pool->object_size <= 2048);
    __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
    if (__atomic_load_n(&shut_now, __ATOMIC_RELAXED))
        status = STATUS_NO_MEMORY;
    for (uint32_t left = count; left > 0 && status == OK;) {
        uint32_t some = left < CHAIN_TOGETHER ? left : CHAIN_TOGETHER;

        status = pool_take_some(pool, some, &chain);
        left -= some;
    }
    if (status == OK)
        *first = chain;
    else
        (void)pool_free_chain(pool, chain);
    return status;
}

enum status pool_alloc_uncleared(struct pool *pool, void **object)
{
    bool were_on = machine_interrupts_off();
    enum status status = STATUS_NO_MEMORY;

    CHECK(pool->object_size >= sizeof(struct free_object) && pool->object_size <= 2048);
    __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
    spin_lock(&pool->lock);
    if (!__atomic_load_n(&shut_now, __ATOMIC_RELAXED))
        status = take_object(pool, (struct free_object **)object);
    spin_unlock(&pool->lock);
    machine_interrupts_restore(were_on);
    return status;
}

enum status pool_alloc(struct pool *pool, void **object)
{
    enum status status = pool_alloc_uncleared(pool, object);

    if (status == OK)
        memset(*object, 0, pool->object_size);
    return status;
}

uint32_t pool_free_chain(struct pool *pool, void *first)
{
    uint32_t frames = 0;

    for (struct free_object *left = first; left != NULL;)
        left = pool_give_some(pool, left, &frames);
    return frames;
}

void pool_free(struct pool *pool, void *object)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&pool->lock);
    (void)give_object(pool, object);
    spin_unlock(&pool->lock);
    machine_interrupts_restore(were_on);
}
