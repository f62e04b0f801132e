/* The picture of a run that is under way. */
#include "lib/bytes.h"
#include "lib/print.h"
#include "lib/units.h"
#include "tests/screen/internal.h"

/* Rows of text on the left: bar, gap, three headings, the space, legend, figures, keys. */
#define BAR_ROWS    2U
#define LEGEND_ROWS 2U
#define FIGURE_ROWS 3U

/* Below this width there is no right column, and its text comes below the figures. */
#define WIDE 1024U

/* The narrowest cell that shows its pattern. */
#define CELL_MIN 2U

/* Where things are, in pixels for cells and in rows and columns for text. */
struct run_layout {
    uint32_t left; /* pixels for the cells */
    uint32_t cell;
    uint32_t per_row; /* cells */
    unsigned memory_row;
    unsigned swap_row;
    unsigned space_row;
    unsigned legend_row;
    unsigned figures_row;
    unsigned left_columns;
    unsigned right; /* column; 0: there is none */
};

static const struct {
    enum screen_kind kind;
    const char *name;
} legend[] = {
    {SCREEN_RESERVED, "reserved"},   {SCREEN_KERNEL, "kernel"}, {SCREEN_TABLE, "table"},
    {SCREEN_ANONYMOUS, "anonymous"}, {SCREEN_SHARED, "shared"}, {SCREEN_POOL, "zero pool"},
    {SCREEN_OUT, "in transit"},      {SCREEN_FREE, "free"},
};

static unsigned rows_of_cells(const struct screen *screen, const struct run_layout *at,
                              uint32_t cells)
{
    uint32_t lines = (cells + at->per_row - 1) / at->per_row;

    return (lines * at->cell + screen->font->height - 1) / screen->font->height;
}

/* Lays out for cells of this size; returns the row after the figures. */
static unsigned lay_out_with(const struct screen *screen, const struct screen_facts *facts,
                             uint32_t cell, struct run_layout *at)
{
    at->cell = cell;
    at->per_row = at->left / cell;
    if (at->per_row > 32)
        at->per_row -= at->per_row % 32;
    at->memory_row = BAR_ROWS;
    at->swap_row = at->memory_row + 1 + rows_of_cells(screen, at, facts->memory_cells);
    at->space_row = at->swap_row + 1 + rows_of_cells(screen, at, facts->swap_cells);
    at->legend_row = at->space_row + 3;
    at->figures_row = at->legend_row + LEGEND_ROWS;
    return at->figures_row + FIGURE_ROWS;
}

static struct run_layout lay_out(const struct screen *screen, const struct screen_facts *facts)
{
    bool wide = screen->pixels.width >= WIDE;
    uint32_t margin = screen->font->width;
    struct run_layout at = {0};
    uint32_t cell;

    at.left = wide ? screen->pixels.width * 3 / 5 : screen->pixels.width - 2 * margin;
    if (wide)
        at.right = (at.left + 3 * margin) / screen->font->width;
    at.left_columns = at.left / screen->font->width;
    cell = wide ? (uint32_t)max_u64(at.left / 128, 4) : 4;
    while (lay_out_with(screen, facts, cell, &at) + 1 > screen->rows && cell > CELL_MIN)
        cell--;
    if (at.figures_row + FIGURE_ROWS + 2 < screen->rows)
        at.figures_row++;
    return at;
}

/* Draws the cells that have changed. */
static void draw_cells(struct screen *screen, const struct run_layout *at, unsigned row,
                       const uint8_t *wanted, uint8_t *shown, uint32_t count)
{
    uint32_t x = screen->font->width;
    uint32_t y = row * screen->font->height;

    for (uint32_t i = 0; i < count; i++) {
        if (wanted[i] == shown[i])
            continue;
        shown[i] = wanted[i];
        screen_pattern(screen, x + i % at->per_row * at->cell, y + i / at->per_row * at->cell,
                       at->cell - 1, wanted[i]);
    }
}

