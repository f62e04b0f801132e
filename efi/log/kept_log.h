/*
 * The whole log of this run in memory, in order; with report=boot also where it survives a warm
 * reset.
 *
 * Owns: the text, up to KEPT_LOG_SIZE bytes, and the block of memory that kept_log_survive()
 * names. State: empty -> text, which only grows. Fails with: nothing; a longer log is cut, and its
 * last line says so. Context: any, also in a crash.
 */
#ifndef EFI_LOG_KEPT_LOG_H
#define EFI_LOG_KEPT_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/units.h"

/* Five times the log of a run with every experiment. */
#define KEPT_LOG_SIZE (512U * 1024U)

/* A block for the copy that survives. */
#define KEPT_LOG_BLOCK (KEPT_LOG_SIZE + 4096U)

/* Appends to the log. */
void kept_log_write(const char *text, size_t size);

/* Returns the text so far. */
const char *kept_log_text(size_t *size);

/* Copies the log so far into a block of KEPT_LOG_BLOCK bytes, one to one mapped, and from now on
 * every piece of it. */
void kept_log_survive(struct phys block);

/* Maps the block at the kernel's addresses. */
void kept_log_relocated(void);

/* Returns whether there is a copy that survives. */
bool kept_log_survives(void);

#endif
