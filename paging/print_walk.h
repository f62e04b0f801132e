/*
 * Printing of a walk.
 *
 * Units: addresses in bytes. Owns: nothing. Fails with: nothing; a table outside of RAM ends the
 * walk. Context: any, also a crash.
 */
#ifndef PAGING_PRINT_WALK_H
#define PAGING_PRINT_WALK_H

#include <stdint.h>

#include "lib/units.h"

/* Prints the entry states along an address's walk as "# " lines, for crash reports. */
void tree_print_walk(struct phys root, unsigned levels, uint64_t address);

#endif
