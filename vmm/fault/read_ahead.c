/*
 * Read-ahead: one command reads the pages that follow the faulted one.
 *
 * Reclaim sorts its victims, so that neighbours in memory are mostly neighbours on the disk. A
 * fault that continues where the last one in its leaf table ended doubles the window, up to
 * READ_TOGETHER pages; another fault halves it. So random accesses read little in vain. Pages are
 * best effort: they come from the processor's frame cache, evict nothing, and respect the limit of
 * resident pages (rule D14). They become leaves without A, and reclaim counts those that go
 * unused.
 *
 * With a policy nothing is read ahead: its next choice depends on the one page that comes.
 */
#include "swapdisk/area.h"
#include "vmm/fault/operation.h"
#include "vmm/page/managed.h"

/* Leaf tables whose last fault is recorded. Of tables that share a place the latest has it. */
#define STREAMS 64U

/* A fault this close behind the last batch still continues it: some pages may be resident. */
#define GAP_MOST 4U

/* The last batch read for a leaf table, in one word; changed without a lock, since a wrong window
 * costs a few reads only. */
struct stream {
    uint32_t table; /* number of the frame */
    uint16_t first; /* index of the batch */
    uint8_t count;  /* its pages */
    uint8_t window;
};

_Static_assert(sizeof(struct stream) == sizeof(uint64_t), "stored at once");

static uint64_t streams[STREAMS];
static uint64_t pages_ahead;
static bool forbidden;

uint64_t read_ahead_pages(void)
{
    return __atomic_load_n(&pages_ahead, __ATOMIC_RELAXED);
}

void read_ahead_allow(bool allowed)
{
    __atomic_store_n(&forbidden, !allowed, __ATOMIC_RELAXED);
}

/* Returns the pages that a fault at an index may read, and whether they lie below it. */
static unsigned window_at(const struct stream *last, struct pfn table, unsigned index,
                          bool *downwards)
{
    unsigned end = last->first + (unsigned)last->count;

    *downwards = false;
    if (last->count == 0 || last->table != table.index)
        return 1;
    *downwards = index < last->first;
    if (*downwards ? last->first - index <= GAP_MOST : index >= end && index - end < GAP_MOST)
        return (unsigned)min_u64(2U * last->window, READ_TOGETHER);
    return last->window > 1 ? last->window / 2 : 1;
}

/* Returns the entry `distance` places behind the faulted one if its slot is as far behind the
 * faulted slot, and no other entry names that slot; else an empty one. holds: table(leaf) */
static struct pte neighbour(const struct fault_op *op, struct slot slot, int distance)
{
    const struct pte *entries = frame_pointer(op->place.table);
    int64_t index = (int64_t)op->place.index + distance;
    int64_t wanted = (int64_t)slot.index + distance;
    struct pte entry;

    if (index < 0 || index >= (int64_t)PTE_ENTRIES || wanted < 0)
        return pte_empty();
    entry = pte_read(&entries[index]);
    if (pte_present(entry) || pte_state(entry, 1) != PTE_SWAPPED ||
        pte_slot(entry).index != wanted || pte_rights(entry).none ||
        swap_count(pte_slot(entry)) != 1)
        return pte_empty();
    return entry;
}

/* Takes a frame without evicting or waiting. */
static bool frame_for_neighbour(struct pfn *page)
{
    if (!pmm_take(pmm_caches_of(machine_cpu()), PMM_CACHE_ANY, FRAME_ANONYMOUS, FRAME_UNCLEARED,
                  page))
        return false;
    pmm_check_free(*page);
    pmm_prepare(*page, FRAME_ANONYMOUS);
    return true;
}

/* Puts a neighbour in transit. Returns false if it cannot come. holds: table(leaf) */
static bool begin_neighbour(const struct fault_op *op, struct slot slot, int distance,
                            struct pfn *page)
{
    struct pte entry = neighbour(op, slot, distance);
    struct tree_pointer at = {op->place.table, (uint16_t)(op->place.index + distance)};

    if (pte_present(entry) || entry.word == pte_empty().word || !frame_for_neighbour(page))
        return false;
    CHECK((frame_record(*page)->flags & FRAME_SWAP_CACHED) == 0);
    frame_record(*page)->page.history = PAGE_READ_AHEAD;
    transfer_begin_in(*page, at, pte_rights(entry), pte_slot(entry));
    return true;
}

/* Returns how many neighbours may come: memory is not low, and the limit leaves room beside the
 * faulted page. */
static unsigned neighbours_most(unsigned window)
{
    if (window == 1 || managed_policy != NULL || pmm_pressure() != PMM_NORMAL ||
        __atomic_load_n(&forbidden, __ATOMIC_RELAXED))
        return 0;
    return (unsigned)max_u64(fault_resident_room(window), 1) - 1;
}

void read_ahead_begin(const struct fault_op *op, struct slot slot, struct read_batch *batch)
{
    uint64_t *stored = &streams[op->place.table.index % STREAMS];
    uint64_t word = __atomic_load_n(stored, __ATOMIC_RELAXED);
    struct stream stream;
    struct pfn page;
    unsigned window;
    unsigned most;
    unsigned ahead = 0;
    bool downwards;

    CHECK(batch->count == 1 && frame_record(op->place.table)->lock == 1);
    __builtin_memcpy(&stream, &word, sizeof(stream));
    window = window_at(&stream, op->place.table, op->place.index, &downwards);
    most = neighbours_most(window);
    batch->pages[READ_TOGETHER - 1] = batch->pages[0];
    while (ahead < most &&
           begin_neighbour(op, slot, downwards ? -(int)ahead - 1 : (int)ahead + 1, &page)) {
        ahead++;
        batch->pages[downwards ? READ_TOGETHER - 1 - ahead : ahead] = page;
    }
    if (downwards && ahead > 0) {
        for (unsigned i = 0; i <= ahead; i++)
            batch->pages[i] = batch->pages[READ_TOGETHER - 1 - ahead + i];
        batch->faulted = ahead;
        batch->first.index -= ahead;
    }
    batch->count += ahead;
    CHECK_MSG(batch->count <= READ_TOGETHER && batch->faulted < batch->count,
              "%u pages are read for page %u of them", batch->count, batch->faulted);
    stream = (struct stream){.table = op->place.table.index,
                             .first = (uint16_t)(op->place.index - batch->faulted),
                             .count = (uint8_t)batch->count,
                             .window = (uint8_t)window};
    __builtin_memcpy(&word, &stream, sizeof(word));
    __atomic_store_n(stored, word, __ATOMIC_RELAXED);
    if (ahead > 0)
        __atomic_add_fetch(&pages_ahead, ahead, __ATOMIC_RELAXED);
}
