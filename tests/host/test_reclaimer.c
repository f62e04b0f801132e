/* The background reclaimer: what it evicts and writes behind, beside stores to the same pages, with
 * disks that fail, and without any free frame. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "swapdisk/area.h"
#include "swapdisk/disks.h"
#include "tests/host/fake/hba.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/mmu.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/reclaimer/reclaimer.h"

#define MEMORY (16 * MIB)
#define START  (4 * MIB)
#define PAGES  64U
#define CLEAN  16U

static const struct rights read_write = {.write = true, .user = true};
static const struct fault_access read_access = {.from_user = true};
static const struct fault_access write_access = {.write = true, .from_user = true};

static struct space *space;
static struct fake_disk disk;
static struct fake_hba hba;

static int set_up(void **state)
{
    (void)state;
    model_start(MEMORY);
    return 0;
}

static uint64_t at_page(unsigned page)
{
    return START + page * PAGE_SIZE;
}

static struct pte *entry_of(const struct space *of, uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&of->tree, address);

    machine_interrupts_restore(were_on);
    assert_int_equal(place.level, 1);
    return (struct pte *)frame_pointer(place.table) + place.index;
}

/* Writes or reads the first word of a page as a program does, with its A and D bits. */
static uint64_t use(struct space *of, uint64_t address, const uint64_t *value)
{
    struct fault_access access = value != NULL ? write_access : read_access;
    struct pte *entry = entry_of(of, address);

    while (!pte_present(*entry) || (value != NULL && (entry->word & PTE_RW) == 0)) {
        assert_int_equal(fault_resolve(of, address, access), OK);
        entry = entry_of(of, address);
    }
    entry->word |= PTE_A | (value != NULL ? PTE_D : 0);
    if (value != NULL)
        *(uint64_t *)frame_pointer(pte_frame(*entry)) = *value;
    return *(uint64_t *)frame_pointer(pte_frame(*entry));
}

static void store(uint64_t address, uint64_t value)
{
    assert_int_equal(use(space, address, &value), value);
}

static void begin(bool on_disk)
{
    struct options options = {.swap = SWAP_AUTO};

    fake_pci_clear();
    if (on_disk) {
        fake_clock_step_ns = 100000;
        fake_disk_make(&disk, 32768, "Fake", "S1");
        fake_disk_prepare(&disk, 0x11);
        fake_hba_make(&hba, 1);
        fake_hba_attach(&hba, 0, FAKE_DISK, &disk);
        fake_pci_add_hba((struct pci_place){0, 31, 0}, &hba);
    }
    disks_scan(&options, true);
    assert_int_equal(swap_open(&options, 8 * PAGES), OK);
    assert_int_equal(swap_usage().backing, on_disk ? SWAP_BACKING_DISK : SWAP_BACKING_RAM);
    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(space_map(space, &SPACE_AT(START, PAGES * PAGE_SIZE, read_write), NULL), OK);
    for (unsigned i = 0; i < PAGES; i++) {
        assert_int_equal(fault_resolve(space, at_page(i), write_access), OK);
        store(at_page(i), at_page(i));
    }
}

static void end(bool on_disk)
{
    space_audit();
    space_destroy(space);
    model_end();
    page_set_limit(UINT64_MAX);
    reclaimer_set_marks((struct reclaimer_marks){0});
    if (on_disk && !swap_serves_any())
        assert_int_not_equal(swap_close(), OK);
    else
        assert_int_equal(swap_close(), OK);
    if (!on_disk)
        return;
    disks_stop();
    fake_pci_clear();
    fake_disk_free(&disk);
}

static unsigned read_only_pages(void)
{
    unsigned found = 0;

    for (unsigned i = 0; i < PAGES; i++) {
        struct pte entry = *entry_of(space, at_page(i));

        found += pte_present(entry) && (entry.word & PTE_RW) == 0;
    }
    return found;
}

/* Lets the hand pass all pages once, so that later looks find them unused. */
static void pass_all(void)
{
    for (unsigned i = 0; i < PAGES; i++)
        entry_of(space, at_page(i))->word &= ~PTE_A;
}

/* ---- write-behind ---- */

/* Pages that were used stay writable; unused ones are written, stay mapped, and go first, without
 * another write. */
static void unused_pages_become_clean_and_go_first(void **state)
{
    struct reclaim_counts before = reclaim_counts();
    struct reclaim_counts after;
    unsigned evicted;

    (void)state;
    begin(true);
    assert_int_equal(write_behind(CLEAN), 0);
    pass_all();
    assert_int_equal(write_behind(CLEAN), CLEAN);
    assert_int_equal(swap_usage().pages_written, CLEAN);
    assert_int_equal(swap_usage().used, CLEAN);
    assert_int_equal(read_only_pages(), CLEAN);
    space_audit();
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(*(uint64_t *)frame_pointer(pte_frame(*entry_of(space, at_page(i)))),
                         at_page(i));
    assert_int_equal(reclaim_pages(CLEAN, &evicted), OK);
    after = reclaim_counts();
    assert_int_equal(evicted, CLEAN);
    assert_int_equal(after.clean - before.clean, CLEAN);
    assert_int_equal(swap_usage().pages_written, CLEAN);
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(use(space, at_page(i), NULL), at_page(i));
    end(true);
}

