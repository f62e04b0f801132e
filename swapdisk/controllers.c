/* Which storage controllers are used, and their known defects. */
#include "swapdisk/controllers.h"

#include "lib/bytes.h"
#include "lib/check.h"

/* Class codes (PCI Code and ID Assignment 1.11, 1.2). */
#define CLASS_STORAGE  0x01U
#define SUBCLASS_IDE   0x01U
#define SUBCLASS_RAID  0x04U
#define SUBCLASS_SATA  0x06U
#define SUBCLASS_NVME  0x08U
#define INTERFACE_AHCI 0x01U

/* Controllers whose registers claim more than the hardware does. */
struct known_quirk {
    uint16_t vendor;
    uint16_t device;
    uint16_t device_mask;
    struct ahci_quirks quirks;
};

static const struct known_quirk known_quirks[] = {
    /* ATI SB600: 64-bit addresses do not work, and neither do more than 255 sectors a command. */
    {0x1002, 0x4380, 0xffff, {.low_memory_only = true, .pages_max = 31}},
    /* ASMedia ASM106x: addresses of 43 bits only. */
    {0x1b21, 0x0600, 0xff00, {.low_memory_only = true}},
};

bool controller_is_storage(const struct pci_function *function)
{
    CHECK(function->place.device < 32 && function->place.function < 8);
    return function->class_code == CLASS_STORAGE;
}

struct ahci_quirks controller_quirks(const struct pci_function *function)
{
    for (size_t i = 0; i < ARRAY_COUNT(known_quirks); i++) {
        const struct known_quirk *known = &known_quirks[i];

        if (known->vendor == function->vendor &&
            known->device == (function->device & known->device_mask))
            return known->quirks;
    }
    return (struct ahci_quirks){0};
}

const char *controller_left_alone(const struct pci_function *function)
{
    switch (function->subclass) {
    case SUBCLASS_IDE: return "an IDE controller, or SATA in IDE mode: left alone";
    case SUBCLASS_RAID: return "a RAID controller, or SATA in RAID or RST mode: left alone";
    case SUBCLASS_SATA:
        return function->interface == INTERFACE_AHCI ? NULL
                                                     : "a SATA controller without AHCI: left alone";
    case SUBCLASS_NVME: return "an NVMe disk: left alone";
    default: return "a storage controller of another kind: left alone";
    }
}
