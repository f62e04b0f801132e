/* The TLB batch: collects flushes, performs the shootdown, then drops. */
#include "paging/tlb/tlb.h"

#include "cpu/cpu.h"
#include "cpu/machine.h"
#include "paging/tlb/root.h"
#include "pmm/pmm.h"

static struct tlb_counts counts;
static unsigned limit = TLB_LIMIT_DEFAULT;
static const struct tlb_owner *owner;
static uint64_t (*callers_of)(const struct tree *tree);

/* The open batch of each processor; a second one would mean that the first was left open. */
static struct tlb_batch *open_batch[CPU_MAX];

static void tlb_count(uint64_t *counter, uint64_t by)
{
    __atomic_add_fetch(counter, by, __ATOMIC_RELAXED);
}

/* Returns the processors that run the tree. Entries are changed by locked instructions, or before
 * one, so a processor that is not in the mask yet loads its root after the change. */
static uint64_t processors_of(const struct tlb_batch *batch)
{
    return batch->tree != NULL ? __atomic_load_n(&batch->tree->processors, __ATOMIC_SEQ_CST) : 0;
}

/* Returns the processors that may be in a walk of the tree. The masks are read behind the locked
 * instructions that took the tables out; a processor that is in neither begins its walk later. */
static uint64_t walkers_of(const struct tree *tree)
{
    uint64_t walkers = __atomic_load_n(&tree->walkers, __ATOMIC_SEQ_CST);

    if (walkers == TLB_WALKED_BY_ALL)
        return walkers;
    walkers |= __atomic_load_n(&tree->processors, __ATOMIC_SEQ_CST);
    return callers_of != NULL ? walkers | callers_of(tree) : walkers;
}

/* Returns the processors that must answer even if they have nothing to flush. */
static uint64_t processors_to_await(const struct tlb_batch *batch)
{
    if (batch->tables)
        return batch->tree != NULL ? walkers_of(batch->tree) : UINT64_MAX;
    return batch->grace ? processors_of(batch) : 0;
}

static void flush_on(const struct tlb_batch *batch, uint64_t where, struct machine_flush how)
{
    uint64_t answers = processors_to_await(batch);

    if ((where | answers) != 0)
        machine_shootdown(where, answers, &how);
}

static void flush_everything(const struct tlb_batch *batch)
{
    uint64_t generation = pcid_raise_everything();

    if (batch->kernel) {
        tlb_count(&counts.kernel, 1);
        flush_on(batch, UINT64_MAX, (struct machine_flush){.kind = MACHINE_FLUSH_ALL});
    } else {
        tlb_count(&counts.everything, 1);
        flush_on(batch, UINT64_MAX, (struct machine_flush){.kind = MACHINE_FLUSH_SPACE});
    }
    pcid_flushed_everything(generation);
}

static void flush_tree(const struct tlb_batch *batch)
{
    struct machine_flush how = {.count = batch->page_count, .pages = batch->pages};
    uint64_t generation = pcid_raise(batch->tree);

    if (batch->whole_space) {
        how.kind = MACHINE_FLUSH_SPACE;
        tlb_count(&counts.spaces, 1);
    } else {
        how.kind = MACHINE_FLUSH_PAGES;
        tlb_count(&counts.pages, batch->page_count);
    }
    flush_on(batch, processors_of(batch), how);
    pcid_flushed(batch->tree, generation, batch->whole_space);
}

/* Flushes the added translations and waits for all answers. */
static void tlb_flush(struct tlb_batch *batch)
{
    if (batch->everything || batch->kernel)
        flush_everything(batch);
    else if (batch->whole_space || batch->page_count > 0)
        flush_tree(batch);
    else
        flush_on(batch, 0, (struct machine_flush){.kind = MACHINE_FLUSH_PAGES});
    batch->answered = true;
}

static void drop_releases(struct tlb_batch *batch)
{
    CHECK_MSG(batch->answered, "frames are let go of before the processors have answered");
    for (unsigned i = 0; i < batch->release_count; i++)
        owner->drop(&batch->releases[i]);
    batch->release_count = 0;
    for (unsigned i = 0; i < batch->empty_count; i++)
        owner->drop_empty(batch->empties[i]);
    batch->empty_count = 0;
}

void tlb_set_owner(const struct tlb_owner *tables)
{
    owner = tables;
}

void tlb_set_callers(uint64_t (*callers)(const struct tree *tree))
{
    callers_of = callers;
}

