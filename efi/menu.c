/* The menu before the run. */
#include "efi/menu.h"

#include <stdbool.h>

#include "efi/firmware/menu.h"
#include "efi/main.h"
#include "lib/bytes.h"
#include "lib/ktap.h"
#include "lib/print.h"

/* Room for a setting run=. */
#define RUN_SETTING (4U + OPTION_RUN_SIZE)

static void menu_report(struct option_reporter *reporter, const char *text)
{
    (void)reporter;
    ktap_note("menu: error: %s", text);
}

static void menu_show(const struct firmware *firmware, const char *load,
                      const struct options *options)
{
    const char *question;
    const char *name;

    ktap_note("menu: experiments:");
    for (unsigned i = 0; (name = faultline_experiment(i, &question)) != NULL; i++)
        ktap_note("menu:   %u %s: %s", i + 1, name, question);
    ktap_note("menu: options: %s",
              load[0] != '\0' ? load : "as faultline.cfg and the defaults say");
    ktap_note("menu: disks:");
    firmware_list_disks(firmware, options);
    ktap_note(
        "menu: type numbers or names, and settings such as seed=7; Enter alone begins the run");
}

/* Returns the length of the word that begins here. */
static size_t word_length(const char *text)
{
    size_t length = 0;

    while (text[length] != ' ' && text[length] != '\t' && text[length] != '\0')
        length++;
    return length;
}

/* Returns how many letters a word has up to its equals sign and with it; 0: it has none. */
static size_t key_length(const char *word, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (word[i] == '=')
            return i + 1;
    }
    return 0;
}

/* Appends a word to the settings, in place of one with the same key. Returns whether there is room
 * for it. */
static bool set_word(char *load, const char *word, size_t length)
{
    size_t key = key_length(word, length);
    size_t from = 0;
    size_t to = 0;

    while (load[from] != '\0') {
        size_t old = word_length(load + from);

        if (old > 0 && strncmp(load + from, word, key) != 0) {
            if (to > 0)
                load[to++] = ' ';
            for (size_t i = 0; i < old; i++)
                load[to++] = load[from + i];
        }
        from += old;
        while (load[from] == ' ' || load[from] == '\t')
            from++;
    }
    load[to] = '\0';
    if (to + 1 + length >= OPTION_TEXT_SIZE)
        return false;
    print_to(load + to, OPTION_TEXT_SIZE - to, "%s%.*s", to > 0 ? " " : "", (int)length, word);
    return true;
}

/* Adds an experiment, by its number or name, to the list of a setting run=. Returns whether there
 * is room for it. */
static bool menu_add_name(char *run, const char *word, size_t length)
{
    const char *question;
    const char *name = NULL;
    unsigned number = 0;
    size_t at = strlen(run);
    size_t i = 0;

    while (i < length && word[i] >= '0' && word[i] <= '9' && number < 10000)
        number = number * 10 + (unsigned)(word[i++] - '0');
    if (i == length && number > 0)
        name = faultline_experiment(number - 1, &question);
    return at + print_to(run + at, RUN_SETTING - at, "%s%.*s", at > 4 ? "," : "",
                         name != NULL ? (int)strlen(name) : (int)length,
                         name != NULL ? name : word) <
           RUN_SETTING;
}

/* Takes in the words of a line. Returns whether there is room for all. */
static bool menu_take(char *load, const char *line)
{
    char run[RUN_SETTING] = "run=";
    bool room = true;

    for (const char *at = line; *at != '\0';) {
        size_t length = word_length(at);

        if (key_length(at, length) > 0)
            room = set_word(load, at, length) && room;
        else if (length > 0)
            room = menu_add_name(run, at, length) && room;
        at += length;
        while (*at == ' ' || *at == '\t')
            at++;
    }
    if (strcmp(run, "run=") != 0)
        room = set_word(load, run, strlen(run)) && room;
    return room;
}

/* Refuses options that this machine cannot have, and those that have had their effect before. */
static bool menu_accepts(const struct options *now, const struct options *others,
                         unsigned (*refuse)(const struct options *options))
{
    if (others->serial != now->serial || others->serial_port != now->serial_port ||
        (others->report == REPORT_BOOT) != (now->report == REPORT_BOOT)) {
        ktap_note("menu: error: serial= and report=boot have their effect before the menu; give "
                  "them as load options or in faultline.cfg");
        return false;
    }
    return refuse(others) == 0 && faultline_knows(others);
}

void menu_open(const struct firmware *firmware, char *load, const struct option_sources *sources,
               struct options *options, unsigned (*refuse)(const struct options *options))
{
    struct option_reporter reporter = {.report = menu_report};
    static char typed[OPTION_TEXT_SIZE];
    char line[MENU_LINE];

    if (!firmware_key_pending(firmware) && !options->menu)
        return;
    menu_show(firmware, load, options);
    while (firmware_read_line(firmware, line) && line[0] != '\0') {
        struct options others;

        memcpy(typed, load, OPTION_TEXT_SIZE);
        if (!menu_take(typed, line)) {
            ktap_note("menu: error: too many names or settings; nothing is changed");
            continue;
        }
        if (options_parse(&(struct option_sources){.load = typed,
                                                   .file = sources->file,
                                                   .file_size = sources->file_size},
                          &others, &reporter) > 0 ||
            !menu_accepts(options, &others, refuse))
            continue;
        memcpy(load, typed, OPTION_TEXT_SIZE);
        *options = others;
        ktap_note("menu: options: %s", load);
    }
}
