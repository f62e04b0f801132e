/* Queries of the firmware: its tables, its name, and the configuration file. */
#include "efi/firmware/firmware.h"

#include "efi/options/options.h"
#include "lib/bytes.h"
#include "lib/print.h"

/* A firmware's name is cut after this many characters. */
#define VENDOR_SIZE 40U

static CHAR16 config_name[] = L"\\faultline.cfg";

/* One byte more than the limit, to detect a longer file. */
static char config_text[OPTION_FILE_SIZE + 1];

enum status firmware_open(EFI_HANDLE handle, EFI_SYSTEM_TABLE *table, struct firmware *firmware)
{
    EFI_GUID guid = EFI_LOADED_IMAGE_PROTOCOL_GUID;
    void *image;

    *firmware =
        (struct firmware){.handle = handle, .table = table, .services = table->BootServices};
    if (EFI_ERROR(table->BootServices->HandleProtocol(handle, &guid, &image)))
        return STATUS_UNSUPPORTED;
    firmware->image = image;
    return OK;
}

/* Finds the ACPI root pointer, preferring that of ACPI 2.0 and later. */
static struct phys find_rsdp(const EFI_SYSTEM_TABLE *table)
{
    static const EFI_GUID acpi_20 = ACPI_20_TABLE_GUID;
    static const EFI_GUID acpi_10 = ACPI_TABLE_GUID;
    struct phys found = {0};

    for (UINTN i = 0; i < table->NumberOfTableEntries; i++) {
        const EFI_CONFIGURATION_TABLE *entry = &table->ConfigurationTable[i];

        if (guid_equal(&entry->VendorGuid, &acpi_20))
            return (struct phys){(uintptr_t)entry->VendorTable};
        if (guid_equal(&entry->VendorGuid, &acpi_10))
            found.address = (uintptr_t)entry->VendorTable;
    }
    return found;
}

static void name_firmware(const EFI_SYSTEM_TABLE *table, char *text, size_t size)
{
    char vendor[VENDOR_SIZE] = "unnamed firmware";
    UINT32 uefi = table->Hdr.Revision;

    for (size_t i = 0; table->FirmwareVendor != NULL && i < sizeof(vendor) - 1; i++) {
        CHAR16 letter = table->FirmwareVendor[i];

        vendor[i] = letter >= ' ' && letter <= '~' ? (char)letter : letter == 0 ? '\0' : '?';
        vendor[i + 1] = '\0';
        if (letter == 0)
            break;
    }
    print_to(text, size, "%s %#x, UEFI %u.%u", vendor, table->FirmwareRevision, uefi >> 16,
             (uefi & 0xffff) / 10);
}

void firmware_collect(const struct firmware *firmware, struct bootinfo *info)
{
    const EFI_SYSTEM_TABLE *table = firmware->table;

    info->rsdp = find_rsdp(table);
    info->image.address = (uintptr_t)firmware->image->ImageBase;
    info->image_size = round_up(firmware->image->ImageSize, PAGE_SIZE);
    info->runtime_services.address = (uintptr_t)table->RuntimeServices;
    name_firmware(table, info->firmware, sizeof(info->firmware));
    firmware_boot_source(firmware, info->boot_source, sizeof(info->boot_source));
}

enum status firmware_open_volume(const struct firmware *firmware, EFI_FILE_HANDLE *root)
{
    EFI_GUID guid = EFI_SIMPLE_FILE_SYSTEM_PROTOCOL_GUID;
    EFI_FILE_IO_INTERFACE *volume;
    void *found;

    if (firmware->image->DeviceHandle == NULL ||
        EFI_ERROR(firmware->services->HandleProtocol(firmware->image->DeviceHandle, &guid, &found)))
        return STATUS_NOT_FOUND;
    volume = found;
    return EFI_ERROR(volume->OpenVolume(volume, root)) ? STATUS_IO : OK;
}

/* Reads to the end of the file; a read may return less than was asked for. */
static void firmware_read_all(EFI_FILE_HANDLE handle, struct config_file *file)
{
    UINTN done = 0;

    for (;;) {
        UINTN size = sizeof(config_text) - done;

        if (size == 0) {
            file->error = "longer than 16 KiB";
            return;
        }
        if (EFI_ERROR(handle->Read(handle, &size, config_text + done)) ||
            size > sizeof(config_text) - done) {
            file->error = "cannot be read";
            return;
        }
        if (size == 0)
            break;
        done += size;
    }
    file->text = config_text;
    file->size = done;
}

void firmware_read_config(const struct firmware *firmware, struct config_file *file)
{
    EFI_FILE_HANDLE root;
    EFI_FILE_HANDLE handle;
    enum status opened = firmware_open_volume(firmware, &root);
    EFI_STATUS status;

    *file = (struct config_file){0};
    if (opened != OK) {
        if (opened != STATUS_NOT_FOUND)
            file->error = "cannot be looked for: the boot volume does not open";
        return;
    }
    status = root->Open(root, &handle, config_name, EFI_FILE_MODE_READ, 0);
    if (status == EFI_SUCCESS) {
        firmware_read_all(handle, file);
        handle->Close(handle);
    } else if (status != EFI_NOT_FOUND) {
        file->error = "cannot be opened";
    }
    root->Close(root);
}
