/*
 * Flexpages against a plain model: for each page of each space, which content it shows, with which
 * rights, and which page of which space it was lent by. The model knows no mapping, node or cut:
 * a revoke visits the pages that descend from a page, one by one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "lib/random.h"
#include "swapdisk/area.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/flex/flex.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/section/section.h"

#define MEMORY     (16 * MIB)
#define SLOTS      1024U
#define SPACES     5U
#define PAGES      40U
#define RANGE_MOST 12U
#define BASE       (2 * MIB - 20 * PAGE_SIZE) /* a table ends among the pages */
#define CONTENTS   65536U
#define OPERATIONS 12000U

struct page {
    bool mapped;
    bool lent; /* it borrows from `lender` */
    bool may_write, may_execute;
    struct rights now;
    unsigned lender_space, lender_page;
    unsigned content;
};

static struct page pages[SPACES][PAGES];
static uint8_t contents[CONTENTS];
static unsigned content_count;
static struct space *spaces[SPACES];
static struct random randomness;
static bool short_of_memory;
static bool limited;       /* lends and regions */
static unsigned counts[2]; /* calls that succeeded, and that found no memory or came to a limit */

static unsigned draw(unsigned limit)
{
    return (unsigned)random_below(&randomness, limit);
}

static uint64_t address_of(unsigned page)
{
    return BASE + page * PAGE_SIZE;
}

/* ---- the model ---- */

struct range {
    unsigned space, from, count;
};

static struct range draw_range(void)
{
    struct range range = {.space = draw(SPACES), .from = draw(PAGES)};

    range.count = 1 + draw(RANGE_MOST);
    if (range.from + range.count > PAGES)
        range.count = PAGES - range.from;
    return range;
}

static struct page *page_of(struct range range, unsigned i)
{
    return &pages[range.space][range.from + i];
}

static unsigned mapped_in(struct range range)
{
    unsigned mapped = 0;

    for (unsigned i = 0; i < range.count; i++)
        mapped += page_of(range, i)->mapped;
    return mapped;
}

static struct rights common(struct rights now, bool write, bool execute)
{
    if (!now.none) {
        now.write = now.write && write;
        now.execute = now.execute && execute;
    }
    return now;
}

static void narrow_page(struct page *page, struct rights keep)
{
    if (keep.none) {
        *page = (struct page){.mapped = false};
        return;
    }
    page->may_write = page->may_write && keep.write;
    page->may_execute = page->may_execute && keep.execute;
    page->now = common(page->now, page->may_write, page->may_execute);
}

/* Narrows all that descends from a page. */
static void narrow_descendants(unsigned space, unsigned number, struct rights keep)
{
    for (unsigned s = 0; s < SPACES; s++) {
        for (unsigned p = 0; p < PAGES; p++) {
            struct page *page = &pages[s][p];

            if (!page->mapped || !page->lent || page->lender_space != space ||
                page->lender_page != number)
                continue;
            narrow_descendants(s, p, keep);
            narrow_page(page, keep);
        }
    }
}

static void lend_page(struct page *from, unsigned space, unsigned number, struct page *to,
                      struct rights rights)
{
    *to = *from;
    to->lent = true;
    to->lender_space = space;
    to->lender_page = number;
    to->may_write = from->may_write && rights.write;
    to->may_execute = from->may_execute && rights.execute;
    to->now = (struct rights){.write = to->may_write, .execute = to->may_execute, .user = true};
}

/* The pages that a page had lent are lent by another one from now on. */
static void bequeath(unsigned space, unsigned number, unsigned to_space, unsigned to_number)
{
    for (unsigned s = 0; s < SPACES; s++) {
        for (unsigned p = 0; p < PAGES; p++) {
            struct page *page = &pages[s][p];

            if (page->mapped && page->lent && page->lender_space == space &&
                page->lender_page == number) {
                page->lender_space = to_space;
                page->lender_page = to_number;
            }
        }
    }
}

/* ---- operations ---- */

static struct rights draw_rights(void)
{
    return (struct rights){.write = draw(4) != 0, .execute = draw(2) != 0, .user = true};
}

/* Returns true if the call did what the model does next. */
static bool done(enum status status, enum status expected)
{
    if ((short_of_memory && status == STATUS_NO_MEMORY) || (limited && status == STATUS_LIMIT)) {
        counts[1]++;
        return false;
    }
    assert_int_equal(status, expected);
    counts[0] += status == OK;
    return status == OK;
}

