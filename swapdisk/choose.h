/*
 * Chooses among the prepared disks of a machine those that may be written: by the options, and by
 * what the headers of all of them say together.
 *
 * Units: none. Owns: nothing; pure. Fails with: nothing; each finding gets its reason.
 * Context: thread. Spec: docs/disk-safety.md, rule 1 and 'Groups of sets'.
 */
#ifndef SWAPDISK_CHOOSE_H
#define SWAPDISK_CHOOSE_H

#include <stdbool.h>

#include "lib/options.h"
#include "swapdisk/format/header.h"

struct disk_finding;

/* Sets in use at once. */
#define SWAP_SETS_MAX OPTION_SETS_MAX

/* Sets `chosen`, `priority` and `reason` of each prepared disk in the list. Returns how many are
 * chosen, at most SWAP_SETS_MAX. */
unsigned swap_choose(struct disk_finding *first, const struct options *options,
                     bool under_hypervisor);

/* Returns the entry of swap= that names this set or its group; NULL: none does. */
const struct swap_choice *swap_choice_of(const struct swap_header *header,
                                         const struct options *options);

/* Returns whether two sets belong to one group. */
bool swap_same_group(const struct swap_header *a, const struct swap_header *b);

#endif
