/* The prompt on the serial line after a run. */
#include "tests/runner/prompt.h"

#include <stddef.h>

#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "efi/console/keys.h"
#include "efi/console/serial.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "paging/print_walk.h"
#include "paging/tree/tree.h"
#include "pmm/memory_map.h"
#include "pmm/pmm.h"
#include "swapdisk/area.h"
#include "swapdisk/area/slots.h"
#include "tests/runner/user_pages.h"
#include "vmm/space/end.h"
#include "vmm/space/space.h"

#define LINE_SIZE    96U
#define HISTORY_SIZE 8U
#define LOOK_US      500U

/* Slots of the area in RAM. */
#define PROMPT_SLOTS 16384U

/* The pages that there are to look at. */
#define EXAMPLE_START UINT64_C(0x7f0000000)
#define EXAMPLE_PAGES 16U

/* The last address of a program, with five levels of tables. */
#define LOWER_HALF_END (UINT64_MAX >> 1)

#define LETTER_BACKSPACE 0x08
#define LETTER_DELETE    0x7f
#define LETTER_ESC       0x1b

static struct {
    const struct options *options;
    void (*run)(const struct experiment *experiment, const struct options *options);
    struct space *space; /* NULL: it could not be made */
    unsigned entered;    /* lines; the last HISTORY_SIZE are kept */
    char history[HISTORY_SIZE][LINE_SIZE];
} prompt;

/* A key of a terminal that comes as several letters. */
struct sequence {
    unsigned length; /* letters so far; 0: none has begun */
    bool up;         /* it was the key up */
};

struct command {
    const char *name;
    const char *argument; /* NULL: none */
    const char *words;
    void (*obey)(const char *argument);
};

static unsigned digit_of(char letter)
{
    if (letter >= '0' && letter <= '9')
        return (unsigned)(letter - '0');
    if (letter >= 'a' && letter <= 'f')
        return (unsigned)(letter - 'a') + 10;
    return letter >= 'A' && letter <= 'F' ? (unsigned)(letter - 'A') + 10 : 99;
}

/* Reads a number, decimal or 0x and hexadecimal; says so if the text is none or it has more than 64
 * bits. */
static bool read_argument(const char *text, uint64_t *number)
{
    bool hexadecimal = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    const char *digits = hexadecimal ? text + 2 : text;
    unsigned base = hexadecimal ? 16 : 10;

    *number = 0;
    for (const char *at = digits; *at != '\0' || at == digits; at++) {
        unsigned digit = digit_of(*at);

        if (digit >= base) {
            print("not a number: %s\n", text);
            return false;
        }
        if (*number > (UINT64_MAX - digit) / base) {
            print("more than 64 bits: %s\n", text);
            return false;
        }
        *number = *number * base + digit;
    }
    return true;
}

static void prompt_walk(const char *argument)
{
    unsigned unused = 64 - pte_shift(kernel_map_levels() + 1);
    uint64_t address;

    if (!read_argument(argument, &address))
        return;
    if ((uint64_t)((int64_t)(address << unused) >> unused) != address)
        print("not canonical: an access there raises #GP, without a walk\n");
    else
        tree_print_walk(machine_root(), kernel_map_levels(), address);
}

static void prompt_region(const char *argument)
{
    static const char *const kinds[] = {"private", "shared", "guard", "copies of a section"};
    struct space_view view;
    uint64_t address;

    if (!read_argument(argument, &address))
        return;
    if (prompt.space == NULL || space_query(prompt.space, address, &view) != OK) {
        print("no region there or above\n");
        return;
    }
    print("%016lx to %016lx, %s%s%s, %s, %lu of %lu pages resident\n", view.start, view.end,
          view.rights.none ? "no access" : "read", view.rights.write ? " write" : "",
          view.rights.execute ? " execute" : "", kinds[view.kind], view.resident,
          (view.end - view.start) / PAGE_SIZE);
}

static void prompt_frame(const char *argument)
{
    const struct frame *record;
    uint64_t number;

    if (!read_argument(argument, &number))
        return;
    if (number >= pmm_frame_limit() ||
        !memory_map_touches_ram(number * PAGE_SIZE, (number + 1) * PAGE_SIZE)) {
        print("no RAM there\n");
        return;
    }
    record = frame_record((struct pfn){(uint32_t)number});
    print("frame %lx at %lx: kind %u, count %u, level %u, flags %02x, marks %02x\n", number,
          number * PAGE_SIZE, record->kind, record->count, record->level, record->flags,
          record->marks);
    if (record->kind == FRAME_ANONYMOUS)
        print("mapped by entry %u of the table in frame %x\n", record->page.back_index,
              record->page.back_table);
}

