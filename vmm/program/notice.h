/*
 * The low-memory notice: tells programs when memory becomes short, and when it no longer is.
 *
 * The level is that of pmm_pressure, with its hysteresis: a level ends only an eighth above the
 * mark at which it began. A member asks for the level (poll), or is called with it (upcall, by
 * run_machine.c). The kernel tells and goes on: it never waits for a member. Changes that cancel
 * out before a member is told are not told.
 *
 *     told == level --the level changes--> pending --notice_told--> told == level
 *                                             \--it changes back--> told == level
 *
 * Units: none. Owns: the number of members; the caller owns each member. Fails with: nothing.
 * Context: thread; the function of notice_on_change runs where the level changed, that of
 * notice_on_members with a spin lock held: neither may allocate or wait.
 */
#ifndef VMM_PROGRAM_NOTICE_H
#define VMM_PROGRAM_NOTICE_H

#include <stdbool.h>
#include <stdint.h>

#include "pmm/pmm.h"

struct notice_member {
    enum pmm_pressure told; /* the level that it was told last; PMM_NORMAL at first; stays when it
                             * leaves */
    bool joined;
};

/* Adds a member, which is told at once if memory is short already; removes one. */
void notice_join(struct notice_member *member);
void notice_leave(struct notice_member *member);

/* Returns true if the member is to be told a level, and which. */
bool notice_pending(const struct notice_member *member, enum pmm_pressure *level);

/* Records that the member has been told this level. */
void notice_told(struct notice_member *member, enum pmm_pressure level);

/* Sets the function that is called after each change of the level while there are members. */
void notice_on_change(void (*changed)(void));

/* Sets the function that is called when the first member joins (true) and when the last one leaves
 * (false), before the join or the leave returns. Members that come and go on other processors
 * cannot reorder the calls. */
void notice_on_members(void (*changed)(bool any));

/* Returns the number of members that have joined and not left. */
uint32_t notice_members(void);

#endif
