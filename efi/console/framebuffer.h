/*
 * The text console on the framebuffer.
 *
 * The framebuffer is written and never read, since reads of it are slow: an array of cells has the
 * text, and only cells that change are drawn. A full screen scrolls by a third. The beginning of a
 * line decides its colour.
 *
 * Units: pixels for the screen, cells for text. Owns: the cells; the screen from start on.
 * State: off -> (start) -> on the firmware's mapping -> (relocated) -> on the kernel's, or off;
 * there text -> (lend) -> picture -> (take back, crash) -> text.
 * Fails with: nothing; without a usable screen, text is dropped.
 * Context: start on the firmware's mappings; writing anywhere, also in a crash.
 * Spec: UEFI 2.10, 12.9 (pixel formats).
 */
#ifndef EFI_CONSOLE_FRAMEBUFFER_H
#define EFI_CONSOLE_FRAMEBUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "efi/console/font.h"
#include "efi/firmware/reachable.h"

/* Clears the screen of `reachable` and starts at its top. Without a screen, or with one that may
 * not be accessed, the console stays off. */
void console_start(const struct reachable *reachable);

/* Moves to the kernel's addresses: opens the font and maps the framebuffer again. */
void framebuffer_relocated(void);

/* Writes text. Newline, carriage return and tab move the cursor; other control characters are
 * ignored. */
void console_write(const char *text, size_t size);

/* The screen, for a caller that draws pictures instead of the log. */
struct console_loan {
    volatile uint32_t *pixels; /* written and never read */
    const struct framebuffer *screen;
    uint32_t height; /* rows of the screen that the framebuffer has */
    const struct font *font;
};

/* Lends the screen to a picture, in the upper half: text is dropped until console_take_back, or
 * until a crash report. Returns false without a screen. */
MUST_USE bool console_lend(struct console_loan *loan);

/* Clears the screen and shows text again. */
void console_take_back(void);

/* Returns whether there is a screen that shows the log. */
bool console_on(void);

/* Describes the screen, its characters and their size; "none" when it is off. */
const char *console_description(void);

#endif
