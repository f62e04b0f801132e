/* Address spaces under pressure: the same random operations with so few frames that pages go out
 * and come back all the time, and with areas that are full, damaged or broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/random.h"
#include "swapdisk/area.h"
#include "swapdisk/disks.h"
#include "tests/host/fake/hba.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/mmu.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/page/managed.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/reclaimer/reclaimer.h"
#include "vmm/section/pager.h"
#include "vmm/section/section.h"

#define MEMORY (16 * MIB)

/* More than the spaces of the model can name. */
#define SLOTS_PLENTY 2048U
#define SLOTS_FEW    12U

/* The least limit of page_set_limit: one more than the pages evicted together. */
#define LIMIT_LEAST 17U

#define ROUND      2000U
#define CHECK_EACH 24U

static int set_up(void **state)
{
    (void)state;
    model_start(MEMORY);
    fake_pci_clear();
    return 0;
}

static void open_in_ram(uint32_t slots)
{
    struct options options = {0};

    disks_scan(&options, true);
    assert_int_equal(swap_open(&options, slots), OK);
    assert_int_equal(swap_usage().backing, SWAP_BACKING_RAM);
}

static void close_area(void)
{
    page_set_limit(UINT64_MAX);
    assert_int_equal(swap_close(), OK);
}

/* Pages found in the frame that another entry had read, as far as it was seen. */
static uint64_t cached;

static void note_cached(const struct model_op *op)
{
    const struct space *space = model_space(op->space % MODEL_SPACES);

    if (op->kind == MODEL_DESTROY && space != NULL)
        cached += space_faults(space).swap_cached;
}

/* While a page is on its way, another processor may find it in the swap cache; it must not be taken
 * then, when it is in no clock. */
static uint64_t cached_on_their_way;

static void look_at_swap_cache(void)
{
    for (uint32_t i = 0; i < pmm_frame_limit(); i++) {
        const struct frame *record = frame_record((struct pfn){i});

        if (record->kind != FRAME_ANONYMOUS || (record->flags & FRAME_SWAP_CACHED) == 0 ||
            record->clock != 0)
            continue;
        CHECK_MSG((record->flags & FRAME_IO) != 0,
                  "page %x is in no clock, and can be taken from the swap cache", i);
        cached_on_their_way++;
    }
}

static void contents_survive_eviction(void **state)
{
    uint64_t ops = model_ops(100000);
    uint64_t seed = model_seed();
    struct reclaim_counts before = reclaim_counts();
    struct reclaim_counts after;
    uint64_t cleaned = 0;
    uint64_t read;

    (void)state;
    fake_on_relax = look_at_swap_cache;
    open_in_ram(SLOTS_PLENTY);
    for (uint64_t round = 0; round * ROUND < ops; round++) {
        page_set_limit(LIMIT_LEAST + round % 7 * 3);
        model_begin(seed + round, round % 3 == 2 ? 5 : 4);
        for (unsigned i = 0; i < ROUND; i++) {
            struct model_op op = model_choose();

            note_cached(&op);
            (void)model_perform(&op);
            if (round % 2 == 1 && i % 5 == 0)
                cleaned += write_behind(8);
            if (i % CHECK_EACH == 0)
                model_check();
        }
        model_end();
    }
    fake_on_relax = NULL;
    read = swap_usage().pages_read;
    close_area();
    after = reclaim_counts();
    print_message(
        "# %lu pages written, %lu clean, %lu written behind, %lu read, %lu found in a frame\n",
        after.written - before.written, after.clean - before.clean, cleaned, read, cached);
    /* Every entry of a page is always found: none was left as busy. */
    assert_int_equal(after.busy, before.busy);
    assert_true(after.written - before.written > ops / 100);
    assert_true(after.clean - before.clean > ops / 1000);
    assert_true(read > ops / 100);
    assert_true(cleaned > ops / 200);
    assert_true(cached > ops / 10000);
    assert_true(cached_on_their_way > ops / 1000);
}

/* ---- areas that fail ---- */

/* The slot of the access's page if it is out and no page of the swap cache has the slot. */
static bool slot_to_be_read(const struct model_op *op, struct slot *slot)
{
    const struct space *space = model_space(op->space);
    struct fake_walk walk =
        fake_mmu_walk(phys_of(space->tree.root), space->tree.levels, model_address(op), 1);
    struct pte entry = {walk.entry};

    if (walk.present || walk.level != 1 || pte_state(entry, 1) != PTE_SWAPPED)
        return false;
    *slot = pte_slot(entry);
    for (uint32_t i = 0; i < pmm_frame_limit(); i++) {
        const struct frame *record = frame_record((struct pfn){i});

        if (record->kind == FRAME_ANONYMOUS && (record->flags & FRAME_SWAP_CACHED) != 0 &&
            record->page.slot == slot->index)
            return false;
    }
    return true;
}

