/*
 * Function names for addresses, from a table that the build puts into the image.
 *
 * The image is linked twice: the first link tells the functions' offsets, from which
 * cpu/crash/make-symbols makes the section .symbols of the second. That section is last in the
 * image, so that it moves nothing.
 *
 * The table: a header { uint32_t magic, count, names_size, text_end }, then count records
 * { uint32_t offset, name } sorted by offset, then the names, each ended by a zero byte. Offsets
 * are from the image's base; a name is an index into the names.
 *
 * Units: bytes from the image's base. Owns: nothing; a name points into the table.
 * Fails with: false; a damaged table finds nothing and reads nothing outside itself.
 * Context: any. Pure, but the two printers, which ask the image's own table.
 */
#ifndef CPU_CRASH_SYMBOLS_H
#define CPU_CRASH_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SYMBOLS_MAGIC UINT32_C(0x314d5953) /* "SYM1" */

struct symbol {
    const char *name;
    uint32_t distance; /* from the function's start */
};

/* Finds the function that contains an offset. */
bool symbols_find(const void *table, size_t size, uint32_t offset, struct symbol *symbol);

/* Writes "function+0x12" for an address in this image's code, "0x1234" for any other. Returns the
 * length as snprintf does. In cpu/crash/image_symbols.c. */
size_t symbols_print_to(char *buffer, size_t size, uint64_t address);

/* Does the same for a return address, which may be the next function's first byte: names the
 * function that contains the call. */
size_t symbols_print_return_to(char *buffer, size_t size, uint64_t address);

#endif
