/*
 * Between the files of address spaces: space.c and number.c.
 *
 * Owns: nothing. Fails with: STATUS_LIMIT, STATUS_NO_MEMORY. Context: as space.h says.
 */
#ifndef VMM_SPACE_INTERNAL_H
#define VMM_SPACE_INTERNAL_H

#include "vmm/space/space.h"

/* Gives a tree the lowest free number and shows its root in the window of top tables. Fails with
 * STATUS_LIMIT if all numbers are taken, or with STATUS_NO_MEMORY. */
MUST_USE enum status space_number_take(struct tree *tree);

/* Frees the number; called before the root is freed. May wait for every processor. */
void space_number_give(const struct tree *tree);

#endif
