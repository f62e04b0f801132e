/* Compares address spaces with a plain model of their meaning: rounds and random operations. */
#include "lib/bytes.h"
#include "tests/model/space_internal.h"
#include "vmm/space/commit.h"

/* ---- rounds ---- */

static void model_sort(uint64_t *numbers, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        uint64_t number = numbers[i];
        unsigned at = i;

        for (; at > 0 && numbers[at - 1] > number; at--)
            numbers[at] = numbers[at - 1];
        numbers[at] = number;
    }
}

static uint64_t bound_near(uint64_t place, int pages, uint64_t limit)
{
    uint64_t at = place + (uint64_t)(int64_t)pages * PAGE_SIZE;

    return at >= PAGE_SIZE && at <= limit ? at : SPACE_FIRST_ADDRESS;
}

/* Chooses bounds near addresses where levels meet. The first group may be repeated at another
 * address, so that a move finds cells there. */
static void choose_bounds(void)
{
    static const uint64_t distances[] = {2 * MIB, 6 * MIB, GIB, 3 * GIB, 512 * GIB};
    static const uint64_t places[] = {2 * MIB,
                                      4 * MIB,
                                      6 * MIB,
                                      512 * MIB,
                                      1 * GIB,
                                      GIB + 2 * MIB,
                                      2 * GIB,
                                      511 * GIB,
                                      512 * GIB,
                                      512 * GIB + 2 * MIB,
                                      1024 * GIB,
                                      1536 * GIB + GIB,
                                      1 << 16,
                                      1 << 16,
                                      UINT64_C(1) << 47,
                                      UINT64_C(1) << 48,
                                      (UINT64_C(1) << 48) + GIB,
                                      UINT64_C(1) << 56};
    static const int pages[] = {-513, -2, -1, 0, 1, 3, 512};
    uint64_t limit = UINT64_C(1) << (model()->levels == 4 ? 47 : 56);
    unsigned wanted = 12 + (unsigned)any(50);
    unsigned kept = 0;
    unsigned places_used = 2 + (unsigned)any(4);
    uint64_t distance = chance(70) ? distances[any(ARRAY_COUNT(distances))] : 0;
    uint64_t chosen[6];

    for (unsigned i = 0; i < places_used; i++)
        chosen[i] = places[any(ARRAY_COUNT(places))];
    for (unsigned i = 0; i < wanted; i++) {
        unsigned place = (unsigned)any(places_used);
        int offset = pages[any(ARRAY_COUNT(pages))];

        model()->bounds[i] = bound_near(chosen[place], offset, limit);
        if (place == 0 && distance != 0 && i + 1 < wanted)
            model()->bounds[++i] = bound_near(chosen[0] + distance, offset, limit);
    }
    model()->bounds[wanted] = SPACE_FIRST_ADDRESS;
    model()->bounds[wanted + 1] = SPACE_FIRST_ADDRESS + 5 * PAGE_SIZE;
    model_sort(model()->bounds, wanted + 2);
    for (unsigned i = 1; i < wanted + 2; i++) {
        if (model()->bounds[i] != model()->bounds[kept])
            model()->bounds[++kept] = model()->bounds[i];
    }
    model()->cell_count = kept;
}

void model_overcommit(enum overcommit_policy way)
{
    model()->overcommit = way;
    commit_choose(way);
}

void model_begin(uint64_t seed, unsigned levels)
{
    memset(&model()->spaces, 0, sizeof(model()->spaces));
    memset(&model()->shares, 0, sizeof(model()->shares));
    memset(&model()->groups, 0, sizeof(model()->groups));
    model()->lane = 0;
    model()->seed = seed;
    model()->random = random_from(seed);
    model()->levels = levels;
    model()->done = 0;
    model()->op = (struct model_op){0};
    model()->running = MODEL_SPACES;
    model_machine_begin();
    choose_bounds();
    model_overcommit(model_machine_overcommit());
    model()->at_start = pmm_usage();
    model()->descriptors_at_start = descriptor_limit;
}

struct space *model_space(unsigned number)
{
    return model()->spaces[number].space;
}

/* ---- choosing ---- */

static struct rights some_rights(void)
{
    if (chance(4))
        return (struct rights){.none = true};
    if (chance(70))
        return (struct rights){.write = true, .execute = chance(20), .user = true};
    return (struct rights){.write = chance(50), .execute = chance(50), .user = chance(70)};
}

static unsigned some_space(void)
{
    unsigned number = (unsigned)any(MODEL_SPACES);

    if (model()->running < MODEL_SPACES && chance(70))
        return model()->running;
    for (unsigned i = 0; i < MODEL_SPACES; i++, number = (number + 1) % MODEL_SPACES) {
        if (model()->spaces[number].space != NULL)
            return number;
    }
    return MODEL_SPACES;
}

