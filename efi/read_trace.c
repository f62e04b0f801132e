/*
 * Reads the file of trace= from the image's volume.
 *
 * Spec: UEFI 2.10, 13.4 and 13.5 (files).
 */
#include "efi/read_trace.h"

#include "efi/trace/trace.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/options.h"

#define CHUNK_SIZE 4096U

/* Feeds the file to the reader. Returns NULL or what is wrong. */
static const char *feed(EFI_FILE_HANDLE file)
{
    static uint8_t chunk[CHUNK_SIZE];

    for (;;) {
        UINTN size = sizeof(chunk);

        if (EFI_ERROR(file->Read(file, &size, chunk)) || size > sizeof(chunk))
            return "it cannot be read";
        if (size == 0 || !trace_feed(chunk, size))
            return trace_end();
    }
}

const char *read_trace_file(const struct firmware *firmware, const char *name)
{
    CHAR16 path[OPTION_TRACE_SIZE + 1] = {L'\\'};
    EFI_FILE_HANDLE root;
    EFI_FILE_HANDLE file;
    enum trace_format format;
    const char *problem;
    EFI_STATUS status;

    CHECK(trace_format_of(name, &format) && strlen(name) < OPTION_TRACE_SIZE);
    for (size_t i = 0; name[i] != '\0'; i++)
        path[i + 1] = (CHAR16)name[i];
    if (firmware_open_volume(firmware, &root) != OK)
        return "there is no boot volume that opens";
    status = root->Open(root, &file, path, EFI_FILE_MODE_READ, 0);
    root->Close(root);
    if (EFI_ERROR(status))
        return status == EFI_NOT_FOUND ? "there is no such file on the boot volume"
                                       : "it cannot be opened";
    trace_begin(format);
    problem = feed(file);
    file->Close(file);
    return problem;
}
