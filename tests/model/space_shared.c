/* Compares address spaces with a plain model of their meaning: shared memory. The words of a shared
 * cell belong to no space: the cells of all spaces that share it refer to them by number. Each map
 * call makes a group of such numbers; the account has its pages until no cell refers to it. */
#include "lib/bytes.h"
#include "tests/model/space_internal.h"

static unsigned unused_share(void)
{
    for (unsigned i = 1; i < MODEL_SHARES; i++) {
        if (model()->shares[i].cells == 0)
            return i;
    }
    PANIC("more shared cells than there are cells");
}

static unsigned unused_group(void)
{
    for (unsigned i = 1; i < MODEL_SHARES; i++) {
        if (model()->groups[i].shares == 0)
            return i;
    }
    PANIC("more groups than there are cells");
}

void model_share(struct model_cell *cell, unsigned group)
{
    unsigned number = unused_share();

    cell->share = number;
    model()->shares[number] = (struct model_share){.group = group, .cells = 1};
    model()->groups[group].shares++;
}

unsigned model_new_group(uint64_t pages)
{
    unsigned group = unused_group();

    model()->groups[group].pages = pages;
    return group;
}

void model_drop_cell(struct model_cell *cell)
{
    struct model_share *share = &model()->shares[cell->share];

    if (cell->kind == CELL_SHARED) {
        CHECK(share->cells > 0);
        if (--share->cells == 0)
            model()->groups[share->group].shares--;
    }
    *cell = (struct model_cell){.kind = CELL_NONE};
}

void model_hold_cells(const struct model_space *space)
{
    for (unsigned i = 0; i < model()->cell_count; i++) {
        if (space->cells[i].kind == CELL_SHARED)
            model()->shares[space->cells[i].share].cells++;
    }
}

uint64_t model_shared_pages(void)
{
    uint64_t pages = 0;

    for (unsigned i = 1; i < MODEL_SHARES; i++)
        pages += model()->groups[i].shares > 0 ? model()->groups[i].pages : 0;
    return pages;
}

void model_shares_from(const struct model *parent)
{
    for (unsigned i = 1; i < MODEL_SHARES; i++) {
        if (parent->shares[i].cells == 0)
            continue;
        model()->shares[i] = (struct model_share){.group = parent->shares[i].group, .cells = 1};
        model()->groups[parent->shares[i].group].shares++;
    }
}