static void put_headings(struct screen *screen, const struct run_layout *at,
                         const struct screen_facts *facts)
{
    char one[24];
    char other[24];
    unsigned width = at->left_columns;

    screen_put_format(screen, at->memory_row, 1, width, COLOUR_DIM, "memory, %s, a cell is %s",
                      screen_bytes(facts->memory_bytes, one),
                      screen_bytes(facts->memory_cell, other));
    if (facts->swap_bytes == 0)
        screen_put(screen, at->swap_row, 1, width, COLOUR_DIM, "swap: none");
    else
        screen_put_format(screen, at->swap_row, 1, width, COLOUR_DIM, "swap %s, %s, a cell is %s",
                          facts->swap_place, screen_bytes(facts->swap_bytes, one),
                          screen_bytes(facts->swap_cell, other));
    if (facts->space == 0)
        screen_put(screen, at->space_row, 1, width, COLOUR_DIM, "no program's space is in use");
    else if (facts->space_bytes == 0)
        screen_put_format(screen, at->space_row, 1, width, COLOUR_DIM, "space %lu: %u regions",
                          (unsigned long)facts->space, facts->regions + facts->regions_more);
    else
        screen_put_format(
            screen, at->space_row, 1, width, COLOUR_DIM, "space %lu: %s of %s in %u region%s",
            (unsigned long)facts->space, screen_bytes(facts->space_bytes, one),
            screen_bytes(facts->space_limit, other), facts->regions + facts->regions_more,
            facts->regions + facts->regions_more == 1 ? "" : "s");
}

static void put_legend(struct screen *screen, const struct run_layout *at)
{
    const struct font *font = screen->font;
    unsigned step = at->left_columns / 4;

    for (unsigned i = 0; i < ARRAY_COUNT(legend); i++) {
        unsigned row = at->legend_row + i / 4;
        unsigned column = 1 + i % 4 * step;

        screen_put(screen, row, column + 2, step - 2, COLOUR_TEXT, legend[i].name);
        /* The icon has no letters, so it is drawn once. */
        if (screen->progress == UINT32_MAX)
            screen_pattern(screen, column * font->width, row * font->height + font->height / 5,
                           font->height * 3 / 5, legend[i].kind);
    }
}

/* Writes one line of figures: pairs of a name and a number. */
static void put_figures(struct screen *screen, const struct run_layout *at, unsigned row,
                        const char *title, const char *const *names, const uint64_t *values,
                        unsigned count)
{
    unsigned column = 1;
    char number[28];

    screen_put(screen, row, column, 6, COLOUR_DIM, title);
    column += 7;
    for (unsigned i = 0; i < count; i++) {
        size_t width = strlen(names[i]) + 1 + strlen(screen_number(values[i], number));

        if (column + width > at->left_columns + 1)
            return;
        column += screen_put(screen, row, column, 20, COLOUR_DIM, names[i]) + 1;
        column += screen_put(screen, row, column, 20, COLOUR_TEXT, number) + 2;
    }
}

static void put_all_figures(struct screen *screen, const struct run_layout *at,
                            const struct screen_facts *facts)
{
    static const char *const frames[] = {"anonymous", "tables", "free"};
    static const char *const faults[] = {"first write", "read", "COW", "refused"};
    static const char *const disk[] = {"read", "written", "in flight", "errors"};

    put_figures(screen, at, at->figures_row, "frames", frames,
                (const uint64_t[]){facts->anonymous, facts->tables, facts->free}, 3);
    put_figures(
        screen, at, at->figures_row + 1, "faults", faults,
        (const uint64_t[]){facts->first_writes, facts->first_reads, facts->cow, facts->refused}, 4);
    put_figures(screen, at, at->figures_row + 2, "swap", disk,
                (const uint64_t[]){facts->pages_read, facts->pages_written, facts->in_flight,
                                   facts->disk_errors},
                4);
}

/* Returns how wide a region is drawn: by its number of binary digits, since sizes differ by a
 * factor of a million. */
static uint32_t region_weight(uint64_t bytes)
{
    uint32_t weight = 2;

    for (uint64_t pages = bytes / PAGE_SIZE; pages > 1; pages /= 4)
        weight++;
    return weight;
}

static const char *region_name(enum screen_kind kind)
{
    switch (kind) {
    case SCREEN_ANONYMOUS: return "private";
    case SCREEN_SHARED: return "shared";
    default: return "guard";
    }
}

/* Draws the regions of the space in the order of their addresses, with size and kind where there is
 * room. Draws the line under them only after a change. */