/* The last owner of a page that was written behind writes to it again without a copy; its slot is
 * free then. */
static void a_clean_page_is_written_again(void **state)
{
    (void)state;
    begin(true);
    pass_all();
    assert_int_equal(write_behind(CLEAN), CLEAN);
    for (unsigned i = 0; i < PAGES; i++)
        store(at_page(i), i);
    assert_int_equal(space_faults(space).fast[FAULT_COW_COPY], 0);
    assert_int_equal(swap_usage().used, 0);
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(use(space, at_page(i), NULL), i);
    end(true);
}

static bool stored;

/* Runs while the disk writes: stores to every page that is read-only by then. */
static void store_meanwhile(void)
{
    fake_on_relax = NULL;
    for (unsigned i = 0; i < PAGES; i++) {
        if ((entry_of(space, at_page(i))->word & PTE_RW) == 0)
            store(at_page(i), 7000 + i);
    }
    stored = true;
}

/* A store while the page is written is a copy: what the disk gets is of no use then, and the slot
 * is free. */
static void stores_beside_the_write_are_kept(void **state)
{
    uint64_t vain = reclaimer_counts().vain;
    unsigned changed = 0;

    (void)state;
    begin(true);
    pass_all();
    stored = false;
    hba.latency = 20;
    fake_on_relax = store_meanwhile;
    assert_int_equal(write_behind(CLEAN), 0);
    hba.latency = 0;
    assert_true(stored);
    assert_int_equal(reclaimer_counts().vain - vain, CLEAN);
    assert_int_equal(swap_usage().used, 0);
    for (unsigned i = 0; i < PAGES; i++) {
        uint64_t value = use(space, at_page(i), NULL);

        assert_true(value == at_page(i) || value == 7000 + i);
        changed += value == 7000 + i;
    }
    assert_int_equal(changed, CLEAN);
    end(true);
}

/* A disk that fails leaves the pages dirty and in memory. */
static void failed_writes_leave_pages_dirty(void **state)
{
    unsigned evicted;

    (void)state;
    begin(true);
    pass_all();
    disk.fail_from = disk.commands;
    disk.fail_count = 64;
    disk.failure = FAKE_VANISH;
    assert_int_equal(write_behind(CLEAN), 0);
    assert_false(swap_serves_any());
    assert_int_equal(swap_usage().used, 0);
    assert_int_equal(write_behind(CLEAN), 0);
    (void)reclaim_pages(CLEAN, &evicted);
    assert_int_equal(evicted, 0);
    for (unsigned i = 0; i < PAGES; i++) {
        assert_int_equal(use(space, at_page(i), NULL), at_page(i));
        store(at_page(i), i);
    }
    end(true);
}

/* ---- marks ---- */

static uint64_t woken;

static void count_wakes(void)
{
    woken++;
}

/* It begins below low, evicts up to high, keeps some pages clean, and stops; faults then evict
 * nothing themselves. */
static void it_works_from_low_to_high(void **state)
{
    struct reclaimer_counts before = reclaimer_counts();
    struct reclaim_counts evicted;
    unsigned steps = 0;

    (void)state;
    begin(false);
    page_set_limit(PAGES + 8);
    reclaimer_set_marks((struct reclaimer_marks){.low = 8, .high = 24, .ahead = CLEAN});
    assert_int_equal(page_room(), 8);
    while (reclaimer_step() && steps < 100)
        steps++;
    assert_true(page_room() >= 8 && steps < 100);
    page_on_low(count_wakes, 8);
    assert_int_equal(space_map(space, &SPACE_AT(START * 64, PAGES * PAGE_SIZE, read_write), NULL),
                     OK);
    woken = 0;
    for (unsigned i = 0; woken == 0 && i < PAGES; i++) {
        assert_int_equal(fault_resolve(space, START * 64 + i * PAGE_SIZE, write_access), OK);
        *(uint64_t *)frame_pointer(pte_frame(*entry_of(space, START * 64 + i * PAGE_SIZE))) = 1;
    }
    assert_int_equal(woken, 1);
    page_on_low(NULL, 0);
    assert_true(page_room() < 8 && page_room() > 0);
    pass_all();
    for (steps = 0; reclaimer_step() && steps < 100;)
        steps++;
    assert_true(page_room() >= 24 && steps < 100);
    assert_true(reclaimer_counts().cleaned > before.cleaned);
    evicted = reclaim_counts();
    for (unsigned i = 0; i < 16; i++)
        (void)use(space, at_page(i), NULL);
    assert_int_equal(reclaim_counts().looked_at, evicted.looked_at);
    end(false);
}

