/* Decides whether a disk may be written. docs/disk-safety.md numbers the rules. */
#include "swapdisk/validate.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/block/grant.h"
#include "swapdisk/format/checksum.h"

/* Updates of a header of version 2 that one run makes at most, and some more. */
#define GENERATIONS_OF_A_RUN 64U

/* State of judging one disk. */
struct look {
    const struct disk_view *view;
    struct disk_finding *finding;
    enum set_kind kind; /* looked for: each has a partition type and places of its headers */
    struct pfn frame;
    struct pfn second;
    const struct gpt_partition *partition;
};

/* The two copies of the list of bad slots; afterwards the first is the list. */
struct copy_of_list {
    struct bad_slots list;
    const char *problem; /* NULL: sound */
};
static struct copy_of_list lists[2];

static const char unreadable_table[] = "its partition table cannot be read reliably";
static const char unreadable_header[] = "its header cannot be read reliably";

/* Too large for a stack. One thread judges disks one after the other. */
static struct gpt table;

static const char *find_partition(struct look *look)
{
    const uint8_t *type = look->kind == SET_FILES ? files_partition_type : swap_partition_type;

    for (unsigned i = 0; i < table.count; i++) {
        if (memcmp(table.partitions[i].type, type, GPT_GUID_SIZE) != 0)
            continue;
        if (look->partition != NULL)
            return "it has several partitions of Faultline's type";
        look->partition = &table.partitions[i];
    }
    return look->partition == NULL ? "it has no partition of Faultline's type" : NULL;
}

static const char *judge_table(struct look *look)
{
    switch (gpt_read(&look->view->source, &table, look->frame, look->second)) {
    case OK: break;
    case STATUS_NOT_FOUND: return "it has no GUID partition table";
    case STATUS_LIMIT: return table.primary_problem;
    case STATUS_CORRUPT: return "both copies of its partition table are damaged";
    default: return unreadable_table;
    }
    return find_partition(look);
}

/* Judges the partition entry; its table is sound in both copies. */
static const char *judge_partition(const struct look *look)
{
    const struct gpt_partition *partition = look->partition;
    const char *problem = gpt_disagreement(&table);

    if (problem != NULL)
        return problem;
    if ((partition->attributes & ~GPT_ATTRIBUTES_ALLOWED) != 0)
        return "its partition has attributes that forbid writing (required, bootable, read-only)";
    if (partition->first_lba % SECTORS_PER_PAGE != 0)
        return "its partition does not begin at a multiple of 4 KiB";
    if (partition->last_lba - partition->first_lba < SWAP_SECTORS_MIN - 1)
        return "its partition is too small";
    return NULL;
}

static const char *judge_device(const struct look *look)
{
    const struct disk_identity *identity = look->view->identity;

    if (identity->sectors != look->view->source.sectors ||
        identity->sector_shift != look->view->source.shift)
        return "its capacity is unclear";
    if (identity->serial[0] == '\0')
        return "it has no serial number that a header could be bound to";
    if (identity->sector_size != SECTOR_SIZE << identity->sector_shift || !identity->lba48)
        return "it has other sectors or addresses than the driver uses";
    if (look->kind == SET_FILES && identity->sector_shift != 0)
        return "files are written only on disks with sectors of 512 bytes";
    if (identity->security_enabled || identity->security_locked)
        return "it is protected by an ATA password";
    if (!identity->flush_ext)
        return "it cannot flush its cache";
    return NULL;
}

/* Reads one copy of the header, with its list of bad slots. */
static const char *read_header(struct look *look, uint64_t lba, struct swap_header *header,
                               struct copy_of_list *copy)
{
    const uint8_t *page = frame_pointer(look->frame);
    const char *problem;

    if (source_read(&look->view->source, lba, SWAP_HEADER_SECTORS, look->frame, look->second) != OK)
        return unreadable_header;
    problem = swap_header_decode(page, header);
    copy->problem = NULL;
    memset(&copy->list, 0, sizeof(copy->list));
    if (problem == NULL && header->version == SWAP_HEADER_VERSION)
        copy->problem = bad_slots_decode(page, header, &copy->list);
    return problem;
}

/* Refuses sets that this program does not use. */
static const char *judge_use(const struct swap_header *header, enum set_kind kind)
{
    if (header->kind != kind)
        return kind == SET_SWAP ? "its set is for files, not for swap"
                                : "its set is for swap, not for files";
    if (header->role != SET_ALONE && kind != SET_SWAP)
        return "its set of files belongs to a group, which is not supported";
    if (header->role == SET_MIRROR && header->members != 2)
        return "its set is of a mirror with more than two halves, which is not supported";
    /* The mark and its end; in version 2 also each doubling of the used slots. */
    if (header->generation > UINT64_MAX - (header->version == 1 ? 2 : GENERATIONS_OF_A_RUN))
        return "its generation is used up";
    return NULL;
}

static const char *judge_headers(struct look *look)
{
    const struct gpt_partition *partition = look->partition;
    uint64_t second_lba = swap_second_header_lba(partition->first_lba, partition->last_lba);
    struct swap_header *first = &look->finding->header;
    struct swap_header second = {0};
    uint64_t first_header =
        partition->first_lba + (look->kind == SET_FILES ? FILES_HEADER_SECTOR : 0);
    const char *problem = read_header(look, first_header, first, &lists[0]);

    if (problem == NULL)
        problem = read_header(look, second_lba, &second, &lists[1]);
    if (problem == NULL)
        problem = swap_headers_disagree(first, &second);
    if (problem == NULL)
        problem =
            bad_slots_choose(&lists[0].list, lists[0].problem, &lists[1].list, lists[1].problem);
    if (problem == NULL)
        problem = swap_header_misplaced(first, &table, partition, look->view->identity);
    look->finding->lagging = problem == NULL && second.generation != first->generation;
    look->finding->list_torn = problem == NULL && lists[0].problem != NULL;
    return problem != NULL ? problem : judge_use(first, look->kind);
}

