/*
 * Between the files of the model: space_model_choose.c (which operations),
 * space_model.c and space_model_ranges.c (performing them), space_model_check.c (comparison).
 *
 * Context: host tests.
 */
#ifndef TESTS_HOST_SPACE_MODEL_INTERNAL_H
#define TESTS_HOST_SPACE_MODEL_INTERNAL_H

#include "lib/random.h"
#include "pmm/pmm.h"
#include "tests/host/space_model.h"

enum cell_kind { CELL_NONE, CELL_BLANK, CELL_GUARD };

struct model_cell {
    enum cell_kind kind;
    bool committed; /* writable once: its pages stand in the account */
    struct rights rights;
    uint64_t words[2][2]; /* [page][word] */
};

struct model_space {
    struct space *space; /* NULL: there is none */
    struct model_cell cells[MODEL_BOUNDS];
};

struct model {
    uint64_t seed;
    struct random random;
    unsigned levels;
    uint64_t bounds[MODEL_BOUNDS]; /* ascending */
    unsigned cell_count;           /* one less than bounds */
    struct model_space spaces[MODEL_SPACES];
    unsigned running; /* MODEL_SPACES: none */
    enum overcommit_way overcommit;
    uint64_t last_tag;
    uint64_t done;
    struct model_op op; /* the last one */
    struct pmm_usage at_start;
    uint32_t descriptors_at_start;
};

extern struct model model;

static inline uint64_t any(uint64_t limit)
{
    return random_below(&model.random, limit);
}

static inline bool chance(unsigned percent)
{
    return any(100) < percent;
}

/* Says how to get here again, when a check fails anywhere: a handler of SIGABRT. */
void model_say_where(int signal_number);

/* The word of the model; a cell of one page has its first page only. */
static inline uint64_t *cell_word(struct model_space *space, unsigned cell, unsigned page,
                                  unsigned word)
{
    if (model.bounds[cell + 1] - model.bounds[cell] == PAGE_SIZE)
        page = 0;
    return &space->cells[cell].words[page][word];
}

/* True when the call did what the model says; false when it failed, as it may. */
bool model_as_expected(enum status status, enum status expected);

/* Calls on ranges that are mapped. */
enum status model_protect(const struct model_op *op);
enum status model_advise(const struct model_op *op);
enum status model_query(const struct model_op *op);
enum status model_remap(const struct model_op *op);

static inline bool model_same_rights(struct rights a, struct rights b)
{
    return a.none == b.none && a.write == b.write && a.execute == b.execute && a.user == b.user;
}

/* Pages that a space has in the account; OK, or what a call that wants more is told. */
uint64_t model_committed(const struct model_space *space);
enum status model_commitment(uint64_t pages);

/* Gives back a frame that a test has taken away, so that something can go on; false: none left. */
bool model_relieve(void);

#endif
