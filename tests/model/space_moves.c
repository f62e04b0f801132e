/* Compares address spaces with a plain model of their meaning: moves and collapses. */
#include "cpu/machine.h"
#include "tests/model/space_internal.h"

/* ---- collapse ---- */

/* Extends the range over all adjacent cells with memory, so that whole large pages lie in it. */
static void widen(const struct model_space *space, unsigned *from, unsigned *to)
{
    while (*from > 0 && cell_is_memory(&space->cells[*from - 1]))
        --*from;
    while (*to < model()->cell_count && cell_is_memory(&space->cells[*to]))
        ++*to;
}

enum status model_collapse(const struct model_op *op)
{
    const struct model_space *space = &model()->spaces[op->space];
    enum status expected = OK;
    unsigned from = op->from;
    unsigned to = op->to;
    enum status status;

    for (unsigned i = from; i < to; i++) {
        if (!cell_is_memory(&space->cells[i]))
            expected = STATUS_NOT_FOUND;
    }
    if (expected == OK)
        widen(space, &from, &to);
    status = space_advise(space->space, model()->bounds[from],
                          model()->bounds[to] - model()->bounds[from], SPACE_COLLAPSE);
    /* A collapse skips shared pages and pages in use, and may find no block: no status depends on
     * that. */
    if (expected == OK && (status == STATUS_AGAIN || status == STATUS_NO_MEMORY))
        status = OK;
    (void)model_as_expected(status, expected);
    return status;
}

/* ---- move ---- */

uint64_t model_move_alignment(uint64_t size)
{
    uint64_t alignment = PAGE_SIZE;

    for (unsigned level = 1; level < model()->levels && alignment <= size; level++)
        alignment *= PTE_ENTRIES;
    return alignment;
}

static enum status expected_of_move(const struct model_space *space, const struct model_op *op)
{
    uint64_t limit = UINT64_C(1) << (model()->levels == 4 ? 47 : 56);
    uint64_t start = model()->bounds[op->from];
    uint64_t size = model()->bounds[op->to] - start;
    unsigned from;
    unsigned to;

    if (op->place < PAGE_SIZE || op->place >= limit || size > limit - op->place)
        return STATUS_RANGE;
    model_region_of(space, op->from, &from, &to);
    if (!cell_is_memory(&space->cells[op->from]) || op->to > to)
        return STATUS_NOT_FOUND;
    if ((op->place - start) % model_move_alignment(size) != 0)
        return STATUS_RANGE;
    return model_cells_free(space, op->place, op->place + size) ? OK : STATUS_EXISTS;
}

/* Finds the first cell of the target; returns false if the cells there have other sizes. */
static bool find_cells(const struct model_op *op, unsigned *first)
{
    for (*first = 0; *first < model()->cell_count; ++*first) {
        if (model()->bounds[*first] == op->place)
            break;
    }
    for (unsigned i = 0; i <= op->to - op->from; i++) {
        if (*first + i > model()->cell_count ||
            model()->bounds[*first + i] - op->place !=
                model()->bounds[op->from + i] - model()->bounds[op->from])
            return false;
    }
    return true;
}

/* Moves a range back, which needs memory: the model has no cells at the target. */
static void move_back(struct model_space *space, const struct model_op *op)
{
    uint64_t start = model()->bounds[op->from];
    enum status status;

    while ((status = space_move(space->space, op->place, model()->bounds[op->to] - start, start)) !=
           OK)
        CHECK_MSG(model_may_fail && model_is_failure(status) && model_relieve(),
                  "move from %lx back to %lx: %s", op->place, start, status_name(status));
}

enum status model_move(const struct model_op *op)
{
    struct model_space *space = &model()->spaces[op->space];
    uint64_t start = model()->bounds[op->from];
    enum status expected = expected_of_move(space, op);
    enum status status =
        space_move(space->space, start, model()->bounds[op->to] - start, op->place);
    unsigned first;

    if (!model_as_expected(status, expected))
        return status;
    if (!find_cells(op, &first)) {
        move_back(space, op);
        return OK;
    }
    for (unsigned i = 0; i < op->to - op->from; i++) {
        space->cells[first + i] = space->cells[op->from + i];
        space->cells[op->from + i] = (struct model_cell){.kind = CELL_NONE};
    }
    return OK;
}
