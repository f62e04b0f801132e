/*
 * Directories: entries with their long names, and paths.
 *
 * A long name is in entries before that of its file, the last part first. It counts only if every
 * part is there in its order and each has the checksum of the short name that follows; otherwise
 * the short name is the entry's name (FAT specification, 7).
 */
#include "lib/bytes.h"
#include "lib/check.h"
#include "swapdisk/format/identify.h"
#include "swapdisk/format/little.h"
#include "swapdisk/fs/internal.h"

/* Fields of an entry: offsets. */
#define DIR_ATTRIBUTES 11
#define DIR_FIRST_HIGH 20
#define DIR_FIRST_LOW  26
#define DIR_SIZE       28
#define LONG_CHECKSUM  13
#define SHORT_SIZE     11U

#define ATTRIBUTE_READ_ONLY 0x01U
#define ATTRIBUTE_VOLUME    0x08U
#define ATTRIBUTE_DIRECTORY 0x10U
#define ATTRIBUTE_LONG      0x0fU
#define ATTRIBUTE_LONG_MASK 0x3fU

#define FREE_ENTRY 0xe5U
#define KANJI_E5   0x05U /* in a name, encodes a first byte E5 */

/* Long names: units of UTF-16. */
#define LONG_LAST  0x40U
#define PART_UNITS 13U
#define PARTS_MAX  20U
#define UNITS_MAX  255U

_Static_assert(PARTS_MAX *PART_UNITS >= UNITS_MAX, "the parts have room for the longest name");
_Static_assert(SECTOR_SIZE % FAT_ENTRY_SIZE == 0, "no entry lies across sectors");

/* The parts of a long name that have been seen. */
struct long_name {
    uint16_t units[PARTS_MAX * PART_UNITS];
    unsigned next; /* number of the part that comes next; 0: the entry itself */
    unsigned parts;
    uint8_t checksum;
    bool begun;
};

static uint8_t short_checksum(const uint8_t *name)
{
    uint8_t sum = 0;

    for (unsigned i = 0; i < SHORT_SIZE; i++)
        sum = (uint8_t)((sum >> 1 | sum << 7) + name[i]);
    return sum;
}

/* Takes one part of a long name. A part that does not follow its predecessor ends the name. */
static void take_part(struct long_name *name, const uint8_t *entry)
{
    static const uint8_t offsets[PART_UNITS] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
    unsigned part = entry[0] & ~LONG_LAST;

    if ((entry[0] & LONG_LAST) != 0 && part >= 1 && part <= PARTS_MAX)
        *name = (struct long_name){
            .begun = true, .parts = part, .next = part, .checksum = entry[LONG_CHECKSUM]};
    if (!name->begun || part == 0 || part != name->next || entry[LONG_CHECKSUM] != name->checksum) {
        name->begun = false;
        return;
    }
    CHECK(part <= name->parts && name->parts <= PARTS_MAX);
    name->next = part - 1;
    for (unsigned i = 0; i < PART_UNITS; i++)
        name->units[(part - 1) * PART_UNITS + i] = get_le16(entry + offsets[i]);
}

static bool is_name_unit(uint32_t unit)
{
    static const char forbidden[] = "\"*/:<>?\\|";

    for (unsigned i = 0; forbidden[i] != '\0'; i++) {
        if (unit == (uint32_t)forbidden[i])
            return false;
    }
    return unit >= 0x20;
}

