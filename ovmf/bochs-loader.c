/*
 * Starts Faultline on Bochs, with ACPI tables that describe two processors.
 *
 * OVMF gets its ACPI tables from QEMU. On Bochs it has none, so that no processor but the first one
 * is known. This application is \EFI\BOOT\BOOTX64.EFI there: it installs an RSDP, an XSDT, a FADT
 * with the PM timer and a MADT, then starts \FAULTLINE.EFI of the same volume.
 *
 * Owns: one page of EfiACPIReclaimMemory, which stays. Fails with: the status of the firmware's
 * call. Spec: ACPI 6.4, 5.2.5 (RSDP), 5.2.8 (XSDT), 5.2.9 (FADT), 5.2.12 (MADT); UEFI 2.9, 7.4
 * (images).
 */
#include <efi.h>

#define PROCESSORS     2U
#define LOCAL_APIC     0xfee00000U
#define IO_APIC        0xfec00000U
#define PM_BASE        0xb000U /* where OVMF puts the PIIX4's power management ports */
#define PM_CONTROL     (PM_BASE + 4)
#define PM_TIMER       (PM_BASE + 8)
#define PATH_BYTES_MAX 512U

struct header {
    CHAR8 signature[4];
    UINT32 length;
    UINT8 revision;
    UINT8 checksum;
    CHAR8 oem[6];
    CHAR8 oem_table[8];
    UINT32 oem_revision;
    UINT32 creator;
    UINT32 creator_revision;
} __attribute__((packed));

struct rsdp {
    CHAR8 signature[8];
    UINT8 checksum; /* of the first 20 bytes */
    CHAR8 oem[6];
    UINT8 revision;
    UINT32 rsdt;
    UINT32 length;
    UINT64 xsdt;
    UINT8 extended_checksum;
    UINT8 reserved[3];
} __attribute__((packed));

struct local_apic {
    UINT8 type;
    UINT8 length;
    UINT8 processor;
    UINT8 id;
    UINT32 flags;
} __attribute__((packed));

struct io_apic {
    UINT8 type;
    UINT8 length;
    UINT8 id;
    UINT8 reserved;
    UINT32 address;
    UINT32 interrupts;
} __attribute__((packed));

struct madt {
    struct header header;
    UINT32 local_apic;
    UINT32 flags;
    struct local_apic processors[PROCESSORS];
    struct io_apic io;
} __attribute__((packed));

/* The FADT of ACPI 1.0, by the fields that are not zero. */
struct fadt {
    struct header header;
    UINT8 unused[10];
    UINT16 sci;
    UINT8 unused2[8];
    UINT32 pm1a_event;
    UINT32 pm1b_event;
    UINT32 pm1a_control;
    UINT32 pm1b_control;
    UINT32 pm2_control;
    UINT32 pm_timer;
    UINT32 gpe[2];
    UINT8 pm1_event_bytes;
    UINT8 pm1_control_bytes;
    UINT8 pm2_control_bytes;
    UINT8 pm_timer_bytes;
    UINT8 rest[24];
} __attribute__((packed));

struct tables {
    struct rsdp rsdp;
    struct {
        struct header header;
        UINT64 entries[2];
    } __attribute__((packed)) xsdt;
    struct fadt fadt;
    struct madt madt;
};

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system);

static EFI_BOOT_SERVICES *boot;

static void copy(void *to, const void *from, UINTN size)
{
    for (UINTN i = 0; i < size; i++)
        ((volatile UINT8 *)to)[i] = ((const UINT8 *)from)[i];
}

/* Returns the byte that makes the sum of the range zero. */
static UINT8 checksum(const void *start, UINTN size)
{
    UINT8 sum = 0;

    for (UINTN i = 0; i < size; i++)
        sum = (UINT8)(sum + ((const UINT8 *)start)[i]);
    return (UINT8)-sum;
}

static void fill_header(struct header *header, const char *signature, UINTN length, UINT8 revision)
{
    copy(header->signature, signature, 4);
    header->length = (UINT32)length;
    header->revision = revision;
    copy(header->oem, "FAULTL", 6);
    copy(header->oem_table, "BOCHS   ", 8);
    header->oem_revision = 1;
    header->checksum = 0;
    header->checksum = checksum(header, length);
}

