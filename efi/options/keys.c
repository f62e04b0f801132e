/* The keys of the options, and the parsers of their values. */
#include "efi/options/keys.h"

#include "efi/trace/trace.h"
#include "lib/bytes.h"
#include "lib/units.h"
#include "pmm/alloc/allocator.h"
#include "vmm/policy/policy.h"

/* The kernel's tables and one experiment need more than this. */
#define MEMORY_LIMIT_MIN (32 * MIB)

#define CPUS_MAX 4096U

#define SECONDS_MAX 86400U

/* The I/O ports below are the PC's own devices, and a 16550 has eight registers. */
#define SERIAL_PORT_MIN 0x100U
#define SERIAL_PORT_MAX 0xfff8U

struct piece piece_trim(struct piece piece)
{
    while (piece.size > 0 && is_blank(piece.at[0])) {
        piece.at++;
        piece.size--;
    }
    while (piece.size > 0 && is_blank(piece.at[piece.size - 1]))
        piece.size--;
    return piece;
}

bool piece_is(struct piece piece, const char *word)
{
    size_t size = strlen(word);

    return piece.size == size && memcmp(piece.at, word, size) == 0;
}

size_t piece_find(struct piece piece, char letter)
{
    size_t at = 0;

    while (at < piece.size && piece.at[at] != letter)
        at++;
    return at;
}

unsigned option_digit(char letter)
{
    letter = lower_case(letter);
    if (letter >= '0' && letter <= '9')
        return (unsigned)(letter - '0');
    if (letter >= 'a' && letter <= 'f')
        return (unsigned)(letter - 'a') + 10;
    return 255;
}

bool piece_number(struct piece piece, uint64_t *number)
{
    uint64_t base = 10;
    uint64_t value = 0;

    if (piece.size > 2 && piece.at[0] == '0' && lower_case(piece.at[1]) == 'x') {
        base = 16;
        piece.at += 2;
        piece.size -= 2;
    }
    if (piece.size == 0)
        return false;
    for (size_t i = 0; i < piece.size; i++) {
        uint64_t digit = option_digit(piece.at[i]);

        if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return false;
    }
    *number = value;
    return true;
}

static bool is_run_letter(char letter)
{
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
           (letter >= '0' && letter <= '9') || letter == '-' || letter == '_' || letter == '.' ||
           letter == '*' || letter == '?';
}

static bool parse_run(struct piece value, struct options *options)
{
    bool in_name = false;

    if (value.size >= OPTION_RUN_SIZE)
        return false;
    for (size_t i = 0; i < value.size; i++) {
        if (value.at[i] == ',' ? !in_name : !is_run_letter(value.at[i]))
            return false;
        in_name = value.at[i] != ',';
    }
    if (!in_name)
        return false;
    memcpy(options->run, value.at, value.size);
    options->run[value.size] = '\0';
    return true;
}

static bool parse_mem(struct piece value, struct options *options)
{
    uint64_t unit = 1;
    uint64_t bytes;

    if (value.size > 0) {
        switch (lower_case(value.at[value.size - 1])) {
        case 'k': unit = KIB; break;
        case 'm': unit = MIB; break;
        case 'g': unit = GIB; break;
        default: break;
        }
    }
    if (unit != 1)
        value.size--;
    if (!piece_number(value, &bytes) || __builtin_mul_overflow(bytes, unit, &bytes) ||
        bytes < MEMORY_LIMIT_MIN)
        return false;
    options->memory_limit = bytes;
    return true;
}

static bool parse_cpus(struct piece value, struct options *options)
{
    uint64_t count;

    if (!piece_number(value, &count) || count == 0 || count > CPUS_MAX)
        return false;
    options->cpus = (uint32_t)count;
    return true;
}

static bool parse_seed(struct piece value, struct options *options)
{
    return piece_number(value, &options->seed);
}

/* Finds the value among a key's words. */
static bool find_word(struct piece value, const char *(*word)(unsigned place), unsigned *found)
{
    for (unsigned place = 0; word(place) != NULL; place++) {
        if (piece_is(value, word(place))) {
            *found = place;
            return true;
        }
    }
    return false;
}

/* The words of a key, each at the place that its enumeration gives it. */
#define WORDS(key, ...)                                                                            \
    static const char *key##_word(unsigned place)                                                  \
    {                                                                                              \
        static const char *const words[] = {__VA_ARGS__};                                          \
                                                                                                   \
        return place < ARRAY_COUNT(words) ? words[place] : NULL;                                   \
    }

