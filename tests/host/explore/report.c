/* Schedules as text, and traces of runs. */
#include "tests/host/explore/report.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/units.h"
#include "tests/host/explore/scenario.h"

#define CODE_WORDS_MAX 400U

/* ---- schedules ---- */

static bool parse_switch(const char **text, struct run_switch *one)
{
    char *end;

    if (**text != ':')
        return false;
    one->at = (uint32_t)strtoul(*text + 1, &end, 10);
    one->to = one->holds = 0;
    if (end == *text + 1)
        return false;
    if (*end == '>')
        one->to = (uint8_t)strtoul(end + 1, &end, 10);
    if (*end == '~') {
        one->holds = (uint8_t)strtoul(end + 1, &end, 10);
        one->holds = one->holds == 0 ? RUN_HOLDS_ALL : one->holds;
    }
    *text = end;
    return one->to < RUN_PROCESSORS_MAX;
}

bool report_parse_schedule(const char *text, struct run_schedule *schedule)
{
    char *end;

    memset(schedule, 0, sizeof(*schedule));
    schedule->first = (uint8_t)strtoul(text, &end, 10);
    if (end == text || schedule->first >= scenario.processors)
        return false;
    for (text = end; *text != '\0'; schedule->count++) {
        if (schedule->count == RUN_SWITCHES_MAX ||
            !parse_switch(&text, &schedule->switches[schedule->count]))
            return false;
    }
    return true;
}

static void print_schedule(const struct run_schedule *schedule)
{
    printf("%u", schedule->first);
    for (unsigned i = 0; i < schedule->count; i++) {
        printf(":%u", schedule->switches[i].at);
        if (scenario.processors > 2)
            printf(">%u", schedule->switches[i].to);
        if (schedule->switches[i].holds == RUN_HOLDS_ALL)
            printf("~");
        else if (schedule->switches[i].holds > 0)
            printf("~%u", schedule->switches[i].holds);
    }
}

void report_schedule(const struct run *run)
{
    printf("# make explore T=\"%s", scenario.set_up);
    for (unsigned i = 0; i < scenario.processors; i++)
        printf(" %s", scenario.text[i]);
    printf("\" SCHEDULE=");
    print_schedule(&run->schedule);
    printf("\n");
}

/* ---- lines of the sources ---- */

/* Descriptions of instructions so far, in memory that is not restored. */
#define DESCRIBED_MAX 256U

struct described {
    unsigned count;
    struct {
        const void *code;
        char words[CODE_WORDS_MAX];
    } all[DESCRIBED_MAX];
};

static struct described *described;

void report_init(void)
{
    described = run_own_memory(sizeof(*described));
}

/* Adds " in function (file:12)", without the path of the tree. */
static void add_source(char *words, const char *function, const char *line)
{
    char folder[PATH_MAX] = "";
    size_t length = strlen(words);

    if (getcwd(folder, sizeof(folder)) != NULL && strncmp(line, folder, strlen(folder)) == 0)
        line += strlen(folder) + 1;
    if (strncmp(line, "./", 2) == 0)
        line += 2;
    snprintf(words + length, CODE_WORDS_MAX - length, "%s%.80s (%.*s)", length > 0 ? " in " : "",
             function, (int)min_u64(strcspn(line, " "), 80), line);
}

/* Asks addr2line where the code of a call is, and which functions it is inlined into. */
static void ask_source(const void *code, char *words)
{
    char command[PATH_MAX + 64];
    char program[PATH_MAX] = "";
    char function[256];
    char line[PATH_MAX];
    FILE *answer;

    words[0] = '\0';
    if (readlink("/proc/self/exe", program, sizeof(program) - 1) < 0)
        return;
    snprintf(command, sizeof(command), "addr2line -fi -e %s %p", program,
             (const void *)((const char *)code - 1));
    answer = popen(command, "r");
    if (answer == NULL)
        return;
    while (fgets(function, sizeof(function), answer) != NULL &&
           fgets(line, sizeof(line), answer) != NULL) {
        function[strcspn(function, "\n")] = '\0';
        line[strcspn(line, "\n")] = '\0';
        add_source(words, function, line);
    }
    pclose(answer);
}

static const char *describe_code(const void *code)
{
    unsigned i = 0;

    while (i < described->count && described->all[i].code != code)
        i++;
    if (i < described->count)
        return described->all[i].words;
    if (i == DESCRIBED_MAX)
        return "?";
    described->all[i].code = code;
    ask_source(code, described->all[i].words);
    described->count++;
    return described->all[i].words;
}

/* ---- ends ---- */

void report_end(const struct run *run, char *words, size_t size)
{
    switch (run->end) {
    case RUN_ENDED: snprintf(words, size, "all ended"); return;
    case RUN_PANIC: snprintf(words, size, "panic: %s", run->why); return;
    case RUN_SIGNAL:
        snprintf(words, size, "%s behind %s", run->why, describe_code(run->where));
        return;
    case RUN_HANG: snprintf(words, size, "no end after %u accesses", run->accesses); return;
    case RUN_DEADLOCK:
        snprintf(words, size, "no processor can go on, in %s", describe_code(run->where));
        return;
    case RUN_NO_HINT:
        snprintf(words, size, "a loop without a pause, in %s", describe_code(run->where));
        return;
    }
}

/* ---- traces ---- */

/* Events shown at the beginning of a long run and at its end. */
#define SHOWN_FIRST 60U
#define SHOWN_LAST  10U

static void print_operation(const struct run_event *event)
{
    const struct program *program = &scenario.programs[event->processor];

    printf("begins operation %u, %s, of %s\n", (unsigned)event->value,
           program->operations[event->value].kind->name, scenario.text[event->processor]);
}

static void print_event(const struct run_event *event)
{
    int value = (int)event->value;

    printf("# %7u  %c ", event->at, 'A' + event->processor);
    switch (event->kind) {
    case EVENT_OPERATION: print_operation(event); return;
    case EVENT_RESULT: printf("ends it: %d\n", value); return;
    case EVENT_PREEMPTED:
        printf("is preempted by %c in %s\n", 'A' + value, describe_code(event->code));
        return;
    case EVENT_PREEMPTED_HOLDING:
        printf("holds back its stores, %c goes on; in %s\n", 'A' + value,
               describe_code(event->code));
        return;
    case EVENT_WAITS:
        printf("waits, %c goes on; in %s\n", 'A' + value, describe_code(event->code));
        return;
    case EVENT_ASKS:
        printf("asks for a flush, processors %x, in %s\n", value, describe_code(event->code));
        return;
    case EVENT_ANSWERS: printf("gets the answer of %c\n", 'A' + value); return;
    }
}

void report_trace(const struct run *run)
{
    unsigned stored = (unsigned)min_u64(run->event_count, RUN_EVENTS_MAX);

    for (unsigned i = 0; i < stored; i++) {
        if (i < SHOWN_FIRST || i + SHOWN_LAST >= stored)
            print_event(&run->events[i]);
        else if (i == SHOWN_FIRST)
            printf("#          ...\n");
    }
    if (run->event_count > stored)
        printf("#          %u more\n", run->event_count - stored);
}