/* A full area takes no page: clean ones behind a batch of dirty ones go nevertheless. */
static void clean_pages_go_though_the_area_is_full(void **state)
{
    struct slot slots[8 * PAGES];
    struct slot slot;
    unsigned taken_slots = 0;
    struct reclaim_counts before;

    (void)state;
    begin(false);
    for (unsigned i = 0; i < CLEAN; i++)
        entry_of(space, at_page(i))->word &= ~PTE_A;
    for (unsigned cleaned = 0, looks = 0; cleaned < CLEAN && looks < 100; looks++)
        cleaned += write_behind(CLEAN);
    assert_int_equal(read_only_pages(), CLEAN);
    pass_all();
    for (unsigned i = 0; i < CLEAN; i++) /* used: the first pass chooses the others */
        (void)use(space, at_page(i), NULL);
    while (swap_alloc(&slot) == OK)
        slots[taken_slots++] = slot;
    assert_int_equal(taken_slots, 8 * PAGES - CLEAN);
    /* The slots of the clean pages have a further owner: emptying the swap cache frees none. */
    for (slot.index = 0; taken_slots < 8 * PAGES; slot.index++) {
        bool ours = false;

        for (unsigned i = 0; i < 8 * PAGES - CLEAN; i++)
            ours = ours || slots[i].index == slot.index;
        if (ours || swap_count(slot) == 0)
            continue;
        swap_hold(slot);
        slots[taken_slots++] = slot;
    }
    page_set_limit(PAGES + 4);
    reclaimer_set_marks((struct reclaimer_marks){.low = 8, .high = 8});
    before = reclaim_counts();
    assert_true(reclaimer_step());
    assert_true(reclaim_counts().clean > before.clean);
    for (unsigned i = 0; i < taken_slots; i++)
        swap_release(slots[i]);
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(use(space, at_page(i), NULL), at_page(i));
    end(false);
}

/* ---- no free frame ---- */

#define WRITERS 4U
#define ROUNDS  200U

static struct pfn taken;

/* Takes all frames; each has the number of the one before it. */
static void take_all_frames(void)
{
    struct pfn frame;

    taken = PFN_NONE;
    while (pmm_alloc(FRAME_TABLE, FRAME_UNCLEARED, &frame) == OK) {
        *(struct pfn *)frame_pointer(frame) = taken;
        taken = frame;
    }
}

static void give_all_frames(void)
{
    while (!pfn_is_none(taken)) {
        struct pfn frame = taken;

        taken = *(struct pfn *)frame_pointer(frame);
        pmm_free(frame);
    }
}

/* Four writers go on though no frame is free: what swap-out needs, it has (rule D10). Their pages
 * are half on the disk before. */
static void writers_go_on_without_a_free_frame(void **state)
{
    struct space *writers[WRITERS];
    uint64_t read;
    uint64_t value;

    (void)state;
    begin(true);
    for (unsigned w = 0; w < WRITERS; w++) {
        assert_int_equal(space_create(&writers[w]), OK);
        assert_int_equal(
            space_map(writers[w], &SPACE_AT(START, PAGES * PAGE_SIZE, read_write), NULL), OK);
        for (unsigned i = 0; i < PAGES; i++) {
            value = w << 16 | i;
            assert_int_equal(fault_resolve(writers[w], at_page(i), write_access), OK);
            (void)use(writers[w], at_page(i), &value);
        }
    }
    for (unsigned gone = 0, evicted; gone < WRITERS * PAGES / 2; gone += evicted)
        assert_int_equal(reclaim_pages(16, &evicted), OK);
    take_all_frames();
    read = swap_usage().pages_read;
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned w = 0; w < WRITERS; w++) {
            unsigned i = (round * 7 + w) % PAGES;

            assert_int_equal(use(writers[w], at_page(i), NULL) & 0xffffff, w << 16 | i);
            value = (uint64_t)round << 32 | w << 16 | i;
            (void)use(writers[w], at_page(i), &value);
        }
        if (round % 8 == 0)
            (void)write_behind(CLEAN);
    }
    assert_true(swap_usage().pages_read - read > ROUNDS);
    give_all_frames();
    for (unsigned w = 0; w < WRITERS; w++) {
        for (unsigned i = 0; i < PAGES; i++)
            assert_int_equal(use(writers[w], at_page(i), NULL) & 0xffffff, w << 16 | i);
        space_audit();
        space_destroy(writers[w]);
    }
    end(true);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(unused_pages_become_clean_and_go_first),
        cmocka_unit_test(a_clean_page_is_written_again),
        cmocka_unit_test(stores_beside_the_write_are_kept),
        cmocka_unit_test(failed_writes_leave_pages_dirty),
        cmocka_unit_test(it_works_from_low_to_high),
        cmocka_unit_test(clean_pages_go_though_the_area_is_full),
        cmocka_unit_test(writers_go_on_without_a_free_frame),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
