/* Address spaces: the list of all, their numbers, creation, and the space that a processor runs. */
#include "vmm/space/space.h"

#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "paging/tlb/tlb.h"
#include "pmm/pmm.h"
#include "pmm/pool.h"
#include "vmm/page/page.h"
#include "vmm/page/shrinker.h"
#include "vmm/space/end.h"
#include "vmm/space/region.h"

static struct pool space_pool = POOL("space", struct space_record);

/* All spaces, for AUDIT. */
static LIST_HEAD(, space_record) spaces = LIST_HEAD_INITIALIZER(spaces);
static uint8_t spaces_lock;
static uint64_t last_serial;
static unsigned space_total; /* on the list */

_Static_assert((unsigned)FAULT_FAST_COUNTS == MACHINE_COUNTS, "one count of the processor each");

/* The part of each processor's counts that was added to spaces already. Only that processor writes
 * it. */
static uint64_t counts_taken[CPU_MAX][FAULT_FAST_COUNTS];

/* Looks of space_faults at a space whose processors or counts change meanwhile. */
#define FAULTS_TRIES 64U

/* ---- numbers: the place of each in the window of top tables ---- */

#define WORD_BITS 64U

static struct {
    uint8_t lock;
    uint32_t limit; /* numbers from this one on are not given out */
    uint32_t first; /* no word before this one has a free number */
    uint64_t taken[SPACES_MAX / WORD_BITS];
} numbers = {.limit = SPACES_MAX};

_Static_assert(SPACES_MAX - 1 <= UINT16_MAX, "a number has 16 bits");

/* Returns the lowest free number, which may be past the limit. The caller has the lock. */
static uint32_t find_free(void)
{
    while (numbers.first < ARRAY_COUNT(numbers.taken) && numbers.taken[numbers.first] == UINT64_MAX)
        numbers.first++;
    if (numbers.first == ARRAY_COUNT(numbers.taken))
        return SPACES_MAX;
    return numbers.first * WORD_BITS + (uint32_t)__builtin_ctzll(~numbers.taken[numbers.first]);
}

void space_set_limit(uint32_t most)
{
    CHECK(most >= 1 && most <= SPACES_MAX);
    numbers.limit = most;
}

enum status space_number_take(struct tree *tree)
{
    bool were_on = machine_interrupts_off();
    enum status status = STATUS_LIMIT;
    uint32_t number;

    spin_lock(&numbers.lock);
    number = find_free();
    if (number < numbers.limit)
        status = kernel_map_window_show(number, tree->root);
    if (status == OK) {
        numbers.taken[number / WORD_BITS] |= UINT64_C(1) << number % WORD_BITS;
        tree->number = (uint16_t)number;
    }
    spin_unlock(&numbers.lock);
    machine_interrupts_restore(were_on);
    return status;
}

void space_number_give(const struct tree *tree)
{
    uint32_t number = tree->number;
    uint64_t bit = UINT64_C(1) << number % WORD_BITS;
    struct tlb_batch batch;
    struct pfn unused;
    bool were_on = machine_interrupts_off();

    spin_lock(&numbers.lock);
    CHECK_MSG((numbers.taken[number / WORD_BITS] & bit) != 0, "space %u is not taken", number);
    unused = kernel_map_window_hide(number);
    numbers.taken[number / WORD_BITS] &= ~bit;
    if (number / WORD_BITS < numbers.first)
        numbers.first = number / WORD_BITS;
    spin_unlock(&numbers.lock);
    machine_interrupts_restore(were_on);
    if (pfn_is_none(unused))
        return;
    /* Any processor may have cached the table of the kernel's half that is freed (rule P5). */
    tlb_begin(&batch, NULL);
    tlb_add_kernel(&batch);
    tlb_commit(&batch);
    pmm_free(unused);
}

/* ---- the space that a processor runs ---- */

/* Begin and end a change of a space's processors, or of the part of their counts that it has. */
static void change_begin(struct space *space)
{
    __atomic_add_fetch(&space->changes_begun, 1, __ATOMIC_SEQ_CST);
}

static void change_end(struct space *space)
{
    __atomic_add_fetch(&space->changes_ended, 1, __ATOMIC_SEQ_CST);
}

