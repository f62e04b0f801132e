/* Fuzzes the MADT parser: it must stay inside the table and list only sound entries. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "efi/acpi/madt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct madt madt;

    if (madt_parse(data, (uint32_t)size, &madt) != OK)
        return 0;
    if (madt.count == 0 || madt.count > MADT_PROCESSORS_MAX)
        abort();
    for (unsigned i = 0; i < madt.count; i++) {
        for (unsigned j = 0; j < i; j++) {
            if (madt.ids[i] == madt.ids[j])
                abort();
        }
    }
    return 0;
}
