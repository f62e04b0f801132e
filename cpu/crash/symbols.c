/* Function names for addresses: the search in the table that cpu/crash/make-symbols made. */
#include "cpu/crash/symbols.h"

struct header {
    uint32_t magic;
    uint32_t count;
    uint32_t names_size;
    uint32_t text_end;
};

struct record {
    uint32_t offset;
    uint32_t name;
};

_Static_assert(sizeof(struct header) == 16, "cpu/crash/make-symbols writes it");
_Static_assert(sizeof(struct record) == 8, "cpu/crash/make-symbols writes it");

/* Finds the records and names of a table. Returns false if its sizes exceed its space. */
static bool symbol_table_open(const void *table, size_t size, const struct record **records,
                              const char **names)
{
    const struct header *header = table;
    size_t space;

    if (size < sizeof(*header) || header->magic != SYMBOLS_MAGIC)
        return false;
    space = size - sizeof(*header);
    if (header->count > space / sizeof(struct record))
        return false;
    if (header->names_size > space - header->count * sizeof(struct record))
        return false;
    *records = (const struct record *)(header + 1);
    *names = (const char *)(*records + header->count);
    /* A name that runs off the end would be the one that does not end. */
    return header->names_size > 0 && (*names)[header->names_size - 1] == '\0';
}

/* Returns the index of the last record at or below the offset; `count` if there is none. */
static uint32_t last_record_up_to(const struct record *records, uint32_t count, uint32_t offset)
{
    uint32_t low = 0;
    uint32_t high = count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (records[middle].offset <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 ? count : low - 1;
}

bool symbols_find(const void *table, size_t size, uint32_t offset, struct symbol *symbol)
{
    const struct header *header = table;
    const struct record *records;
    const char *names;
    uint32_t at;

    if (!symbol_table_open(table, size, &records, &names) || offset >= header->text_end)
        return false;
    at = last_record_up_to(records, header->count, offset);
    if (at == header->count || records[at].name >= header->names_size)
        return false;
    symbol->name = names + records[at].name;
    symbol->distance = offset - records[at].offset;
    return true;
}
