/*
 * Pages of a program as experiments use them: written and checked whole, through real faults.
 *
 * Every byte of a page follows from its tag, so a page that is wrong anywhere shows. Accesses go
 * through cpu/trap/probe.h, between STAC and CLAC where SMAP is on, in the address space that runs.
 *
 * Units: addresses in bytes. Owns: one page of buffer, so one thread at a time. Fails with: false,
 * when the access was refused or the content is wrong. Context: thread.
 */
#ifndef TESTS_RUNNER_USER_PAGES_H
#define TESTS_RUNNER_USER_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/space/space.h"

/* Rights that most experiments want. */
#define RIGHTS_READ       ((struct rights){.user = true})
#define RIGHTS_READ_WRITE ((struct rights){.write = true, .user = true})

/* Returns the content of the page with a tag; its first word is the tag. */
const uint64_t *page_of_tag(uint64_t tag);

/* Fills the page at the address; checks that it holds exactly that, or nothing but zeroes. */
bool page_fill(uint64_t address, uint64_t tag);
bool page_holds(uint64_t address, uint64_t tag);
bool page_is_zero(uint64_t address);

/* Returns whether a page has the tag's content except for one word, as after a copy and a write. */
bool page_holds_but(uint64_t address, uint64_t tag, unsigned word, uint64_t value);

/* Zeroes everywhere but in one word. */
bool page_is_zero_but(uint64_t address, unsigned word, uint64_t value);

bool word_write(uint64_t address, uint64_t value);
bool word_read(uint64_t address, uint64_t *value);

/* Returns the level of the entry at which the walk of an address ends. */
unsigned level_at(const struct space *space, uint64_t address);

/* Return the entry of level 1 of an address, and its state; empty if the walk ends above. */
struct pte leaf_entry(const struct space *space, uint64_t address);
enum pte_state leaf_state(const struct space *space, uint64_t address);

/* Returns the table of the address's level-1 entry; PFN_NONE if there is none. */
struct pfn leaf_table(const struct space *space, uint64_t address);

/* Creates a space and switches to it. On failure logs why and returns false. */
bool start_space(struct space **space);

/* Leaves the space and destroys it. */
void end_space(struct space *space);

#endif
