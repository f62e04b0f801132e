/* Private mappings of sections: they show the section's pages until they write, recall visits them
 * too, and nothing that they write reaches the section. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "swapdisk/area.h"
#include "tests/host/fake/machine.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/reclaimer/zero_merge.h"
#include "vmm/section/section.h"
#include "vmm/space/commit.h"

#define MEMORY (16 * MIB)
#define SLOTS  512U
#define START  (4 * MIB)
#define OTHER  (64 * MIB)
#define PAGES  20U
#define SIZE   (PAGES * PAGE_SIZE)

static const struct rights read_write = {.write = true, .user = true};
static const struct rights read_only = {.user = true};
static const struct rights no_access = {.none = true};
static const struct fault_access read_access = {.from_user = true};
static const struct fault_access write_access = {.write = true, .from_user = true};

static uint8_t content[SIZE];
static const struct archive archive = {.bytes = content, .size = SIZE};
static const struct pager *const pagers[] = {&pager_zero, &pager_archive};

static const struct pager *pager;
static struct section *section;
static struct space *space;

static int set_up(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SIZE; i++)
        content[i] = (uint8_t)(i * 31 + i / PAGE_SIZE + 1);
    fake_clock_step_ns = UINT64_C(100000000); /* a wait that is in vain ends soon */
    return model_start_with_swap(MEMORY, SLOTS);
}

static uint8_t first_byte(uint64_t offset)
{
    return pager == &pager_zero ? 0 : content[offset];
}

static enum status map(uint64_t at, struct rights rights, uint32_t flags)
{
    return space_map(space, &SPACE_AT(at, SIZE, rights, .flags = flags, .section = section), NULL);
}

/* Maps the section twice: shared at START, privately at OTHER. */
static void begin(const struct pager *which)
{
    pager = which;
    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(section_create(pager, &archive, SIZE, read_write, &section), OK);
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(map(START, read_write, SPACE_SHARED), OK);
    assert_int_equal(map(OTHER, read_write, 0), OK);
}

static void end(void)
{
    space_audit();
    space_destroy(space);
    section_close(section);
    assert_int_equal(section_count(), 0);
    assert_int_equal(swap_references(), 0);
    assert_int_equal(commit_pages(), 0);
    model_end();
}

static struct pte *entry_at(struct space *where, uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&where->tree, address);

    machine_interrupts_restore(were_on);
    assert_int_equal(place.level, 1);
    return (struct pte *)frame_pointer(place.table) + place.index;
}

static uint8_t *byte_in(struct space *where, uint64_t address, struct fault_access access)
{
    struct pte *entry;

    assert_int_equal(fault_resolve(where, address, access), OK);
    entry = entry_at(where, address);
    if (access.write && pte_class(*entry) == PTE_COW) /* it came from its slot, or from a fork */
        assert_int_equal(fault_resolve(where, address, access), OK);
    entry->word |= access.write ? PTE_D : 0;
    return (uint8_t *)frame_pointer(pte_frame(*entry)) + address % PAGE_SIZE;
}

static uint8_t read(uint64_t address)
{
    return *byte_in(space, address, read_access);
}

static void write(uint64_t address, uint8_t value)
{
    *byte_in(space, address, write_access) = value;
}

static void evict_all(void)
{
    unsigned evicted;

    do {
        assert_int_equal(reclaim_pages(16, &evicted), OK);
    } while (evicted > 0);
}

/* ---- what it shows ---- */