static void draw_strip(struct screen *screen, const struct run_layout *at,
                       const struct screen_facts *facts)
{
    uint32_t gap = screen->font->width / 2;
    uint32_t x = screen->font->width;
    uint32_t y = (at->space_row + 1) * screen->font->height;
    uint32_t height = screen->font->height;
    uint64_t check = 1 + facts->regions;
    uint32_t weights = 0;

    for (unsigned i = 0; i < facts->regions; i++) {
        weights += region_weight(facts->region[i].bytes);
        check = check * 31 + facts->region[i].bytes + facts->region[i].kind;
    }
    for (unsigned i = 0; i < facts->regions; i++) {
        const struct screen_region *region = &facts->region[i];
        uint32_t width = (at->left - facts->regions * gap) * region_weight(region->bytes) / weights;
        unsigned column = (x + screen->font->width - 1) / screen->font->width;
        unsigned end = (x + width) / screen->font->width;
        enum colour ground = region->kind == SCREEN_ANONYMOUS ? COLOUR_DEEP : COLOUR_BAR;
        char name[40];
        char bytes[24];

        print_to(name, sizeof(name), "%s %s", screen_bytes(region->bytes, bytes),
                 region_name(region->kind));
        screen_ground(screen, at->space_row + 1, column, end, ground);
        if (column + strlen(name) <= end)
            screen_put(screen, at->space_row + 1, column, end - column, COLOUR_TEXT, name);
        if (check != screen->strip) {
            screen_fill(screen, x, y + height, width, height / 4,
                        region->kind == SCREEN_ANONYMOUS ? COLOUR_BLUE
                        : region->kind == SCREEN_SHARED  ? COLOUR_GREEN
                                                         : COLOUR_GREY);
            screen_fill(screen, x + width, y + height, gap, height / 4, COLOUR_BACK);
        }
        x += width + gap;
    }
    if (check != screen->strip)
        screen_fill(screen, x - gap * (facts->regions > 0), y + height,
                    screen->font->width + at->left - x + gap, height / 4, COLOUR_BACK);
    screen->strip = check;
}

/* Returns the height of the progress below the bar, in pixels. */
static uint32_t progress_height(const struct screen *screen)
{
    return screen->font->height / 6;
}

static void put_bar(struct screen *screen, const struct story *story,
                    const struct screen_facts *facts)
{
    uint32_t progress = screen->pixels.width;
    uint32_t y = screen->font->height;
    unsigned column = 1;
    char end[64];
    size_t length;
    unsigned room;

    length = print_to(end, sizeof(end), "%u failed   %lu:%02u", story->failed,
                      (unsigned long)(facts->seconds / 60), (unsigned)(facts->seconds % 60));
    room = screen->columns - (unsigned)length - STORY_NAME - 6;
    column += screen_put_format(screen, 0, column, (unsigned)min_u64(room, 40), COLOUR_TEXT,
                                "Faultline %s", story->version) +
              3;
    if (story->now.name[0] != '\0')
        column += screen_put(screen, 0, column, STORY_NAME, COLOUR_BLUE, story->now.name) + 2;
    screen_put(screen, 0, screen->columns - 1 - (unsigned)length, (unsigned)length,
               story->failed > 0 ? COLOUR_BAD : COLOUR_GOOD, end);
    if (story->now.planned > 0 && column + length + 2 < screen->columns)
        screen_put_format(screen, 0, column, screen->columns - column - (unsigned)length - 2,
                          COLOUR_TEXT, "%u of %u, check %u of %u", story->done + 1, story->planned,
                          story->now.done, story->now.planned);
    screen_ground(screen, 0, 0, screen->columns, COLOUR_BAR);
    if (story->planned > 0)
        progress = (uint32_t)((uint64_t)screen->pixels.width * story->done / story->planned);
    if (progress == screen->progress)
        return;
    screen_fill(screen, 0, y, progress, progress_height(screen),
                story->failed > 0 ? COLOUR_BAD : COLOUR_GOOD);
    screen_fill(screen, progress, y, screen->pixels.width - progress, progress_height(screen),
                COLOUR_LINE);
    screen_fill_bar(screen);
    screen->progress = progress;
}

static const char *outcome_word(enum story_outcome outcome)
{
    return outcome == STORY_PASSED ? "ok" : outcome == STORY_FAILED ? "NO" : "--";
}

static enum colour outcome_colour(enum story_outcome outcome)
{
    return outcome == STORY_PASSED   ? COLOUR_GOOD
           : outcome == STORY_FAILED ? COLOUR_BAD
                                     : COLOUR_DIM;
}

