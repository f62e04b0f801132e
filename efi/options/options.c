/* Parses the options' text into struct options. */
#include "efi/options/options.h"

#include "efi/options/keys.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "pmm/alloc/allocator.h"

/* Characters of a key or value that an error shows, with the terminator. */
#define SHOWN_SIZE 48U

#define MESSAGE_SIZE 512U
#define LIST_SIZE    320U

/* A source while it is parsed. */
struct parse {
    struct options *options;
    struct option_reporter *reporter;
    const char *source;
    const char *unit; /* "token" or "line" */
    unsigned place;   /* number of the token or line, from 1 */
    unsigned errors;
    unsigned given_at[OPTION_KEYS]; /* place of each key, 0 = not given */
};

/* Returns whether the piece ends with the word, in upper or lower case. */
static bool piece_ends(struct piece piece, const char *word)
{
    size_t size = strlen(word);

    if (piece.size < size)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (lower_case(piece.at[piece.size - size + i]) != word[i])
            return false;
    }
    return true;
}

/* Copies a piece for an error: clipped, and with '?' for characters that a terminal might act
 * on. */
static const char *shown(struct piece piece, char buffer[SHOWN_SIZE])
{
    size_t size = piece.size < SHOWN_SIZE - 1 ? piece.size : SHOWN_SIZE - 1;

    for (size_t i = 0; i < size; i++)
        buffer[i] = option_printable(piece.at[i]);
    buffer[size] = '\0';
    if (size < piece.size)
        memcpy(buffer + size - 3, "...", 3);
    return buffer;
}

static void options_complain(struct parse *parse, const char *format, ...) PRINTF_LIKE(2, 3);

static void options_complain(struct parse *parse, const char *format, ...)
{
    char text[MESSAGE_SIZE];
    va_list arguments;
    size_t used;

    parse->errors++;
    if (parse->reporter == NULL)
        return;
    used = print_to(text, sizeof(text), "%s, %s %u: ", parse->source, parse->unit, parse->place);
    va_start(arguments, format);
    print_to_va(text + used, sizeof(text) - used, format, arguments);
    va_end(arguments);
    parse->reporter->report(parse->reporter, text);
}

/* Appends an item to a list of LIST_SIZE bytes. */
static void list_append(char *list, const char *item)
{
    size_t used = strlen(list);

    used += print_to(list + used, LIST_SIZE - used, "%s%s", used > 0 ? ", " : "", item);
    CHECK(used < LIST_SIZE);
}

static void complain_of_key(struct parse *parse, const char *key, const char *value)
{
    char list[LIST_SIZE] = "";

    for (size_t i = 0; i < OPTION_KEYS; i++)
        list_append(list, option_keys[i].name);
    options_complain(parse, "unknown key \"%s\" with value \"%s\"; accepted: %s", key, value, list);
}

static void complain_of_value(struct parse *parse, const struct option_key *key, const char *value)
{
    char list[LIST_SIZE] = "";

    for (unsigned i = 0; key->word != NULL && key->word(i) != NULL; i++)
        list_append(list, key->word(i));
    if (key->accepted != NULL)
        list_append(list, key->accepted);
    options_complain(parse, "key \"%s\" has a bad value \"%s\"; accepted: %s", key->name, value,
                     list);
}

/* Parses one key=value of either source. */
static void parse_setting(struct parse *parse, struct piece setting)
{
    struct piece key = {setting.at, piece_find(setting, '=')};
    struct piece value;
    char key_text[SHOWN_SIZE];
    char value_text[SHOWN_SIZE];
    size_t i = 0;

    if (key.size == setting.size) {
        options_complain(parse, "\"%s\" has no '='; expected key=value",
                         shown(setting, value_text));
        return;
    }
    value = piece_trim((struct piece){setting.at + key.size + 1, setting.size - key.size - 1});
    key = piece_trim(key);
    shown(key, key_text);
    shown(value, value_text);

    while (i < OPTION_KEYS && !piece_is(key, option_keys[i].name))
        i++;
    if (i == OPTION_KEYS) {
        complain_of_key(parse, key_text, value_text);
    } else if (parse->given_at[i] != 0) {
        options_complain(parse,
                         "key \"%s\" with value \"%s\" was given before in %s %u; accepted: once",
                         key_text, value_text, parse->unit, parse->given_at[i]);
    } else {
        parse->given_at[i] = parse->place;
        if (!option_keys[i].parse(value, parse->options))
            complain_of_value(parse, &option_keys[i], value_text);
    }
}

