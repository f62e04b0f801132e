/* Describes the device that the image was started from, by the device path of its volume. */
#include "efi/firmware/firmware.h"
#include "efi/firmware/menu.h"

#include "lib/bytes.h"
#include "lib/print.h"

/* The highest bit of a node's type is obsolete. */
#define TYPE_MASK 0x7f

/* Messaging subtypes that are newer than gnu-efi's headers: UEFI 2.10, 10.3.4. */
#define MSG_NVME_DP 23
#define MSG_SD_DP   26
#define MSG_EMMC_DP 29

/* A longer path is corrupt. */
#define NODES_MAX 64U

/* OVMF's volume for the image that QEMU's -kernel passes (EDK II, QemuKernelLoaderFsDxe). */
static const EFI_GUID kernel_volume = {
    0x1428f772, 0xb64a, 0x441e, {0xb8, 0xc3, 0x9e, 0xbd, 0xd7, 0xf8, 0x93, 0xc7}};

static UINTN node_size(const EFI_DEVICE_PATH *node)
{
    return node->Length[0] | (UINTN)node->Length[1] << 8;
}

/* Returns the kind of device that a node names; NULL: none. */
static const char *messaging_kind(UINT8 subtype)
{
    switch (subtype) {
    case MSG_ATAPI_DP: return "IDE disk";
    case MSG_SCSI_DP: return "SCSI disk";
    case MSG_USB_DP:
    case MSG_USB_WWID_DP:
    case MSG_USB_CLASS_DP: return "USB stick";
    case MSG_SATA_DP: return "AHCI disk";
    case MSG_NVME_DP: return "NVMe disk";
    case MSG_SD_DP: return "SD card";
    case MSG_EMMC_DP: return "eMMC disk";
    case MSG_MAC_ADDR_DP:
    case MSG_IPv4_DP:
    case MSG_IPv6_DP:
    case MSG_URI_DP: return "network";
    default: return NULL;
    }
}

/* Returns whether a vendor node, of hardware or media, has the GUID of the kernel volume. */
static bool is_kernel_volume(const EFI_DEVICE_PATH *node)
{
    UINT8 type = node->Type & TYPE_MASK;
    bool vendor = (type == HARDWARE_DEVICE_PATH && node->SubType == HW_VENDOR_DP) ||
                  (type == MEDIA_DEVICE_PATH && node->SubType == MEDIA_VENDOR_DP);

    return vendor && node_size(node) >= sizeof(*node) + sizeof(EFI_GUID) &&
           guid_equal((const EFI_GUID *)(const void *)(node + 1), &kernel_volume);
}

/* Returns the partition number of a hard drive node, which is not aligned. */
static unsigned partition_number(const EFI_DEVICE_PATH *node)
{
    UINT32 number = 0;

    if (node_size(node) >= sizeof(*node) + sizeof(number))
        memcpy(&number, node + 1, sizeof(number));
    return number;
}

static void describe_path(const EFI_DEVICE_PATH *node, char *text, size_t size)
{
    const char *kind = NULL;
    bool cd = false;
    unsigned partition = 0;

    for (unsigned i = 0; i < NODES_MAX && node_size(node) >= sizeof(*node); i++) {
        UINT8 type = node->Type & TYPE_MASK;

        if (type == END_DEVICE_PATH_TYPE)
            break;
        if (is_kernel_volume(node))
            kind = "QEMU's -kernel";
        else if (type == MESSAGING_DEVICE_PATH && messaging_kind(node->SubType) != NULL)
            kind = messaging_kind(node->SubType);
        else if (type == MEDIA_DEVICE_PATH && node->SubType == MEDIA_HARDDRIVE_DP)
            partition = partition_number(node);
        else if (type == MEDIA_DEVICE_PATH && node->SubType == MEDIA_CDROM_DP)
            cd = true;
        node = (const EFI_DEVICE_PATH *)((const UINT8 *)node + node_size(node));
    }
    if (kind == NULL)
        kind = "a disk of another kind";
    if (cd)
        print_to(text, size, "CD image on %s", kind);
    else if (partition > 0)
        print_to(text, size, "%s, partition %u", kind, partition);
    else
        print_to(text, size, "%s", kind);
}

void firmware_describe(const struct firmware *firmware, EFI_HANDLE handle, char *text, size_t size)
{
    EFI_GUID guid = EFI_DEVICE_PATH_PROTOCOL_GUID;
    void *path;

    if (handle == NULL || EFI_ERROR(firmware->services->HandleProtocol(handle, &guid, &path)))
        print_to(text, size, "memory");
    else
        describe_path(path, text, size);
}

void firmware_boot_source(const struct firmware *firmware, char *text, size_t size)
{
    firmware_describe(firmware, firmware->image->DeviceHandle, text, size);
}
