/* The PCI configuration space of the fake machine, with controllers at their base addresses. */
#include <string.h>

#include "lib/check.h"
#include "swapdisk/ahci/hardware.h"
#include "tests/host/fake/hba.h"

static struct {
    struct fake_function functions[FAKE_FUNCTIONS_MAX];
    unsigned count;
} pci;

static struct fake_function *function_at(struct pci_place place)
{
    for (unsigned i = 0; i < pci.count; i++) {
        struct pci_place at = pci.functions[i].place;

        if (at.bus == place.bus && at.device == place.device && at.function == place.function)
            return &pci.functions[i];
    }
    return NULL;
}

static uint32_t config_read(void *context, struct pci_place place, unsigned offset)
{
    const struct fake_function *function = function_at(place);

    (void)context;
    CHECK(offset % 4 == 0 && offset < 256);
    return function == NULL ? UINT32_MAX : function->registers[offset / 4];
}

static void config_write(void *context, struct pci_place place, unsigned offset, uint32_t value)
{
    struct fake_function *function = function_at(place);

    (void)context;
    CHECK(offset % 4 == 0 && offset < 256 && function != NULL);
    function->registers[offset / 4] =
        (function->registers[offset / 4] & ~function->writable[offset / 4]) |
        (value & function->writable[offset / 4]);
}

const struct pci_access *hardware_pci(void)
{
    static const struct pci_access access = {.read = config_read, .write = config_write};

    return &access;
}

enum status hardware_map_hba(struct phys base, uint64_t size, struct hba_access *access)
{
    CHECK(size > 0);
    for (unsigned i = 0; i < pci.count; i++) {
        if (pci.functions[i].hba != NULL && pci.functions[i].registers[9] == base.address) {
            *access = fake_hba_access(pci.functions[i].hba);
            return OK;
        }
    }
    return STATUS_REFUSED;
}

void (*fake_on_message)(void);

bool hardware_take_messages(void (*handler)(void), struct hardware_message *message)
{
    fake_on_message = handler;
    *message = (struct hardware_message){0xfee00000, 0xef};
    return true;
}

void fake_pci_clear(void)
{
    memset(&pci, 0, sizeof(pci));
}

struct fake_function *fake_pci_add(struct pci_place place, uint32_t class_and_interface)
{
    struct fake_function *function = &pci.functions[pci.count++];

    CHECK(pci.count <= FAKE_FUNCTIONS_MAX);
    *function = (struct fake_function){.place = place};
    function->registers[0] = 0x29228086;
    function->registers[2] = class_and_interface << 8;
    function->writable[1] = 0x00000547;
    return function;
}

struct fake_function *fake_pci_add_hba(struct pci_place place, struct fake_hba *hba)
{
    struct fake_function *function = fake_pci_add(place, 0x010601);

    function->hba = hba;
    function->registers[9] = 0xfe000000 + pci.count * 0x2000;
    function->writable[9] = 0xffffe000;
    return function;
}