static enum model_kind some_kind(void)
{
    static const uint8_t weights[] = {
        [MODEL_ACCESS] = 40,    [MODEL_RESOLVE] = 5,    [MODEL_LOOK] = 8,
        [MODEL_MAP] = 6,        [MODEL_MAP_ZEROES] = 2, [MODEL_MAP_FOUND] = 2,
        [MODEL_GUARD] = 1,      [MODEL_UNMAP] = 3,      [MODEL_PROTECT] = 4,
        [MODEL_WILL_NEED] = 1,  [MODEL_DONT_NEED] = 2,  [MODEL_COLD] = 1,
        [MODEL_QUERY] = 1,      [MODEL_REMAP] = 2,      [MODEL_FORK] = 3,
        [MODEL_CREATE] = 0,     [MODEL_DESTROY] = 1,    [MODEL_ZERO_SCAN] = 1,
        [MODEL_SWITCH] = 4,     [MODEL_COLLAPSE] = 2,   [MODEL_MOVE] = 3,
        [MODEL_WIRE] = 2,       [MODEL_UNWIRE] = 1,     [MODEL_SEQUENTIAL] = 1,
        [MODEL_ONE_BY_ONE] = 1, [MODEL_MAP_SHARED] = 3};
    uint64_t number = any(100);

    _Static_assert(ARRAY_COUNT(weights) == MODEL_KINDS, "one weight for each kind");
    for (unsigned kind = 0; kind < MODEL_KINDS; kind++) {
        if (number < weights[kind])
            return (enum model_kind)kind;
        number -= weights[kind];
    }
    PANIC("the weights are not a hundred");
}

/* Chooses a cell; operations on memory prefer one that has memory. */
static unsigned some_cell(const struct model_op *op)
{
    unsigned cell = (unsigned)any(model()->cell_count);
    bool memory = (op->kind == MODEL_ACCESS || op->kind == MODEL_RESOLVE ||
                   (op->kind >= MODEL_PROTECT && op->kind <= MODEL_REMAP)) &&
                  chance(85);

    for (unsigned i = 0; memory && op->space < MODEL_SPACES && i < model()->cell_count; i++) {
        if (cell_is_memory(&model()->spaces[op->space].cells[cell]))
            break;
        cell = (cell + 1) % model()->cell_count;
    }
    return cell;
}

/* Chooses the target of a move: often a bound at an aligned distance, else any address. */
static uint64_t some_place(const struct model_op *op)
{
    uint64_t start = model()->bounds[op->from];
    uint64_t size = model()->bounds[op->to] - start;
    uint64_t distance = pte_span(1 + (unsigned)any(model()->levels)) * (1 + any(3));

    for (unsigned tries = 0; tries < model()->cell_count && chance(95); tries++) {
        uint64_t bound = model()->bounds[any(model()->cell_count)];

        if (bound != start && (bound - start) % model_move_alignment(size) == 0)
            return bound;
    }
    return chance(50) ? start + distance : start - distance;
}

/* Returns the end of a range to move; mostly within a single region. */
static unsigned end_in_region(const struct model_op *op)
{
    unsigned from;
    unsigned to;

    if (op->space == MODEL_SPACES || chance(10))
        return op->to;
    model_region_of(&model()->spaces[op->space], op->from, &from, &to);
    return op->to < to ? op->to : to;
}

struct model_op model_choose(void)
{
    struct model_op op = {.kind = some_kind(), .space = some_space()};

    op.from = some_cell(&op);
    op.to = op.from + 1 + (unsigned)any(chance(70) ? 3 : model()->cell_count);
    if (op.to > model()->cell_count)
        op.to = model()->cell_count;
    op.new_to = op.from + 1 + (unsigned)any(model()->cell_count - op.from);
    op.rights = some_rights();
    op.alignment = PAGE_SIZE << (chance(50) ? 0 : chance(50) ? 9 : 18);
    op.populate = chance(70) ? 0 : chance(60) ? SPACE_POPULATED : SPACE_WIRED;
    op.page = (unsigned)any(2);
    op.word = (unsigned)any(2);
    op.shared = chance(40);
    op.write = chance(45);
    op.execute = !op.write && chance(15);
    op.user = chance(80);
    op.ac = chance(70);
    if (op.kind == MODEL_MOVE) {
        op.to = end_in_region(&op);
        op.place = some_place(&op);
    }
    if (op.space == MODEL_SPACES)
        op.kind = MODEL_CREATE;
    return op;
}

uint64_t model_address(const struct model_op *op)
{
    uint64_t page =
        op->page == 0 ? model()->bounds[op->from] : model()->bounds[op->from + 1] - PAGE_SIZE;

    uint64_t lane = 0;

    if (op->space < MODEL_SPACES && model()->spaces[op->space].cells[op->from].kind == CELL_SHARED)
        lane = model()->lane * sizeof(uint64_t);
    return page + (op->word == 0 ? lane : PAGE_SIZE - sizeof(uint64_t) - lane);
}