static void fill_tables(struct tables *tables)
{
    for (unsigned i = 0; i < PROCESSORS; i++)
        tables->madt.processors[i] =
            (struct local_apic){0, sizeof(struct local_apic), (UINT8)i, (UINT8)i, 1};
    tables->madt.io = (struct io_apic){1, sizeof(struct io_apic), PROCESSORS, 0, IO_APIC, 0};
    tables->madt.local_apic = LOCAL_APIC;
    tables->madt.flags = 1; /* the two PICs are there as well */
    fill_header(&tables->madt.header, "APIC", sizeof(tables->madt), 3);

    tables->fadt.sci = 9;
    tables->fadt.pm1a_event = PM_BASE;
    tables->fadt.pm1a_control = PM_CONTROL;
    tables->fadt.pm_timer = PM_TIMER;
    tables->fadt.pm1_event_bytes = 4;
    tables->fadt.pm1_control_bytes = 2;
    tables->fadt.pm_timer_bytes = 4;
    fill_header(&tables->fadt.header, "FACP", sizeof(tables->fadt), 1);

    tables->xsdt.entries[0] = (UINTN)&tables->fadt;
    tables->xsdt.entries[1] = (UINTN)&tables->madt;
    fill_header(&tables->xsdt.header, "XSDT", sizeof(tables->xsdt), 1);

    copy(tables->rsdp.signature, "RSD PTR ", 8);
    copy(tables->rsdp.oem, "FAULTL", 6);
    tables->rsdp.revision = 2;
    tables->rsdp.length = sizeof(tables->rsdp);
    tables->rsdp.xsdt = (UINTN)&tables->xsdt;
    tables->rsdp.checksum = checksum(&tables->rsdp, 20);
    tables->rsdp.extended_checksum = checksum(&tables->rsdp, sizeof(tables->rsdp));
}

static EFI_STATUS install_tables(void)
{
    static EFI_GUID acpi = ACPI_20_TABLE_GUID;
    EFI_PHYSICAL_ADDRESS page = 0xffffffff;
    EFI_STATUS status = boot->AllocatePages(AllocateMaxAddress, EfiACPIReclaimMemory, 1, &page);

    if (EFI_ERROR(status))
        return status;
    for (UINTN i = 0; i < EFI_PAGE_SIZE; i++)
        ((volatile UINT8 *)(UINTN)page)[i] = 0;
    fill_tables((struct tables *)(UINTN)page);
    return boot->InstallConfigurationTable(&acpi, (void *)(UINTN)page);
}

/* Appends \FAULTLINE.EFI to a volume's device path; returns FALSE if there is no room. */
static BOOLEAN make_path(const EFI_DEVICE_PATH *volume, UINT8 *path)
{
    static const CHAR16 name[] = L"\\FAULTLINE.EFI";
    const EFI_DEVICE_PATH *node = volume;
    EFI_DEVICE_PATH head = {MEDIA_DEVICE_PATH, MEDIA_FILEPATH_DP, {0, 0}};
    EFI_DEVICE_PATH end = {END_DEVICE_PATH_TYPE, END_ENTIRE_DEVICE_PATH_SUBTYPE, {sizeof(end), 0}};
    UINTN at;

    while (!IsDevicePathEnd(node)) {
        if (DevicePathNodeLength(node) < (INTN)sizeof(*node) ||
            (UINTN)node - (UINTN)volume > PATH_BYTES_MAX)
            return FALSE;
        node = NextDevicePathNode(node);
    }
    at = (UINTN)node - (UINTN)volume;
    if (at + sizeof(head) + sizeof(name) + sizeof(end) > PATH_BYTES_MAX)
        return FALSE;
    head.Length[0] = sizeof(head) + sizeof(name);
    copy(path, volume, at);
    copy(path + at, &head, sizeof(head));
    copy(path + at + sizeof(head), name, sizeof(name));
    copy(path + at + sizeof(head) + sizeof(name), &end, sizeof(end));
    return TRUE;
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system)
{
    static EFI_GUID loaded_image = LOADED_IMAGE_PROTOCOL;
    static EFI_GUID device_path = DEVICE_PATH_PROTOCOL;
    static UINT8 path[PATH_BYTES_MAX];
    EFI_LOADED_IMAGE *self;
    EFI_DEVICE_PATH *volume;
    EFI_HANDLE child;
    EFI_STATUS status;

    boot = system->BootServices;
    status = install_tables();
    if (EFI_ERROR(status))
        return status;
    status = boot->HandleProtocol(image, &loaded_image, (void **)&self);
    if (EFI_ERROR(status))
        return status;
    status = boot->HandleProtocol(self->DeviceHandle, &device_path, (void **)&volume);
    if (EFI_ERROR(status))
        return status;
    if (!make_path(volume, path))
        return EFI_BUFFER_TOO_SMALL;
    status = boot->LoadImage(FALSE, image, (EFI_DEVICE_PATH *)path, NULL, 0, &child);
    if (EFI_ERROR(status))
        return status;
    return boot->StartImage(child, NULL, NULL);
}
