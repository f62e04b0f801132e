/*
 * The log of the run before: found in memory after a warm reset, and saved on the boot volume.
 *
 * Only with report=boot. The block is reserved memory at the first of a few fixed addresses that
 * the firmware leaves free, so that the next start looks at the same place.
 *
 * Spec: UEFI 2.10, 7.2 (AllocatePages), 13.4 and 13.5 (files).
 */
#include "efi/firmware/firmware.h"
#include "efi/log/kept_log.h"
#include "efi/log/memory_log.h"
#include "lib/bytes.h"
#include "lib/print.h"

/* Firmware uses the first 16 MiB and the top of memory below 4 GiB; between them these are free on
 * most machines. */
static const EFI_PHYSICAL_ADDRESS places[] = {64 * MIB, 128 * MIB, 32 * MIB, 256 * MIB, 48 * MIB};

#define BLOCK_PAGES (KEPT_LOG_BLOCK / PAGE_SIZE)

/* The one file that Faultline writes. */
static CHAR16 log_name[] = L"\\faultline.log";

/* Opens the file, empty. */
static EFI_STATUS open_empty(EFI_FILE_HANDLE root, EFI_FILE_HANDLE *file)
{
    UINT64 mode = EFI_FILE_MODE_READ | EFI_FILE_MODE_WRITE;
    EFI_STATUS status = root->Open(root, file, log_name, mode, 0);

    if (status == EFI_SUCCESS)
        status = (*file)->Delete(*file); /* closes it as well */
    else if (status == EFI_NOT_FOUND)
        status = EFI_SUCCESS;
    if (status != EFI_SUCCESS)
        return EFI_ACCESS_DENIED;
    return root->Open(root, file, log_name, mode | EFI_FILE_MODE_CREATE, 0);
}

/* Writes the file on the image's volume; returns NULL, or the step that failed. */
static const char *save(const struct firmware *firmware, const char *text, size_t size)
{
    EFI_FILE_HANDLE root;
    EFI_FILE_HANDLE file;
    UINTN written = size;
    enum status opened = firmware_open_volume(firmware, &root);
    bool whole;

    if (opened != OK)
        return opened == STATUS_NOT_FOUND ? "there is no boot volume"
                                          : "the boot volume does not open";
    if (EFI_ERROR(open_empty(root, &file))) {
        root->Close(root);
        return "the file cannot be made";
    }
    whole = file->Write(file, &written, (void *)(uintptr_t)text) == EFI_SUCCESS && written == size;
    whole = !EFI_ERROR(file->Flush(file)) && whole;
    if (whole)
        file->Close(file);
    else
        file->Delete(file); /* a partial log is of no use; this closes the file, too */
    root->Close(root);
    return whole ? NULL : "the volume is full, or cannot be written";
}

/* Saves the log of the run before. Returns whether its memory may be used again. */
static bool save_from(const struct firmware *firmware, void *block, const char *text, size_t length,
                      char *words, size_t size)
{
    const char *problem = save(firmware, text, length);

    if (problem == NULL) {
        print_to(words, size, "the log of the run before is \\faultline.log now, %zu bytes",
                 length);
        memory_log_erase(block);
        return true;
    }
    print_to(words, size,
             "the log of the run before, %zu bytes, is not saved: %s; it stays in memory for the "
             "next start, and the log of this run is not kept there",
             length, problem);
    return false;
}

bool firmware_keep_log(const struct firmware *firmware, struct phys *block, char *words,
                       size_t size)
{
    bool found = false;
    bool stays = false; /* the log of the run before, in its block */
    bool have = false;

    print_to(words, size, "no log of a run before is in memory");
    for (unsigned i = 0; i < ARRAY_COUNT(places); i++) {
        EFI_PHYSICAL_ADDRESS at = places[i];
        const char *text;
        size_t length;

        if (EFI_ERROR(firmware->services->AllocatePages(AllocateAddress, EfiReservedMemoryType,
                                                        BLOCK_PAGES, &at)))
            continue;
        text = found ? NULL : memory_log_find((void *)(uintptr_t)at, KEPT_LOG_BLOCK, &length);
        if (text != NULL) {
            found = true;
            stays = !save_from(firmware, (void *)(uintptr_t)at, text, length, words, size);
        }
        if (text != NULL && stays)
            continue;
        if (have) {
            firmware->services->FreePages(at, BLOCK_PAGES);
            continue;
        }
        block->address = at;
        have = true;
    }
    /* One log at a time: of two, the next start could not tell which one is the later. */
    if (have && stays)
        firmware->services->FreePages(block->address, BLOCK_PAGES);
    if (!have && !found)
        print_to(words, size, "no place in memory is free for a log that survives a reset");
    return have && !stays;
}