/* Turns one bit of the slot over, accesses the page, turns it back. */
static bool try_damaged(const struct model_op *op, struct slot slot, struct random *random)
{
    uint8_t *bytes = frame_pointer(swap_ram_frame(slot));
    uint64_t at = random_below(random, PAGE_SIZE);
    uint8_t bit = (uint8_t)(1U << random_below(random, 8));
    uint64_t corrupt = swap_usage().corrupt;
    enum status status;

    bytes[at] ^= bit;
    model_may_fail = true;
    status = model_perform(op);
    model_may_fail = false;
    assert_ptr_equal(bytes, frame_pointer(swap_ram_frame(slot)));
    bytes[at] ^= bit;
    assert_true(status == STATUS_CORRUPT || status == STATUS_DENIED);
    assert_int_equal(swap_usage().corrupt - corrupt, status == STATUS_CORRUPT);
    model_check();
    return status == STATUS_CORRUPT;
}

static void damaged_pages_are_reported_and_nothing_else_is_lost(void **state)
{
    uint64_t ops = model_ops(100000) / 4;
    uint64_t seed = model_seed();
    struct random random = random_from(seed);
    unsigned found = 0;

    (void)state;
    open_in_ram(SLOTS_PLENTY);
    page_set_limit(LIMIT_LEAST);
    for (uint64_t round = 0; round * ROUND < ops; round++) {
        model_begin(seed + round, 4 + round % 2);
        for (unsigned i = 0; i < ROUND; i++) {
            struct model_op op = model_choose();
            struct slot slot;

            if (op.kind == MODEL_ACCESS && slot_to_be_read(&op, &slot))
                found += try_damaged(&op, slot, &random);
            (void)model_perform(&op);
        }
        model_end();
    }
    close_area();
    assert_true(found > ops / 200);
}

/* An area that becomes full: a call that needs a page may fail, and then changes nothing. */
static void full_areas_change_no_meaning(void **state)
{
    uint64_t ops = model_ops(100000) / 4;
    uint64_t seed = model_seed();
    unsigned failures = 0;

    (void)state;
    open_in_ram(SLOTS_FEW);
    page_set_limit(LIMIT_LEAST);
    model_may_fail = true;
    for (uint64_t round = 0; round * ROUND < ops; round++) {
        model_begin(seed + round, 4 + round % 2);
        model_overcommit(OVERCOMMIT_ALWAYS);
        for (unsigned i = 0; i < ROUND; i++) {
            struct model_op op = model_choose();
            enum status status = model_perform(&op);

            assert_int_not_equal(status, STATUS_IO);
            assert_int_not_equal(status, STATUS_CORRUPT);
            failures += model_is_failure(status);
            if (i % CHECK_EACH == 0 || model_is_failure(status))
                model_check();
        }
        model_end();
    }
    model_may_fail = false;
    close_area();
    print_message("# %u failures\n", failures);
    assert_true(failures > ops / 2000);
}

/* Memory runs out while pages are out and the area needs frames to read them. */
static void failing_allocations_lose_no_page(void **state)
{
    uint64_t ops = model_ops(100000) / 50;
    uint64_t seed = model_seed();

    (void)state;
    open_in_ram(SLOTS_PLENTY);
    page_set_limit(LIMIT_LEAST);
    model_may_fail = true;
    for (uint64_t round = 0; round * 200 < ops; round++) {
        model_begin(seed + round, 4 + round % 2);
        for (unsigned i = 0; i < 200; i++) {
            struct model_op op = model_choose();

            for (uint64_t frames = 0;; frames++) {
                model_leave_frames(frames);
                if (!model_is_failure(model_perform(&op)))
                    break;
                model_check();
            }
        }
        model_end();
    }
    model_may_fail = false;
    close_area();
}

/* ---- a disk behind the whole driver ---- */

static struct fake_disk disk;
static struct fake_hba hba;