/* Returns whether a token is the name of the program, which a shell passes first. */
static bool is_program_name(struct piece token)
{
    static const char name[] = "faultline";

    if (piece_find(token, '=') != token.size)
        return false;
    if (piece_ends(token, ".efi"))
        return true;
    if (!piece_ends(token, name))
        return false;
    if (token.size == sizeof(name) - 1)
        return true;
    switch (token.at[token.size - sizeof(name)]) {
    case '\\':
    case '/':
    case ':': return true;
    default: return false;
    }
}

/* Removes the next token from the text. A token in quotes, such as a path, keeps its blanks and
 * loses its quotes. Returns a piece with at == NULL at the end. */
static struct piece next_token(const char **text)
{
    struct piece token;
    bool quoted;

    while (is_blank(**text))
        (*text)++;
    if (**text == '\0')
        return (struct piece){NULL, 0};
    quoted = **text == '"';
    if (quoted)
        (*text)++;
    token = (struct piece){*text, 0};
    while (token.at[token.size] != '\0' &&
           (quoted ? token.at[token.size] != '"' : !is_blank(token.at[token.size])))
        token.size++;
    *text = token.at + token.size;
    if (quoted && **text == '"')
        (*text)++;
    return token;
}

static void parse_load_options(struct parse *parse, const char *text)
{
    struct piece token = next_token(&text);

    if (token.at != NULL && is_program_name(token))
        token = next_token(&text);
    for (; token.at != NULL; token = next_token(&text)) {
        parse->place++;
        parse_setting(parse, token);
    }
}

/* Removes a comment: from a '#' at the start of the line or after a blank. */
static struct piece without_comment(struct piece line)
{
    for (size_t i = 0; i < line.size; i++) {
        if (line.at[i] == '#' && (i == 0 || is_blank(line.at[i - 1])))
            return (struct piece){line.at, i};
    }
    return line;
}

static void parse_file(struct parse *parse, struct piece rest)
{
    if (rest.size >= 2 &&
        (memcmp(rest.at, "\xff\xfe", 2) == 0 || memcmp(rest.at, "\xfe\xff", 2) == 0)) {
        parse->place = 1;
        options_complain(parse, "the file is UTF-16; accepted: ASCII or UTF-8");
        return;
    }
    if (rest.size >= 3 && memcmp(rest.at, "\xef\xbb\xbf", 3) == 0)
        rest = (struct piece){rest.at + 3, rest.size - 3};
    while (rest.size > 0) {
        size_t end = piece_find(rest, '\n');
        struct piece line = piece_trim(without_comment((struct piece){rest.at, end}));

        parse->place++;
        if (line.size > 0)
            parse_setting(parse, line);
        if (end < rest.size)
            end++;
        rest = (struct piece){rest.at + end, rest.size - end};
    }
}

unsigned options_parse(const struct option_sources *sources, struct options *options,
                       struct option_reporter *reporter)
{
    struct parse file = {
        .options = options, .reporter = reporter, .source = "faultline.cfg", .unit = "line"};
    struct parse load = {
        .options = options, .reporter = reporter, .source = "load options", .unit = "token"};

    memset(options, 0, sizeof(*options));
    options->seed = 1;
    options->watchdog = OPTION_WATCHDOG;
    options->spaces = OPTION_SPACES;
    options->seconds = OPTION_SECONDS;
    options->pmm = frame_allocator_default();
    if (sources->file != NULL)
        parse_file(&file, (struct piece){sources->file, sources->file_size});
    if (sources->load != NULL)
        parse_load_options(&load, sources->load);
    return file.errors + load.errors;
}