static void map(void)
{
    struct range range = draw_range();
    enum status expected = mapped_in(range) > 0 ? STATUS_EXISTS : OK;
    struct rights rights = {.write = true, .execute = true, .user = true};

    if (!done(space_map(spaces[range.space],
                        &SPACE_AT(address_of(range.from), range.count * PAGE_SIZE, rights,
                                  .flags = SPACE_SHARED),
                        NULL),
              expected))
        return;
    for (unsigned i = 0; i < range.count; i++) {
        assert_true(content_count < CONTENTS);
        *page_of(range, i) = (struct page){.mapped = true,
                                           .may_write = true,
                                           .may_execute = true,
                                           .now = rights,
                                           .content = content_count};
        contents[content_count++] = 0;
    }
}

/* Where a range is lent to; it may overlap the range itself. */
static struct range draw_target(struct range range)
{
    return (struct range){
        .space = draw(SPACES), .from = draw(PAGES - range.count + 1), .count = range.count};
}

static enum status expected_lend(struct range from, struct range to)
{
    return mapped_in(from) < from.count ? STATUS_NOT_FOUND : mapped_in(to) > 0 ? STATUS_EXISTS : OK;
}

static void lend(void)
{
    struct range from = draw_range();
    struct range to = draw_target(from);
    struct rights rights = draw_rights();

    if (!done(flex_lend(spaces[from.space], address_of(from.from), from.count * PAGE_SIZE,
                        spaces[to.space], address_of(to.from), rights),
              expected_lend(from, to)))
        return;
    for (unsigned i = 0; i < from.count; i++)
        lend_page(page_of(from, i), from.space, from.from + i, page_of(to, i), rights);
}

static void give(void)
{
    struct range from = draw_range();
    struct range to = draw_target(from);
    struct rights rights = draw_rights();

    if (!done(flex_give(spaces[from.space], address_of(from.from), from.count * PAGE_SIZE,
                        spaces[to.space], address_of(to.from), rights),
              expected_lend(from, to)))
        return;
    for (unsigned i = 0; i < from.count; i++) {
        struct page *giver = page_of(from, i);
        struct page before = *giver;

        narrow_descendants(from.space, from.from + i, rights);
        lend_page(giver, from.space, from.from + i, page_of(to, i), rights);
        *giver = (struct page){.mapped = false};
        bequeath(from.space, from.from + i, to.space, to.from + i);
        page_of(to, i)->lent = before.lent;
        page_of(to, i)->lender_space = before.lender_space;
        page_of(to, i)->lender_page = before.lender_page;
    }
}

static void revoke(void)
{
    struct range range = draw_range();
    struct rights keep = draw(3) == 0 ? draw_rights() : (struct rights){.none = true};
    bool own = draw(4) == 0;
    struct flex_taken taken = {0};

    if (!done(flex_revoke(spaces[range.space], address_of(range.from), range.count * PAGE_SIZE,
                          keep, own, &taken),
              own && mapped_in(range) < range.count ? STATUS_NOT_FOUND : OK))
        return;
    assert_true(short_of_memory || taken.flushes == (taken.mappings > 0));
    for (unsigned i = 0; i < range.count; i++) {
        narrow_descendants(range.space, range.from + i, keep);
        if (own)
            narrow_page(page_of(range, i), keep);
    }
}

static void unmap(void)
{
    struct range range = draw_range();

    if (!done(space_unmap(spaces[range.space], address_of(range.from), range.count * PAGE_SIZE),
              mapped_in(range) == 0 ? STATUS_NOT_FOUND : OK))
        return;
    for (unsigned i = 0; i < range.count; i++) {
        narrow_descendants(range.space, range.from + i, (struct rights){.none = true});
        *page_of(range, i) = (struct page){.mapped = false};
    }
}

static void protect(void)
{
    struct range range = draw_range();
    struct rights rights = draw(4) == 0 ? (struct rights){.none = true} : draw_rights();
    enum status expected = mapped_in(range) < range.count ? STATUS_NOT_FOUND : OK;

    for (unsigned i = 0; i < range.count; i++) {
        const struct page *page = page_of(range, i);

        if (page->mapped &&
            ((rights.write && !page->may_write) || (rights.execute && !page->may_execute)))
            expected = STATUS_DENIED;
    }
    if (!done(space_protect(spaces[range.space], address_of(range.from), range.count * PAGE_SIZE,
                            rights),
              expected))
        return;
    for (unsigned i = 0; i < range.count; i++)
        page_of(range, i)->now = rights;
}

