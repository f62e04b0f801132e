/* Keys and lines of the menu at the start, from the firmware's console. */
#include "efi/firmware/menu.h"

#include "lib/print.h"

/* Time between two looks at the keyboard. */
#define LOOK_US 10000U

/* Looks without a key before the menu ends: 5 minutes. */
#define LOOKS_MOST 30000U

#define LETTER_BACKSPACE 8U

/* UEFI 2.10, table 12-1: Delete, which is the key Backspace of most terminals on a serial line. */
#define SCAN_CODE_DELETE 0x08

static bool read_key(const struct firmware *firmware, EFI_INPUT_KEY *key)
{
    SIMPLE_INPUT_INTERFACE *keyboard = firmware->table->ConIn;

    return keyboard != NULL && keyboard->ReadKeyStroke(keyboard, key) == EFI_SUCCESS;
}

bool firmware_key_pending(const struct firmware *firmware)
{
    EFI_INPUT_KEY key;

    return read_key(firmware, &key);
}

bool firmware_read_line(const struct firmware *firmware, char line[MENU_LINE])
{
    EFI_INPUT_KEY key = {0};
    size_t length = 0;
    unsigned looks = 0;

    if (firmware->table->ConIn == NULL)
        return false;
    print("# menu: > ");
    for (;;) {
        if (!read_key(firmware, &key)) {
            if (++looks > LOOKS_MOST) {
                print("\n# menu: no key for 5 minutes, so the run begins\n");
                return false;
            }
            firmware->services->Stall(LOOK_US);
            continue;
        }
        looks = 0;
        if (key.UnicodeChar == '\r' || key.UnicodeChar == '\n')
            break;
        if (key.UnicodeChar == LETTER_BACKSPACE || key.ScanCode == SCAN_CODE_DELETE) {
            length -= length > 0;
            print("\r# menu: > %.*s \r# menu: > %.*s", (int)length, line, (int)length, line);
        } else if (key.UnicodeChar >= ' ' && key.UnicodeChar <= '~' && length + 1 < MENU_LINE) {
            line[length++] = (char)key.UnicodeChar;
            print("%c", line[length - 1]);
        }
    }
    line[length] = '\0';
    print("\n");
    return true;
}
