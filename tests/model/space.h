/*
 * Address spaces beside a plain model of what they mean: random operations on both, compared.
 *
 * The model knows nothing of tables, counts, tickets or sharing. It divides addresses into cells
 * between chosen bounds (near 2 MiB, 1 GiB, 512 GiB, ...), and for each cell of each space it keeps
 * what is mapped there, with which rights, and two words of its first and of its last page; of a
 * shared cell these stand in one place for all spaces that have it. On the
 * host a program's accesses go through the software MMU, and faults through the handler that the
 * kernel enters for itself; in the booted image both are the processor's.
 *
 * Units: bounds are numbered, cell i is [bound i, bound i + 1).
 * State: model_begin -> (model_choose, model_perform)* -> whoever began it ends it -> again.
 * Fails with: a panic with values; model_describe says how to get there again.
 * Context: host tests, and a thread of the image.
 */
#ifndef TESTS_MODEL_SPACE_H
#define TESTS_MODEL_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/space/space.h"

#define MODEL_SPACES 6U
#define MODEL_BOUNDS 64U

enum model_kind {
    MODEL_ACCESS,  /* one access of the running program */
    MODEL_RESOLVE, /* handles a fault of any space, without the access */
    MODEL_LOOK,    /* the processor may prefetch a translation */
    MODEL_MAP,
    MODEL_MAP_ZEROES, /* readable at once */
    MODEL_MAP_FOUND,  /* where there is room */
    MODEL_MAP_SHARED, /* shared with later forks */
    MODEL_GUARD,
    MODEL_UNMAP,
    MODEL_PROTECT,
    MODEL_WILL_NEED,
    MODEL_DONT_NEED,
    MODEL_COLD,
    MODEL_COLLAPSE,   /* pages become large ones where they can */
    MODEL_SEQUENTIAL, /* first writes bring the pages around */
    MODEL_ONE_BY_ONE, /* turns fault-around off */
    MODEL_ZERO_SCAN,  /* pages of zeroes give their frames back */
    MODEL_QUERY,
    MODEL_WIRE,
    MODEL_UNWIRE,
    MODEL_MOVE,
    MODEL_REMAP,
    MODEL_FORK,
    MODEL_CREATE,
    MODEL_DESTROY,
    MODEL_SWITCH,
    MODEL_KINDS
};

struct model_op {
    enum model_kind kind;
    unsigned space;
    unsigned from; /* cells, half-open; accesses: the cell */
    unsigned to;
    unsigned new_to; /* of a remap */
    uint64_t place;  /* of a move: the address to go to, sound or not */
    struct rights rights;
    uint64_t alignment;
    unsigned populate; /* of a small map: enum space_populate */
    unsigned page;     /* 0: the cell's first, 1: its last */
    unsigned word;     /* 0: the page's first, 1: its last */
    bool shared;       /* of a map at a free address */
    bool write;
    bool execute;
    bool user;
    bool ac; /* ring 0 may touch user pages */
};

/* Begins a round with new bounds, no spaces and trees of `levels` levels. All else follows from the
 * seed. */
void model_begin(uint64_t seed, unsigned levels);

/* Sets the overcommit policy of this round, which is random otherwise. */
void model_overcommit(enum overcommit_policy way);

/* Chooses the next random operation; model_perform may perform it several times. */
struct model_op model_choose(void);

/* Performs an operation, and compares its status and its effect with the model. Statuses of
 * resources and devices are accepted only while model_may_fail is set; the model then does not
 * change. */
enum status model_perform(const struct model_op *op);
extern bool model_may_fail;

/* Returns whether a status reports a lack of resources or a failed device. */
bool model_is_failure(enum status status);

/* Describes the last operation, and gives the seed that led to it. */
void model_describe(char *buffer, size_t size);

/* Returns a space of the model, for tests that add checks of their own. */
struct space *model_space(unsigned number); /* NULL: there is none */
uint64_t model_address(const struct model_op *op);

#endif
