/*
 * A log that stays in memory over a warm reset: pure logic on a block of memory.
 *
 * The block begins with a page of two headers; the text follows. A header has a magic, a
 * generation, the length, a check value of the text and one of itself. An update writes the older
 * header, so that a reset in the middle of it leaves the other one, with a log that is shorter by
 * one piece. Memory after a cold start has random or cleared contents: no header is sound, and
 * nothing is found.
 *
 * Units: bytes. Owns: nothing; the caller has the block. State: begin -> add, any number of times.
 * Fails with: nothing; text that does not fit is left out. Context: any, one call at a time.
 */
#ifndef EFI_LOG_MEMORY_LOG_H
#define EFI_LOG_MEMORY_LOG_H

#include <stddef.h>
#include <stdint.h>

#define MEMORY_LOG_TEXT 4096U /* byte at which the text begins */

struct memory_log {
    volatile uint8_t *block; /* NULL: there is none */
    size_t size;             /* of the block */
    uint32_t length;         /* of the text */
    uint32_t check;          /* CRC-32C of the text */
    uint32_t generation;
};

/* Begins an empty log in a block of more than MEMORY_LOG_TEXT bytes. An older log in it is lost. */
void memory_log_begin(struct memory_log *log, volatile void *block, size_t size);

/* Appends text, as much as fits. */
void memory_log_add(struct memory_log *log, const char *text, size_t size);

/* Finds the log that was left in a block. Returns its text, in the block, and sets *length; NULL if
 * there is no sound one. */
const char *memory_log_find(const volatile void *block, size_t size, size_t *length);

/* Makes memory_log_find() return NULL. */
void memory_log_erase(volatile void *block);

#endif
