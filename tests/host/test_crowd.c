/* A crowd: hundreds of forked spaces beside a plain model of four pages in each of many tables. The
 * sizes are what small models never have: rings of hundreds of tables, sections and slots with more
 * than 256 references, calls that unshare more tables than a batch holds, and a swap area that is
 * full, with clean pages behind dirty ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/random.h"
#include "paging/tlb/tlb.h"
#include "pmm/pmm.h"
#include "swapdisk/area.h"
#include "tests/host/fake/machine.h"
#include "tests/host/model/space_model_host.h"
#include "tests/host/model/tree_oracle.h"
#include "vmm/page/reclaim.h"
#include "vmm/section/section.h"
#include "vmm/space/commit.h"

#define MEMORY (512 * MIB)
#define SLOTS  96U
#define START  UINT64_C(0x40000000)
#define BLOCK  MIB /* half a leaf table */

/* Blocks that lie together. They move to another such row, GIB away: entries keep their indexes. */
#define ROW    192U
#define ROWS   2U
#define BLOCKS (ROW * ROWS)

#define SHARED_START (START + ROWS * GIB)
#define SHARED_PAGES 4U

#define MEMBERS 320U
#define MANY    256U
#define ROUND   20000U
#define AUDITS  3U
#define STRIDE  8U /* of the blocks that are compared when a member ends */

_Static_assert(ROW / 2 > TLB_RELEASES_MAX, "a call unshares more tables than a batch holds");

static const struct rights read_write = {.write = true, .user = true};
static const struct rights read_only = {.user = true};

/* What a member's memory means. */
struct member {
    struct space *space;
    bool mapped[BLOCKS];
    bool writable[BLOCKS];
    uint64_t values[BLOCKS][2]; /* of each block's first and last page */
};

static struct member members[MEMBERS];
static uint64_t shared[SHARED_PAGES];
static unsigned count;
static unsigned most;       /* members at once */
static unsigned longest;    /* ring, in tables */
static uint32_t references; /* to one page, at most */
static unsigned refusals;   /* reclaim that found no slot for a page */
static struct random chosen;

static unsigned any_below(unsigned limit)
{
    return (unsigned)random_below(&chosen, limit);
}

static uint64_t block_at(unsigned block)
{
    return START + block / ROW * GIB + block % ROW * BLOCK;
}

/* ---- accesses ---- */

/* Checks whether the access is allowed; if so, writes a new value if asked, and reads it again. */
static void access_word(const struct member *member, uint64_t address, bool write, bool allowed,
                        uint64_t *value)
{
    struct phys physical;

    if (space_current() != member->space)
        space_switch(member->space);
    assert_int_equal(model_touch(address, write, &physical) >= 0, allowed);
    if (!allowed)
        return;
    if (write)
        *(uint64_t *)phys_pointer(physical) = *value = random_next(&chosen);
    assert_int_equal(*(const uint64_t *)phys_pointer(physical), *value);
}

static void access_page(struct member *member, unsigned block, unsigned last, bool write)
{
    access_word(member, block_at(block) + last * (BLOCK - PAGE_SIZE), write,
                member->mapped[block] && (!write || member->writable[block]),
                &member->values[block][last]);
}

static void access_shared(const struct member *member, unsigned page, bool write)
{
    access_word(member, SHARED_START + page * PAGE_SIZE, write, true, &shared[page]);
}

static void compare(struct member *member)
{
    for (unsigned block = any_below(STRIDE); block < BLOCKS; block += STRIDE) {
        access_page(member, block, 0, false);
        access_page(member, block, 1, false);
    }
    for (unsigned page = 0; page < SHARED_PAGES; page++)
        access_shared(member, page, false);
}

/* ---- calls ---- */

static void fork_member(const struct member *member)
{
    struct member *child = &members[count];

    if (count == MEMBERS)
        return;
    *child = *member;
    assert_int_equal(space_fork(member->space, &child->space), OK);
    count++;
    most = count > most ? count : most;
}

/* Compares a member and ends it; the last one takes its place. */
static void end_member(struct member *member)
{
    compare(member);
    space_switch(NULL);
    space_destroy(member->space);
    *member = members[--count];
}

/* Changes the rights of all blocks from one on, if all are mapped. */
static void protect_blocks(struct member *member, unsigned from, unsigned to)
{
    bool writable = any_below(2) == 0;
    enum status status = space_protect(member->space, block_at(from), (to - from) * BLOCK,
                                       writable ? read_write : read_only);
    bool hole = memchr(&member->mapped[from], false, to - from) != NULL;

    assert_int_equal(status, hole ? STATUS_NOT_FOUND : OK);
    for (unsigned block = from; block < to && !hole; block++)
        member->writable[block] = writable;
}

static void unmap_blocks(struct member *member, unsigned from, unsigned to)
{
    bool some = memchr(&member->mapped[from], true, to - from) != NULL;

    assert_int_equal(space_unmap(member->space, block_at(from), (to - from) * BLOCK),
                     some ? OK : STATUS_NOT_FOUND);
    memset(&member->mapped[from], 0, to - from);
    memset(member->values[from], 0, (to - from) * sizeof(member->values[0]));
}

