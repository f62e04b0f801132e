/*
 * Reads the file of trace= from the image's volume, and gives it to efi/trace/trace.h.
 *
 * Fails with: a sentence. Context: boot services.
 */
#ifndef EFI_READ_TRACE_H
#define EFI_READ_TRACE_H

#include "efi/firmware/firmware.h"

/* Returns NULL, or what is wrong, borrowed until the next call. name: as trace_format_of takes. */
MUST_USE const char *read_trace_file(const struct firmware *firmware, const char *name);

#endif