WORDS(swap, [SWAP_AUTO] = "auto", [SWAP_NONE] = "none")
WORDS(serial, [SERIAL_AUTO] = "auto", [SERIAL_NONE] = "none", [SERIAL_SPCR] = "spcr",
      [SERIAL_PCI] = "pci", [SERIAL_COM1] = "com1")
WORDS(exit, [EXIT_AUTO] = "auto", [EXIT_POWEROFF] = "poweroff", [EXIT_REBOOT] = "reboot",
      [EXIT_HALT] = "halt", [EXIT_DEBUG] = "debug-exit")
WORDS(la57, [LA57_AUTO] = "auto", [LA57_OFF] = "0", [LA57_ON] = "1")
WORDS(tables, [TABLES_DIRECT] = "direct", [TABLES_RECURSIVE] = "recursive",
      [TABLES_WINDOW] = "window")
WORDS(wipe, "0", "1")
WORDS(menu, "0", "1")
WORDS(prompt, "0", "1")
WORDS(report, [REPORT_AUTO] = "auto", [REPORT_BOOT] = "boot", [REPORT_NONE] = "none")
WORDS(overcommit, [OVERCOMMIT_HEURISTIC] = "heuristic", [OVERCOMMIT_NEVER] = "never",
      [OVERCOMMIT_ALWAYS] = "always")

static const char *pmm_word(unsigned place)
{
    const struct frame_allocator *allocator = frame_allocator(place);

    return allocator != NULL ? allocator->name : NULL;
}

/* Returns the word of a policy: place 0 is the clocks of vmm/page/, then follow the policies of the
 * table. */
static const char *policy_word(unsigned place)
{
    const struct policy *policy = place > 0 ? policy_at(place - 1) : NULL;

    if (place == 0)
        return "clocks";
    return policy != NULL ? policy->name : NULL;
}

static bool parse_swap(struct piece value, struct options *options)
{
    unsigned word;

    if (!find_word(value, swap_word, &word))
        return option_parse_sets(value, options);
    options->swap = (enum swap_kind)word;
    return true;
}

static bool parse_files(struct piece value, struct options *options)
{
    options->files = option_parse_set(value, options->files_uuid);
    return options->files || piece_is(value, "none");
}

static bool parse_serial(struct piece value, struct options *options)
{
    uint64_t port;
    unsigned word;

    if (find_word(value, serial_word, &word)) {
        options->serial = (enum serial_kind)word;
        return true;
    }
    if (value.size < 2 || value.at[0] != '0' || lower_case(value.at[1]) != 'x' ||
        !piece_number(value, &port) || port < SERIAL_PORT_MIN || port > SERIAL_PORT_MAX)
        return false;
    options->serial = SERIAL_PORT;
    options->serial_port = (uint16_t)port;
    return true;
}

static bool parse_exit(struct piece value, struct options *options)
{
    unsigned word;

    if (!find_word(value, exit_word, &word))
        return false;
    options->exit = (enum exit_method)word;
    return true;
}

static bool parse_la57(struct piece value, struct options *options)
{
    unsigned word;

    if (!find_word(value, la57_word, &word))
        return false;
    options->la57 = (enum la57_way)word;
    return true;
}

static bool parse_tables(struct piece value, struct options *options)
{
    unsigned word;

    if (!find_word(value, tables_word, &word))
        return false;
    options->tables = (enum table_access)word;
    return true;
}

static bool parse_pmm(struct piece value, struct options *options)
{
    unsigned word;

    if (!find_word(value, pmm_word, &word))
        return false;
    options->pmm = word;
    return true;
}

static bool parse_policy(struct piece value, struct options *options)
{
    unsigned word;

    if (!find_word(value, policy_word, &word))
        return false;
    options->policy = word;
    return true;
}

static bool parse_overcommit(struct piece value, struct options *options)
{
    unsigned word;

    if (!find_word(value, overcommit_word, &word))
        return false;
    options->overcommit = (enum overcommit_policy)word;
    return true;
}

static bool parse_regions(struct piece value, struct options *options)
{
    uint64_t count;

    if (!piece_number(value, &count) || count > UINT32_MAX)
        return false;
    options->regions = (uint32_t)count;
    return true;
}

static bool parse_spaces(struct piece value, struct options *options)
{
    uint64_t count;

    if (!piece_number(value, &count) || count == 0 || count > OPTION_SPACES)
        return false;
    options->spaces = (uint32_t)count;
    return true;
}

static bool parse_tags(struct piece value, struct options *options)
{
    uint64_t count;

    if (!piece_number(value, &count) || count == 0 || count > OPTION_TAGS)
        return false;
    options->tags = (uint32_t)count;
    return true;
}