/* Appends one character; returns its bytes. */
static unsigned put_utf8(char *to, uint32_t code)
{
    if (code < 0x80) {
        to[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        to[0] = (char)(0xc0 | code >> 6);
        to[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        to[0] = (char)(0xe0 | code >> 12);
        to[1] = (char)(0x80 | (code >> 6 & 0x3f));
        to[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | code >> 18);
    to[1] = (char)(0x80 | (code >> 12 & 0x3f));
    to[2] = (char)(0x80 | (code >> 6 & 0x3f));
    to[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* Converts the units; returns false if they are no name. */
static bool convert_units(const uint16_t *units, unsigned count, char name[FAT_NAME_SIZE])
{
    unsigned length = 0;

    for (unsigned i = 0; i < count; i++) {
        uint32_t code = units[i];

        if (code >= 0xd800 && code < 0xdc00 && i + 1 < count && units[i + 1] >= 0xdc00 &&
            units[i + 1] < 0xe000)
            code = 0x10000 + ((code - 0xd800) << 10) + (units[++i] - UINT32_C(0xdc00));
        else if (!is_name_unit(code) || (code >= 0xd800 && code < 0xe000))
            return false;
        length += put_utf8(name + length, code);
        CHECK(length < FAT_NAME_SIZE);
    }
    name[length] = '\0';
    return length > 0 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Stores the long name if it is whole and belongs to the entry. */
static bool use_long_name(const struct long_name *long_name, const uint8_t *entry,
                          char name[FAT_NAME_SIZE])
{
    unsigned most = long_name->parts * PART_UNITS;
    unsigned count = 0;

    if (!long_name->begun || long_name->next != 0 || long_name->checksum != short_checksum(entry))
        return false;
    while (count < most && long_name->units[count] != 0)
        count++;
    return count <= UNITS_MAX && convert_units(long_name->units, count, name);
}

/* Stores a short name. Bytes above 7F depend on a code page, and become question marks, which no
 * path has. */
static void use_short_name(const uint8_t *entry, char name[13])
{
    unsigned length = 0;

    for (unsigned i = 0; i < SHORT_SIZE; i++) {
        uint8_t byte = i == 0 && entry[0] == KANJI_E5 ? FREE_ENTRY : entry[i];

        if (i == 8 && memcmp(entry + i, "   ", 3) != 0)
            name[length++] = '.';
        if (byte != ' ')
            name[length++] = byte < 0x80 && is_name_unit(byte) ? (char)byte : '?';
    }
    if (length == 0) /* no name is all blanks */
        name[length++] = '?';
    CHECK(length < 13);
    name[length] = '\0';
}

static bool is_dots(const uint8_t *entry)
{
    return memcmp(entry, ".          ", SHORT_SIZE) == 0 ||
           memcmp(entry, "..         ", SHORT_SIZE) == 0;
}

static void take_entry(struct fat_entry *entry, const uint8_t *raw, const struct long_name *name)
{
    uint32_t first =
        ((uint32_t)get_le16(raw + DIR_FIRST_HIGH) << 16 | get_le16(raw + DIR_FIRST_LOW)) &
        FAT_ENTRY_MASK;

    entry->directory = (raw[DIR_ATTRIBUTES] & ATTRIBUTE_DIRECTORY) != 0;
    entry->read_only = (raw[DIR_ATTRIBUTES] & ATTRIBUTE_READ_ONLY) != 0;
    entry->first = first;
    entry->size = entry->directory ? 0 : get_le32(raw + DIR_SIZE);
    use_short_name(raw, entry->short_name);
    if (!use_long_name(name, raw, entry->name))
        memcpy(entry->name, entry->short_name, sizeof(entry->short_name));
}

struct fat_directory fat_directory_begin(uint32_t first)
{
    return (struct fat_directory){.cluster = first};
}

/* Advances to the next cluster of a directory, or to its end. */
static enum status next_cluster(struct fat_volume *volume, struct fat_directory *at)
{
    uint32_t entry;
    enum status status = fat_read_entry(volume, at->cluster, &entry);

    CHECK(at->entry > 0 && at->entries >= at->entry);
    if (status != OK)
        return status;
    at->cluster = entry >= FAT_ENTRY_LAST ? 0 : entry;
    at->entry = 0;
    return OK;
}

/* Returns the next 32 bytes of a directory. STATUS_NOT_FOUND: its end. */
static enum status next_raw(struct fat_volume *volume, struct fat_directory *at,
                            const uint8_t **raw)
{
    const uint8_t *sector;
    enum status status = OK;

    if (at->cluster != 0 && at->entry == volume->cluster_sectors * FAT_ENTRIES_PER_SECTOR)
        status = next_cluster(volume, at);
    if (status != OK)
        return status;
    if (at->cluster == 0)
        return STATUS_NOT_FOUND;
    if (!fat_is_cluster(volume, at->cluster))
        return fat_fail(volume, STATUS_CORRUPT, "the chain of a directory leaves the volume");
    if (at->entries == FAT_DIRECTORY_ENTRIES_MAX)
        return fat_fail(volume, STATUS_CORRUPT, "a directory is too long, or its chain a loop");
    status = fat_read_data(volume, at->cluster, at->entry / FAT_ENTRIES_PER_SECTOR, &sector);
    if (status != OK)
        return status;
    *raw = sector + at->entry % FAT_ENTRIES_PER_SECTOR * FAT_ENTRY_SIZE;
    at->entry++;
    at->entries++;
    return OK;
}

enum status fat_directory_next(struct fat_volume *volume, struct fat_directory *at,
                               struct fat_entry *entry)
{
    struct long_name name = {0};
    const uint8_t *raw;
    enum status status;

    while ((status = next_raw(volume, at, &raw)) == OK) {
        bool is_free = raw[0] == FREE_ENTRY || raw[0] == 0;

        if (raw[0] == 0 && !at->behind_end) { /* no entry follows */
            at->cluster = 0;
            return STATUS_NOT_FOUND;
        }
        if (!is_free && (raw[DIR_ATTRIBUTES] & ATTRIBUTE_LONG_MASK) == ATTRIBUTE_LONG) {
            take_part(&name, raw);
        } else if (is_free || (raw[DIR_ATTRIBUTES] & ATTRIBUTE_VOLUME) != 0 || is_dots(raw)) {
            name.begun = false;
        } else {
            take_entry(entry, raw, &name);
            entry->place = fat_cluster_lba(volume, at->cluster) * SECTOR_SIZE +
                           (uint64_t)(at->entry - 1) * FAT_ENTRY_SIZE;
            return OK;
        }
    }
    return status;
}

/* ---- paths ---- */

static bool is_separator(char letter)
{
    return letter == '/' || letter == '\\';
}

static char lower(char letter)
{
    return letter >= 'A' && letter <= 'Z' ? (char)(letter - 'A' + 'a') : letter;
}

/* Returns whether a part of a path, which ends at a separator, is the name. */
static bool is_named(const char *name, const char *part, size_t length)
{
    if (strlen(name) != length)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (lower(name[i]) != lower(part[i]))
            return false;
    }
    return true;
}

static enum status find_in(struct fat_volume *volume, uint32_t directory, const char *part,
                           size_t length, struct fat_entry *entry)
{
    struct fat_directory at = fat_directory_begin(directory);
    enum status status;

    while ((status = fat_directory_next(volume, &at, entry)) == OK) {
        if (is_named(entry->name, part, length) || is_named(entry->short_name, part, length))
            return OK;
    }
    return status;
}

enum status fat_find(struct fat_volume *volume, const char *path, struct fat_entry *entry)
{
    enum status status = OK;

    *entry = (struct fat_entry){.directory = true, .first = volume->root};
    while (status == OK) {
        uint32_t directory = entry->first;
        size_t length = 0;

        while (is_separator(*path))
            path++;
        if (*path == '\0')
            return OK;
        if (!entry->directory)
            return STATUS_NOT_FOUND;
        while (path[length] != '\0' && !is_separator(path[length]))
            length++;
        status = find_in(volume, directory, path, length, entry);
        path += length;
    }
    return status;
}
