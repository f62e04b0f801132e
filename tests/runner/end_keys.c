/* Keys at the end of a run. */
#include "tests/runner/end_keys.h"

#include "cpu/smp/thread.h"
#include "efi/console/keys.h"
#include "efi/end_run.h"
#include "efi/log/kept_log.h"
#include "lib/bytes.h"
#include "tests/runner/display.h"

#define LOOK_US 20000U

/* Pages whose start is kept, to page back. */
#define PAGES_BACK 1024U

#define ANSWERS_SIZE 32768U

static int wait_for_key(void)
{
    int key = keys_read();

    while (key == KEY_NONE) {
        thread_sleep_us(LOOK_US);
        key = keys_read();
    }
    return key;
}

/* Shows a text page by page until a key leaves it. */
static void show_pages(const char *title, const char *text, size_t size)
{
    static size_t starts[PAGES_BACK];
    unsigned page = 0;
    int key;

    starts[0] = 0;
    do {
        size_t next = display_page(title, text, size, starts[page]);

        key = wait_for_key();
        if ((key == ' ' || key == '\n' || key == KEY_DOWN || key == KEY_PAGE_DOWN) && next < size &&
            page + 1 < PAGES_BACK)
            starts[++page] = next;
        else if ((key == 'b' || key == KEY_UP || key == KEY_PAGE_UP) && page > 0)
            page--;
        else if (key == KEY_HOME)
            page = 0;
        while (key == KEY_END && next < size && page + 1 < PAGES_BACK) {
            starts[++page] = next;
            next = display_page(title, text, size, starts[page]);
        }
    } while (key != 'q' && key != 'l' && key != 'a');
    display_end_again();
}

/* Returns whether a line of the log belongs to the answers, and how many blanks to leave out. */
static bool belongs_to_answers(const char *line, size_t length, bool question)
{
    static const char *const beginnings[] = {"    # answer: ", "    # shipped: ", "    # limit: "};

    if (length > 3 && (strncmp(line, "ok ", 3) == 0 || strncmp(line, "not ok ", 7) == 0))
        return true;
    for (unsigned i = 0; i < ARRAY_COUNT(beginnings); i++) {
        if (strncmp(line, beginnings[i], strlen(beginnings[i])) == 0)
            return true;
    }
    return question && strncmp(line, "    # ", 6) == 0;
}

/* Copies questions, answers and results of the log to a text of their own; returns its size. */
static size_t collect_answers(const char *text, size_t size, char *answers)
{
    bool question = false;
    size_t used = 0;

    for (size_t at = 0; at < size;) {
        size_t length = 0;

        while (at + length < size && text[at + length] != '\n')
            length++;
        if (belongs_to_answers(text + at, length, question) && used + length < ANSWERS_SIZE) {
            memcpy(answers + used, text + at, length);
            used += length;
            answers[used++] = '\n';
        }
        /* The first note of an experiment, behind its plan, is its question. */
        question = strncmp(text + at, "    1..", 7) == 0;
        at += length + 1;
    }
    return used;
}

void end_keys(void)
{
    static char answers[ANSWERS_SIZE + 1];
    const char *text;
    size_t size;

    if (!display_on() || !finish_halts() || !keys_present())
        return;
    text = kept_log_text(&size);
    for (;;) {
        switch (wait_for_key()) {
        case 'l': show_pages("The log", text, size); break;
        case 'a': show_pages("Answers", answers, collect_answers(text, size, answers)); break;
        case 'r': finish_choose(EXIT_REBOOT); return;
        case 'q': finish_choose(EXIT_POWEROFF); return;
        default: break;
        }
    }
}
