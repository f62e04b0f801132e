/* Compares address spaces with a plain model of their meaning: calls on mapped ranges. */
#include "cpu/machine.h"
#include "tests/model/space_internal.h"

static bool all_memory(const struct model_space *space, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        if (!cell_is_memory(&space->cells[i]))
            return false;
    }
    return true;
}

uint64_t model_pages(unsigned from, unsigned to)
{
    return (model()->bounds[to] - model()->bounds[from]) / PAGE_SIZE;
}

/* ---- protect ---- */

static uint64_t model_newly_writable(const struct model_space *space, const struct model_op *op)
{
    uint64_t pages = 0;

    for (unsigned i = op->from; i < op->to && op->rights.write; i++)
        pages += space->cells[i].committed || space->cells[i].kind == CELL_SHARED
                     ? 0
                     : model_pages(i, i + 1);
    return pages;
}

/* Drops hints that only a part of the range has. */
static void make_hints_common(struct model_space *space, const struct model_op *op)
{
    unsigned level = space->cells[op->from].level;
    bool around = space->cells[op->from].around;

    for (unsigned i = op->from; i < op->to; i++) {
        level = space->cells[i].level == level ? level : 1;
        around = around && space->cells[i].around;
    }
    for (unsigned i = op->from; i < op->to; i++) {
        space->cells[i].level = level;
        space->cells[i].around = around;
    }
}

enum status model_protect(const struct model_op *op)
{
    struct model_space *space = &model()->spaces[op->space];
    enum status expected = STATUS_NOT_FOUND;
    enum status status;

    if (all_memory(space, op->from, op->to))
        expected = model_commitment(model_newly_writable(space, op));
    status = space_protect(space->space, model()->bounds[op->from],
                           model_pages(op->from, op->to) * PAGE_SIZE, op->rights);
    if (!model_as_expected(status, expected))
        return status;
    make_hints_common(space, op);
    for (unsigned i = op->from; i < op->to; i++) {
        space->cells[i].rights = op->rights;
        space->cells[i].committed |= op->rights.write && space->cells[i].kind == CELL_BLANK;
    }
    return OK;
}

/* ---- regions ---- */

static bool same_region(const struct model_cell *a, const struct model_cell *b)
{
    return a->kind == b->kind && a->committed == b->committed && a->wired == b->wired &&
           (a->kind == CELL_GUARD || (a->level == b->level && a->around == b->around &&
                                      model_same_rights(a->rights, b->rights)));
}

void model_region_of(const struct model_space *space, unsigned cell, unsigned *from, unsigned *to)
{
    for (*from = cell; *from > 0 && same_region(&space->cells[*from - 1], &space->cells[cell]);)
        --*from;
    for (*to = cell + 1;
         *to < model()->cell_count && same_region(&space->cells[*to], &space->cells[cell]);)
        ++*to;
}

/* ---- advise ---- */

static void forget_words(struct model_cell *cell)
{
    for (unsigned page = 0; page < 2; page++)
        cell->words[page][0] = cell->words[page][1] = 0;
}

/* Limits the range to one region, so that the call succeeds or fails as a whole. */
static enum status advise_around(const struct model_op *op)
{
    struct model_space *space = &model()->spaces[op->space];
    bool around = op->kind == MODEL_SEQUENTIAL;
    bool memory = cell_is_memory(&space->cells[op->from]);
    enum status status;
    unsigned from;
    unsigned to;

    model_region_of(space, op->from, &from, &to);
    if (op->to < to)
        to = op->to;
    status =
        space_advise(space->space, model()->bounds[op->from], model_pages(op->from, to) * PAGE_SIZE,
                     around ? SPACE_SEQUENTIAL : SPACE_RANDOM);
    if (!model_as_expected(status, memory ? OK : STATUS_NOT_FOUND))
        return status;
    for (unsigned i = op->from; i < to; i++)
        space->cells[i].around = around && space->cells[i].kind == CELL_BLANK;
    return OK;
}

enum status model_advise(const struct model_op *op)
{
    static const enum space_advice advices[] = {SPACE_WILL_NEED, SPACE_DONT_NEED, SPACE_COLD};
    struct model_space *space = &model()->spaces[op->space];
    bool memory = all_memory(space, op->from, op->to);
    enum status expected = memory ? OK : STATUS_NOT_FOUND;
    enum space_advice advice;
    enum status status;

    if (op->kind >= MODEL_SEQUENTIAL)
        return advise_around(op);
    advice = advices[op->kind - MODEL_WILL_NEED];
    for (unsigned i = op->from; memory && advice == SPACE_DONT_NEED && i < op->to; i++)
        expected = space->cells[i].wired ? STATUS_BUSY : expected;
    if (advice == SPACE_WILL_NEED && memory && model_pages(op->from, op->to) > MODEL_POPULATED_MAX)
        return OK;
    status = space_advise(space->space, model()->bounds[op->from],
                          model_pages(op->from, op->to) * PAGE_SIZE, advice);
    if (!model_as_expected(status, expected))
        return status;
    /* Other spaces also have the shared cells. */
    for (unsigned i = op->from; i < op->to && advice == SPACE_DONT_NEED; i++)
        forget_words(&space->cells[i]);
    return OK;
}

/* ---- query ---- */

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
    CHECK((view->kind == REGION_GUARD) == (known->kind == CELL_GUARD) &&
          (view->kind == REGION_SHARED) == (known->kind == CELL_SHARED));
    CHECK(view->committed == known->committed && view->wired == known->wired);
    CHECK(view->resident <= model_pages(from, to));
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
    if (space->cells[op->from].wired && space->cells[op->from].rights.none)
        return STATUS_DENIED;
    return space->cells[op->from].committed || space->cells[op->from].kind == CELL_SHARED
               ? model_commitment(model_pages(op->to, op->new_to))
               : OK;
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