static void open_on_disk(void)
{
    struct options options = {.swap = SWAP_AUTO};

    fake_clock_step_ns = 100000;
    fake_disk_make(&disk, 32768, "Fake", "S1");
    fake_disk_prepare(&disk, 0x11);
    fake_hba_make(&hba, 1);
    fake_hba_attach(&hba, 0, FAKE_DISK, &disk);
    fake_pci_clear();
    fake_pci_add_hba((struct pci_place){0, 31, 0}, &hba);
    disks_scan(&options, true);
    assert_int_equal(swap_open(&options, 1), OK);
    assert_int_equal(swap_usage().backing, SWAP_BACKING_DISK);
}

static void close_disk(void)
{
    close_area();
    disks_stop();
    fake_pci_clear();
    fake_disk_free(&disk);
}

/* Makes the disk's command after the next n fail, also on every retry. */
static void fail_after(unsigned commands)
{
    disk.fail_from = disk.commands + commands;
    disk.fail_count = 16;
    disk.failure = FAKE_ERROR;
}

/* The first command fails, then the second, ...: until the operation needs no more of them. */
static unsigned try_with_each_error(const struct model_op *op)
{
    unsigned failures = 0;

    for (;; failures++) {
        enum status status;

        /* Not before the mark of use is on the disk: without it nothing is ever written. */
        if (disk.log_count > 0)
            fail_after(failures);
        status = model_perform(op);
        disk.fail_count = 0;
        if (!model_is_failure(status))
            return failures;
        model_check();
    }
}

static void disk_errors_lose_nothing(void **state)
{
    uint64_t ops = model_ops(100000) / 20;
    uint64_t seed = model_seed();
    unsigned failures = 0;

    (void)state;
    open_on_disk();
    page_set_limit(LIMIT_LEAST);
    model_may_fail = true;
    for (uint64_t round = 0; round * ROUND < ops; round++) {
        model_begin(seed + round, 4 + round % 2);
        for (unsigned i = 0; i < ROUND; i++) {
            struct model_op op = model_choose();

            failures += try_with_each_error(&op);
        }
        model_end();
    }
    model_may_fail = false;
    close_disk();
    assert_int_equal(hba.complaints, 0);
    print_message("# %u failures\n", failures);
    assert_true(failures > ops / 100);
}

/* ---- victims that cannot go in front of others that can ---- */

#define FRONT     64U
#define NEW_PAGES 40U
#define START     (4 * MIB)
#define FRESH     (256 * MIB)
#define MAPPINGS  300U
#define PLAIN     200U

static const struct fault_access read_access = {.from_user = true};
static const struct fault_access write_access = {.write = true, .from_user = true};

/* Returns the leaf entry of a page, which the space's tables reach. */
static struct pte entry_of(const struct space *space, uint64_t address)
{
    struct fake_walk walk =
        fake_mmu_walk(phys_of(space->tree.root), space->tree.levels, address, 1);

    assert_int_equal(walk.level, 1);
    return (struct pte){walk.entry};
}

static uint64_t *words_of(const struct space *space, uint64_t address)
{
    struct pte entry = entry_of(space, address);

    assert_int_equal(pte_state(entry, 1), PTE_LEAF);
    return frame_pointer(pte_frame(entry));
}

/* Accesses pages; those that are written get their address as content. */
static void touch_pages(struct space *space, uint64_t at, unsigned pages,
                        struct fault_access access)
{
    for (unsigned i = 0; i < pages; i++) {
        assert_int_equal(fault_resolve(space, at + i * PAGE_SIZE, access), OK);
        if (access.write)
            *words_of(space, at + i * PAGE_SIZE) = at + i * PAGE_SIZE;
    }
}

static struct space *begin_space(uint64_t at, unsigned pages, uint32_t flags)
{
    static const struct rights read_write = {.write = true, .user = true};
    struct space *space;

    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(
        space_map(space, &SPACE_AT(at, pages * PAGE_SIZE, read_write, .flags = flags), NULL), OK);
    assert_int_equal(space_map(space, &SPACE_AT(FRESH, NEW_PAGES * PAGE_SIZE, read_write), NULL),
                     OK);
    return space;
}

static void end_space(struct space *space)
{
    space_audit();
    space_destroy(space);
    model_end();
    close_area();
}

static void evict_all(unsigned pages)
{
    for (unsigned gone = 0, evicted; gone < pages; gone += evicted)
        assert_int_equal(reclaim_pages(16, &evicted), OK);
}

/* All slots are used by the clean pages behind: the dirty ones in front find none. */
static void clean_pages_behind_dirty_ones_go(void **state)
{
    struct space *space;

    (void)state;
    open_in_ram(FRONT);
    space = begin_space(START, 2 * FRONT, 0);
    touch_pages(space, START, FRONT, write_access);
    evict_all(FRONT);
    touch_pages(space, START + FRONT * PAGE_SIZE, FRONT, write_access);
    touch_pages(space, START, FRONT, read_access);
    page_set_limit(2 * FRONT);
    touch_pages(space, FRESH, NEW_PAGES, write_access);
    end_space(space);
}