/* Writes the last checks of the experiment that runs; returns the next row. */
static unsigned put_checks(struct screen *screen, const struct story *story, unsigned row,
                           unsigned column, unsigned width, unsigned end)
{
    unsigned kept = (unsigned)min_u64(min_u64(story->checks_seen, STORY_CHECKS), end - row);

    for (unsigned i = story->checks_seen - kept; i < story->checks_seen; i++, row++) {
        const struct story_check *check = &story->checks[i % STORY_CHECKS];

        screen_put(screen, row, column, 2, outcome_colour(check->outcome),
                   outcome_word(check->outcome));
        screen_put_format(screen, row, column + 3, width - 3, COLOUR_DIM, "%u %s", check->number,
                          check->text);
    }
    return row;
}

/* Writes question, last answers, checks and the next experiments in [row, end). */
static void put_story(struct screen *screen, const struct story *story,
                      const struct screen_facts *facts, unsigned row, unsigned end, unsigned column,
                      unsigned heads)
{
    unsigned width = screen->columns - column - 1;
    unsigned kept = (unsigned)min_u64(story->heads_seen, heads);
    unsigned used;

    row += screen_put_wrapped(screen, row, column, width, 3, COLOUR_TEXT, story->now.question);
    if (heads > 0)
        row++;
    for (unsigned i = story->heads_seen - kept; i < story->heads_seen && row + 4 < end; i++) {
        const struct story_head *head = &story->heads[i % STORY_HEADS];

        screen_put(screen, row, column, 2, outcome_colour(head->outcome),
                   outcome_word(head->outcome));
        screen_put_format(screen, row++, column + 3, width - 3, COLOUR_TEXT, "%u %s", head->number,
                          head->name);
        row += screen_put_wrapped(screen, row, column + 3, width - 3, 3, COLOUR_DIM, head->text);
        row++;
    }
    if (story->now.name[0] != '\0' && heads > 0 && row + 1 < end)
        screen_put_format(screen, row++, column, width, COLOUR_BLUE, "%u %s", story->done + 1,
                          story->now.name);
    if (row + 2 < end)
        row = put_checks(screen, story, row, column, width, end - 2);
    else if (row < end)
        row = put_checks(screen, story, row, column, width, end);
    if (facts->next[0] != '\0' && row + 1 < end) {
        screen_put(screen, end - 1, column, 4, COLOUR_DIM, "next");
        used = column + 6 +
               screen_put(screen, end - 1, column + 6, width - 6, COLOUR_DIM, facts->next);
        if (screen->wanted[end - 1][used - 1].letter == ',')
            screen->wanted[end - 1][used - 1].letter = ' ';
    }
}

void screen_draw_run(struct screen *screen, const struct story *story,
                     const struct screen_facts *facts)
{
    struct run_layout at = lay_out(screen, facts);
    unsigned last = screen->rows - 1;

    screen_begin_picture(screen, SCREEN_RUNNING);
    screen_blank(screen);
    put_headings(screen, &at, facts);
    put_legend(screen, &at);
    put_all_figures(screen, &at, facts);
    draw_strip(screen, &at, facts);
    if (at.right != 0)
        put_story(screen, story, facts, BAR_ROWS, last - 1, at.right, STORY_HEADS);
    else if (at.figures_row + FIGURE_ROWS + 2 < last)
        put_story(screen, story, facts, at.figures_row + FIGURE_ROWS + 1, last, 1, 0);
    else if (at.figures_row + FIGURE_ROWS < last)
        put_story(screen, story, facts, at.figures_row + FIGURE_ROWS, last, 1, 0);
    if (facts->keys != NULL)
        screen_put(screen, last, at.right != 0 ? at.right : 1, screen->columns, COLOUR_DIM,
                   facts->paused ? "paused: p goes on, space goes on to the next check"
                                 : facts->keys);
    if (at.right != 0 && screen->progress == UINT32_MAX)
        screen_fill(screen, at.right * screen->font->width - screen->font->width,
                    screen->font->height + progress_height(screen), 1, screen->pixels.height,
                    COLOUR_LINE);
    put_bar(screen, story, facts);
    screen_show(screen);
    draw_cells(screen, &at, at.memory_row + 1, facts->memory, screen->memory, facts->memory_cells);
    draw_cells(screen, &at, at.swap_row + 1, facts->swap, screen->swap, facts->swap_cells);
}
