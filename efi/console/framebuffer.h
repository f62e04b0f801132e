/*
 * The text console on the framebuffer.
 *
 * The framebuffer is written and never read: what it shows stands in an array of cells, and only
 * cells that change are drawn. A full screen scrolls by a third at once. Lines of the log are
 * coloured by how they begin.
 *
 * Units: pixels for the screen, cells for text. Owns: the cells; the screen from start on.
 * State: off -> (start) -> on the firmware's mapping -> (arrive) -> on the kernel's, or off.
 * Fails with: nothing; without a usable screen text goes nowhere.
 * Context: start on the firmware's mappings; writing anywhere, also in a crash.
 * Spec: UEFI 2.10, 12.9 (pixel formats).
 */
#ifndef EFI_CONSOLE_FRAMEBUFFER_H
#define EFI_CONSOLE_FRAMEBUFFER_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/bootinfo.h"

/* Clears the screen and starts at its top. A screen of width 0 leaves the console off. */
void console_start(const struct framebuffer *screen);

/* Goes on at the kernel's addresses: font and framebuffer are found again. */
void framebuffer_relocated(void);

/* Writes text; newline, carriage return and tab move, other control characters do nothing. */
void console_write(const char *text, size_t size);

/* Whether there is a screen that shows the log. */
bool console_on(void);

/* "106 x 33 characters of 12 x 24 pixels"; "none" when it is off. */
const char *console_description(void);

#endif