/* Adds the cells of a remap. The new part is blank; if the rest is shared, it is new shared
 * memory. */
static void grow_cells(struct model_space *space, const struct model_op *op)
{
    bool shared = space->cells[op->from].kind == CELL_SHARED;
    unsigned group =
        shared && op->to < op->new_to ? model_new_group(model_pages(op->to, op->new_to)) : 0;

    for (unsigned i = op->to; i < op->new_to; i++) {
        space->cells[i] = space->cells[op->from];
        forget_words(&space->cells[i]);
        if (shared)
            model_share(&space->cells[i], group);
    }
}

enum status model_remap(const struct model_op *op)
{
    struct model_space *space = &model()->spaces[op->space];
    enum status expected = expected_of_remap(space, op);
    bool wired = space->cells[op->from].wired;
    enum status status;

    if ((expected == OK || expected == STATUS_COMMIT) && wired && op->new_to > op->to &&
        model_pages(op->to, op->new_to) > model_wired_room())
        return OK;
    status = space_remap(space->space, model()->bounds[op->from],
                         model_pages(op->from, op->to) * PAGE_SIZE,
                         model_pages(op->from, op->new_to) * PAGE_SIZE);

    if (!model_as_expected(status, expected))
        return status;
    grow_cells(space, op);
    if (wired && op->to < op->new_to)
        model_note_wired(op->space, op->to, op->new_to);
    for (unsigned i = op->new_to; i < op->to; i++)
        model_drop_cell(&space->cells[i]);
    return OK;
}

/* ---- wires ---- */

uint64_t model_wired(void)
{
    uint64_t pages = 0;

    for (unsigned i = 0; i < MODEL_SPACES; i++) {
        const struct model_space *space = &model()->spaces[i];

        for (unsigned cell = 0; space->space != NULL && cell < model()->cell_count; cell++)
            pages += space->cells[cell].wired ? model_pages(cell, cell + 1) : 0;
    }
    return pages;
}

uint64_t model_wired_room(void)
{
    uint64_t most = model_machine_wired_most();
    uint64_t wired = model_wired();

    return most > wired ? most - wired : 0;
}

/* Returns the frame that maps an address, also inside a large page. */
static uint32_t frame_at(unsigned space, unsigned cell, unsigned page)
{
    struct model_op at = {.space = space, .from = cell, .page = page};
    struct model_walk walk = model_machine_walk(&at);
    struct pte entry = {walk.entry};
    enum pte_state state = pte_state(entry, walk.level);
    struct pfn frame = state == PTE_LEAF ? pte_frame(entry) : pte_payload_frame(entry);

    CHECK_MSG(state == PTE_LEAF || state == PTE_WITHHELD, "the wired page at %lx is %s",
              model_address(&at), pte_state_name(state));
    CHECK_MSG((frame_record(frame)->flags & FRAME_WIRED) != 0, "page %x at %lx is not wired",
              frame.index, model_address(&at));
    return frame.index + (uint32_t)(model_address(&at) % pte_span(walk.level) / PAGE_SIZE);
}

void model_note_wired(unsigned space, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        struct model_cell *cell = &model()->spaces[space].cells[i];

        cell->wired = cell->committed = true;
        for (unsigned page = 0; page < 2; page++)
            cell->frames[page] = frame_at(space, i, page);
    }
}

void model_check_wired(unsigned space, unsigned cell)
{
    const struct model_cell *known = &model()->spaces[space].cells[cell];

    for (unsigned page = 0; known->wired && page < 2; page++)
        CHECK_MSG(frame_at(space, cell, page) == known->frames[page],
                  "page %u of the wired cell at %lx was frame %x, is %x", page,
                  model()->bounds[cell], known->frames[page], frame_at(space, cell, page));
}

void model_copy_cells(struct model_space *to, const struct model_space *from)
{
    *to = *from;
    for (unsigned i = 0; i < MODEL_BOUNDS; i++)
        to->cells[i].wired = false;
}

enum status model_wire(const struct model_op *op)
{
    const struct model_space *space = &model()->spaces[op->space];
    enum status expected = STATUS_NOT_FOUND;
    uint64_t pages = 0;
    uint64_t promised = 0;
    bool denied = false;
    enum status status;

    for (unsigned i = op->from; i < op->to; i++) {
        const struct model_cell *cell = &space->cells[i];

        if (cell->wired)
            continue;
        pages += model_pages(i, i + 1);
        promised += cell->committed || cell->kind == CELL_SHARED ? 0 : model_pages(i, i + 1);
        denied = denied || cell->rights.none || cell->kind == CELL_SHARED;
    }
    if (all_memory(space, op->from, op->to))
        expected = denied ? STATUS_DENIED : model_commitment(promised);
    if ((expected == OK || expected == STATUS_COMMIT) && pages > model_wired_room())
        return OK;
    status = space_wire(space->space, model()->bounds[op->from],
                        model_pages(op->from, op->to) * PAGE_SIZE);
    for (unsigned i = op->from; i < op->to; i++) /* a failed call has not changed these cells */
        model_check_wired(op->space, i);
    if (model_as_expected(status, expected))
        model_note_wired(op->space, op->from, op->to);
    return status;
}

enum status model_unwire(const struct model_op *op)
{
    struct model_space *space = &model()->spaces[op->space];
    enum status expected = all_memory(space, op->from, op->to) ? OK : STATUS_NOT_FOUND;
    enum status status = space_unwire(space->space, model()->bounds[op->from],
                                      model_pages(op->from, op->to) * PAGE_SIZE);

    if (!model_as_expected(status, expected))
        return status;
    for (unsigned i = op->from; i < op->to; i++)
        space->cells[i].wired = false;
    return OK;
}
