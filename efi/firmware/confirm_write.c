/*
 * A countdown on a real machine, before disks that swap= and files= name may be written.
 *
 * Spec: UEFI 2.10, 12.3 (simple text input), 7.5 (Stall).
 */
#include "efi/firmware/firmware.h"

#include "cpu/features.h"
#include "lib/ktap.h"

/* UEFI 2.10, table 12-1: the scan code of Esc. */
#define SCAN_CODE_ESC 0x17

#define COUNTDOWN_SECONDS 10U
#define LOOKS_A_SECOND    10U

static bool esc_was_pressed(const struct firmware *firmware)
{
    SIMPLE_INPUT_INTERFACE *keyboard = firmware->table->ConIn;
    EFI_INPUT_KEY key;

    return keyboard != NULL && keyboard->ReadKeyStroke(keyboard, &key) == EFI_SUCCESS &&
           key.ScanCode == SCAN_CODE_ESC;
}

/* Waits a second; returns true at once if Esc is pressed. */
static bool wait_a_second(const struct firmware *firmware)
{
    for (unsigned i = 0; i < LOOKS_A_SECOND; i++) {
        if (esc_was_pressed(firmware))
            return true;
        firmware->services->Stall(1000000 / LOOKS_A_SECOND);
    }
    return false;
}

void firmware_confirm_swap(const struct firmware *firmware, struct options *options)
{
    if ((options->swap != SWAP_SET && !options->files) || cpu_features()->hypervisor)
        return;
    if (options->swap == SWAP_SET)
        ktap_note(
            "the disk of the set that swap= names will be written: Esc within %u s prevents it",
            COUNTDOWN_SECONDS);
    if (options->files)
        ktap_note("files of the set that files= names will be written: Esc within %u s prevents it",
                  COUNTDOWN_SECONDS);
    for (unsigned left = COUNTDOWN_SECONDS; left > 0; left--) {
        ktap_note("%u", left);
        if (wait_a_second(firmware)) {
            ktap_note("Esc: no disk will be written");
            options->swap = SWAP_NONE;
            options->files = false;
            return;
        }
    }
}
