/* Keys of a PS/2 keyboard and of the serial line. */
#include "efi/console/keys.h"

#include <stdint.h>

#include "cpu/clock/time.h"
#include "cpu/port.h"
#include "efi/console/serial.h"
#include "lib/units.h"

#define KEYBOARD_DATA   0x60U
#define KEYBOARD_STATUS 0x64U

#define STATUS_FULL   (UINT8_C(1) << 0) /* a byte is there to be read */
#define STATUS_MOUSE  (UINT8_C(1) << 5) /* it comes from the mouse */
#define STATUS_ABSENT UINT8_C(0xff)     /* no controller answers */

#define CODE_RELEASED UINT8_C(0x80)
#define CODE_EXTENDED UINT8_C(0xe0)
#define CODE_LAST     0x53U

/* Looks for the rest of a terminal's key: a character takes a tenth of a millisecond. */
#define SEQUENCE_LOOKS 20000U

/* Keys by scan code. Cursor keys have the same codes with and without the extended prefix. */
static const uint8_t keys_of_codes[CODE_LAST + 1] = {
    [0x10] = 'q',      [0x11] = 'w',           [0x12] = 'e',         [0x13] = 'r',
    [0x14] = 't',      [0x15] = 'y',           [0x16] = 'u',         [0x17] = 'i',
    [0x18] = 'o',      [0x19] = 'p',           [0x1c] = '\n',        [0x1e] = 'a',
    [0x1f] = 's',      [0x20] = 'd',           [0x21] = 'f',         [0x22] = 'g',
    [0x23] = 'h',      [0x24] = 'j',           [0x25] = 'k',         [0x26] = 'l',
    [0x2c] = 'z',      [0x2d] = 'x',           [0x2e] = 'c',         [0x2f] = 'v',
    [0x30] = 'b',      [0x31] = 'n',           [0x32] = 'm',         [0x39] = ' ',
    [0x47] = KEY_HOME, [0x48] = KEY_UP,        [0x49] = KEY_PAGE_UP, [0x4f] = KEY_END,
    [0x50] = KEY_DOWN, [0x51] = KEY_PAGE_DOWN,
};

static bool keyboard_present(void)
{
    return port_in8(KEYBOARD_STATUS) != STATUS_ABSENT;
}

bool keys_present(void)
{
    return keyboard_present() || serial_present();
}

static int read_keyboard(void)
{
    uint8_t status = port_in8(KEYBOARD_STATUS);
    uint8_t code;

    if (status == STATUS_ABSENT || (status & STATUS_FULL) == 0)
        return KEY_NONE;
    code = port_in8(KEYBOARD_DATA);
    if ((status & STATUS_MOUSE) != 0 || (code & CODE_RELEASED) != 0 || code > CODE_LAST)
        return KEY_NONE; /* the extended prefix is among these */
    return keys_of_codes[code];
}

int keys_read_serial(void)
{
    return serial_read();
}

static int read_rest(void)
{
    int letter = -1;

    for (unsigned look = 0; look < SEQUENCE_LOOKS && letter < 0; look++)
        letter = serial_read();
    return letter;
}

/* Returns the key of a terminal's sequence behind ESC. */
static int read_sequence(void)
{
    int letter;

    if (read_rest() != '[')
        return KEY_NONE;
    letter = read_rest();
    switch (letter) {
    case 'A': return KEY_UP;
    case 'B': return KEY_DOWN;
    case 'H': return KEY_HOME;
    case 'F': return KEY_END;
    case '5': (void)read_rest(); return KEY_PAGE_UP;
    case '6': (void)read_rest(); return KEY_PAGE_DOWN;
    default: return KEY_NONE;
    }
}

int keys_read(void)
{
    int key = read_keyboard();

    if (key != KEY_NONE)
        return key;
    key = serial_read();
    if (key < 0)
        return KEY_NONE;
    if (key == 0x1b)
        return read_sequence();
    if (key >= 'A' && key <= 'Z')
        return key - 'A' + 'a';
    return key == '\r' ? '\n' : key;
}