/* Ranges of several regions do not move; where a call says OK, the model moves. */
static void move(void)
{
    struct range range = draw_range();
    struct range to = {
        .space = range.space, .from = draw(PAGES - range.count + 1), .count = range.count};
    enum status status = space_move(spaces[range.space], address_of(range.from),
                                    range.count * PAGE_SIZE, address_of(to.from));

    assert_true(status == OK || status == STATUS_NOT_FOUND || status == STATUS_EXISTS ||
                status == STATUS_RANGE || (short_of_memory && status == STATUS_NO_MEMORY) ||
                (limited && status == STATUS_LIMIT));
    if (status != OK)
        return;
    for (unsigned i = 0; i < range.count; i++) {
        bequeath(range.space, range.from + i, to.space, to.from + i);
        *page_of(to, i) = *page_of(range, i);
        *page_of(range, i) = (struct page){.mapped = false};
    }
}

/* Makes a range smaller; where a call says OK, the model does. */
static void shrink(void)
{
    struct range range = draw_range();
    unsigned left = 1 + draw(range.count);
    enum status status = space_remap(spaces[range.space], address_of(range.from),
                                     range.count * PAGE_SIZE, left * PAGE_SIZE);

    assert_true(status == OK || status == STATUS_NOT_FOUND ||
                (short_of_memory && status == STATUS_NO_MEMORY) ||
                (limited && status == STATUS_LIMIT));
    for (unsigned i = left; status == OK && i < range.count; i++) {
        narrow_descendants(range.space, range.from + i, (struct rights){.none = true});
        *page_of(range, i) = (struct page){.mapped = false};
    }
}

/* Unwires a range behind a page that is wired, which lies before the others. */
static void unwire(void)
{
    struct range range = {.space = draw(SPACES), .count = 1 + draw(PAGES)};
    struct space *space = spaces[range.space];
    uint64_t size = (range.count + 1) * PAGE_SIZE;
    struct rights rights = {.write = true, .user = true};
    enum status status = space_map(space, &SPACE_AT(BASE - PAGE_SIZE, PAGE_SIZE, rights), NULL);

    if (status == OK || status == STATUS_EXISTS)
        status = space_wire(space, BASE - PAGE_SIZE, PAGE_SIZE);
    if (status == OK && draw(4) != 0)
        (void)done(space_unwire(space, BASE - PAGE_SIZE, size),
                   mapped_in(range) < range.count ? STATUS_NOT_FOUND : OK);
}

static void end_space(unsigned space)
{
    space_destroy(spaces[space]);
    for (unsigned i = 0; i < PAGES; i++) {
        narrow_descendants(space, i, (struct rights){.none = true});
        pages[space][i] = (struct page){.mapped = false};
    }
}

/* One space ends, and becomes a fork of another, or a new one. */
static void replace_space(void)
{
    unsigned to = draw(SPACES);
    unsigned from = (to + 1 + draw(SPACES - 1)) % SPACES;
    enum status status;

    end_space(to);
    if (draw(2) == 0) {
        status = space_fork(spaces[from], &spaces[to]);
        if (done(status, OK)) {
            memcpy(pages[to], pages[from], sizeof(pages[to]));
            return;
        }
    }
    model_leave_frames(200);
    assert_int_equal(space_create(&spaces[to]), OK);
}

static uint8_t *byte_of(struct space *space, uint64_t address, bool write)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&space->tree, address);
    struct pte *entry = (struct pte *)frame_pointer(place.table) + place.index;

    machine_interrupts_restore(were_on);
    assert_int_equal(place.level, 1);
    entry->word |= PTE_A | (write ? PTE_D : 0);
    return frame_pointer(pte_frame(*entry));
}

static void touch_page(unsigned space, unsigned number, bool write)
{
    const struct page *page = &pages[space][number];
    struct fault_access access = {.write = write, .from_user = true};
    enum status status = fault_resolve(spaces[space], address_of(number), access);
    enum status expected = !page->mapped                                   ? STATUS_NOT_FOUND
                           : page->now.none || (write && !page->now.write) ? STATUS_DENIED
                                                                           : OK;
    uint8_t *byte;

    if (short_of_memory && status == STATUS_NO_MEMORY)
        return;
    assert_int_equal(status, expected);
    if (status != OK)
        return;
    byte = byte_of(spaces[space], address_of(number), write);
    assert_int_equal(*byte, contents[page->content]);
    if (write)
        contents[page->content] = *byte = (uint8_t)random_next(&randomness);
}