/* Begins with an area whose slots are all used by pages that are out, and dirty pages in front. */
static struct space *begin_full(void)
{
    struct space *space;

    open_in_ram(FRONT);
    space = begin_space(START, 3 * FRONT, 0);
    touch_pages(space, START, FRONT, write_access);
    evict_all(FRONT);
    touch_pages(space, START + FRONT * PAGE_SIZE, FRONT, write_access);
    return space;
}

/* Pages that a pager makes again need no slot. */
static void pages_of_a_pager_behind_dirty_ones_go(void **state)
{
    static const uint8_t bytes[NEW_PAGES * PAGE_SIZE] = {1};
    static const struct archive archive = {.bytes = bytes, .size = sizeof(bytes)};
    static const struct rights read_only = {.user = true};
    uint64_t at = START + 4 * FRONT * PAGE_SIZE;
    struct section *section;
    struct space *space;

    (void)state;
    space = begin_full();
    assert_int_equal(section_create(&pager_archive, &archive, sizeof(bytes), read_only, &section),
                     OK);
    assert_int_equal(space_map(space,
                               &SPACE_AT(at, sizeof(bytes), read_only, .flags = SPACE_SHARED,
                                         .section = section),
                               NULL),
                     OK);
    touch_pages(space, at, NEW_PAGES, read_access);
    page_set_limit(FRONT + NEW_PAGES);
    touch_pages(space, FRESH, NEW_PAGES, write_access);
    assert_int_equal(pte_state(entry_of(space, at), 1), PTE_TICKET);
    section_close(section);
    end_space(space);
}

static const struct policy *policy_of_arrivals(void)
{
    unsigned place = 0;

    while (strcmp(policy_at(place)->name, "fifo") != 0)
        place++;
    return policy_at(place);
}

/* Pages of zeros need none either, with the clocks and with a policy that names every page. */
static void zeros_behind_dirty_ones_go(void **state)
{
    uint64_t at = START + 2 * FRONT * PAGE_SIZE;

    (void)state;
    for (unsigned managed = 0; managed < 2; managed++) {
        struct space *space = begin_full();

        if (managed > 0)
            assert_int_equal(managed_choose(policy_of_arrivals(), 3 * FRONT), OK);
        touch_pages(space, at, NEW_PAGES, write_access);
        for (unsigned i = 0; i < NEW_PAGES; i++)
            *words_of(space, at + i * PAGE_SIZE) = 0;
        page_set_limit(FRONT + NEW_PAGES);
        touch_pages(space, FRESH, NEW_PAGES, write_access);
        assert_true(pfn_equal(pte_frame(entry_of(space, at)), tree_zero_page()));
        assert_int_equal(managed_choose(NULL, 0), OK);
        end_space(space);
    }
}

/* Pages of a section with more mappings than are walked stay; plain pages behind them go. */
static void plain_pages_behind_shared_ones_go(void **state)
{
    struct space *space;
    uint64_t plain = START + 2ULL * MAPPINGS * PAGE_SIZE;

    (void)state;
    open_in_ram(SLOTS_PLENTY);
    space = begin_space(START, 2 * MAPPINGS, SPACE_SHARED);
    for (unsigned i = 0; i < MAPPINGS; i++)
        assert_int_equal(space_unmap(space, START + (2 * i + 1) * PAGE_SIZE, PAGE_SIZE), OK);
    assert_int_equal(space_map(space,
                               &SPACE_AT(plain, PLAIN * PAGE_SIZE,
                                         ((struct rights){.write = true, .user = true})),
                               NULL),
                     OK);
    for (unsigned i = 0; i < FRONT; i++)
        touch_pages(space, START + 2ULL * i * PAGE_SIZE, 1, write_access);
    touch_pages(space, plain, PLAIN, write_access);
    page_set_limit(FRONT + PLAIN);
    touch_pages(space, FRESH, NEW_PAGES, write_access);
    end_space(space);
}

/* ---- the swap cache, when the slots run out (rule D20) ---- */

#define CACHED   24U
#define CHILDREN 9U

/* Pages with more entries than reclaim handles keep their frames. They give their slots to others,
 * and their content stays right. */