/* A call of this processor on the tree may have been announced already, and stays so. */
bool tlb_walk_enter(struct tree *tree)
{
    uint64_t own = UINT64_C(1) << machine_cpu();

    CHECK(!machine_interrupts_on());
    return (__atomic_fetch_or(&tree->walkers, own, __ATOMIC_SEQ_CST) & own) == 0;
}

void tlb_walk_leave(struct tree *tree, bool entered)
{
    CHECK(!machine_interrupts_on());
    if (entered)
        __atomic_fetch_and(&tree->walkers, ~(UINT64_C(1) << machine_cpu()), __ATOMIC_RELEASE);
}

#if defined(LOCK_CHECKS) || defined(__SANITIZE_THREAD__)
void tlb_walk_is_known(const struct tree *tree, struct pfn table)
{
    uint64_t walkers = callers_of != NULL ? walkers_of(tree) : 0;

    CHECK_MSG(walkers == 0 || (walkers >> machine_cpu() & 1) != 0,
              "cpu %u walks the tree of root %x, which processors %lx run or walk", machine_cpu(),
              tree->root.index, walkers);
    CHECK_MSG(frame_record(table)->kind == FRAME_TABLE, "a walk is in frame %x of kind %u",
              table.index, frame_record(table)->kind);
}
#endif

void tlb_begin(struct tlb_batch *batch, const struct tree *tree)
{
    CHECK_MSG(open_batch[machine_cpu()] == NULL, "a TLB batch was left open");
    open_batch[machine_cpu()] = batch;
    batch->tree = tree;
    batch->answered = true;
    batch->grace = false;
    batch->tables = false;
    batch->everything = false;
    batch->kernel = false;
    batch->whole_space = false;
    batch->deferred = false;
    batch->page_count = 0;
    batch->release_count = 0;
    batch->empty_count = 0;
    batch->open = true;
}

void tlb_add_page(struct tlb_batch *batch, uint64_t address)
{
    CHECK(batch->open && batch->tree != NULL);
    batch->answered = false;
    if (batch->page_count >= tlb_limit())
        batch->whole_space = true;
    else
        batch->pages[batch->page_count++] = round_down(address, PAGE_SIZE);
}

void tlb_add_range(struct tlb_batch *batch, uint64_t start, uint64_t end)
{
    CHECK(batch->open && start <= end);
    if ((end - start) / PAGE_SIZE > tlb_limit()) {
        tlb_add_space(batch);
        return;
    }
    for (uint64_t at = start; at < end; at += PAGE_SIZE)
        tlb_add_page(batch, at);
}

void tlb_add_space(struct tlb_batch *batch)
{
    CHECK(batch->open && batch->tree != NULL);
    batch->answered = false;
    batch->whole_space = true;
}

void tlb_add_everything(struct tlb_batch *batch)
{
    CHECK(batch->open);
    batch->answered = false;
    batch->everything = true;
}

void tlb_add_kernel(struct tlb_batch *batch)
{
    CHECK(batch->open);
    batch->answered = false;
    batch->kernel = true;
}

void tlb_add_grace(struct tlb_batch *batch)
{
    CHECK(batch->open && batch->tree != NULL);
    batch->answered = false;
    batch->grace = true;
}

void tlb_await_walks(const struct tree *tree)
{
    uint64_t others;

    /* Entries may have been changed by plain stores. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    others = __atomic_load_n(&tree->processors, __ATOMIC_SEQ_CST) & ~(UINT64_C(1) << machine_cpu());
    if (others != 0)
        machine_shootdown(0, others, &(struct machine_flush){.kind = MACHINE_FLUSH_PAGES});
}

/* ---- deferred batches ---- */

/* Releases of one frame. Those of empty tables have level 0, and the table's number as the word. */
#define LATER_RELEASES ((PAGE_SIZE - 2 * sizeof(uint64_t)) / sizeof(struct tlb_release))

struct later_chunk {
    struct pfn next;
    uint64_t count;
    struct tlb_release releases[LATER_RELEASES];
};

_Static_assert(sizeof(struct later_chunk) <= PAGE_SIZE, "a chunk is one frame");

static void drop_later(struct tlb_later *later, const struct tlb_release *release)
{
    if (release->level == 0) {
        owner->drop_empty((struct pfn){(uint32_t)release->entry.word});
        return;
    }
    later->visit(later, release);
    owner->drop(release);
}

/* Flushes everything, then drops the releases that were handed over. */
static void later_settle(struct tlb_later *later)
{
    flush_everything(&(struct tlb_batch){.tables = true});
    later->flushes++;
    while (!pfn_is_none(later->chunks)) {
        struct pfn frame = later->chunks;
        const struct later_chunk *chunk = frame_pointer(frame);

        later->chunks = chunk->next;
        for (uint64_t i = 0; i < chunk->count; i++)
            drop_later(later, &chunk->releases[i]);
        pmm_free(frame);
    }
}

/* Adds a release. Returns false if there is no frame for it. */
static bool later_add(struct tlb_later *later, struct tlb_release release)
{
    struct later_chunk *chunk = pfn_is_none(later->chunks) ? NULL : frame_pointer(later->chunks);

    if (chunk == NULL || chunk->count == LATER_RELEASES) {
        struct pfn frame;

        if (pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &frame) != OK)
            return false;
        chunk = frame_pointer(frame);
        chunk->next = later->chunks;
        chunk->count = 0;
        later->chunks = frame;
    }
    chunk->releases[chunk->count++] = release;
    later->count++;
    return true;
}

