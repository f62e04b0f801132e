/*
 * The menu: shows experiments, options and disks, and takes other options before the run.
 *
 * Fails with: nothing. Context: boot services, after the options were read without an error.
 */
#ifndef EFI_MENU_H
#define EFI_MENU_H

#include "efi/firmware/firmware.h"
#include "efi/options/options.h"

/* Opens the menu if the options say so or a key is pending. Text that is typed replaces settings of
 * the load options, whose buffer has OPTION_TEXT_SIZE bytes, and `options` are parsed again.
 * `refuse` logs the options that this machine cannot have, and returns how many; the menu then
 * keeps the options that it has. */
void menu_open(const struct firmware *firmware, char *load, const struct option_sources *sources,
               struct options *options, unsigned (*refuse)(const struct options *options));

#endif
