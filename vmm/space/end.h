/*
 * The ends of spaces. A small space ends within the call. Of a larger one the call frees a part;
 * the rest waits for a processor without other work, for a caller that finds no frame or slot, or
 * for space_finish_ends.
 *
 * Units: entries, regions. Owns: the ended spaces. State: live -> space_retire -> space_end ->
 * ended -> (step)* -> freed. Fails with: nothing. Context: thread; a step: any without a lock, and
 * it never waits. Rules: T4, T5.
 */
#ifndef VMM_SPACE_END_H
#define VMM_SPACE_END_H

#include <bsd/sys/queue.h>

#include "vmm/space/space.h"

/* Frees what the ended spaces still have, and waits for other processors that do so. */
void space_finish_ends(void);

/* Frees a part of it: a leaf table's entries, or as many regions. Returns false if there is nothing
 * to free that no other processor is freeing. Context: any without a lock; never waits. */
bool space_ends_step(void);

/* Returns the number of ended spaces that still have something. */
unsigned space_ends(void);

/* Sets how many entries and regions a call of space_destroy frees itself; 0: none. */
#define SPACE_END_WORK 28U /* until it is called */
void space_set_end_work(unsigned entries);

/* End a space: space_retire locks it for good, so that no shrinker finds it, and removes it from
 * the list. The other frees it, once no section is mapped in it: at once, or in part now and the
 * rest later (end.c). The accounts are exact when it returns. */
void space_retire(struct space *space);
void space_end(struct space *space, bool at_once);

/* A space, which comes first, and its link in the list of all spaces, or of those that have
 * ended. */
struct space_record {
    struct space space;
    LIST_ENTRY(space_record) link;
    struct tree_dropper dropper; /* of an ended space */
};

_Static_assert(offsetof(struct space_record, space) == 0, "a space is its record");

static inline struct space_record *space_record_of(struct space *space)
{
    return (struct space_record *)space;
}

/* Frees the object of a space that has nothing any more. */
void space_record_free(struct space_record *record);

/* Gives a tree the lowest free number and shows its root in the window of top tables. Fails with
 * STATUS_LIMIT if all numbers are taken, or with STATUS_NO_MEMORY. */
MUST_USE enum status space_number_take(struct tree *tree);

/* Frees the number, before the root is freed. May wait for every processor. */
void space_number_give(const struct tree *tree);

#endif