static void every_kind_passes_one_body(void **state)
{
    struct space *child;

    (void)state;
    for (unsigned i = 0; i < sizeof(pagers) / sizeof(pagers[0]); i++) {
        begin(pagers[i]);
        assert_int_equal(read(OTHER + 5000), first_byte(5000));
        write(START + 5000, 5); /* a clean page shows what the section has */
        assert_int_equal(read(OTHER + 5000), 5);
        write(OTHER + 5000, 6);
        write(OTHER + 2 * PAGE_SIZE, 7);
        assert_int_equal(read(START + 5000), 5);
        assert_int_equal(read(START + 2 * PAGE_SIZE), first_byte(2 * PAGE_SIZE));
        write(START + 5001, 8);
        assert_int_equal(read(OTHER + 5001), first_byte(5001));
        space_audit();
        evict_all();
        assert_int_equal(page_clock_size(), 0); /* clean leaves did not keep a page (rule N6) */
        assert_int_equal(read(OTHER + 5000), 6);
        assert_int_equal(read(OTHER + 2 * PAGE_SIZE), 7);
        assert_int_equal(read(OTHER + 3 * PAGE_SIZE), first_byte(3 * PAGE_SIZE));
        assert_int_equal(space_fork(space, &child), OK);
        *byte_in(child, OTHER + 5000, write_access) = 66;
        *byte_in(child, OTHER + 3 * PAGE_SIZE, write_access) = 33;
        assert_int_equal(read(OTHER + 5000), 6);
        assert_int_equal(read(START + 3 * PAGE_SIZE), first_byte(3 * PAGE_SIZE));
        assert_int_equal(*byte_in(child, OTHER + 2 * PAGE_SIZE, read_access), 7);
        space_audit();
        space_destroy(child);
        end();
    }
}

/* Don't-need drops what the mapping wrote, and no byte of the section (rule W5). */
static void dont_need_forgets_its_copies(void **state)
{
    (void)state;
    begin(&pager_archive);
    write(START, 1);
    write(OTHER, 2);
    assert_int_equal(space_advise(space, OTHER, PAGE_SIZE, SPACE_DONT_NEED), OK);
    assert_int_equal(read(OTHER), 1);
    assert_int_equal(space_advise(space, START, PAGE_SIZE, SPACE_DONT_NEED), OK);
    assert_int_equal(read(START), 1);
    end();
}

/* A copy that the mapping filled with zeros stays its own, whether pages of zeros are merged or
 * evicted: as the zero page it would become a ticket, and show the section's page again. */
static void rights_change_and_return(void **state)
{
    (void)state;
    for (unsigned evicts = 0; evicts < 2; evicts++) {
        unsigned evicted = 0;

        begin(&pager_archive);
        write(OTHER, 0);
        memset(byte_in(space, OTHER, write_access), 0, PAGE_SIZE);
        write(OTHER + PAGE_SIZE, 3);
        assert_int_equal(read(OTHER + 2 * PAGE_SIZE), content[2 * PAGE_SIZE]);
        if (evicts != 0)
            assert_int_equal(reclaim_pages(16, &evicted), OK);
        else
            (void)zero_merge(UINT32_MAX);
        assert_int_equal(evicted > 0, evicts);
        assert_int_equal(space_protect(space, OTHER, SIZE, no_access), OK);
        assert_int_equal(fault_resolve(space, OTHER, read_access), STATUS_DENIED);
        space_audit();
        assert_int_equal(space_protect(space, OTHER, SIZE, read_only), OK);
        assert_int_equal(read(OTHER + 1), 0);
        assert_int_equal(read(OTHER + PAGE_SIZE), 3);
        assert_int_equal(read(OTHER + 2 * PAGE_SIZE), content[2 * PAGE_SIZE]);
        assert_int_equal(fault_resolve(space, OTHER, write_access), STATUS_DENIED);
        assert_int_equal(space_wire(space, OTHER, PAGE_SIZE), STATUS_DENIED);
        end();
    }
}

/* What may not be written shared may be written privately; what is written is promised. */
static void a_read_only_section_may_be_written_privately(void **state)
{
    struct section *text;

    (void)state;
    begin(&pager_archive);
    section_close(section);
    space_destroy(space);
    assert_int_equal(section_create(&pager_archive, &archive, SIZE, read_only, &text), OK);
    section = text;
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(map(START, read_write, SPACE_SHARED), STATUS_DENIED);
    assert_int_equal(commit_pages(), 0);
    assert_int_equal(map(START, read_only, 0), OK);
    assert_int_equal(commit_pages(), 0);
    assert_int_equal(space_protect(space, START, SIZE, read_write), OK);
    assert_int_equal(commit_pages(), PAGES);
    write(START, 9);
    assert_int_equal(space_unmap(space, START, SIZE), OK);
    assert_int_equal(commit_pages(), 0);
    end();
}

/* ---- the section changes ---- */

static struct pfn lonely;

