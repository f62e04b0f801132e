/*
 * The explorer of interleavings.
 *
 *   explore NAME                        scenarios of that name in the list SCENARIOS, as TAP
 *   explore --lines FILE [OPTION=N...]  scenarios of a file of such lines, `-` for the input
 *   explore --schedule SCHEDULE TEXT    replays one schedule of "SET-UP PROGRAM PROGRAM"
 *
 * A line is "NAME [OPTION=N...]: SET-UP PROGRAM PROGRAM [PROGRAM]". The options are those of struct
 * search_limits. Each scenario has a process of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/host/explore/scenario.h"
#include "tests/host/explore/search.h"

#define SCENARIOS   "tests/host/explore/scenarios"
#define LINE_LENGTH 1000U

/* ---- lines ---- */

struct line {
    char name[80];
    struct search_limits limits;
    char text[LINE_LENGTH];
};

static bool read_option(const char *word, struct search_limits *limits)
{
    const char *value = strchr(word, '=');
    size_t length = value != NULL ? (size_t)(value - word) : 0;
    unsigned number = value != NULL ? (unsigned)strtoul(value + 1, NULL, 0) : 0;
    const struct {
        const char *name;
        unsigned *field;
    } fields[] = {{"bound", &limits->bound},   {"schedules", &limits->schedules},
                  {"random", &limits->random}, {"depth", &limits->depth},
                  {"thin", &limits->thin},     {"delays", &limits->delays}};

    for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (strlen(fields[i].name) == length && strncmp(word, fields[i].name, length) == 0) {
            *fields[i].field = number;
            return true;
        }
    }
    if (length == 4 && strncmp(word, "seed", 4) == 0)
        limits->seed = number;
    return length == 4 && strncmp(word, "seed", 4) == 0;
}

/* Reads a line. Returns false for a comment or an empty line. */
static bool read_line(char *text, const struct search_limits *limits, struct line *line)
{
    char *colon = strchr(text, ':');
    char *word;

    if (text[0] == '#' || colon == NULL)
        return false;
    *colon = '\0';
    snprintf(line->text, sizeof(line->text), "%s", colon + 1);
    line->text[strcspn(line->text, "\n")] = '\0';
    line->limits = *limits;
    word = strtok(text, " ");
    snprintf(line->name, sizeof(line->name), "%s", word);
    while ((word = strtok(NULL, " ")) != NULL) {
        if (!read_option(word, &line->limits)) {
            fprintf(stderr, "no option: %s\n", word);
            exit(2);
        }
    }
    return true;
}

/* ---- one scenario ---- */

static void print_figures(const struct search_figures *figures, const struct line *line)
{
    unsigned broken = 0;

    for (unsigned i = 0; i < figures->failure_count; i++) {
        broken += figures->failures[i].times;
        printf("# %u times, first in schedule %u: %s\n", figures->failures[i].times,
               figures->failures[i].schedule, figures->failures[i].key);
    }
    printf("%s - %s: %u schedules with %u preemptions (1 point in %u of %u), %u random, %u to "
           "learn %u shared words, %u serial",
           broken == 0 ? "ok" : "not ok", line->text, figures->bounded, line->limits.bound,
           figures->stride, figures->points, figures->random, figures->learning, figures->words,
           figures->serial);
    printf(broken > 0 ? "; %u broken\n" : "\n", broken);
}

static void start_scenario(const char *text)
{
    char wrong[80];

    if (!scenario_parse(text, wrong, sizeof(wrong))) {
        fprintf(stderr, "no scenario: %s (at %s)\n", text, wrong);
        _exit(2);
    }
    search_init();
    scenario_start();
}

/* Explores in a process of its own. Returns true if nothing broke. */
static bool explore(const struct line *line)
{
    int status = 0;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        const struct search_figures *figures;

        start_scenario(line->text);
        figures = search_scenario(&line->limits);
        print_figures(figures, line);
        fflush(stdout);
        _exit(figures->failure_count == 0 ? 0 : 1);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("fork");
        exit(2);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) > 1)
        printf("not ok - %s: the explorer ends with status %x\n", line->text, (unsigned)status);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- ways to call it ---- */

/* Explores the lines of a name, or of all names with NULL. */
static int explore_lines(FILE *file, const char *name, const struct search_limits *limits)
{
    static char text[LINE_LENGTH];
    static struct line line;
    unsigned count = 0;
    unsigned broken = 0;

    while (fgets(text, sizeof(text), file) != NULL) {
        if (!read_line(text, limits, &line) || (name != NULL && strcmp(name, line.name) != 0))
            continue;
        count++;
        broken += !explore(&line);
    }
    printf("1..%u\n", count);
    if (count == 0)
        fprintf(stderr, "no scenario is named %s\n", name != NULL ? name : "at all");
    return count == 0 || broken > 0 ? 1 : 0;
}

static FILE *open_lines(const char *name)
{
    FILE *file = strcmp(name, "-") == 0 ? stdin : fopen(name, "r");

    if (file == NULL) {
        perror(name);
        exit(2);
    }
    return file;
}

int main(int argc, char **argv)
{
    struct search_limits limits = SEARCH_LIMITS_USUAL;

    if (argc == 2 && argv[1][0] != '-')
        return explore_lines(open_lines(SCENARIOS), argv[1], &limits);
    if (argc == 4 && strcmp(argv[1], "--schedule") == 0) {
        start_scenario(argv[3]);
        return search_replay(argv[2]) ? 0 : 1;
    }
    if (argc >= 3 && strcmp(argv[1], "--lines") == 0) {
        for (int i = 3; i < argc; i++) {
            if (!read_option(argv[i], &limits))
                fprintf(stderr, "no option: %s\n", argv[i]);
        }
        return explore_lines(open_lines(argv[2]), NULL, &limits);
    }
    fprintf(stderr,
            "usage: explore NAME | --lines FILE [OPTION=N...] | --schedule SCHEDULE TEXT\n");
    return 2;
}
