/* The story of a run, from the lines of its log. */
#include "lib/bytes.h"
#include "lib/print.h"
#include "tests/screen/screen.h"

/* Returns the text behind a beginning, or NULL if the line begins otherwise. */
static const char *text_after(const char *line, const char *beginning)
{
    size_t length = strlen(beginning);

    return strncmp(line, beginning, length) == 0 ? line + length : NULL;
}

/* Copies a text, cut to the size. */
static void story_keep(char *to, size_t size, const char *text)
{
    print_to(to, size, "%s", text);
}

static const char *read_unsigned(const char *text, unsigned *value)
{
    *value = 0;
    while (*text >= '0' && *text <= '9')
        *value = *value * 10 + (unsigned)(*text++ - '0');
    return *text == ' ' ? text + 1 : text;
}

/* Cuts a text at a mark, and returns the rest behind it; NULL if the mark is not there. */
static char *cut_at(char *text, const char *mark)
{
    size_t length = strlen(mark);

    for (size_t i = 0; text[i] != '\0'; i++) {
        if (strncmp(text + i, mark, length) == 0) {
            text[i] = '\0';
            return text + i + length;
        }
    }
    return NULL;
}

static void add_reason(struct story *story, const char *text)
{
    for (unsigned i = 0; i < story->reasons; i++) {
        if (strcmp(story->reason[i].text, text) == 0) {
            story->reason[i].checks++;
            return;
        }
    }
    if (story->reasons == STORY_REASONS)
        return;
    story_keep(story->reason[story->reasons].text, STORY_TEXT, text);
    story->reason[story->reasons++].checks = 1;
}

static struct story_failure *story_add_failure(struct story *story, const char *name)
{
    struct story_failure *failure;

    if (story->failures++ >= STORY_FAILURES)
        return NULL;
    failure = &story->failure[story->failures - 1];
    *failure = (struct story_failure){.check = 0};
    story_keep(failure->name, sizeof(failure->name), name);
    return failure;
}

/* Takes in the line of a check, such as "ok 3 text # SKIP reason". */
static void take_check(struct story *story, const char *line, bool ok)
{
    struct story_check *check = &story->checks[story->checks_seen++ % STORY_CHECKS];
    struct story_failure *failure;
    char text[STORY_LINE];
    const char *reason;

    story_keep(text, sizeof(text), read_unsigned(line, &check->number));
    reason = cut_at(text, " # SKIP ");
    story_keep(check->text, sizeof(check->text), text);
    check->outcome = !ok ? STORY_FAILED : reason != NULL ? STORY_SKIPPED : STORY_PASSED;
    story->now.done++;
    if (!ok) {
        story->checks_failed++;
        if (story->now.failed++ == 0 &&
            (failure = story_add_failure(story, story->now.name)) != NULL) {
            failure->check = check->number;
            failure->checks = story->now.planned;
            story_keep(failure->text, sizeof(failure->text), text);
        }
    } else if (reason != NULL) {
        story->checks_skipped++;
        story->now.skipped++;
        add_reason(story, reason);
    } else {
        story->checks_passed++;
    }
}

/* Takes in the last line of an experiment. */
static void take_experiment(struct story *story, const char *line, bool ok)
{
    struct story_head *head = &story->heads[story->heads_seen++ % STORY_HEADS];
    struct story_failure *failure;
    struct story_result *result;
    char name[STORY_LINE];
    const char *reason;

    story_keep(name, sizeof(name), read_unsigned(line, &head->number));
    reason = cut_at(name, " # SKIP ");
    head->outcome = !ok ? STORY_FAILED : reason != NULL ? STORY_SKIPPED : STORY_PASSED;
    story_keep(head->name, sizeof(head->name), name);
    story_keep(head->text, sizeof(head->text),
               reason != NULL && story->now.head[0] == '\0' ? reason : story->now.head);
    story->done++;
    story->failed += !ok;
    story->skipped += head->outcome == STORY_SKIPPED;
    if (!ok && story->now.failed == 0 && (failure = story_add_failure(story, name)) != NULL)
        print_to(failure->text, sizeof(failure->text), "planned %u checks, made %u",
                 story->now.planned, story->now.done);
    if (story->results < STORY_RESULTS) {
        result = &story->result[story->results++];
        story_keep(result->name, sizeof(result->name), name);
        result->outcome = head->outcome;
        result->skipped = story->now.skipped;
        result->checks = story->now.done - story->now.skipped;
    }
    memset(&story->now, 0, sizeof(story->now));
}

