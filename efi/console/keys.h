/*
 * Keys of a PS/2 keyboard and of the serial line, polled.
 *
 * Units: none. Owns: the keyboard controller's output from the first read on. Fails with: nothing;
 * without a device there are no keys. Context: thread, after the handover; one caller at a time.
 * Spec: the IBM PC/AT keyboard controller, scan code set 1; ECMA-48, 5.4 (cursor keys on a
 * terminal).
 */
#ifndef EFI_CONSOLE_KEYS_H
#define EFI_CONSOLE_KEYS_H

#include <stdbool.h>

enum key { KEY_NONE = 0, KEY_UP = 0x80, KEY_DOWN, KEY_PAGE_UP, KEY_PAGE_DOWN, KEY_HOME, KEY_END };

/* Returns whether there is a keyboard controller or a serial port. */
bool keys_present(void);

/* Returns the next key: a small letter, digit, blank, another ASCII character of the serial line,
 * or one of enum key; KEY_NONE if none is pending. */
int keys_read(void);

/* Returns the next character of the serial line, -1 if none is pending. */
int keys_read_serial(void);

#endif