/* Adds the running processor's new counts to the space that it runs. Interrupts are off. */
static void fold_counts(struct space *space)
{
    unsigned cpu = machine_cpu();
    const uint64_t *counts = machine_counts_of(cpu);

    if (__builtin_memcmp(counts, counts_taken[cpu], sizeof(counts_taken[cpu])) == 0)
        return;
    change_begin(space);
    for (unsigned i = 0; i < FAULT_FAST_COUNTS; i++) {
        CHECK(counts[i] >= counts_taken[cpu][i]);
        __atomic_add_fetch(&space->faults.fast[i], counts[i] - counts_taken[cpu][i],
                           __ATOMIC_SEQ_CST);
        __atomic_store_n(&counts_taken[cpu][i], counts[i], __ATOMIC_RELEASE);
    }
    change_end(space);
}

/* Returns the space's counts, with those that its other processors have not added yet. They are
 * right if no change was under way meanwhile. */
static struct fault_counts sum_faults(const struct space *space, uint64_t own)
{
    uint64_t others = __atomic_load_n(&space->tree.processors, __ATOMIC_SEQ_CST) & ~own;
    struct fault_counts sum = space->faults;

    for (; others != 0; others &= others - 1) {
        unsigned cpu = (unsigned)__builtin_ctzll(others);
        const uint64_t *counts = machine_counts_of(cpu);

        /* The folded part first: it is then never larger than the counts, which only grow. */
        for (unsigned i = 0; i < FAULT_FAST_COUNTS; i++) {
            uint64_t taken = __atomic_load_n(&counts_taken[cpu][i], __ATOMIC_ACQUIRE);
            uint64_t count = __atomic_load_n(&counts[i], __ATOMIC_RELAXED);

            CHECK_MSG(count >= taken, "processor %u has counted %lu, %lu are taken", cpu, count,
                      taken);
            sum.fast[i] += count - taken;
        }
    }
    return sum;
}

/* Of the faults that others count meanwhile some may be missing. Beside processors that come and go
 * all the time it gives up: then others may be missing, or be of other spaces. */
struct fault_counts space_faults(const struct space *space)
{
    bool were_on = machine_interrupts_off();
    uint64_t own = UINT64_C(1) << machine_cpu();
    unsigned tries = FAULTS_TRIES;
    struct fault_counts sum;
    uint32_t ended;
    bool changed;

    if (machine_space() == space)
        fold_counts(machine_space());
    machine_interrupts_restore(were_on);
    do {
        ended = __atomic_load_n(&space->changes_ended, __ATOMIC_SEQ_CST);
        sum = sum_faults(space, own);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        changed = __atomic_load_n(&space->changes_begun, __ATOMIC_SEQ_CST) != ended;
        if (changed)
            machine_pause();
    } while (changed && --tries > 0);
    return sum;
}

/* A processor that copies a page on write, and sees that it alone runs the space, skips the
 * shootdown. So a joining processor first sets its bit, then waits until all processors that run
 * the space have answered. Their work with interrupts off is then over, or has seen this
 * processor. */
static void space_add_processor(struct space *space, uint64_t own)
{
    uint64_t others;

    change_begin(space);
    others = __atomic_fetch_or(&space->tree.processors, own, __ATOMIC_SEQ_CST) & ~own;
    change_end(space);
    if (others != 0)
        machine_shootdown(0, others, &(struct machine_flush){.kind = MACHINE_FLUSH_SPACE});
    pcid_enter(&space->tree, others);
}

static void space_remove_processor(struct space *space, uint64_t own)
{
    uint64_t before;

    pcid_leave(&space->tree.context, machine_cpu());
    change_begin(space);
    before = __atomic_fetch_and(&space->tree.processors, ~own, __ATOMIC_SEQ_CST);
    CHECK((before & own) != 0);
    change_end(space);
}

/* Switches this processor to a space, or to none for NULL. Interrupts are off. The old space gets
 * its counts first: once this processor is in the new one's mask, they would be taken for that
 * one's. */
static void space_enter(void *to)
{
    uint64_t own = UINT64_C(1) << machine_cpu();
    struct space *from = machine_space();
    struct space *space = to;

    if (from != NULL && from != space)
        fold_counts(from);
    machine_set_space(space,
                      phys_pointer(space != NULL ? phys_of(space->tree.root) : kernel_map_root()));
    if (space != NULL)
        space_add_processor(space, own);
    else
        pcid_enter_kernel(kernel_map_root());
    if (from != NULL && from != space)
        space_remove_processor(from, own);
}