static void prompt_slot(const char *argument)
{
    const struct slot_record *record;
    uint64_t number;

    if (!read_argument(argument, &number))
        return;
    if (number >= slots_total()) {
        print("there are %u slots\n", slots_total());
        return;
    }
    record = slots_record((struct slot){(uint32_t)number});
    print("slot %lu: count %u, %s, written %u times, check value %08x\n", number, record->count,
          (record->generation & SLOT_FULL) != 0 ? "full" : "empty",
          record->generation & SLOT_GENERATION_MASK, record->check);
}

static void prompt_descriptor(const char *argument)
{
    const struct descriptor *descriptor;
    uint64_t number;

    if (!read_argument(argument, &number))
        return;
    if (number >= descriptor_bound()) {
        print("descriptors 0 to %u have memory, %u are in use\n", descriptor_bound() - 1,
              descriptor_count());
        return;
    }
    descriptor = (const struct descriptor *)(uintptr_t)DESCRIPTORS_BASE + number;
    print("descriptor %lu: %u regions, ticket %016lx, %s%s%s, pages of level %u, around %u\n",
          number, descriptor->count, descriptor->ticket.word,
          descriptor->rights.none ? "no access" : "read", descriptor->rights.write ? " write" : "",
          descriptor->rights.execute ? " execute" : "", descriptor->page_level,
          1U << descriptor->around);
}

static void prompt_counters(const char *argument)
{
    static const char *const kinds[FRAME_KINDS] = {"free",      "absent", "reserved", "metadata",
                                                   "zero",      "kernel", "table",    "root",
                                                   "anonymous", "device", "swap"};
    struct pmm_zero_figures zero = pmm_zero_figures();
    struct pmm_usage frames = pmm_usage();
    struct swap_usage swap = swap_usage();

    (void)argument;
    print("frames:");
    for (unsigned kind = 0; kind < FRAME_KINDS; kind++) {
        if (frames.by_kind[kind] > 0)
            print(" %s %lu", kinds[kind], frames.by_kind[kind]);
    }
    print("\ncleared in advance: %lu, taken %lu, cleared on demand %lu\n", zero.pooled, zero.hits,
          zero.misses);
    print("swap: %u of %u slots used, %lu pages written, %lu read, %lu corrupt, %lu errors\n",
          swap.used, swap.slots, swap.pages_written, swap.pages_read, swap.corrupt, swap.errors);
    print("spaces %u, ended with memory %u, descriptors %u\n", space_count(), space_ends(),
          descriptor_count());
    if (prompt.space != NULL) {
        struct fault_counts faults = space_faults(prompt.space);

        print("faults of this space: first write %lu, first read %lu, refused %lu\n",
              faults.first_write, faults.zero_read, faults.violations);
    }
}

static void prompt_write(const char *argument)
{
    uint64_t address;

    if (!read_argument(argument, &address))
        return;
    /* word_write() runs in ring 0, where the kernel's half can be written. */
    if (address > LOWER_HALF_END)
        print("refused: no program may write there\n");
    else
        print("%s\n", word_write(address, 1) ? "written" : "refused");
}

/* Makes a space with pages to look at, one of them written. */
static void make_example(void)
{
    if (!start_space(&prompt.space)) {
        prompt.space = NULL;
        return;
    }
    if (SUCCEEDS(space_map(prompt.space,
                           &SPACE_AT(EXAMPLE_START, EXAMPLE_PAGES * PAGE_SIZE, RIGHTS_READ_WRITE),
                           NULL)))
        (void)word_write(EXAMPLE_START, 1);
}

static void end_example(void)
{
    if (prompt.space != NULL)
        end_space(prompt.space);
    prompt.space = NULL;
}

/* Runs an experiment as a log of its own, without the example: it may take every space there is. */
static void prompt_run(const char *argument)
{
    const struct experiment *experiment;

    for (unsigned i = 0; (experiment = experiment_at(i)) != NULL; i++) {
        if (strcmp(experiment->name, argument) == 0)
            break;
    }
    if (experiment == NULL && strcmp(argument, "list") == 0) {
        experiments_print();
        return;
    }
    if (experiment == NULL) {
        print("no experiment has this name; run list prints all\n");
        return;
    }
    end_example();
    ktap_forget();
    ktap_begin();
    ktap_plan(1);
    prompt.run(experiment, prompt.options);
    (void)ktap_end();
    make_example();
}

static void prompt_history(const char *argument)
{
    unsigned kept = (unsigned)min_u64(prompt.entered, HISTORY_SIZE);

    (void)argument;
    for (unsigned i = prompt.entered - kept; i < prompt.entered; i++)
        print("%u %s\n", i + 1, prompt.history[i % HISTORY_SIZE]);
}

static void prompt_help(const char *argument);