static void map_block(struct member *member, unsigned block)
{
    if (member->mapped[block])
        return;
    assert_int_equal(space_map(member->space, &SPACE_AT(block_at(block), BLOCK, read_write), NULL),
                     OK);
    member->mapped[block] = true;
    member->writable[block] = true;
}

/* Moves a block to where none is: entries of a table, which may be one of many in its ring, go to
 * another such table. */
static void move_block(struct member *member, unsigned from, unsigned to)
{
    if (!member->mapped[from] || member->mapped[to])
        return;
    assert_int_equal(space_move(member->space, block_at(from), BLOCK, block_at(to)), OK);
    member->mapped[from] = false;
    member->mapped[to] = true;
    member->writable[to] = member->writable[from];
    memcpy(member->values[to], member->values[from], sizeof(member->values[to]));
    memset(member->values[from], 0, sizeof(member->values[from]));
}

/* Returns the number of tables in a table's ring. */
static unsigned ring_length(const struct frame *first)
{
    const struct frame *record = first;
    unsigned length = 1;

    if (record->kind != FRAME_TABLE || record->table.ring_next == UINT32_MAX)
        return 1;
    while ((record = frame_record((struct pfn){record->table.ring_next})) != first)
        length++;
    return length;
}

/* Measures the longest ring, and the most references to one page. */
static void measure(void)
{
    for (uint32_t i = 0; i < pmm_frame_limit(); i++) {
        const struct frame *record = frame_record((struct pfn){i});
        unsigned length = ring_length(record);

        longest = length > longest ? length : longest;
        if (record->kind == FRAME_ANONYMOUS && record->count > references)
            references = record->count;
    }
}

static struct tree all_trees[MEMBERS + 1];
static unsigned tree_count;

static void add_tree(const struct tree *tree, void *context)
{
    (void)context;
    assert_true(tree_count < ARRAY_COUNT(all_trees));
    all_trees[tree_count++] = *tree;
}

static void audit(void)
{
    struct tree_census census = space_audit();
    uint64_t tables = 0;

    tree_count = 0;
    for (unsigned i = 0; i < count; i++)
        add_tree(&members[i].space->tree, NULL);
    section_visit_trees(add_tree, NULL);
    for (unsigned level = 1; level <= TREE_LEVELS_MAX; level++)
        tables += census.tables[level];
    assert_int_equal(oracle_check(all_trees, tree_count).tables, tables);
}

static void evict_some(void)
{
    unsigned evicted;

    refusals += reclaim_pages(16, &evicted) != OK || evicted < 16;
}

/* ---- the crowd ---- */

static void step(void)
{
    struct member *member = &members[any_below(count)];
    unsigned block = any_below(BLOCKS);
    unsigned first = block - block % ROW;
    bool wide = any_below(8) == 0;
    unsigned number = any_below(100);

    if (number < 55)
        access_page(member, block, number % 2, number % 3 == 0);
    else if (number < 65)
        access_shared(member, number % SHARED_PAGES, number < 57);
    else if (number < 72)
        fork_member(member);
    else if (number < 76 && count > 1)
        end_member(member);
    else if (number < 80)
        protect_blocks(member, wide ? first : block, wide ? first + ROW : block + 1);
    else if (number < 82)
        unmap_blocks(member, block, wide ? first + ROW : block + 1);
    else if (number < 88)
        map_block(member, block);
    else if (number < 92)
        move_block(member, block, (block + ROW) % BLOCKS);
    else
        evict_some();
}

static void begin(void)
{
    struct member *first = &members[0];

    model_begin(model_seed(), 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    chosen = random_from(model_seed() + 1);
    memset(members, 0, sizeof(members));
    memset(shared, 0, sizeof(shared));
    assert_int_equal(space_create(&first->space), OK);
    assert_int_equal(space_map(first->space,
                               &SPACE_AT(SHARED_START, SHARED_PAGES * PAGE_SIZE, read_write,
                                         .flags = SPACE_SHARED),
                               NULL),
                     OK);
    count = 1;
    for (unsigned block = 0; block < ROW; block++) {
        map_block(first, block);
        access_page(first, block, block % 2, true);
    }
}

static void a_crowd_keeps_its_values(void **state)
{
    uint64_t steps = model_ops(ROUND);

    (void)state;
    begin();
    while (count < MEMBERS)
        fork_member(&members[any_below(count)]);
    for (unsigned i = 0; i < count; i++)
        access_page(&members[i], 0, 1, true);
    measure();
    for (uint64_t i = 0; i < steps; i++) {
        step();
        if ((i + 1) % (steps / AUDITS + 1) == 0)
            audit();
    }
    audit();
    while (count > 0)
        end_member(&members[any_below(count)]);
    assert_int_equal(swap_usage().used, 0);
    print_message("# %u spaces, %u tables in a ring, %u references, %u times no slot\n", most,
                  longest, references, refusals);
    assert_true(most == MEMBERS && longest > MANY && references > MANY && refusals > 0);
    model_end();
}

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crowd_keeps_its_values),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