static const char *validate_judge(struct look *look)
{
    const char *problem = judge_table(look);

    if (problem != NULL)
        return problem;
    CHECK(look->partition != NULL);
    problem = judge_partition(look);
    if (problem == NULL)
        problem = judge_device(look);
    if (problem == NULL)
        problem = judge_headers(look);
    return problem;
}

/* Both tables are equal and sound, so the primary's header, which has the entries' checksum, stands
 * for all of them. */
static uint32_t tables_checksum(void)
{
    uint8_t sector[SECTOR_SIZE];

    gpt_header_encode(sector, &table.header);
    return checksum_crc32(0, sector, sizeof(sector));
}

static void set_finding(const struct look *look, const char *problem)
{
    struct disk_finding *finding = look->finding;
    char uuid[37];

    finding->prepared = problem == NULL;
    if (problem != NULL) {
        finding->unread = problem == unreadable_table || problem == unreadable_header;
        print_to(finding->reason, REASON_SIZE, "%s%s", problem,
                 table.from_backup && table.count > 0 ? " (read from the backup table)" : "");
        finding->header = (struct swap_header){0};
        return;
    }
    finding->first_lba = look->partition->first_lba;
    finding->last_lba = look->partition->last_lba;
    finding->tables_checksum = tables_checksum();
    swap_uuid_text(finding->header.set_uuid, uuid);
    print_to(finding->reason, REASON_SIZE, "prepared as set %s", uuid);
}

static enum status judge_disk(const struct disk_view *view, enum set_kind kind,
                              struct disk_finding *finding)
{
    struct look look = {.view = view, .finding = finding, .kind = kind};

    CHECK(view->device != NULL && view->identity != NULL);
    memset(lists, 0, sizeof(lists));
    *finding = (struct disk_finding){.next = finding->next};
    if (pmm_alloc(FRAME_DEVICE, FRAME_CLEARED, &look.frame) != OK)
        return STATUS_NO_MEMORY;
    if (pmm_alloc(FRAME_DEVICE, FRAME_CLEARED, &look.second) != OK) {
        pmm_free(look.frame);
        return STATUS_NO_MEMORY;
    }
    set_finding(&look, validate_judge(&look));
    /* A disk that hangs may keep them (rule D1). */
    ahci_free_frame(look.second);
    ahci_free_frame(look.frame);
    CHECK(!finding->prepared || finding->last_lba < view->source.sectors);
    return OK;
}

enum status validate_disk(const struct disk_view *view, struct disk_finding *finding)
{
    return judge_disk(view, SET_SWAP, finding);
}

enum status validate_files(const struct disk_view *view, struct disk_finding *finding)
{
    return judge_disk(view, SET_FILES, finding);
}

enum status validate_files_grant(const struct disk_view *view, const uint8_t set_uuid[16],
                                 const struct swap_grant **grant, struct disk_finding *finding)
{
    enum status status = validate_files(view, finding);

    *grant = NULL;
    if (status != OK)
        return status;
    if (!finding->prepared || memcmp(finding->header.set_uuid, set_uuid, 16) != 0)
        return STATUS_REFUSED;
    *grant = files_grant_make(view->device,
                              finding->first_lba + FILES_HEADER_SECTOR + SWAP_HEADER_SECTORS,
                              swap_second_header_lba(finding->first_lba, finding->last_lba) - 1);
    return OK;
}

enum status validate_grant(const struct disk_view *view, const uint8_t set_uuid[16],
                           const struct swap_grant **grant, struct disk_finding *finding)
{
    enum status status;

    *grant = NULL;
    status = validate_disk(view, finding);
    if (status != OK)
        return status;
    if (!finding->prepared)
        return STATUS_REFUSED;
    if (memcmp(finding->header.set_uuid, set_uuid, 16) != 0) {
        print_to(finding->reason, REASON_SIZE, "it is another set than at the first look");
        return STATUS_REFUSED;
    }
    *grant = swap_grant_make(view->device, finding->first_lba, finding->last_lba,
                             finding->first_lba + SWAP_HEADER_SECTORS,
                             swap_header_slots(&finding->header) * SECTORS_PER_PAGE);
    return OK;
}

const struct bad_slots *validate_bad_slots(void)
{
    return &lists[0].list;
}

static enum status judge_unchanged(const struct disk_view *view, enum set_kind kind,
                                   const struct disk_finding *before, struct disk_finding *now)
{
    enum status status = judge_disk(view, kind, now);

    CHECK(before->prepared);
    if (status != OK)
        return status;
    if (!now->prepared)
        return now->unread ? STATUS_IO : STATUS_CORRUPT;
    if (now->tables_checksum == before->tables_checksum && now->first_lba == before->first_lba &&
        now->last_lba == before->last_lba &&
        memcmp(now->header.set_uuid, before->header.set_uuid, 16) == 0)
        return OK;
    print_to(now->reason, REASON_SIZE, "its partition table or its set is another one");
    return STATUS_CORRUPT;
}

enum status validate_unchanged(const struct disk_view *view, const struct disk_finding *before,
                               struct disk_finding *now)
{
    return judge_unchanged(view, SET_SWAP, before, now);
}

enum status validate_files_unchanged(const struct disk_view *view,
                                     const struct disk_finding *before, struct disk_finding *now)
{
    return judge_unchanged(view, SET_FILES, before, now);
}
