/* The picture at the end of a run, and pages of its log. */
#include "lib/bytes.h"
#include "lib/print.h"
#include "lib/units.h"
#include "tests/screen/internal.h"

/* Where the text of a failure, and of the lines at the bottom, begins. */
#define INDENT 17U

/* Failures that are shown in full; the bottom lines and the names need room as well. */
#define FAILURES_SHOWN 4U

/* Rows of a failure, and rows that the text below the failures needs: a line about further ones, a
 * gap, the sums, where the log and the answers are, and the keys. */
#define FAILURE_ROWS 3U
#define ROWS_BELOW   13U

/* Rows that the text below the results needs. */
#define ROWS_BELOW_RESULTS 8U

#define NAME_COLUMNS 4U

/* Of a result: letters of its mark with the gap behind it, where its checks are if there is room,
 * and bytes of their text. */
#define RESULT_MARK   3U
#define CHECKS_PLACE  20U
#define CHECKS_LENGTH 24U

static void put_end_bar(struct screen *screen, const struct story *story,
                        const struct screen_facts *facts)
{
    char end[64];
    size_t length = print_to(end, sizeof(end), "verdict %s, %lu:%02u in all",
                             story->verdict[0] != '\0' ? story->verdict : "none",
                             (unsigned long)(facts->seconds / 60), (unsigned)(facts->seconds % 60));

    screen_put_format(screen, 0, 1, screen->columns - (unsigned)length - 3, COLOUR_TEXT,
                      "Faultline %s  on %s, seed %s", story->version, story->machine, story->seed);
    screen_put(screen, 0, screen->columns - 1 - (unsigned)length, (unsigned)length, COLOUR_DIM,
               end);
    screen_ground(screen, 0, 0, screen->columns, COLOUR_BAR);
}

static void put_headline(struct screen *screen, const struct story *story)
{
    enum colour colour = COLOUR_GOOD;
    char text[80];

    if (story->bail_out[0] != '\0') {
        colour = COLOUR_BAD;
        print_to(text, sizeof(text), "The run was cut short");
    } else if (story->failed > 0) {
        colour = COLOUR_BAD;
        print_to(text, sizeof(text), "%u of %u experiments failed", story->failed, story->done);
    } else if (strcmp(story->verdict, "fail") == 0) {
        colour = COLOUR_BAD;
        print_to(text, sizeof(text), "The run failed");
    } else if (story->done == story->skipped) {
        colour = COLOUR_DIM;
        print_to(text, sizeof(text), "Nothing was checked");
    } else {
        print_to(text, sizeof(text), "%u of %u experiments passed", story->done - story->skipped,
                 story->done);
    }
    screen_put_double(screen, 2, 1, colour, text);
}

/* Writes each failure with its check and the command to repeat it; returns the next row. */
static unsigned put_failures(struct screen *screen, const struct story *story, unsigned row)
{
    unsigned width = screen->columns - INDENT - 1;
    unsigned most = (unsigned)min_u64(story->failures, FAILURES_SHOWN);
    char text[STORY_LINE];
    unsigned kept;

    if (story->bail_out[0] != '\0')
        row += screen_put_wrapped(screen, row, 1, screen->columns - 2, 3, COLOUR_TEXT,
                                  story->bail_out);
    for (kept = 0; kept < most && row + FAILURE_ROWS + ROWS_BELOW <= screen->rows; kept++) {
        const struct story_failure *failure = &story->failure[kept];

        if (screen_put(screen, row, 1, width, COLOUR_BAD, failure->name) > INDENT - 2)
            row++;
        if (failure->check != 0)
            print_to(text, sizeof(text), "check %u of %u: %s", failure->check, failure->checks,
                     failure->text);
        else
            print_to(text, sizeof(text), "%s", failure->text);
        row += screen_put_wrapped(screen, row, INDENT, width, 2, COLOUR_TEXT, text);
        if (failure->checks > 0)
            screen_put_format(screen, row++, INDENT, width, COLOUR_DIM, "again: run=%s seed=%s",
                              failure->name, story->seed);
    }
    if (story->failures > kept)
        screen_put_format(screen, row++, INDENT, width, COLOUR_DIM, "and %u more: the log has them",
                          story->failures - kept);
    return row + (kept > 0 || story->bail_out[0] != '\0');
}

static unsigned put_sums(struct screen *screen, const struct story *story, unsigned row)
{
    char text[STORY_TEXT * 4];
    char number[28];
    size_t length = print_to(text, sizeof(text), "%s checks hold, %u failed",
                             screen_number(story->checks_passed, number), story->checks_failed);

    if (story->checks_skipped > 0)
        length += print_to(text + length, sizeof(text) - length, ", %u could not be made here",
                           story->checks_skipped);
    for (unsigned i = 0; i < story->reasons && length < sizeof(text); i++)
        length += print_to(text + length, sizeof(text) - length, "%s %s (%u)", i == 0 ? ":" : ",",
                           story->reason[i].text, story->reason[i].checks);
    return row + screen_put_wrapped(screen, row, 1, screen->columns - 2, 3, COLOUR_DIM, text) + 1;
}

/* Letters of the columns of results: of a name, and of its checks as `made+skipped`. */
struct result_widths {
    unsigned name;
    unsigned checks;
};

static unsigned print_checks(char text[CHECKS_LENGTH], const struct story_result *result)
{
    if (result->skipped > 0)
        return (unsigned)print_to(text, CHECKS_LENGTH, "%2u+%u", result->checks, result->skipped);
    return (unsigned)print_to(text, CHECKS_LENGTH, "%2u", result->checks);
}

