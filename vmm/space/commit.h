/*
 * The account of committed pages: memory that was promised, and that programs may use at any time.
 *
 * A region is committed from when it is private and writable until it is unmapped: after a change
 * to read-only it keeps the pages that were written. A guard, and memory that never was writable,
 * needs no page but the zero page, and is not counted. The account is the exact sum over the
 * private regions of all spaces and over all sections; residency per space would not be exact with
 * shared tables (rule C13). A fork commits its own copy of all that its parent has committed. A
 * section is committed as a whole until its last mapping is removed (vmm/section/section.h).
 *
 * The policy says when a promise is refused, before any work is done:
 *
 *   never      if the account would exceed what memory and the disk can hold together. Promised
 *              pages can then always be had, unless use is so sparse that page tables take the
 *              room.
 *   heuristic  if one call asks for more than the whole machine has, whatever others have: all
 *              frames but the reserve, and the slots of the disk.
 *   always     no promise is refused.
 *
 * With the last two a fault may find no page left: then the program's own access fails, and no
 * other program loses a page.
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

/* Sets the policy of later calls. It is heuristic before the first call. */
void commit_choose(enum overcommit_policy way);
enum overcommit_policy commit_policy(void);

/* Charge pages to the account, and take the charge back. */
MUST_USE enum status commit_charge(uint64_t pages);
void commit_uncharge(uint64_t pages);

/* Return the committed pages, and the pages that memory and the disk can hold together: frames that
 * are free or hold a program's page, less the reserve and the tables for them, plus the slots of
 * the disk. */
uint64_t commit_pages(void);
uint64_t commit_limit(void);

/* Returns the pages of the whole machine: the limit of one call under the heuristic. */
uint64_t commit_total(void);

/* Charge wired pages, and take the charge back. STATUS_LIMIT: more than space_wired_limit
 * allows. */
MUST_USE enum status wire_charge(uint64_t pages);
void wire_uncharge(uint64_t pages);

#endif
