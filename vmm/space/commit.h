/*
 * The account of committed pages: memory that was promised, and may have to be there one day.
 *
 * A region is committed once it is private and writable, and stays so until it is unmapped: when it
 * is made read-only the pages that were written are still its own. A guard, and memory that never
 * was writable, shows no page but the zero page, and is not counted. The account is the sum over
 * the private regions of all spaces and all sections, exactly, since residency a space is not exact
 * with shared tables (rule C13); a fork commits all that its parent has for itself. A section is
 * committed whole until its last mapping goes (vmm/section/section.h).
 *
 * The policy says when a promise is refused, before any work is done:
 *
 *   never      when the account would exceed what memory and the disk can hold together. What was
 *              promised is then there, but for tables where use is so sparse that a table holds few
 *              pages.
 *   heuristic  when one call asks for more than the whole machine has, whatever the others have:
 *              all frames but the reserve, and the slots of the disk.
 *   always     at no time.
 *
 * With the last two a program can be told at a fault that there is no page left: its own access
 * fails, and nobody else loses a page.
 *
 * Wired pages have an account of their own, with a limit (vmm/space/space.h).
 *
 * Units: pages of 4 KiB. Owns: both accounts.
 * Fails with: STATUS_COMMIT: refused, nothing has changed. Context: thread; never waits.
 * Rules: C13.
 */
#ifndef VMM_SPACE_COMMIT_H
#define VMM_SPACE_COMMIT_H

#include <stdint.h>

#include "lib/options.h"
#include "lib/status.h"

/* The policy of what follows; heuristic unless called. */
void commit_choose(enum overcommit_policy way);
enum overcommit_policy commit_policy(void);

/* Promises so many pages more; takes promises back. */
MUST_USE enum status commit_charge(uint64_t pages);
void commit_uncharge(uint64_t pages);

/* The account, and what memory and the disk can hold together: frames that are free or hold a page
 * of a program, without the reserve and without tables for them, and the slots of the disk. */
uint64_t commit_pages(void);
uint64_t commit_limit(void);

/* Returns the pages of the whole machine: the limit of one call under the heuristic. */
uint64_t commit_total(void);

/* Charges wired pages; STATUS_LIMIT: more than space_wired_limit. Takes the charge back. */
MUST_USE enum status wire_charge(uint64_t pages);
void wire_uncharge(uint64_t pages);

#endif