/* Moves the releases of a deferred batch. If memory is out, a flush at once makes them needless. */
static void hand_over(struct tlb_batch *batch)
{
    struct tlb_later *later = batch->later;
    bool fits = true;

    while (batch->release_count > 0 && fits) {
        fits = later_add(later, batch->releases[batch->release_count - 1]);
        batch->release_count -= fits;
    }
    while (batch->empty_count > 0 && fits) {
        struct pfn table = batch->empties[batch->empty_count - 1];

        fits = later_add(later, (struct tlb_release){.entry.word = table.index});
        batch->empty_count -= fits;
    }
    if (fits)
        return;
    later_settle(later);
    for (unsigned i = 0; i < batch->release_count; i++)
        later->visit(later, &batch->releases[i]);
    batch->answered = true;
    drop_releases(batch);
}

void tlb_later_begin(struct tlb_later *later,
                     void (*visit)(struct tlb_later *later, const struct tlb_release *release))
{
    *later = (struct tlb_later){.chunks = PFN_NONE, .visit = visit};
}

void tlb_begin_deferred(struct tlb_batch *batch, const struct tree *tree, struct tlb_later *later)
{
    tlb_begin(batch, tree);
    batch->deferred = true;
    batch->later = later;
}

void tlb_defer(struct tlb_batch *batch)
{
    CHECK(batch->open && batch->deferred && open_batch[machine_cpu()] == batch);
    hand_over(batch);
    open_batch[machine_cpu()] = NULL;
    batch->open = false;
}

void tlb_later_end(struct tlb_later *later)
{
    later_settle(later);
}

void tlb_make_room(struct tlb_batch *batch)
{
    CHECK(batch->open);
    if (batch->deferred) {
        hand_over(batch);
        return;
    }
    /* Keep the added ranges: entries of the same range may still follow. */
    tlb_flush(batch);
    drop_releases(batch);
}

void tlb_release(struct tlb_batch *batch, struct tlb_release release)
{
    CHECK(batch->open);
    CHECK_MSG(batch->release_count < TLB_RELEASES_MAX, "entry %lx finds no room in a batch",
              release.entry.word);
    batch->answered = false;
    batch->tables = batch->tables || (release.level > 1 && pte_present(release.entry) &&
                                      (release.entry.word & PTE_PS) == 0);
    batch->releases[batch->release_count++] = release;
}

void tlb_release_empty(struct tlb_batch *batch, struct pfn table)
{
    CHECK(batch->open && batch->empty_count < TLB_EMPTIES_MAX);
    batch->answered = false;
    batch->tables = true;
    batch->empties[batch->empty_count++] = table;
}

void tlb_commit(struct tlb_batch *batch)
{
    CHECK(batch->open && !batch->deferred && open_batch[machine_cpu()] == batch);
    tlb_flush(batch);
    open_batch[machine_cpu()] = NULL;
    batch->open = false;
    drop_releases(batch);
}

unsigned tlb_limit_for(const struct tlb_cost *cost)
{
    uint64_t pages;

    if (cost->pages < cost->page_count || cost->whole < max_u64(cost->miss_count, 1))
        return 0;
    pages = cost->whole * cost->page_count / cost->pages;
    return (unsigned)max_u64(1, min_u64(pages, TLB_PAGES_MAX));
}

unsigned tlb_limit(void)
{
    return __atomic_load_n(&limit, __ATOMIC_RELAXED);
}

void tlb_set_limit(unsigned pages)
{
    CHECK_MSG(pages >= 1 && pages <= TLB_PAGES_MAX, "a limit of %u pages", pages);
    __atomic_store_n(&limit, pages, __ATOMIC_RELAXED);
}

struct tlb_counts tlb_counts(void)
{
    return counts;
}