/* Takes in a note of the running experiment. */
static void take_inner_note(struct story *story, const char *note)
{
    const char *text = text_after(note, "answer: ");
    char *end;

    if (text != NULL) {
        story_keep(story->now.head, sizeof(story->now.head), text);
        cut_at(story->now.head, ";");
        end = story->now.head + strlen(story->now.head);
        if (end > story->now.head && end[-1] == '.')
            end[-1] = '\0';
    } else if (!story->now.has_question && text_after(note, "metric ") == NULL) {
        story_keep(story->now.question, sizeof(story->now.question), note);
        story->now.has_question = true;
    }
}

static void take_inner(struct story *story, const char *line)
{
    const char *rest;

    if ((rest = text_after(line, "ok ")) != NULL)
        take_check(story, rest, true);
    else if ((rest = text_after(line, "not ok ")) != NULL)
        take_check(story, rest, false);
    else if ((rest = text_after(line, "# ")) != NULL)
        take_inner_note(story, rest);
    else if ((rest = text_after(line, "1..")) != NULL)
        read_unsigned(rest, &story->now.planned);
    else if (text_after(line, "KTAP ") != NULL)
        story->checks_seen = 0;
}

/* Takes in a note outside of all experiments. */
static void take_note(struct story *story, const char *note)
{
    struct story_failure *failure;
    const char *rest;

    if ((rest = text_after(note, "Faultline ")) != NULL) {
        story_keep(story->version, sizeof(story->version), rest);
    } else if ((rest = text_after(note, "seed: ")) != NULL) {
        story_keep(story->seed, sizeof(story->seed), rest);
    } else if ((rest = text_after(note, "processor: ")) != NULL) {
        story_keep(story->machine, sizeof(story->machine), rest);
        cut_at(story->machine, ",");
        cut_at(story->machine, " version");
    } else if ((rest = text_after(note, "verdict: ")) != NULL) {
        story_keep(story->verdict, sizeof(story->verdict), rest);
    } else if ((rest = text_after(note, "failure: ")) != NULL &&
               (failure = story_add_failure(story, "the run")) != NULL) {
        story_keep(failure->text, sizeof(failure->text), rest);
    }
}

static void story_line(struct story *story)
{
    const char *line = story->line;
    const char *rest;

    story->lines++;
    if ((rest = text_after(line, "    ")) != NULL)
        take_inner(story, rest);
    else if ((rest = text_after(line, "ok ")) != NULL)
        take_experiment(story, rest, true);
    else if ((rest = text_after(line, "not ok ")) != NULL)
        take_experiment(story, rest, false);
    else if ((rest = text_after(line, "1..")) != NULL)
        read_unsigned(rest, &story->planned);
    else if ((rest = text_after(line, "Bail out! ")) != NULL)
        story_keep(story->bail_out, sizeof(story->bail_out), rest);
    else if ((rest = text_after(line, "# ")) != NULL)
        take_note(story, rest);
}

void story_add(struct story *story, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        size_t length = story->length;

        if (text[i] == '\n') {
            story->line[length < STORY_LINE ? length : STORY_LINE - 1] = '\0';
            story_line(story);
            story->length = 0;
        } else if (length < STORY_LINE - 1) {
            story->line[length] = text[i];
            story->length = length + 1;
        }
    }
}

void story_begin(struct story *story, const char *name)
{
    story_keep(story->now.name, sizeof(story->now.name), name);
}
