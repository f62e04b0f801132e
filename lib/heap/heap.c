/* The heap: its lock, blocks of size classes, large blocks, and the policies. */
#include "lib/heap/heap.h"

#include "lib/heap/internal.h"

/* Classes grow by 16 bytes up to 128, then by a quarter of a power of two. */
#define STEP_SMALL    16U
#define STEP_MOST     128U
#define CLASSES_SMALL (STEP_MOST / STEP_SMALL)

/* Classes up to this size have runs of one page, the others of four: at least 8 objects. */
#define ONE_PAGE_MOST 512U
#define RUN_PAGES     4U

/* The most that a step gives back and looks at; others wait for it. */
#define BACKGROUND_PAGES 16U
#define STEP_LOOK        256U

const struct heap_policy heap_policies[HEAP_POLICIES] = {
    [HEAP_NEVER] = {.name = "never"},
    [HEAP_AT_ONCE] = {.name = "at-once", .at_once = true},
    [HEAP_BACKGROUND] = {.name = "background", .step_pages = BACKGROUND_PAGES},
    [HEAP_ON_NOTICE] = {.name = "on-notice", .on_notice = true}};

/* ---- size classes ---- */

uint32_t heap_class_size(unsigned size_class)
{
    unsigned power;

    if (size_class < CLASSES_SMALL)
        return (size_class + 1) * STEP_SMALL;
    power = (size_class - CLASSES_SMALL) / 4;
    return (STEP_MOST << power) / 4 * (5 + (size_class - CLASSES_SMALL) % 4);
}

unsigned heap_class_of(size_t size)
{
    unsigned power;

    if (size <= STEP_MOST)
        return size == 0 ? 0 : (unsigned)(size - 1) / STEP_SMALL;
    power = 63U - (unsigned)__builtin_clzll(size - 1); /* 2^power < size <= 2^(power + 1) */
    return CLASSES_SMALL + (power - 7) * 4 + (unsigned)((size - 1) >> (power - 2)) - 4;
}

uint32_t heap_run_pages(unsigned size_class)
{
    return heap_class_size(size_class) <= ONE_PAGE_MOST ? 1 : RUN_PAGES;
}

uint32_t heap_run_objects(unsigned size_class)
{
    return (uint32_t)(heap_run_pages(size_class) * HEAP_PAGE) / heap_class_size(size_class);
}

/* ---- the lock ---- */

static bool heap_try_lock(struct heap *heap)
{
    return __atomic_exchange_n(&heap->lock, 1, __ATOMIC_ACQUIRE) == 0;
}

bool heap_lock(struct heap *heap)
{
    uint64_t waits = 0;

    while (!__atomic_load_n(&heap->lost, __ATOMIC_RELAXED)) {
        if (heap_try_lock(heap))
            return true;
        if (!heap->source.wait(heap->source.context, waits++))
            __atomic_store_n(&heap->lost, true, __ATOMIC_RELAXED);
    }
    return false;
}

/* Serves a pending notice and unlocks the heap. A notice that comes between the two is served by
 * the next holder. */
void heap_unlock(struct heap *heap)
{
    if (__builtin_expect(heap->notice_missed, 0)) {
        heap->notice_missed = false;
        (void)heap_scavenge_locked(heap, SIZE_MAX, SIZE_MAX, heap->source.give_back,
                                   heap->source.context);
    }
    __atomic_store_n(&heap->lock, 0, __ATOMIC_RELEASE);
}

/* ---- runs ---- */

static void run_insert(struct heap *heap, uint32_t first)
{
    struct heap_page *run = &heap->page[first];

    run->prev = HEAP_NONE;
    run->next = heap->runs[run->size_class];
    if (run->next != HEAP_NONE)
        heap->page[run->next - 1].prev = first + 1;
    heap->runs[run->size_class] = first + 1;
}

static void run_remove(struct heap *heap, uint32_t first)
{
    struct heap_page *run = &heap->page[first];

    if (run->prev != HEAP_NONE)
        heap->page[run->prev - 1].next = run->next;
    else
        heap->runs[run->size_class] = run->next;
    if (run->next != HEAP_NONE)
        heap->page[run->next - 1].prev = run->prev;
}

