/* Where a disk may have a volume: the whole disk, primary partitions of the MBR, and the GPT. */
#include "swapdisk/fs/partitions.h"

#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/format/identify.h"
#include "swapdisk/format/little.h"

/* The MBR (UEFI 2.10, 5.2.1): offsets. */
#define MBR_RECORDS    446U
#define MBR_RECORD     16U
#define MBR_TYPE       4U
#define MBR_FIRST      8U
#define MBR_SECTORS    12U
#define MBR_SIGNATURE  510U
#define MBR_PARTITIONS 4U

#define GPT_ENTRY_FIRST 32U
#define GPT_ENTRY_LAST  40U

_Static_assert(GPT_ENTRY_LAST + 8 <= 128, "an entry has at least 128 bytes");

/* Reads up to `wanted` sectors, unless these were read last, well or not. */
static enum status read_sectors(struct partition_list *list, uint64_t lba, unsigned wanted)
{
    uint64_t left = list->source.sectors - lba;

    CHECK(lba < list->source.sectors);
    if (list->read_lba != lba)
        list->read_status = source_read(&list->source, lba, (unsigned)min_u64(left, wanted),
                                        list->frame, list->second);
    list->read_lba = lba;
    if (list->read_status != OK && list->trouble == OK)
        list->trouble = list->read_status;
    return list->read_status;
}

enum status partitions_begin(struct partition_list *list, const struct sector_source *source)
{
    uint64_t table_lba = gpt_primary_lba(source->shift);

    CHECK(source->sectors > table_lba);
    *list = (struct partition_list){.source = *source, .second = PFN_NONE, .read_lba = UINT64_MAX};
    if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &list->frame) != OK)
        list->frame = PFN_NONE;
    else if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &list->second) != OK)
        list->second = PFN_NONE;
    if (pfn_is_none(list->frame) || pfn_is_none(list->second)) {
        partitions_end(list);
        return STATUS_NO_MEMORY;
    }
    if (read_sectors(list, table_lba, 1) != OK ||
        gpt_header_decode(frame_pointer(list->frame), table_lba, source->sectors, source->shift,
                          &list->table) != NULL)
        list->table.entry_count = 0;
    return OK;
}

void partitions_end(struct partition_list *list)
{
    if (!pfn_is_none(list->frame))
        ahci_free_frame(list->frame);
    if (!pfn_is_none(list->second))
        ahci_free_frame(list->second);
    list->frame = PFN_NONE;
    list->second = PFN_NONE;
}

/* Reads a primary partition of the MBR; an empty range if there is none. */
static enum status read_record(struct partition_list *list, unsigned number, uint64_t *first,
                               uint64_t *sectors)
{
    enum status status = read_sectors(list, 0, 1);
    const uint8_t *sector = frame_pointer(list->frame);
    const uint8_t *record = sector + MBR_RECORDS + number * MBR_RECORD;

    CHECK(number < MBR_PARTITIONS);
    *sectors = 0;
    if (status != OK || get_le16(sector + MBR_SIGNATURE) != 0xaa55 || record[MBR_TYPE] == 0)
        return status;
    *first = (uint64_t)get_le32(record + MBR_FIRST) << list->source.shift;
    *sectors = (uint64_t)get_le32(record + MBR_SECTORS) << list->source.shift;
    return OK;
}

/* Reads an entry of the GPT; an empty range if it is unused or damaged. */
static enum status read_gpt_entry(struct partition_list *list, unsigned number, uint64_t *first,
                                  uint64_t *sectors)
{
    uint64_t offset = (uint64_t)number * list->table.entry_size;
    enum status status = read_sectors(
        list, list->table.entries_lba + offset / PAGE_SIZE * SECTORS_PER_PAGE, SECTORS_PER_PAGE);
    const uint8_t *entry = (const uint8_t *)frame_pointer(list->frame) + offset % PAGE_SIZE;
    uint64_t last;

    CHECK(offset % PAGE_SIZE + GPT_ENTRY_LAST + 8 <= PAGE_SIZE);
    *sectors = 0;
    if (status != OK || all_zero(entry, GPT_GUID_SIZE))
        return status;
    *first = sector_first(get_le64(entry + GPT_ENTRY_FIRST), list->source.shift);
    last = sector_last(get_le64(entry + GPT_ENTRY_LAST), list->source.shift);
    if (*first <= last && last < list->source.sectors)
        *sectors = last - *first + 1;
    return OK;
}

/* Reads one range; an empty one if there is none at this place. */
static enum status read_range(struct partition_list *list, unsigned at, uint64_t *first,
                              uint64_t *sectors)
{
    if (at > MBR_PARTITIONS)
        return read_gpt_entry(list, at - 1 - MBR_PARTITIONS, first, sectors);
    if (at > 0)
        return read_record(list, at - 1, first, sectors);
    *first = 0;
    *sectors = list->source.sectors;
    return OK;
}

enum status partitions_next(struct partition_list *list, uint64_t *first_lba, uint64_t *last_lba)
{
    while (list->next <= MBR_PARTITIONS + list->table.entry_count) {
        unsigned at = list->next++;
        uint64_t first;
        uint64_t sectors;
        enum status status = read_range(list, at, &first, &sectors);

        if (status != OK || sectors == 0 || first >= list->source.sectors ||
            sectors > list->source.sectors - first || (at > 0 && first == 0))
            continue;
        *first_lba = first;
        *last_lba = first + sectors - 1;
        return OK;
    }
    return list->trouble != OK ? list->trouble : STATUS_NOT_FOUND;
}