static void give_count_back(uint64_t address)
{
    (void)address;
    frame_record(lonely)->count++;
}

/* A count of 1 does not make the leaf own: a cut may have dropped the section's count a moment ago
 * (rule N5). The count returns before the copied page is released. */
static void a_sections_page_is_never_reused(void **state)
{
    void (*flush)(uint64_t address) = fake_on_flush_page;

    (void)state;
    begin(&pager_zero);
    write(START, 1);
    assert_int_equal(space_advise(space, START, PAGE_SIZE, SPACE_DONT_NEED), OK);
    assert_int_equal(read(OTHER), 1);
    lonely = pte_frame(*entry_at(space, OTHER));
    assert_int_equal(frame_record(lonely)->count, 2);
    space_switch(space);
    fake_on_flush_page = give_count_back;
    frame_record(lonely)->count = 1;
    assert_int_equal(fault_resolve(space, OTHER, write_access), OK);
    fake_on_flush_page = flush;
    space_switch(NULL);
    assert_false(pfn_equal(pte_frame(*entry_at(space, OTHER)), lonely));
    assert_int_equal(frame_record(lonely)->count, 1);
    end();
}

static void a_cut_takes_clean_pages(void **state)
{
    (void)state;
    begin(&pager_archive);
    assert_int_equal(read(OTHER + 6 * PAGE_SIZE), content[6 * PAGE_SIZE]);
    assert_int_equal(section_resize(section, 2 * PAGE_SIZE), OK);
    assert_int_equal(fault_resolve(space, OTHER + 6 * PAGE_SIZE, read_access), STATUS_RANGE);
    assert_int_equal(fault_resolve(space, OTHER + 6 * PAGE_SIZE, write_access), STATUS_RANGE);
    assert_int_equal(section_resize(section, SIZE), OK);
    assert_int_equal(read(OTHER + 6 * PAGE_SIZE), 0);
    end();
}

static void a_snapshot_recalls_it(void **state)
{
    struct section *snapshot;
    uint64_t done;
    uint8_t byte;

    (void)state;
    begin(&pager_zero);
    write(START, 1);
    assert_int_equal(read(OTHER), 1);
    assert_int_equal(section_snapshot(section, read_only, &snapshot), OK);
    write(START, 2);
    assert_int_equal(read(OTHER), 2);
    write(OTHER, 3);
    assert_int_equal(section_read(snapshot, 0, &byte, 1, &done), OK);
    assert_int_equal(byte, 1);
    space_audit();
    section_close(snapshot);
    assert_int_equal(read(START), 2);
    end();
}

static void it_moves_and_grows(void **state)
{
    uint64_t at = 0;

    (void)state;
    begin(&pager_archive);
    write(OTHER + PAGE_SIZE, 1);
    assert_int_equal(read(OTHER), content[0]);
    assert_int_equal(space_unmap(space, OTHER + 4 * PAGE_SIZE, SIZE - 4 * PAGE_SIZE), OK);
    assert_int_equal(space_remap(space, OTHER, 4 * PAGE_SIZE, 6 * PAGE_SIZE), OK);
    assert_int_equal(read(OTHER + 5 * PAGE_SIZE), content[5 * PAGE_SIZE]);
    assert_int_equal(
        space_map(space,
                  &SPACE_AT(OTHER + 6 * PAGE_SIZE, PAGE_SIZE, read_only, .flags = SPACE_GUARD),
                  NULL),
        OK);
    assert_int_equal(space_remap_moving(space, OTHER, 6 * PAGE_SIZE, 8 * PAGE_SIZE, &at), OK);
    assert_int_not_equal(at, OTHER);
    space_audit();
    assert_int_equal(read(at), content[0]);
    assert_int_equal(read(at + PAGE_SIZE), 1);
    assert_int_equal(read(at + 7 * PAGE_SIZE), content[7 * PAGE_SIZE]);
    end();
}

