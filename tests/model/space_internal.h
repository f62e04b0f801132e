/*
 * Between the files of the model: space_model_choose.c (which operations), space_model.c
 * (performing them), space_model_ranges.c and space_model_moves.c (those on ranges that are
 * mapped), space_model_shared.c (what is shared), and the two machines that it runs on:
 * tests/host/model/space_model_machine.c, with comparison in space_model_check.c, and the booted
 * image, tests/experiments/model.c.
 *
 * Context: as space_model.h says.
 */
#ifndef TESTS_MODEL_SPACE_INTERNAL_H
#define TESTS_MODEL_SPACE_INTERNAL_H

#include "lib/random.h"
#include "pmm/pmm.h"
#include "tests/model/space.h"

/* More pages than this are not populated: the model's memory is small. */
#define MODEL_POPULATED_MAX 64U

enum cell_kind { CELL_NONE, CELL_BLANK, CELL_SHARED, CELL_GUARD };

struct model_cell {
    enum cell_kind kind;
    bool committed; /* writable once, or wired: its pages stand in the account */
    bool wired;     /* then the frames of its first and of its last page are these for good */
    uint32_t frames[2];
    struct rights rights;
    unsigned level;       /* of the pages that are wished for, from 1 */
    bool around;          /* a first write brings others */
    unsigned share;       /* CELL_SHARED: where its words are */
    uint64_t words[2][2]; /* [page][word] */
};

/* No more than there are cells; number 0 is none. */
#define MODEL_SHARES (MODEL_SPACES * MODEL_BOUNDS + 1)

struct model_share {
    unsigned group;
    unsigned cells; /* of all spaces */
    uint64_t words[2][2];
};

/* What one call has mapped. */
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
    unsigned lane;    /* which words of shared pages are ours: others may have theirs beside them */
    unsigned running; /* MODEL_SPACES: none */
    enum overcommit_policy overcommit;
    uint64_t last_tag;
    uint64_t done;
    struct model_op op; /* the last one */
    struct pmm_usage at_start;
    uint32_t descriptors_at_start;
};

/* The model of who asks: one on the host, one for each processor in the image. */
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

/* Where a walk of the tables ends. */
struct model_walk {
    unsigned level;
    uint64_t entry;
};

/* At the start of a round, after its seed and levels are set; and the policy of overcommit. */
void model_machine_begin(void);
enum overcommit_policy model_machine_overcommit(void);

/* Makes the access of an operation in the space that runs, with its faults. What is read must be
 * `known`, and a write leaves `written`. Anything but OK: why it was refused. */
MUST_USE enum status model_machine_access(const struct model_op *op, uint64_t known,
                                          uint64_t written);

/* Where the tables of the operation's space lead its address. */
struct model_walk model_machine_walk(const struct model_op *op);

/* Whether nobody else changes the tables meanwhile, so that two walks can be compared. */
bool model_machine_alone(void);

/* Whether ring 0 may touch a user page as the operation does. */
bool model_machine_kernel_may(const struct model_op *op);

/* The processor looks ahead at an address. */
void model_machine_look(uint64_t address);

/* How many pages of a model may be wired at a time. */
uint64_t model_machine_wired_most(void);

/* After each operation: what the machine can say of its TLB. */
void model_machine_check(void);

/* ---- between the files ---- */

/* The word of the model; a cell of one page has its first page only. */
static inline uint64_t *cell_word(struct model_space *space, unsigned cell, unsigned page,
                                  unsigned word)
{
    if (model()->bounds[cell + 1] - model()->bounds[cell] == PAGE_SIZE)
        page = 0;
    if (space->cells[cell].kind == CELL_SHARED)
        return &model()->shares[space->cells[cell].share].words[page][word];
    return &space->cells[cell].words[page][word];
}

/* Whether there is memory. */
static inline bool cell_is_memory(const struct model_cell *cell)
{
    return cell->kind == CELL_BLANK || cell->kind == CELL_SHARED;
}

/* Makes a group of so many pages; what a cell of it holds, blank. */
unsigned model_new_group(uint64_t pages);
void model_share(struct model_cell *cell, unsigned group);

/* Nothing is mapped in the cell any more. */
void model_drop_cell(struct model_cell *cell);

/* One more space has these cells. */
void model_hold_cells(const struct model_space *space);

/* Pages promised for all that is shared. */
uint64_t model_shared_pages(void);

/* What another model shares is shared with this one too, from forks of its spaces, for as long as
 * the other has it: blank where this one's words are. */
void model_shares_from(const struct model *parent);

/* True when the call did what the model says; false when it failed, as it may. */
bool model_as_expected(enum status status, enum status expected);

/* Calls on ranges that are mapped. */
enum status model_protect(const struct model_op *op);
enum status model_advise(const struct model_op *op);
enum status model_query(const struct model_op *op);
enum status model_remap(const struct model_op *op);
enum status model_collapse(const struct model_op *op);
enum status model_move(const struct model_op *op);

/* The cells of the region that has a cell in it. */
void model_region_of(const struct model_space *space, unsigned cell, unsigned *from, unsigned *to);

/* Whether nothing is mapped in the range. */
bool model_cells_free(const struct model_space *space, uint64_t start, uint64_t end);

/* What the distance of a move is a multiple of: an entry that stands for more than the range. */
uint64_t model_move_alignment(uint64_t size);
enum status model_wire(const struct model_op *op);
enum status model_unwire(const struct model_op *op);

/* Pages of the cells [from, to), and how many more may be wired. */
uint64_t model_pages(unsigned from, unsigned to);
uint64_t model_wired_room(void);

/* Pages of all spaces that are wired. */
uint64_t model_wired(void);

/* The cells are wired from now on; proves that such a one's pages stand where they stood then. */
void model_note_wired(unsigned space, unsigned from, unsigned to);
void model_check_wired(unsigned space, unsigned cell);

/* What a fork has of its parent's cells. */
void model_copy_cells(struct model_space *to, const struct model_space *from);

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
