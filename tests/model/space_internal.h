/*
 * Between the files of the model: space_choose.c (which operations), space.c (performing them),
 * space_ranges.c and space_moves.c (those on ranges that are mapped), space_shared.c (memory that
 * spaces share), and the two machines that it runs on: tests/host/model/space_model_machine.c,
 * with the comparison in space_model_check.c, and the booted image, tests/experiments/model.c.
 *
 * Context: as space.h says.
 */
#ifndef TESTS_MODEL_SPACE_INTERNAL_H
#define TESTS_MODEL_SPACE_INTERNAL_H

#include "lib/random.h"
#include "pmm/pmm.h"
#include "tests/model/space.h"

/* Larger maps are not populated, since the model's memory is small. */
#define MODEL_POPULATED_MAX 64U

enum cell_kind { CELL_NONE, CELL_BLANK, CELL_SHARED, CELL_GUARD };

struct model_cell {
    enum cell_kind kind;
    bool committed; /* was writable or wired: the account has its pages */
    bool wired;     /* the frames of its first and last page must not change */
    uint32_t frames[2];
    struct rights rights;
    unsigned level;       /* level of the pages that the map asks for, from 1 */
    bool around;          /* first writes use fault-around */
    unsigned share;       /* CELL_SHARED: index of its words */
    uint64_t words[2][2]; /* [page][word] */
};

/* At most one for each cell; number 0 means none. */
#define MODEL_SHARES (MODEL_SPACES * MODEL_BOUNDS + 1)

struct model_share {
    unsigned group;
    unsigned cells; /* of all spaces */
    uint64_t words[2][2];
};

/* The shared pages of one map call. */
struct model_group {
    uint64_t pages;
    unsigned shares;
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
    struct model_share shares[MODEL_SHARES];
    struct model_group groups[MODEL_SHARES];
    unsigned lane;    /* selects our words of shared pages: other models may use the rest */
    unsigned running; /* MODEL_SPACES: none */
    enum overcommit_policy overcommit;
    uint64_t last_tag;
    uint64_t done;
    struct model_op op; /* the last one */
    struct pmm_usage at_start;
    uint32_t descriptors_at_start;
};

/* Returns the caller's model: one on the host, one for each processor in the image. */
struct model *model(void);

static inline uint64_t any(uint64_t limit)
{
    return random_below(&model()->random, limit);
}

static inline bool chance(unsigned percent)
{
    return any(100) < percent;
}

/* ---- the machine's side ---- */

/* The entry at which a walk ends. */
struct model_walk {
    unsigned level;
    uint64_t entry;
};

/* Prepares the machine for a round, after its seed and levels are set; returns its overcommit
 * policy. */
void model_machine_begin(void);
enum overcommit_policy model_machine_overcommit(void);

/* Makes the operation's access in the running space, and handles its faults. A read must return
 * `known`, and a write stores `written`. Returns the reason if the access is refused. */
MUST_USE enum status model_machine_access(const struct model_op *op, uint64_t known,
                                          uint64_t written);

/* Walks the tables of the operation's space to its address. */
struct model_walk model_machine_walk(const struct model_op *op);

/* Returns whether no other thread changes the tables meanwhile, so that two walks can be
 * compared. */
bool model_machine_alone(void);

/* Returns whether ring 0 may touch a user page as the operation does. */
bool model_machine_kernel_may(const struct model_op *op);

/* Lets the processor prefetch the translation of an address. */
void model_machine_look(uint64_t address);

/* Returns the most pages of a model that may be wired at a time. */
uint64_t model_machine_wired_most(void);

/* Checks the machine's TLB after an operation, where the machine can show it. */
void model_machine_check(void);

/* ---- between the files ---- */

/* Returns a word of the model; a cell of one page has only a first page. */
static inline uint64_t *cell_word(struct model_space *space, unsigned cell, unsigned page,
                                  unsigned word)
{
    if (model()->bounds[cell + 1] - model()->bounds[cell] == PAGE_SIZE)
        page = 0;
    if (space->cells[cell].kind == CELL_SHARED)
        return &model()->shares[space->cells[cell].share].words[page][word];
    return &space->cells[cell].words[page][word];
}

/* Returns whether memory is mapped in the cell. */
static inline bool cell_is_memory(const struct model_cell *cell)
{
    return cell->kind == CELL_BLANK || cell->kind == CELL_SHARED;
}

/* Makes a group of `pages` shared pages, and makes a cell one of its blank members. */
unsigned model_new_group(uint64_t pages);
void model_share(struct model_cell *cell, unsigned group);

/* Marks the cell as unmapped, and drops its share. */
void model_drop_cell(struct model_cell *cell);

/* Counts one more space for the shared cells of a space. */
void model_hold_cells(const struct model_space *space);

/* Returns the pages that the account has for shared memory. */
uint64_t model_shared_pages(void);

/* Takes over another model's shared cells, for forks of its spaces. The other model must keep them;
 * this model's own words of them are blank. */
void model_shares_from(const struct model *parent);

/* Returns true if the call had the expected status; false if it failed where it may. */
bool model_as_expected(enum status status, enum status expected);

/* Perform calls on mapped ranges. */
enum status model_protect(const struct model_op *op);
enum status model_advise(const struct model_op *op);
enum status model_query(const struct model_op *op);
enum status model_remap(const struct model_op *op);
enum status model_collapse(const struct model_op *op);
enum status model_move(const struct model_op *op);

/* Finds the cells [from, to) of the region to which a cell belongs. */
void model_region_of(const struct model_space *space, unsigned cell, unsigned *from, unsigned *to);

/* Returns whether nothing is mapped in the range. */
bool model_cells_free(const struct model_space *space, uint64_t start, uint64_t end);

/* Returns the alignment that the move distance must have. */
uint64_t model_move_alignment(uint64_t size);
enum status model_wire(const struct model_op *op);
enum status model_unwire(const struct model_op *op);

/* Return the pages of the cells [from, to), and how many more pages may be wired. */
uint64_t model_pages(unsigned from, unsigned to);
uint64_t model_wired_room(void);

/* Returns the wired pages of all spaces. */
uint64_t model_wired(void);

/* Record the frames of newly wired cells; check that a wired cell still has those frames. */
void model_note_wired(unsigned space, unsigned from, unsigned to);
void model_check_wired(unsigned space, unsigned cell);

/* Copies the cells that a fork inherits from its parent. */
void model_copy_cells(struct model_space *to, const struct model_space *from);

static inline bool model_same_rights(struct rights a, struct rights b)
{
    return a.none == b.none && a.write == b.write && a.execute == b.execute && a.user == b.user;
}

/* Return the pages that the account has for a space, and the status of a call that needs more. */
uint64_t model_committed(const struct model_space *space);
enum status model_commitment(uint64_t pages);

/* Frees one of the frames that a test holds back, so that a call can succeed; false if none is
 * left. */
bool model_relieve(void);

#endif