static void pages_that_stay_give_their_slots(void **state)
{
    struct space *children[CHILDREN];
    struct space *space;
    uint64_t uncached = reclaim_counts().uncached;
    uint32_t slots;

    (void)state;
    open_in_ram(CACHED);
    slots = swap_usage().slots;
    space = begin_space(START, slots + 1, 0);
    touch_pages(space, START, slots, write_access);
    evict_all(slots);
    touch_pages(space, START, slots, read_access);
    assert_int_equal(swap_usage().used, slots);
    for (unsigned i = 0; i < CHILDREN; i++) {
        assert_int_equal(space_fork(space, &children[i]), OK);
        touch_pages(children[i], START + slots * PAGE_SIZE, 1, write_access);
    }
    touch_pages(space, START + slots * PAGE_SIZE, 1, write_access);
    page_set_limit(slots + CHILDREN + NEW_PAGES / 2);
    touch_pages(space, FRESH, NEW_PAGES, write_access);
    assert_true(reclaim_counts().uncached > uncached);
    for (unsigned i = 0; i < slots; i++)
        assert_int_equal(*words_of(children[i % CHILDREN], START + i * PAGE_SIZE),
                         START + i * PAGE_SIZE);
    for (unsigned i = 0; i < NEW_PAGES; i++) {
        assert_int_equal(fault_resolve(space, FRESH + i * PAGE_SIZE, read_access), OK);
        assert_int_equal(*words_of(space, FRESH + i * PAGE_SIZE), FRESH + i * PAGE_SIZE);
    }
    space_audit();
    for (unsigned i = 0; i < CHILDREN; i++)
        space_destroy(children[i]);
    end_space(space);
}

/* A slot that an entry names is not the page's to give: the entry finds the page by it. */
static void slots_that_entries_name_are_kept(void **state)
{
    struct space *space;
    struct space *child;

    (void)state;
    open_in_ram(FRONT);
    space = begin_space(START, CACHED + 1, 0);
    touch_pages(space, START, CACHED, write_access);
    assert_int_equal(space_fork(space, &child), OK);
    touch_pages(child, START + CACHED * PAGE_SIZE, 1, write_access);
    evict_all(CACHED + 1);
    touch_pages(space, START, CACHED, read_access);
    assert_int_equal(reclaim_free_cached_slots(1), 0);
    touch_pages(child, START, CACHED / 2, read_access);
    assert_int_equal(space_faults(child).swap_cached, CACHED / 2);
    assert_int_equal(reclaim_free_cached_slots(CACHED), CACHED / 2);
    assert_int_equal(swap_cache_size(), CACHED / 2);
    space_audit();
    space_destroy(child);
    end_space(space);
}

#define CROWD        60U
#define CROWD_LIMIT  40U
#define CROWD_SLOTS  24U
#define CROWD_ROUNDS 20000U

/* 60 pages in 40 frames and 24 slots, read and written at random: none is refused. */
static void enough_slots_are_enough(void **state)
{
    struct random random = random_from(model_seed());
    struct slot others[FRONT - CROWD_SLOTS];
    struct space *space;

    (void)state;
    open_in_ram(FRONT);
    for (unsigned i = 0; i < ARRAY_COUNT(others); i++)
        assert_int_equal(swap_alloc(&others[i]), OK);
    space = begin_space(START, CROWD, 0);
    page_set_limit(CROWD_LIMIT);
    for (unsigned i = 0; i < CROWD_ROUNDS; i++) {
        uint64_t at = START + random_below(&random, CROWD) * PAGE_SIZE;
        bool write = random_below(&random, 2) == 0;

        assert_int_equal(fault_resolve(space, at, write ? write_access : read_access), OK);
        if (write)
            *words_of(space, at) = at;
    }
    for (unsigned i = 0; i < ARRAY_COUNT(others); i++)
        swap_release(others[i]);
    end_space(space);
}

/* ---- pages of zeros ---- */

/* A page of zeros takes no slot, is not read again, and can be written. Its neighbour, whose last
 * word is set, goes to a slot. */
