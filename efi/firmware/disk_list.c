/*
 * The disks that the firmware has found, for the menu: which may be written, and why not the
 * others.
 *
 * A first look through the firmware's drivers, which decides nothing: the run judges each disk
 * again by its own driver (swapdisk/validate.c).
 *
 * Spec: UEFI 2.10, 13.9 (block I/O), 5.3 (GPT).
 */
#include "cpu/features.h"
#include "efi/firmware/menu.h"
#include "lib/bytes.h"
#include "lib/ktap.h"
#include "lib/units.h"
#include "swapdisk/choose.h"
#include "swapdisk/format/header.h"
#include "swapdisk/format/little.h"

#define SECTOR       512U
#define ENTRY_SIZE   128U
#define ENTRIES_READ 128U

/* Byte offsets in the GPT header and in an entry. */
#define GPT_SIGNATURE "EFI PART"
#define GPT_ENTRIES   72U
#define GPT_ENTRY     84U
#define ENTRY_FIRST   32U

static UINT8 sectors[ENTRIES_READ * ENTRY_SIZE] __attribute__((aligned(PAGE_SIZE)));

static bool read_blocks(EFI_BLOCK_IO *block, EFI_LBA lba, UINTN size)
{
    return block->ReadBlocks(block, block->Media->MediaId, lba, size, sectors) == EFI_SUCCESS;
}

/* Finds the first sector of the partition of Faultline's type; 0: there is none. */
static uint64_t find_prepared(EFI_BLOCK_IO *block)
{
    if (!read_blocks(block, 1, SECTOR) ||
        memcmp(sectors, GPT_SIGNATURE, sizeof(GPT_SIGNATURE) - 1) != 0 ||
        get_le32(sectors + GPT_ENTRY) != ENTRY_SIZE ||
        !read_blocks(block, get_le64(sectors + GPT_ENTRIES), sizeof(sectors)))
        return 0;
    for (unsigned i = 0; i < ENTRIES_READ; i++) {
        const UINT8 *entry = sectors + (size_t)i * ENTRY_SIZE;

        if (memcmp(entry, swap_partition_type, GPT_GUID_SIZE) == 0)
            return get_le64(entry + ENTRY_FIRST);
    }
    return 0;
}

/* Says whether a set may be written, by the options. */
static const char *judge_set(const struct swap_header *header, const struct options *options)
{
    switch (options->swap) {
    case SWAP_NONE: return "is not written: swap=none";
    case SWAP_SET:
        return swap_choice_of(header, options) != NULL ? "will be written, if the run agrees"
                                                       : "is not written: swap= names another set";
    case SWAP_AUTO: break;
    }
    return cpu_features()->hypervisor ? "will be written, if no other set or group is there"
                                      : "is not written unless swap= names its set";
}

static void list_disk(EFI_BLOCK_IO *block, const char *kind, const struct options *options)
{
    const EFI_BLOCK_IO_MEDIA *media = block->Media;
    uint64_t mib = (media->LastBlock + 1) * media->BlockSize / MIB;
    struct swap_header header;
    const char *problem;
    uint64_t first;
    char uuid[37];

    if (strcmp(kind, "AHCI disk") != 0) {
        ktap_note("menu:   %s, %lu MiB: is not written: only disks on AHCI are", kind, mib);
        return;
    }
    first = media->BlockSize == SECTOR ? find_prepared(block) : 0;
    if (first == 0) {
        ktap_note("menu:   %s, %lu MiB: is not written: no partition of Faultline's type", kind,
                  mib);
        return;
    }
    problem = read_blocks(block, first, SWAP_HEADER_SIZE) ? swap_header_decode(sectors, &header)
                                                          : "its header cannot be read";
    if (problem != NULL) {
        ktap_note("menu:   %s, %lu MiB: is not written: %s", kind, mib, problem);
        return;
    }
    swap_uuid_text(header.set_uuid, uuid);
    ktap_note("menu:   %s, %lu MiB, set %s: %s", kind, mib, uuid, judge_set(&header, options));
}

/* Connects the firmware's drivers to all devices. So far the firmware has connected only those that
 * it needed to start this application. */
static void connect_all(const struct firmware *firmware)
{
    EFI_HANDLE *handles;
    UINTN count;

    if (firmware->services->LocateHandleBuffer(AllHandles, NULL, NULL, &count, &handles) !=
        EFI_SUCCESS)
        return;
    for (UINTN i = 0; i < count; i++)
        firmware->services->ConnectController(handles[i], NULL, NULL, TRUE);
    firmware->services->FreePool(handles);
}

void firmware_list_disks(const struct firmware *firmware, const struct options *options)
{
    EFI_GUID guid = EFI_BLOCK_IO_PROTOCOL_GUID;
    EFI_HANDLE *handles;
    unsigned found = 0;
    char kind[64];
    UINTN count;
    void *block;

    connect_all(firmware);
    if (firmware->services->LocateHandleBuffer(ByProtocol, &guid, NULL, &count, &handles) !=
        EFI_SUCCESS)
        count = 0;
    for (UINTN i = 0; i < count; i++) {
        const EFI_BLOCK_IO_MEDIA *media;

        if (EFI_ERROR(firmware->services->HandleProtocol(handles[i], &guid, &block)))
            continue;
        media = ((EFI_BLOCK_IO *)block)->Media;
        if (media->LogicalPartition || !media->MediaPresent)
            continue;
        firmware_describe(firmware, handles[i], kind, sizeof(kind));
        list_disk(block, kind, options);
        found++;
    }
    if (count > 0)
        firmware->services->FreePool(handles);
    if (found == 0)
        ktap_note("menu:   none found");
}