/* Each call on a space holds its lock. */
static uint64_t space_callers(const struct tree *tree)
{
    _Static_assert(offsetof(struct space, tree) == 0, "a space's tree is the space");
    return mutex_processors(&((const struct space *)tree)->lock);
}

enum status vmm_init(void)
{
    enum status status;

    page_init();
    tree_init(kernel_map_zero_frame(), page_hooks());
    tlb_set_callers(space_callers);
    thread_on_switch(space_enter);
    status = descriptor_init();
    return status == OK ? tree_ready_roots() : status;
}

/* A space on the list exists until space_retire has locked it. */
struct space *space_lock_one_that_keeps(bool (*keeps)(const struct space *space))
{
    bool were_on = machine_interrupts_off();
    struct space *found = NULL;
    struct space_record *record;

    spin_lock(&spaces_lock);
    LIST_FOREACH (record, &spaces, link) {
        if (keeps(&record->space) && mutex_try(&record->space.lock)) {
            found = &record->space;
            break;
        }
    }
    spin_unlock(&spaces_lock);
    machine_interrupts_restore(were_on);
    return found;
}

static bool keeps_empty_node(const struct space *space)
{
    return __atomic_load_n(&space->region_count, __ATOMIC_RELAXED) == 0 &&
           __atomic_load_n(&space->regions.root, __ATOMIC_RELAXED) != NULL &&
           !__atomic_load_n(&space->regions.shared, __ATOMIC_RELAXED);
}

/* Frees what is left of the trees of spaces without regions that are not locked. A frame is freed
 * with its last node, so freeing one page may take all of them. */
static uint64_t space_free_spares(uint64_t pages)
{
    uint64_t freed = 0;
    struct space *space;

    (void)pages;
    while ((space = space_lock_one_that_keeps(keeps_empty_node)) != NULL) {
        freed += range_tree_trim(&space->regions);
        space_unlock(space);
    }
    return freed;
}

SHRINKER(spare_regions, space_free_spares, false);

static void add_to_list(struct space_record *record)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&spaces_lock);
    LIST_INSERT_HEAD(&spaces, record, link);
    record->space.serial = ++last_serial;
    space_total++;
    spin_unlock(&spaces_lock);
    machine_interrupts_restore(were_on);
}

static enum status create_once(struct space **space)
{
    struct space_record *record;
    void *object;
    enum status status = pool_alloc(&space_pool, &object);

    if (status != OK)
        return status;
    record = object;
    RB_INIT(&record->space.mappings);
    record->space.zero_levels = ZERO_LADDER_FRAMES;
    status = tree_create(&record->space.tree);
    if (status == OK) {
        status = space_number_take(&record->space.tree);
        if (status != OK)
            tree_destroy(&record->space.tree);
    }
    if (status != OK) {
        pool_free(&space_pool, object);
        return status;
    }
    add_to_list(record);
    *space = &record->space;
    return OK;
}

/* While memory is out, frees some that ended spaces still have. */
enum status space_create(struct space **space)
{
    enum status status = create_once(space);

    while (__builtin_expect(status == STATUS_NO_MEMORY, 0) && shrinkers_free(1, true) > 0)
        status = create_once(space);
    return status;
}

void space_set_zero_levels(struct space *space, unsigned level)
{
    CHECK(level >= 1 && level <= ZERO_LADDER_FRAMES);
    space->zero_levels = (uint8_t)level;
}

void space_retire(struct space *space)
{
    struct space_record *record = space_record_of(space);
    bool were_on;

    space_lock(space);
    were_on = machine_interrupts_off();
    CHECK_MSG(space->tree.processors == 0, "processors %lx run in a space that is destroyed",
              space->tree.processors);
    spin_lock(&spaces_lock);
    LIST_REMOVE(record, link);
    space_total--;
    spin_unlock(&spaces_lock);
    machine_interrupts_restore(were_on);
}

void space_record_free(struct space_record *record)
{
    pool_free(&space_pool, record);
}

void space_switch(struct space *space)
{
    bool were_on = machine_interrupts_off();

    thread_set_space(space);
    space_enter(space);
    machine_interrupts_restore(were_on);
}

unsigned space_count(void)
{
    return __atomic_load_n(&space_total, __ATOMIC_RELAXED);
}

void space_visit_all(void (*visit)(const struct space *space, void *context), void *context)
{
    const struct space_record *record;

    LIST_FOREACH (record, &spaces, link)
        visit(&record->space, context);
}