static void pages_of_zeros_take_no_slot(void **state)
{
    uint64_t zeroes = reclaim_counts().zeroes;
    struct space *space;
    uint64_t read;

    (void)state;
    open_in_ram(FRONT);
    space = begin_space(START, 32, 0);
    touch_pages(space, START, 32, write_access);
    for (unsigned i = 0; i < 32; i++) {
        *words_of(space, START + i * PAGE_SIZE) = 0;
        words_of(space, START + i * PAGE_SIZE)[511] = i % 4 == 3;
    }
    evict_all(32);
    assert_int_equal(reclaim_counts().zeroes - zeroes, 24);
    assert_int_equal(swap_usage().used, 8);
    read = swap_usage().pages_read;
    for (unsigned i = 0; i < 32; i++) {
        struct pte entry = entry_of(space, START + i * PAGE_SIZE);

        assert_int_equal(pte_state(entry, 1), i % 4 == 3 ? PTE_SWAPPED : PTE_LEAF);
        assert_true(i % 4 == 3 || pfn_equal(pte_frame(entry), tree_zero_page()));
    }
    touch_pages(space, START, 3, write_access);
    assert_int_equal(*words_of(space, START + PAGE_SIZE), START + PAGE_SIZE);
    assert_int_equal(words_of(space, START + PAGE_SIZE)[1], 0);
    assert_int_equal(swap_usage().pages_read, read);
    end_space(space);
}

/* While it is forbidden, as where faults are counted, pages of zeros go to slots. */
static void pages_of_zeros_may_be_told_to_take_slots(void **state)
{
    uint64_t zeroes = reclaim_counts().zeroes;
    struct space *space;

    (void)state;
    open_in_ram(FRONT);
    space = begin_space(START, 16, 0);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(fault_resolve(space, START + i * PAGE_SIZE, write_access), OK);
    reclaim_allow_zeroes(false);
    evict_all(16);
    reclaim_allow_zeroes(true);
    assert_int_equal(reclaim_counts().zeroes, zeroes);
    assert_int_equal(swap_usage().used, 16);
    end_space(space);
}

/* A withheld page of zeros cannot become the zero page: it goes to a slot, so that its frame is
 * free, and comes back. */
static void withheld_zeros_go_to_a_slot(void **state)
{
    static const struct rights none = {.none = true};
    static const struct rights read_write = {.write = true, .user = true};
    struct space *space;
    unsigned evicted;

    (void)state;
    open_in_ram(FRONT);
    space = begin_space(START, 1, 0);
    assert_int_equal(fault_resolve(space, START, write_access), OK);
    assert_int_equal(space_protect(space, START, PAGE_SIZE, none), OK);
    assert_int_equal(reclaim_pages(1, &evicted), OK);
    assert_int_equal(evicted, 1);
    assert_int_equal(swap_usage().used, 1);
    assert_int_equal(space_protect(space, START, PAGE_SIZE, read_write), OK);
    assert_int_equal(fault_resolve(space, START, read_access), OK);
    assert_int_equal(*words_of(space, START), 0);
    end_space(space);
}

/* ---- neighbours ---- */

#define NEIGHBOURS 64U

/* Evicts a batch. Returns how many pages went out; each has a slot behind that of the one before
 * it in memory. */
static unsigned evict_in_order(const struct space *space, bool *out)
{
    unsigned found = 0;
    uint32_t last = 0;
    unsigned evicted;

    assert_int_equal(reclaim_pages(16, &evicted), OK);
    for (unsigned i = 0; i < NEIGHBOURS; i++) {
        struct pte entry = entry_of(space, START + i * PAGE_SIZE);

        if (out[i] || pte_state(entry, 1) != PTE_SWAPPED)
            continue;
        out[i] = true;
        assert_true(found == 0 || pte_slot(entry).index == last + 1);
        last = pte_slot(entry).index;
        found++;
    }
    assert_int_equal(found, evicted);
    return found;
}

/* Pages that arrive in another order than that of their addresses go out in the order of these. */
static void neighbours_in_memory_are_neighbours_on_the_disk(void **state)
{
    bool out[NEIGHBOURS] = {false};
    struct space *space;
    unsigned left = NEIGHBOURS;

    (void)state;
    open_in_ram(SLOTS_PLENTY);
    space = begin_space(START, NEIGHBOURS, 0);
    for (unsigned i = 0; i < NEIGHBOURS; i++)
        touch_pages(space, START + i * 37 % NEIGHBOURS * PAGE_SIZE, 1, write_access);
    while (left > 0)
        left -= evict_in_order(space, out);
    end_space(space);
}

/* ---- a disk that dies (rule D2) ---- */

#define CLEAN 8U