static bool parse_wipe(struct piece value, struct options *options)
{
    unsigned word;

    if (!find_word(value, wipe_word, &word))
        return false;
    options->wipe = word == 1;
    return true;
}

static bool parse_menu(struct piece value, struct options *options)
{
    unsigned word;

    if (!find_word(value, menu_word, &word))
        return false;
    options->menu = word == 1;
    return true;
}

static bool parse_prompt(struct piece value, struct options *options)
{
    unsigned word;

    if (!find_word(value, prompt_word, &word))
        return false;
    options->prompt = word == 1;
    return true;
}

static bool parse_report(struct piece value, struct options *options)
{
    unsigned word;

    if (!find_word(value, report_word, &word))
        return false;
    options->report = (enum report_place)word;
    return true;
}

/* Takes the path of a trace; a slash stands for a backslash, and the first one is left out. */
static bool parse_trace(struct piece value, struct options *options)
{
    char path[OPTION_TRACE_SIZE] = "";
    enum trace_format format;

    if (piece_is(value, "none")) {
        options->trace[0] = '\0';
        return true;
    }
    if (value.size > 0 && (value.at[0] == '\\' || value.at[0] == '/'))
        value = (struct piece){value.at + 1, value.size - 1};
    if (value.size >= OPTION_TRACE_SIZE)
        return false;
    for (size_t i = 0; i < value.size; i++) {
        if (value.at[i] < ' ' || value.at[i] > '~')
            return false;
        path[i] = value.at[i] == '/' ? '\\' : value.at[i];
    }
    if (!trace_format_of(path, &format))
        return false;
    memcpy(options->trace, path, sizeof(path));
    return true;
}

/* Parses seconds, up to a day. */
static bool parse_seconds(struct piece value, uint64_t least, uint32_t *seconds)
{
    uint64_t number;

    if (!piece_number(value, &number) || number < least || number > SECONDS_MAX)
        return false;
    *seconds = (uint32_t)number;
    return true;
}

static bool parse_watchdog(struct piece value, struct options *options)
{
    return parse_seconds(value, 0, &options->watchdog);
}

static bool parse_deadline(struct piece value, struct options *options)
{
    return parse_seconds(value, 0, &options->deadline);
}

static bool parse_stress(struct piece value, struct options *options)
{
    return parse_seconds(value, 1, &options->seconds);
}

const struct option_key option_keys[OPTION_KEYS] = {
    {"run", parse_run, NULL,
     "names of experiments between commas, * and ? stand for any letters, at most 255 characters"},
    {"mem", parse_mem, NULL, "bytes, or a number with K, M or G, at least 32M"},
    {"cpus", parse_cpus, NULL, "a number from 1 to 4096"},
    {"seed", parse_seed, NULL, "a number of 64 bits, decimal or 0x and hexadecimal"},
    {"swap", parse_swap, swap_word,
     "up to 16 UUIDs of sets or groups, UUID[:priority],..., none of them nil or twice"},
    {"files", parse_files, NULL, "none, or a set's UUID other than the nil UUID"},
    {"serial", parse_serial, serial_word, "an I/O port from 0x100 to 0xfff8"},
    {"exit", parse_exit, exit_word, NULL},
    {"la57", parse_la57, la57_word, NULL},
    {"tables", parse_tables, tables_word, NULL},
    {"wipe", parse_wipe, wipe_word, NULL},
    {"pmm", parse_pmm, pmm_word, NULL},
    {"watchdog", parse_watchdog, NULL, "seconds from 1 to 86400, or 0 for none"},
    {"deadline", parse_deadline, NULL, "seconds from 1 to 86400, or 0 for none"},
    {"seconds", parse_stress, NULL, "a number from 1 to 86400"},
    {"overcommit", parse_overcommit, overcommit_word, NULL},
    {"spaces", parse_spaces, NULL, "a number from 1 to 65536"},
    {"tags", parse_tags, NULL, "a number from 1 to 32"},
    {"policy", parse_policy, policy_word, NULL},
    {"regions", parse_regions, NULL, "a number from 1 to 4294967295, or 0 for no limit"},
    {"report", parse_report, report_word, NULL},
    {"menu", parse_menu, menu_word, NULL},
    {"prompt", parse_prompt, prompt_word, NULL},
    {"trace", parse_trace, NULL,
     "none, or the path of a file on the boot volume, up to 63 characters, that ends in .csv or "
     ".oracleGeneral"},
};