static void evict_some(void)
{
    unsigned evicted;

    (void)done(reclaim_pages(1 + draw(16), &evicted), OK);
}

static void dont_need(void)
{
    struct range range = draw_range();

    (void)done(space_advise(spaces[range.space], address_of(range.from), range.count * PAGE_SIZE,
                            SPACE_DONT_NEED),
               mapped_in(range) < range.count ? STATUS_NOT_FOUND : OK);
}

static void operate(void)
{
    switch (draw(36)) {
    case 0: replace_space(); break;
    case 1:
    case 2: map(); break;
    case 3: unmap(); break;
    case 4: give(); break;
    case 5:
    case 6: revoke(); break;
    case 7: move(); break;
    case 8: evict_some(); break;
    case 9: dont_need(); break;
    case 17: shrink(); break;
    case 18:
    case 19: unwire(); break;
    case 10:
    case 11: protect(); break;
    case 12:
    case 13:
    case 14:
    case 15:
    case 16: lend(); break;
    default: touch_page(draw(SPACES), draw(PAGES), draw(2) == 0);
    }
}

/* ---- runs ---- */

static void compare(void)
{
    space_audit();
    for (unsigned s = 0; s < SPACES; s++) {
        for (unsigned p = 0; p < PAGES; p++) {
            const struct page *page = &pages[s][p];
            struct space_view view;
            bool mapped =
                space_query(spaces[s], address_of(p), &view) == OK && view.start <= address_of(p);

            assert_int_equal(mapped, page->mapped);
            if (!mapped)
                continue;
            assert_int_equal(view.rights.none, page->now.none);
            if (!view.rights.none) {
                assert_int_equal(view.rights.write, page->now.write);
                assert_int_equal(view.rights.execute, page->now.execute);
            }
            touch_page(s, p, false);
        }
    }
}

static void run(uint64_t seed, bool shorten)
{
    uint64_t operations = model_ops(OPERATIONS);

    randomness = random_from(model_seed() + seed);
    memset(pages, 0, sizeof(pages));
    content_count = 0;
    model_begin(seed, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    for (unsigned i = 0; i < SPACES; i++)
        assert_int_equal(space_create(&spaces[i]), OK);
    for (uint64_t i = 0; i < operations; i++) {
        if (shorten && i % 4 == 0) {
            short_of_memory = draw(2) == 0;
            model_leave_frames(short_of_memory ? draw(24) : 500);
            limited = draw(3) == 0;
            flex_set_limit(limited ? 1 + draw(12) : 0);
            space_set_region_limit(limited ? 2 + draw(12) : 0);
        }
        operate();
        if (i % 100 == 0 || content_count > CONTENTS - 2 * RANGE_MOST) {
            short_of_memory = limited = false;
            flex_set_limit(0);
            space_set_region_limit(0);
            model_leave_frames(500);
            compare();
        }
        if (content_count > CONTENTS - 2 * RANGE_MOST)
            break;
    }
    short_of_memory = limited = false;
    flex_set_limit(0);
    space_set_region_limit(0);
    model_leave_frames(500);
    for (unsigned i = 0; i < SPACES; i++)
        space_destroy(spaces[i]);
    assert_int_equal(section_count(), 0);
    assert_int_equal(swap_references(), 0);
    model_end();
    printf("%u calls succeeded, %u found no memory\n", counts[0], counts[1]);
}

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

static void lends_are_a_tree_of_pages(void **state)
{
    (void)state;
    run(1, false);
    run(2, false);
}

static void a_call_without_memory_changes_nothing(void **state)
{
    (void)state;
    run(3, true);
    assert_true(counts[1] > 20);
}

static void few_pages_at_a_time_suffice(void **state)
{
    (void)state;
    page_set_limit(20);
    run(4, false);
    page_set_limit(UINT64_MAX);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(lends_are_a_tree_of_pages),
        cmocka_unit_test(a_call_without_memory_changes_nothing),
        cmocka_unit_test(few_pages_at_a_time_suffice),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