/* Returns the first page + 1 of a run of the class with a free object. */
static uint32_t run_with_room(struct heap *heap, unsigned size_class)
{
    uint32_t found = heap->runs[size_class];
    struct heap_page *run;

    if (found != HEAP_NONE)
        return found;
    found = heap_take_span(heap, heap_run_pages(size_class), HEAP_RUN, HEAP_RUN_REST);
    if (found == HEAP_NONE)
        return HEAP_NONE;
    run = &heap->page[found - 1];
    run->size_class = (uint8_t)size_class;
    run->used = 0;
    for (unsigned i = 0; i < HEAP_RUN_OBJECTS / 64; i++)
        run->bits[i] = 0;
    run_insert(heap, found - 1);
    return found;
}

/* Takes the lowest free object, so that the pages at a run's end empty first. */
static void *small_alloc(struct heap *heap, unsigned size_class)
{
    uint32_t found = run_with_room(heap, size_class);
    struct heap_page *run;
    unsigned word = 0;
    unsigned object;

    if (found == HEAP_NONE)
        return NULL;
    run = &heap->page[found - 1];
    while (run->bits[word] == UINT64_MAX)
        word++;
    object = word * 64 + (unsigned)__builtin_ctzll(~run->bits[word]);
    run->bits[word] |= UINT64_C(1) << object % 64;
    if (++run->used == heap_run_objects(size_class))
        run_remove(heap, found - 1);
    heap->live_bytes += heap_class_size(size_class);
    return heap_address(heap, found - 1) + (uint64_t)object * heap_class_size(size_class);
}

/* Returns whether a block in use begins at this offset into a run, and which object it is. */
static enum status run_object(const struct heap_page *run, uint64_t offset, unsigned *object)
{
    uint32_t size = heap_class_size(run->size_class);

    *object = (unsigned)(offset / size);
    if (offset % size != 0 || *object >= heap_run_objects(run->size_class))
        return STATUS_RANGE;
    return (run->bits[*object / 64] >> *object % 64 & 1) != 0 ? OK : STATUS_NOT_FOUND;
}

static enum status small_free(struct heap *heap, uint32_t first, uint64_t offset)
{
    struct heap_page *run = &heap->page[first];
    unsigned object;
    enum status status = run_object(run, offset, &object);

    if (status != OK)
        return status;
    if (run->used == heap_run_objects(run->size_class))
        run_insert(heap, first);
    run->bits[object / 64] &= ~(UINT64_C(1) << object % 64);
    heap->live_bytes -= heap_class_size(run->size_class);
    if (--run->used == 0) {
        run_remove(heap, first);
        heap_free_span(heap, first, run->length);
    }
    return OK;
}

/* ---- large blocks ---- */

static void *heap_large_alloc(struct heap *heap, size_t size)
{
    uint64_t pages = size / HEAP_PAGE + (size % HEAP_PAGE != 0);
    uint32_t found = pages > heap->pages
                         ? HEAP_NONE
                         : heap_take_span(heap, (uint32_t)pages, HEAP_LARGE, HEAP_LARGE_REST);

    if (found == HEAP_NONE)
        return NULL;
    heap->page[found - 1].size = size;
    heap->live_bytes += pages * HEAP_PAGE;
    return heap_address(heap, found - 1);
}

/* ---- public ---- */

struct heap *heap_create(void *range, size_t size, const struct heap_policy *policy,
                         const struct heap_source *source)
{
    struct heap *heap = range;
    uint64_t records = size / (HEAP_PAGE + sizeof(struct heap_page));
    uint64_t first =
        (sizeof(*heap) + records * sizeof(struct heap_page) + HEAP_PAGE - 1) / HEAP_PAGE;

    if ((uintptr_t)range % HEAP_PAGE != 0 || size / HEAP_PAGE <= first ||
        size / HEAP_PAGE > UINT32_MAX)
        return NULL;
    heap->pages = (uint32_t)(size / HEAP_PAGE - first);
    if (heap->pages > records)
        heap->pages = (uint32_t)records;
    heap->base = (uint8_t *)range + first * HEAP_PAGE;
    heap->policy = policy;
    heap->source = *source;
    heap->page[0].length = heap->pages; /* one run; its zeroed records say free and clean */
    heap->page[heap->pages - 1].length = heap->pages;
    heap->spans[heap->pages < HEAP_SPAN_LISTS ? heap->pages - 1 : HEAP_SPAN_LISTS - 1] = 1;
    heap->span_lists = UINT64_C(1)
                       << (heap->pages < HEAP_SPAN_LISTS ? heap->pages - 1 : HEAP_SPAN_LISTS - 1);
    return heap;
}