/* Pages in memory whose copies are on the disk: they survive it. */
static void clean_pages_survive_a_dead_disk(void **state)
{
    struct space *space;
    unsigned evicted;

    (void)state;
    open_on_disk();
    space = begin_space(START, CLEAN + 1, 0);
    touch_pages(space, START, CLEAN, write_access);
    evict_all(CLEAN);
    touch_pages(space, START, CLEAN, read_access);
    touch_pages(space, START + CLEAN * PAGE_SIZE, 1, write_access);
    disk.fail_from = disk.commands;
    disk.fail_count = 16;
    disk.failure = FAKE_VANISH;
    assert_int_not_equal(reclaim_pages(16, &evicted), OK);
    assert_false(swap_serves((struct slot){0}));
    for (unsigned i = 0; i < 4; i++) {
        (void)reclaim_pages(16, &evicted);
        assert_int_equal(evicted, 0);
    }
    for (unsigned i = 0; i <= CLEAN; i++)
        assert_int_equal(*words_of(space, START + i * PAGE_SIZE), START + i * PAGE_SIZE);
    space_audit();
    space_destroy(space);
    model_end();
    assert_int_not_equal(swap_close(), OK);
    disks_stop();
    fake_pci_clear();
    fake_disk_free(&disk);
}

/* ---- reading ahead ---- */

#define WORKING     1024U
#define AHEAD_LIMIT 256U

/* Sets the A bit of a page, as the processor does. */
static void set_accessed(const struct space *space, uint64_t at)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&space->tree, at);

    ((struct pte *)frame_pointer(place.table))[place.index].word |= PTE_A;
    machine_interrupts_restore(were_on);
}

/* Leaves more frames in the processor's cache than one fault takes. */
static void fill_cache(void)
{
    struct pfn frames[2 * 16];

    for (unsigned i = 0; i < ARRAY_COUNT(frames); i++)
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_UNCLEARED, &frames[i]), OK);
    for (unsigned i = 0; i < ARRAY_COUNT(frames); i++)
        pmm_free(frames[i]);
}

/* Reads a page as a program does: a fault if it is not there, then its A bit. Returns the
 * faults. */
static unsigned use_page(struct space *space, uint64_t at)
{
    struct pte entry = entry_of(space, at);
    bool there = pte_present(entry);

    fill_cache();
    if (!there)
        assert_int_equal(fault_resolve(space, at, read_access), OK);
    set_accessed(space, at);
    assert_int_equal(*words_of(space, at), at);
    assert_true(page_resident() <= resident_limit); /* rule D14 */
    return !there;
}

static struct space *begin_working_set(void)
{
    struct space *space = begin_space(START, WORKING, 0);

    page_set_limit(AHEAD_LIMIT);
    touch_pages(space, START, WORKING, write_access);
    return space;
}

/* Pages of a working set four times the limit, read in order, up or down: one fault brings many. */
static void sequential_reads_fault_once_in_eight_pages(void **state)
{
    (void)state;
    for (unsigned down = 0; down < 2; down++) {
        struct space *space;
        unsigned faults = 0;

        open_in_ram(SLOTS_PLENTY);
        space = begin_working_set();
        for (unsigned i = 0; i < WORKING; i++)
            faults += use_page(space, START + (down != 0 ? WORKING - 1 - i : i) * PAGE_SIZE);
        print_message("# %u faults for %u pages, %s\n", faults, WORKING, down != 0 ? "down" : "up");
        assert_true(faults * 8 <= WORKING);
        end_space(space);
    }
}

static void random_reads_read_little_in_vain(void **state)
{
    struct random random = random_from(model_seed());
    uint64_t wasted = reclaim_counts().wasted;
    struct space *space;
    uint64_t faults = 0;
    uint64_t reads;

    (void)state;
    open_in_ram(SLOTS_PLENTY);
    space = begin_working_set();
    reads = swap_usage().pages_read;
    for (unsigned i = 0; i < 8 * WORKING; i++)
        faults += use_page(space, START + random_below(&random, WORKING) * PAGE_SIZE);
    reads = swap_usage().pages_read - reads;
    wasted = reclaim_counts().wasted - wasted;
    print_message("# %lu faults, %lu reads, %lu wasted\n", faults, reads, wasted);
    assert_true(faults > WORKING && reads * 100 <= faults * 105);
    end_space(space);
}

