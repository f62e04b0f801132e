/* The list of sets and groups that swap= names. */
#include "efi/options/keys.h"
#include "lib/bytes.h"

#define UUID_TEXT_SIZE 36U

/* Parses a UUID: 8-4-4-4-12 hexadecimal digits. */
static bool parse_uuid(struct piece value, uint8_t uuid[OPTION_UUID_SIZE])
{
    size_t digits = 0;

    if (value.size != UUID_TEXT_SIZE)
        return false;
    for (size_t i = 0; i < value.size; i++) {
        unsigned digit = option_digit(value.at[i]);

        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (value.at[i] != '-')
                return false;
            continue;
        }
        if (digit > 15)
            return false;
        if (digits % 2 == 0)
            uuid[digits / 2] = (uint8_t)(digit << 4);
        else
            uuid[digits / 2] = (uint8_t)(uuid[digits / 2] | digit);
        digits++;
    }
    return true;
}

bool option_parse_set(struct piece value, uint8_t uuid[OPTION_UUID_SIZE])
{
    static const uint8_t nil[OPTION_UUID_SIZE];

    return parse_uuid(value, uuid) && memcmp(uuid, nil, sizeof(nil)) != 0;
}

/* Parses UUID[:priority]. */
static bool parse_swap_choice(struct piece text, struct swap_choice *choice)
{
    struct piece uuid = {text.at, piece_find(text, ':')};
    uint64_t priority = 0;

    if (uuid.size < text.size &&
        (!piece_number((struct piece){text.at + uuid.size + 1, text.size - uuid.size - 1},
                       &priority) ||
         priority > OPTION_PRIORITY_MAX))
        return false;
    choice->priority = (uint16_t)priority;
    return option_parse_set(uuid, choice->uuid);
}

static bool swap_choice_repeated(const struct swap_choice *choices, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (memcmp(choices[i].uuid, choices[count].uuid, OPTION_UUID_SIZE) == 0)
            return true;
    }
    return false;
}

bool option_parse_sets(struct piece value, struct options *options)
{
    struct swap_choice choices[OPTION_SETS_MAX];
    unsigned count = 0;
    bool more = true;

    while (more) {
        struct piece text = {value.at, piece_find(value, ',')};

        if (count == OPTION_SETS_MAX || !parse_swap_choice(piece_trim(text), &choices[count]) ||
            swap_choice_repeated(choices, count))
            return false;
        count++;
        more = text.size < value.size;
        value = (struct piece){value.at + text.size + more, value.size - text.size - more};
    }
    options->swap = SWAP_SET;
    options->swap_sets = count;
    memcpy(options->swap_set, choices, count * sizeof(choices[0]));
    return true;
}