/* Returns the size whose class or pages have the alignment: a power of two of at least it. */
static size_t size_for(size_t size, size_t alignment)
{
    size_t power = alignment;

    while (power < size && power < HEAP_PAGE)
        power *= 2;
    return power < size ? size : power;
}

void *heap_alloc(struct heap *heap, size_t size, size_t alignment)
{
    void *block;

    if (alignment > HEAP_PAGE || (alignment & (alignment - 1)) != 0)
        return NULL;
    if (alignment > STEP_SMALL)
        size = size_for(size, alignment);
    if (!heap_lock(heap))
        return NULL;
    block = size <= HEAP_SMALL_MOST ? small_alloc(heap, heap_class_of(size))
                                    : heap_large_alloc(heap, size);
    heap->live_blocks += block != NULL;
    heap_unlock(heap);
    return block;
}

/* Returns the record of the run or block that an address is in; NULL: none. */
static struct heap_page *block_record(struct heap *heap, const void *block, uint64_t *offset)
{
    uint64_t place = (uint64_t)((uintptr_t)block - (uintptr_t)heap->base);
    struct heap_page *record;

    if ((uintptr_t)block < (uintptr_t)heap->base || place / HEAP_PAGE >= heap->pages)
        return NULL;
    record = &heap->page[place / HEAP_PAGE];
    if (record->kind == HEAP_FREE)
        return record;
    *offset = place - record->head * HEAP_PAGE;
    return &heap->page[record->head];
}

static enum status free_locked(struct heap *heap, const void *block)
{
    uint64_t offset = 0;
    struct heap_page *record = block_record(heap, block, &offset);

    if (record == NULL)
        return STATUS_RANGE;
    if (record->kind == HEAP_FREE)
        return STATUS_NOT_FOUND;
    if (record->kind == HEAP_RUN)
        return small_free(heap, record->head, offset);
    if (offset != 0)
        return STATUS_RANGE;
    heap->live_bytes -= record->length * HEAP_PAGE;
    heap_free_span(heap, record->head, record->length);
    return OK;
}

enum status heap_free(struct heap *heap, void *block)
{
    enum status status;

    if (block == NULL)
        return OK;
    if (!heap_lock(heap))
        return STATUS_TIMEOUT;
    status = free_locked(heap, block);
    heap->live_blocks -= status == OK;
    heap_unlock(heap);
    return status;
}

size_t heap_size(struct heap *heap, const void *block)
{
    uint64_t offset = 0;
    struct heap_page *record;
    size_t size = 0;
    unsigned object;

    if (!heap_lock(heap))
        return 0;
    record = block_record(heap, block, &offset);
    if (record != NULL && record->kind == HEAP_RUN && run_object(record, offset, &object) == OK)
        size = heap_class_size(record->size_class);
    else if (record != NULL && record->kind == HEAP_LARGE && offset == 0)
        size = record->length * HEAP_PAGE;
    heap_unlock(heap);
    return size;
}

size_t heap_scavenge(struct heap *heap, size_t most,
                     bool (*functor)(void *context, void *at, size_t size), void *context)
{
    size_t done;

    if (!heap_lock(heap))
        return 0;
    done = heap_scavenge_locked(heap, SIZE_MAX, most, functor, context);
    heap_unlock(heap);
    return done;
}

bool heap_step(struct heap *heap)
{
    uint64_t left;

    if (heap->policy->step_pages == 0 || !heap_lock(heap))
        return false;
    (void)heap_scavenge_locked(heap, STEP_LOOK, heap->policy->step_pages, heap->source.give_back,
                               heap->source.context);
    left = heap->dirty_free;
    heap_unlock(heap);
    return left > 0;
}

void heap_on_notice(struct heap *heap, bool low)
{
    if (!low || !heap->policy->on_notice)
        return;
    __atomic_store_n(&heap->notice_missed, true, __ATOMIC_RELAXED);
    if (heap_try_lock(heap))
        heap_unlock(heap);
}