/* The index of its last page is the last that a section can have. */
static void it_grows_no_further_than_a_section(void **state)
{
    const uint64_t far = 128 * MIB;
    uint64_t at;

    (void)state;
    begin(&pager_zero);
    for (unsigned flags = 0; flags <= SPACE_SHARED; flags += SPACE_SHARED) {
        uint64_t committed = commit_pages();

        assert_int_equal(
            space_map(space,
                      &SPACE_AT(far, PAGE_SIZE, read_write, .flags = flags, .section = section,
                                .offset = SECTION_SIZE_MAX - PAGE_SIZE),
                      NULL),
            OK);
        assert_int_equal(space_remap(space, far, PAGE_SIZE, 2 * PAGE_SIZE), STATUS_RANGE);
        assert_int_equal(
            space_map(space, &SPACE_AT(far + PAGE_SIZE, PAGE_SIZE, read_only, .flags = SPACE_GUARD),
                      NULL),
            OK);
        assert_int_equal(space_remap_moving(space, far, PAGE_SIZE, 2 * PAGE_SIZE, &at),
                         STATUS_RANGE);
        space_audit();
        assert_int_equal(space_unmap(space, far, 2 * PAGE_SIZE), OK);
        assert_int_equal(commit_pages(), committed);
    }
    end();
}

/* Makes descriptors until one more has room in their last frame. */
static void leave_one_descriptor(void)
{
    struct descriptor *descriptor;
    uint32_t index = 0;

    for (unsigned i = 0; index != descriptor_limit - 2; i++) {
        struct rights rights = {
            .write = (i & 1) != 0, .execute = (i & 2) != 0, .user = (i & 4) != 0};
        struct page_hint hint = {.level = (uint8_t)(1 + i / 8 % 3), .around = (uint8_t)(i / 24)};

        assert_true(hint.around <= AROUND_MOST);
        assert_int_equal(descriptor_with_hint(rights, hint, &descriptor), OK);
        index = descriptor->index;
        descriptor_put(descriptor, 1);
    }
}

/* A change of rights needs a descriptor for each kind of mapping. The second has no memory, until
 * pages are evicted for it. */
static void a_descriptor_may_need_memory(void **state)
{
    static const struct rights of_kernel = {.write = true};
    struct descriptor *blank;

    (void)state;
    begin(&pager_zero);
    write(START, 1);
    write(OTHER, 2);
    assert_int_equal(descriptor_anonymous(of_kernel, &blank), OK);
    leave_one_descriptor();
    pmm_fail_from(1, 1);
    assert_int_equal(space_protect(space, OTHER, SIZE, of_kernel), OK);
    pmm_fail_from(0, 0);
    assert_int_equal(fault_resolve(space, OTHER, read_access), STATUS_DENIED);
    assert_int_equal(space_protect(space, OTHER, SIZE, read_write), OK);
    assert_int_equal(read(OTHER), 2);
    descriptor_put(blank, 1);
    end();
}

/* The section's page may have been here meanwhile, and its recall not flushed: no processor of the
 * space may read it after a write to the copy (rule P2). */
static void a_copy_is_seen_by_all_at_once(void **state)
{
    (void)state;
    begin(&pager_zero);
    write(START, 1);
    write(OTHER + PAGE_SIZE, 2); /* the tables are made */
    fake_processors = 3;
    fake_machine_be_cpu(1);
    space_switch(space);
    fake_machine_be_cpu(0);
    space_switch(space);
    fake_asked = 0;
    write(OTHER, 3);
    assert_int_equal(fake_asked, 2);
    assert_int_equal(read(START), 1);
    assert_int_equal(read(OTHER), 3);
    space_switch(NULL);
    fake_machine_be_cpu(1);
    space_switch(NULL);
    fake_machine_be_cpu(0);
    fake_processors = 1;
    end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_passes_one_body),
        cmocka_unit_test(dont_need_forgets_its_copies),
        cmocka_unit_test(rights_change_and_return),
        cmocka_unit_test(a_read_only_section_may_be_written_privately),
        cmocka_unit_test(a_sections_page_is_never_reused),
        cmocka_unit_test(a_cut_takes_clean_pages),
        cmocka_unit_test(a_snapshot_recalls_it),
        cmocka_unit_test(it_moves_and_grows),
        cmocka_unit_test(it_grows_no_further_than_a_section),
        cmocka_unit_test(a_descriptor_may_need_memory),
        cmocka_unit_test(a_copy_is_seen_by_all_at_once),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
