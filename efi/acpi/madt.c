/* The MADT, which lists the processors. */
#include "efi/acpi/madt.h"

#include "lib/bytes.h"
#include "lib/check.h"

/* Offsets: ACPI 6.4, table 5.19. */
#define MADT_ENTRIES 44U

/* Every entry: type, length. */
#define ENTRY_TYPE   0U
#define ENTRY_LENGTH 1U
#define ENTRY_HEADER 2U

/* Local APIC: ACPI 6.4, table 5.21. */
#define TYPE_LOCAL_APIC   0U
#define LOCAL_APIC_ID     3U
#define LOCAL_APIC_FLAGS  4U
#define LOCAL_APIC_LENGTH 8U
#define LOCAL_APIC_ALL    UINT32_C(0xff) /* the broadcast id */

/* Local x2APIC: ACPI 6.4, table 5.34. */
#define TYPE_X2APIC   9U
#define X2APIC_ID     4U
#define X2APIC_FLAGS  8U
#define X2APIC_LENGTH 16U
#define X2APIC_ALL    UINT32_MAX

#define FLAG_ENABLED (UINT32_C(1) << 0)

/* Reads a field, which need not be aligned. */
static uint32_t madt_word_at(const uint8_t *bytes)
{
    uint32_t word;

    memcpy(&word, bytes, sizeof(word));
    return word;
}

static void madt_add(struct madt *madt, uint32_t id, uint32_t flags)
{
    if ((flags & FLAG_ENABLED) == 0) {
        madt->disabled++;
        return;
    }
    for (unsigned i = 0; i < madt->count; i++) {
        if (madt->ids[i] == id) {
            madt->repeated++;
            return;
        }
    }
    if (madt->count == MADT_PROCESSORS_MAX)
        madt->left_out++;
    else
        madt->ids[madt->count++] = id;
}

/* Reads one entry; its length is inside the table. */
static enum status read_entry(struct madt *madt, const uint8_t *entry, unsigned length)
{
    uint32_t id;

    switch (entry[ENTRY_TYPE]) {
    case TYPE_LOCAL_APIC:
        if (length < LOCAL_APIC_LENGTH)
            return STATUS_CORRUPT;
        id = entry[LOCAL_APIC_ID];
        if (id != LOCAL_APIC_ALL)
            madt_add(madt, id, madt_word_at(entry + LOCAL_APIC_FLAGS));
        return OK;
    case TYPE_X2APIC:
        if (length < X2APIC_LENGTH)
            return STATUS_CORRUPT;
        id = madt_word_at(entry + X2APIC_ID);
        if (id != X2APIC_ALL)
            madt_add(madt, id, madt_word_at(entry + X2APIC_FLAGS));
        return OK;
    default: return OK;
    }
}

enum status madt_parse(const void *table, uint32_t length, struct madt *madt)
{
    const uint8_t *bytes = table;
    uint32_t at = MADT_ENTRIES;

    memset(madt, 0, sizeof(*madt));
    if (length < MADT_ENTRIES)
        return STATUS_CORRUPT;
    while (at < length) {
        unsigned size;

        if (length - at < ENTRY_HEADER)
            return STATUS_CORRUPT;
        size = bytes[at + ENTRY_LENGTH];
        if (size < ENTRY_HEADER || size > length - at || read_entry(madt, bytes + at, size) != OK)
            return STATUS_CORRUPT;
        at += size;
    }
    return madt->count > 0 ? OK : STATUS_CORRUPT;
}

enum status acpi_find_madt(const struct acpi *acpi, struct madt *madt)
{
    const struct acpi_header *table;
    enum status status = acpi_find(acpi, "APIC", &table);
    uint32_t length;

    if (status != OK)
        return status;
    memcpy(&length, (const uint8_t *)table + offsetof(struct acpi_header, length), sizeof(length));
    return madt_parse(table, length, madt);
}