static struct result_widths longest_result(const struct story *story)
{
    struct result_widths widths = {0, 0};
    char checks[CHECKS_LENGTH];

    for (unsigned i = 0; i < story->results; i++) {
        widths.name = (unsigned)max_u64(widths.name, strlen(story->result[i].name));
        widths.checks = (unsigned)max_u64(widths.checks, print_checks(checks, &story->result[i]));
    }
    return widths;
}

static void put_result(struct screen *screen, unsigned row, unsigned column, unsigned place,
                       const struct story_result *result)
{
    bool failed = result->outcome == STORY_FAILED;
    bool skipped = result->outcome == STORY_SKIPPED;
    char checks[CHECKS_LENGTH];

    screen_put(screen, row, column, 2,
               failed    ? COLOUR_BAD
               : skipped ? COLOUR_DIM
                         : COLOUR_GOOD,
               failed    ? "NO"
               : skipped ? "--"
                         : "ok");
    screen_put(screen, row, column + RESULT_MARK, place - RESULT_MARK,
               failed ? COLOUR_BAD : COLOUR_TEXT, result->name);
    screen_put(screen, row, column + place, print_checks(checks, result), COLOUR_DIM, checks);
}

/* Writes all names, the failed ones first, in columns from top to bottom. Returns the next row. */
static unsigned put_results(struct screen *screen, const struct story *story, unsigned row,
                            unsigned rows_left)
{
    struct result_widths longest = longest_result(story);
    unsigned least = RESULT_MARK + longest.name + 1 + longest.checks + 1;
    unsigned columns = (unsigned)max_u64(min_u64((screen->columns - 1) / least, NAME_COLUMNS), 1);
    unsigned width = (screen->columns - 1) / columns;
    unsigned place = (unsigned)max_u64(min_u64(CHECKS_PLACE, width - longest.checks - 1),
                                       RESULT_MARK + longest.name + 1);
    unsigned rows = (story->results + columns - 1) / columns;
    unsigned put = 0;

    rows = (unsigned)min_u64(rows, rows_left);
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < story->results && put < rows * columns; i++) {
            const struct story_result *result = &story->result[i];

            if ((result->outcome == STORY_FAILED) != (pass == 0))
                continue;
            put_result(screen, row + put % rows, 1 + put / rows * width, place, result);
            put++;
        }
    }
    return row + rows + 1;
}

void screen_draw_end(struct screen *screen, const struct story *story,
                     const struct screen_facts *facts)
{
    const char *log = facts->log != NULL ? facts->log : "went over the serial line";
    const char *end =
        facts->keys != NULL ? facts->keys : "The machine is halted and can be switched off.";
    unsigned width = screen->columns - INDENT - 1;
    unsigned last = screen->rows - 1;
    unsigned row;

    screen_begin_picture(screen, SCREEN_ENDING);
    screen_blank(screen);
    put_end_bar(screen, story, facts);
    row = put_failures(screen, story, 5);
    row = put_sums(screen, story, row);
    row = put_results(screen, story, row,
                      row + ROWS_BELOW_RESULTS < last ? last - row - ROWS_BELOW_RESULTS : 0);
    screen_put(screen, row, 1, INDENT - 2, COLOUR_DIM, "The log");
    row += screen_put_wrapped(screen, row, INDENT, width, 3, COLOUR_TEXT, log) + 1;
    screen_put(screen, row, 1, INDENT - 2, COLOUR_DIM, "Answers");
    screen_put_wrapped(screen, row, INDENT, width, 2, COLOUR_TEXT,
                       "make report LOG=faultline.log, on any machine that has the sources");
    screen_put(screen, last, 1, screen->columns - 2, COLOUR_DIM, end);
    screen_fill_bar(screen);
    screen_show(screen);
    put_headline(screen, story);
}

/* Copies the line that begins at `from`, or as many whole words as there is room for. Returns its
 * length. */
static size_t page_line(const char *text, size_t size, size_t from, char line[STORY_LINE])
{
    size_t length = 0;

    while (from + length < size && text[from + length] != '\n' && length < STORY_LINE - 1) {
        line[length] = text[from + length];
        length++;
    }
    line[length] = '\0';
    if (length == STORY_LINE - 1 && from + length < size && text[from + length] != '\n')
        length = screen_fit(line, length - 1);
    line[length] = '\0';
    return length;
}

size_t screen_draw_page(struct screen *screen, const char *title, const char *keys,
                        const char *text, size_t size, size_t from)
{
    unsigned last = screen->rows - 1;
    unsigned width = screen->columns - 2;
    char line[STORY_LINE];

    screen_begin_picture(screen, SCREEN_PAGE);
    screen_blank(screen);
    screen_put(screen, 0, 1, width, COLOUR_TEXT, title);
    screen_ground(screen, 0, 0, screen->columns, COLOUR_BAR);
    screen_put(screen, last, 1, width, COLOUR_DIM, keys);
    for (unsigned row = 1; row < last - 1 && from < size;) {
        size_t length = page_line(text, size, from, line);
        unsigned used = (unsigned)max_u64(screen_wrapped_rows(line, width), 1);

        if (row > 1 && row + used > last - 1)
            break;
        screen_put_wrapped(screen, row, 1, width, last - 1 - row,
                           strncmp(line, "    # metric", 12) == 0 ? COLOUR_DIM : COLOUR_TEXT, line);
        row += used;
        from += length + (from + length < size && text[from + length] == '\n' ? 1 : 0);
    }
    screen_fill_bar(screen);
    screen_show(screen);
    return from;
}
