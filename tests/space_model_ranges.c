/* Address spaces beside a plain model of what they mean: calls on ranges that are mapped. */
#include "cpu/machine.h"
#include "tests/space_model_internal.h"

/* More pages than this are not populated: the model's memory is small. */
#define POPULATED_MAX 64U

static bool all_blank(const struct model_space *space, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        if (space->cells[i].kind != CELL_BLANK)
            return false;
    }
    return true;
}

static uint64_t pages_of(unsigned from, unsigned to)
{
    return (model()->bounds[to] - model()->bounds[from]) / PAGE_SIZE;
}

/* ---- protect ---- */

static uint64_t newly_writable(const struct model_space *space, const struct model_op *op)
{
    uint64_t pages = 0;

    for (unsigned i = op->from; i < op->to && op->rights.write; i++)
        pages += space->cells[i].committed ? 0 : pages_of(i, i + 1);
    return pages;
}

/* A wish for large pages that not all of the range has is given up. */
static unsigned common_level(const struct model_space *space, const struct model_op *op)
{
    unsigned level = space->cells[op->from].level;

    for (unsigned i = op->from; i < op->to; i++)
        level = space->cells[i].level == level ? level : 1;
    return level;
}

enum status model_protect(const struct model_op *op)
{
    struct model_space *space = &model()->spaces[op->space];
    unsigned level = common_level(space, op);
    enum status expected = STATUS_NOT_FOUND;
    enum status status;

    if (all_blank(space, op->from, op->to))
        expected = model_commitment(newly_writable(space, op));
    status = space_protect(space->space, model()->bounds[op->from],
                           pages_of(op->from, op->to) * PAGE_SIZE, op->rights);
    if (!model_as_expected(status, expected))
        return status;
    for (unsigned i = op->from; i < op->to; i++) {
        space->cells[i].rights = op->rights;
        space->cells[i].level = level;
        space->cells[i].committed |= op->rights.write;
    }
    return OK;
}

/* ---- advise ---- */

static void forget_words(struct model_cell *cell)
{
    for (unsigned page = 0; page < 2; page++)
        cell->words[page][0] = cell->words[page][1] = 0;
}

enum status model_advise(const struct model_op *op)
{
    static const enum space_advice advices[] = {SPACE_WILL_NEED, SPACE_DONT_NEED, SPACE_COLD};
    enum space_advice advice = advices[op->kind - MODEL_WILL_NEED];
    struct model_space *space = &model()->spaces[op->space];
    bool blank = all_blank(space, op->from, op->to);
    enum status status;

    if (advice == SPACE_WILL_NEED && blank && pages_of(op->from, op->to) > POPULATED_MAX)
        return OK;
    status = space_advise(space->space, model()->bounds[op->from],
                          pages_of(op->from, op->to) * PAGE_SIZE, advice);
    if (!model_as_expected(status, blank ? OK : STATUS_NOT_FOUND))
        return status;
    for (unsigned i = op->from; i < op->to && advice == SPACE_DONT_NEED; i++)
        forget_words(&space->cells[i]);
    return OK;
}

/* ---- query ---- */

static bool same_region(const struct model_cell *a, const struct model_cell *b)
{
    return a->kind == b->kind && a->committed == b->committed &&
           (a->kind == CELL_GUARD ||
            (a->level == b->level && model_same_rights(a->rights, b->rights)));
}

void model_region_of(const struct model_space *space, unsigned cell, unsigned *from, unsigned *to)
{
    for (*from = cell; *from > 0 && same_region(&space->cells[*from - 1], &space->cells[cell]);)
        --*from;
    for (*to = cell + 1;
         *to < model()->cell_count && same_region(&space->cells[*to], &space->cells[cell]);)
        ++*to;
}

static void check_view(const struct model_space *space, unsigned cell,
                       const struct space_view *view)
{
    const struct model_cell *known = &space->cells[cell];
    unsigned from;
    unsigned to;

    model_region_of(space, cell, &from, &to);
    CHECK_MSG(view->start == model()->bounds[from] && view->end == model()->bounds[to],
              "region %lx to %lx, the model says %lx to %lx", view->start, view->end,
              model()->bounds[from], model()->bounds[to]);
    CHECK((view->kind == REGION_GUARD) == (known->kind == CELL_GUARD));
    CHECK(view->committed == known->committed && view->resident <= pages_of(from, to));
    CHECK(known->kind == CELL_GUARD ? view->rights.none && view->resident == 0
                                    : model_same_rights(view->rights, known->rights));
}

enum status model_query(const struct model_op *op)
{
    const struct model_space *space = &model()->spaces[op->space];
    struct space_view view;
    unsigned cell = op->from;
    enum status status;

    while (cell < model()->cell_count && space->cells[cell].kind == CELL_NONE)
        cell++;
    status = space_query(space->space, model_address(op), &view);
    if (model_as_expected(status, cell < model()->cell_count ? OK : STATUS_NOT_FOUND))
        check_view(space, cell, &view);
    return status;
}

/* ---- remap ---- */

static enum status expected_of_growth(const struct model_space *space, const struct model_op *op)
{
    for (unsigned i = op->to; i < op->new_to; i++) {
        if (space->cells[i].kind != CELL_NONE)
            return STATUS_EXISTS;
    }
    return space->cells[op->from].committed ? model_commitment(pages_of(op->to, op->new_to)) : OK;
}

static enum status expected_of_remap(const struct model_space *space, const struct model_op *op)
{
    unsigned from;
    unsigned to;

    model_region_of(space, op->from, &from, &to);
    if (space->cells[op->from].kind == CELL_NONE || op->to > to)
        return STATUS_NOT_FOUND;
    return op->new_to > op->to ? expected_of_growth(space, op) : OK;
}

enum status model_remap(const struct model_op *op)
{
    struct model_space *space = &model()->spaces[op->space];
    enum status expected = expected_of_remap(space, op);
    enum status status =
        space_remap(space->space, model()->bounds[op->from], pages_of(op->from, op->to) * PAGE_SIZE,
                    pages_of(op->from, op->new_to) * PAGE_SIZE);

    if (!model_as_expected(status, expected))
        return status;
    for (unsigned i = op->to; i < op->new_to; i++) {
        space->cells[i] = space->cells[op->from];
        forget_words(&space->cells[i]);
    }
    for (unsigned i = op->new_to; i < op->to; i++)
        space->cells[i] = (struct model_cell){.kind = CELL_NONE};
    return OK;
}