static const struct command commands[] = {
    {"help", NULL, "this list", prompt_help},
    {"counters", NULL, "frames, swap, faults", prompt_counters},
    {"walk", "ADDRESS", "the entries on the way to an address", prompt_walk},
    {"region", "ADDRESS", "the region there, or the next one; 0x7f0000000 is an example",
     prompt_region},
    {"write", "ADDRESS", "write a word there, as a program would", prompt_write},
    {"frame", "NUMBER", "the record of a frame", prompt_frame},
    {"slot", "NUMBER", "the record of a slot of the swap area", prompt_slot},
    {"descriptor", "NUMBER", "the attributes that a ticket names", prompt_descriptor},
    {"run", "NAME", "run an experiment; run list prints all", prompt_run},
    {"history", NULL, "the last lines; the key up brings them back", prompt_history},
    {"quit", NULL, "end the run", NULL},
};

static void prompt_help(const char *argument)
{
    (void)argument;
    for (unsigned i = 0; i < ARRAY_COUNT(commands); i++)
        print("%s%s%s: %s\n", commands[i].name, commands[i].argument != NULL ? " " : "",
              commands[i].argument != NULL ? commands[i].argument : "", commands[i].words);
}

static int wait_for_letter(void)
{
    int letter = keys_read_serial();

    while (letter < 0) {
        thread_sleep_us(LOOK_US);
        progress_note();
        letter = keys_read_serial();
    }
    return letter;
}

/* Takes a letter of a terminal's key: ESC, a bracket, parameters and a last letter. Returns whether
 * the letter belongs to one; after an ESC without a bracket it does not. */
static bool take_sequence(struct sequence *key, int letter)
{
    if (letter == LETTER_ESC) {
        *key = (struct sequence){.length = 1};
        return true;
    }
    if (key->length == 0 || letter < ' ' || (key->length == 1 && letter != '[')) {
        key->length = 0;
        return false;
    }
    key->up = key->length == 2 && letter == 'A';
    key->length = key->length > 1 && letter >= '@' ? 0 : key->length + 1;
    return true;
}

/* Replaces the typed text by the line before the one that is shown. */
static size_t recall(char line[LINE_SIZE], size_t length, unsigned *back)
{
    if (*back == (unsigned)min_u64(prompt.entered, HISTORY_SIZE))
        return length;
    *back += 1;
    for (; length > 0; length--)
        print("\b \b");
    print_to(line, LINE_SIZE, "%s", prompt.history[(prompt.entered - *back) % HISTORY_SIZE]);
    print("%s", line);
    return strlen(line);
}

/* Reads a line, shows it, and keeps it in the history. */
static void read_command(char line[LINE_SIZE])
{
    struct sequence key = {0};
    size_t length = 0;
    unsigned back = 0;

    print_set_line_start("# > ");
    print("%s", "");
    for (int letter = wait_for_letter(); letter != '\r' && letter != '\n';
         letter = wait_for_letter()) {
        if (take_sequence(&key, letter)) {
            if (key.up)
                length = recall(line, length, &back);
        } else if ((letter == LETTER_BACKSPACE || letter == LETTER_DELETE) && length > 0) {
            length--;
            print("\b \b");
        } else if (letter >= ' ' && letter <= '~' && length + 1 < LINE_SIZE) {
            line[length++] = (char)letter;
            print("%c", letter);
        }
    }
    line[length] = '\0';
    print("\n");
    if (length > 0)
        memcpy(prompt.history[prompt.entered++ % HISTORY_SIZE], line, LINE_SIZE);
}

/* Obeys a line; returns false for `quit`. */
static bool prompt_obey(char *line)
{
    size_t length = strlen(line);
    char *argument;

    while (length > 0 && line[length - 1] == ' ')
        line[--length] = '\0';
    while (*line == ' ')
        line++;
    length = 0;
    while (line[length] != ' ' && line[length] != '\0')
        length++;
    argument = line + length;
    while (*argument == ' ')
        *argument++ = '\0';
    if (line[0] == '\0')
        return true;
    for (unsigned i = 0; i < ARRAY_COUNT(commands); i++) {
        if (strcmp(commands[i].name, line) != 0)
            continue;
        if (commands[i].obey == NULL)
            return false;
        if (commands[i].argument != NULL && *argument == '\0')
            print("%s needs %s\n", line, commands[i].argument);
        else
            commands[i].obey(argument);
        return true;
    }
    print("no such command; help lists them\n");
    return true;
}

void prompt_take_commands(const struct options *options,
                          void (*run)(const struct experiment *experiment,
                                      const struct options *options))
{
    struct options own = *options;
    char line[LINE_SIZE];
    bool more = true;

    if (!serial_present())
        return;
    own.swap = SWAP_NONE;
    prompt.options = options;
    prompt.run = run;
    print_set_line_start("# | ");
    print("The prompt: help lists the commands, quit ends the run.\n");
    if (swap_open(&own, PROMPT_SLOTS) != OK) {
        print("no memory for a swap area\n");
        print_set_line_start(KTAP_AFTER_END);
        return;
    }
    make_example();
    while (more) {
        read_command(line);
        print_set_line_start("# | ");
        more = prompt_obey(line);
    }
    end_example();
    if (swap_close() != OK)
        print("the swap area did not close\n");
    print_set_line_start(KTAP_AFTER_END);
}
