/*
 * Programs: what processors do, as text.
 *
 * A program is a list of operations with commas between: NAME[/SPACE][@PAGE][+PAGES]. PAGE counts
 * from PROGRAM_BASE, PAGES is the size of a range; `in=N` at the beginning says in which space the
 * processor runs (0 unless said, `in=-`: none), which is also the space of the operations. The
 * operations before a semicolon are done when the schedule begins: `read;write` has the page in
 * its TLB.
 *
 *   read write clear         an access of a page; clear writes zero
 *   beside                   a write to another word of a page, which does not show in the outcome
 *   fill                     a write to each page of the range
 *   map map-large map-zeroes map-shared unmap move remap    ranges
 *   map-apart                every second page of a range, each a region
 *   map-object               a section that is an object, made by the first one
 *   map-private              a private mapping of that section
 *   resize                   gives that section the size up to PAGE
 *   snapshot                 of that section, whose PAGE is looked at twice
 *   none ro rw need dont cold collapse sequential wire unwire
 *   fork end                 a child by fork; the end of a space
 *   later part whole step    an end that leaves all, most or nothing; frees a part of what is left
 *   new                      an empty space, in set-ups
 *   lend lend-ro give        a range to the same place of the space with the next number
 *   revoke narrow take       what descends from a range; all rights but to read; the range too
 *   evict out uncache        reclaims some pages; all that it can; frees slots of resident pages
 *   behind                   writes pages near their turn, which stay mapped
 *   scan split spare         finds pages of zeroes; splits one large page; frees spare tables and
 *                            regions
 *   enter leave              the processor goes into the space, or out of any
 *   counts                   how many faults of the space the fast path has resolved
 *
 * program_operation.c is the only file of the explorer that calls what it explores.
 *
 * Spaces: 0, made by the set-up; the next ones are its forks; a program's fork is number
 * SPACE_OF_FORK + its processor.
 * Context: host tests.
 */
#ifndef TESTS_HOST_EXPLORE_PROGRAM_H
#define TESTS_HOST_EXPLORE_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/units.h"

struct section;
struct space;

#define PROGRAM_BASE    (UINT64_C(1) << 30)
#define PROGRAM_MOVE_TO (UINT64_C(3) << 30)
#define OPERATIONS_MAX  24U
#define SPACES_OF_TEST  8U
#define SPACE_OF_FORK   3U
#define NO_SPACE        255U

struct operation;

struct result {
    int status; /* an enum status; 0 where any will do */
    uint64_t value;
};

/* The arguments of an operation. */
struct call {
    const struct operation *operation;
    struct space *space; /* its space, or NULL */
    unsigned processor;
    uint64_t value; /* to write */
};

struct operation_kind {
    const char *name;
    struct result (*perform)(const struct call *call);
    unsigned argument;
    uint64_t pages; /* the size of its range unless the text says another */
};

struct operation {
    const struct operation_kind *kind;
    unsigned space; /* number */
    uint64_t at;
    uint64_t size;
};

struct program {
    unsigned runs_in; /* a space's number, or NO_SPACE */
    unsigned count;
    unsigned prepared; /* the first of them, done before the schedule begins */
    struct operation operations[OPERATIONS_MAX];
};

/* Reads a program. Returns false if the text is not one; *wrong is then the bad word. */
bool program_parse(const char *text, struct program *program, char *wrong, size_t size);

/* Performs operation number i of a processor's program. */
struct result program_perform(const struct program *program, unsigned i, unsigned processor,
                              uint64_t value);

/* Reads or writes a word of the space that the processor runs in, as a program does. Returns false
 * if a fault is not resolved. */
bool program_touch(uint64_t address, bool write, uint64_t *value);

/* Finds a kind of operation by its name; NULL if there is none. */
const struct operation_kind *operation_find(const char *name);

extern struct space *program_spaces[SPACES_OF_TEST];

/* The section that is an object, open; NULL: there is none. */
extern struct section *program_section;

/* The bytes that the object's window at PROGRAM_BASE has; 0: none is there. */
extern uint64_t program_window;

#endif
