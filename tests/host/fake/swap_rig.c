/* Several prepared disks on two controllers, for tests of swap areas. */
#include "tests/host/fake/swap_rig.h"

#include <stdlib.h>
#include <string.h>

#include "lib/check.h"
#include "pmm/frame.h"
#include "swapdisk/disks.h"
#include "tests/host/fake/machine.h"

struct rig rig;

static void note_text(struct print_sink *sink, const char *text, size_t size)
{
    (void)sink;
    CHECK(rig.noted.length + size < sizeof(rig.noted.text));
    memcpy(rig.noted.text + rig.noted.length, text, size);
    rig.noted.length += size;
}

void rig_start(unsigned disks)
{
    char serial[IDENTITY_SERIAL_SIZE];

    CHECK(disks > 0 && disks <= RIG_DISKS);
    memset(&rig, 0, sizeof(rig));
    rig.disk_count = disks;
    rig.noted.sink.write = note_text;
    fake_clock_step_ns = 100000;
    fake_pci_clear();
    for (unsigned i = 0; i < 2; i++) {
        fake_hba_make(&rig.hbas[i], disks <= 4 ? 2 : (disks + 1) / 2);
        fake_pci_add_hba((struct pci_place){0, (uint8_t)(20 + i), 0}, &rig.hbas[i]);
    }
    for (unsigned i = 0; i < disks; i++) {
        print_to(serial, sizeof(serial), "S%u", i + 1);
        fake_disk_make(&rig.disks[i], RIG_SECTORS, "Fake", serial);
        fake_disk_prepare_2(&rig.disks[i], (uint8_t)(0x11 * (i + 1)));
        fake_hba_attach(&rig.hbas[i % 2], i / 2, FAKE_DISK, &rig.disks[i]);
    }
    print_attach(&rig.noted.sink);
}

void rig_group(enum set_role role, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        struct swap_header header =
            fake_disk_swap_header_2(&rig.disks[i], (uint8_t)(0x11 * (i + 1)));

        header.role = role;
        header.members = count;
        header.member = i - first;
        memset(header.group_uuid, 0xa0 + (int)first, sizeof(header.group_uuid));
        fake_disk_put_headers_2(&rig.disks[i], &header, NULL);
    }
}

void rig_name(unsigned set, const uint16_t *priorities)
{
    rig.options.swap = SWAP_SET;
    rig.options.swap_sets = 0;
    for (unsigned i = 0; i < rig.disk_count; i++) {
        struct swap_choice *choice = &rig.options.swap_set[rig.options.swap_sets];

        if ((set >> i & 1) == 0)
            continue;
        memset(choice->uuid, 0x11 * ((int)i + 1), sizeof(choice->uuid));
        choice->priority = priorities != NULL ? priorities[i] : 0;
        rig.options.swap_sets++;
    }
}

void rig_open(void)
{
    enum status status;

    disks_scan(&rig.options, true);
    status = swap_open(&rig.options, 100);
    CHECK(status == OK);
}

void rig_open_again(void)
{
    disks_stop();
    rig_open();
}

void rig_end(void)
{
    disks_stop();
    print_detach(&rig.noted.sink);
    for (unsigned i = 0; i < rig.disk_count; i++)
        fake_disk_free(&rig.disks[i]);
    for (unsigned i = 0; i < 2; i++)
        CHECK_MSG(rig.hbas[i].complaints == 0, "%u complaints, the first: %s",
                  rig.hbas[i].complaints, rig.hbas[i].complaint);
    fake_pci_clear();
    fake_clock_step_ns = 1000;
}

unsigned rig_said(const char *words)
{
    unsigned count = 0;

    for (const char *at = rig.noted.text; (at = strstr(at, words)) != NULL; at++)
        count++;
    return count;
}

unsigned rig_disk_of(struct slot slot)
{
    return (unsigned)strtoul(swap_disk_serial(slot) + 1, NULL, 10) - 1;
}

uint8_t *rig_slot_bytes(unsigned disk, struct slot slot)
{
    return rig.disks[disk].bytes + swap_disk_offset(slot);
}

void rig_fail(unsigned disk, enum fake_failure failure, uint64_t times)
{
    rig.disks[disk].failure = failure;
    rig.disks[disk].fail_from = rig.disks[disk].commands;
    rig.disks[disk].fail_count = times;
}

void rig_fill(struct pfn frame, unsigned seed)
{
    uint32_t *words = frame_pointer(frame);

    for (unsigned i = 0; i < PAGE_SIZE / 4; i++)
        words[i] = seed * UINT32_C(2654435761) + i;
}

bool rig_filled(struct pfn frame, unsigned seed)
{
    const uint32_t *words = frame_pointer(frame);

    for (unsigned i = 0; i < PAGE_SIZE / 4; i++) {
        if (words[i] != seed * UINT32_C(2654435761) + i)
            return false;
    }
    return true;
}