/* A damaged neighbour goes back to its slot in silence; a fault on it is told. */
static void a_damaged_neighbour_hurts_no_one_else(void **state)
{
    struct space *space;
    uint64_t bad = START + 20 * PAGE_SIZE;
    struct slot slot;

    (void)state;
    open_in_ram(SLOTS_PLENTY);
    space = begin_working_set();
    slot = pte_slot(entry_of(space, bad));
    *(uint64_t *)frame_pointer(swap_ram_frame(slot)) ^= 1;
    for (uint64_t at = START; at < bad; at += PAGE_SIZE)
        (void)use_page(space, at);
    assert_int_equal(pte_state(entry_of(space, bad - PAGE_SIZE), 1), PTE_LEAF);
    assert_int_equal(pte_state(entry_of(space, bad), 1), PTE_SWAPPED);
    assert_true(swap_usage().corrupt > 0);
    assert_int_equal(fault_resolve(space, bad, read_access), STATUS_CORRUPT);
    for (unsigned i = 21; i < 40; i++)
        (void)use_page(space, START + i * PAGE_SIZE);
    end_space(space);
}

/* A bad sector in the middle of a request: the faulted page is read alone. */
static void a_bad_sector_ahead_costs_one_page(void **state)
{
    uint64_t bad = START + 20 * PAGE_SIZE;
    struct space *space;

    (void)state;
    open_on_disk();
    space = begin_working_set();
    disk.bad_sector = swap_disk_offset(pte_slot(entry_of(space, bad))) / 512;
    for (uint64_t at = START; at < bad; at += PAGE_SIZE)
        (void)use_page(space, at);
    assert_true(swap_usage().errors > 0);
    assert_int_equal(fault_resolve(space, bad, read_access), STATUS_IO);
    for (unsigned i = 21; i < 40; i++)
        (void)use_page(space, START + i * PAGE_SIZE);
    space_audit();
    space_destroy(space);
    model_end();
    close_disk();
}

static void stick(void)
{
    hba.ports[0].cr_sticks = true;
}

/* A disk hangs in a read or a write, and its engine does not stop: the page is held for ever (rule
 * D1). No other page is lost, and the audits find nothing amiss. */
static void pages_that_a_disk_holds(void **state)
{
    (void)state;
    for (unsigned write = 0; write < 2; write++) {
        uint64_t resident = page_resident();
        struct space *space;
        unsigned evicted;

        open_on_disk();
        space = begin_space(START, CLEAN + 1, 0);
        touch_pages(space, START, CLEAN, write_access);
        evict_all(CLEAN);
        if (write != 0)
            touch_pages(space, START + CLEAN * PAGE_SIZE, 1, write_access);
        fake_clock_step_ns = 10000000;
        disk.fail_from = disk.commands;
        disk.fail_count = UINT64_MAX / 2;
        disk.failure = FAKE_HANG;
        disk.on_command = stick;
        if (write != 0)
            assert_int_equal(reclaim_pages(1, &evicted), STATUS_IO);
        else
            assert_int_equal(fault_resolve(space, START, read_access), STATUS_IO);
        fake_hba_look(&hba);
        space_audit();
        (void)reclaim_pages(1, &evicted);
        space_audit();
        space_destroy(space);
        assert_int_equal(page_resident(), resident + 1);
        hba.ports[0].cr_sticks = false;
        assert_int_equal(swap_close(), STATUS_IO);
        disks_stop();
        fake_disk_free(&disk);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(contents_survive_eviction),
        cmocka_unit_test(damaged_pages_are_reported_and_nothing_else_is_lost),
        cmocka_unit_test(full_areas_change_no_meaning),
        cmocka_unit_test(failing_allocations_lose_no_page),
        cmocka_unit_test(disk_errors_lose_nothing),
        cmocka_unit_test(clean_pages_behind_dirty_ones_go),
        cmocka_unit_test(pages_of_a_pager_behind_dirty_ones_go),
        cmocka_unit_test(zeros_behind_dirty_ones_go),
        cmocka_unit_test(plain_pages_behind_shared_ones_go),
        cmocka_unit_test(pages_that_stay_give_their_slots),
        cmocka_unit_test(slots_that_entries_name_are_kept),
        cmocka_unit_test(enough_slots_are_enough),
        cmocka_unit_test(pages_of_zeros_take_no_slot),
        cmocka_unit_test(pages_of_zeros_may_be_told_to_take_slots),
        cmocka_unit_test(withheld_zeros_go_to_a_slot),
        cmocka_unit_test(neighbours_in_memory_are_neighbours_on_the_disk),
        cmocka_unit_test(clean_pages_survive_a_dead_disk),
        cmocka_unit_test(sequential_reads_fault_once_in_eight_pages),
        cmocka_unit_test(random_reads_read_little_in_vain),
        cmocka_unit_test(a_damaged_neighbour_hurts_no_one_else),
        cmocka_unit_test(a_bad_sector_ahead_costs_one_page),
        cmocka_unit_test(pages_that_a_disk_holds), /* for ever: so it is the last */
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
