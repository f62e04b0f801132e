/* Prints the answer of an experiment from its figures. */
#include "tests/runner/answer.h"

#include <stddef.h>
#include <stdint.h>

#include "lib/bytes.h"
#include "lib/ktap.h"
#include "lib/print.h"

#define TEXT_SIZE 256U /* an answer has at most 160 letters; a longer one must reach the reader */
#define FROM_SIZE 384U

/* Instructions from here on are printed with three digits. */
#define ROUNDED_FROM 10000U

/* The check that the runner adds to each experiment; it proves no answer. */
#define RUNNER_CHECKS 1U

/* The sentence and the list of its figures, while they are put together. */
struct sentence {
    char text[TEXT_SIZE];
    size_t length;
    char from[FROM_SIZE];
    size_t from_length;
    const char *missing; /* the braces of the first figure that is missing */
};

static void answer_add(struct sentence *sentence, const char *text, size_t length)
{
    for (size_t i = 0; i < length && sentence->length + 1 < TEXT_SIZE; i++)
        sentence->text[sentence->length++] = text[i];
    sentence->text[sentence->length] = '\0';
}

static bool answer_lists(const struct sentence *sentence, const char *name, size_t length)
{
    const char *at = sentence->from;

    while (*at != '\0') {
        size_t word = 0;

        while (at[word] != '\0' && at[word] != ' ')
            word++;
        if (word == length && memcmp(at, name, length) == 0)
            return true;
        at += word + (at[word] == ' ');
    }
    return false;
}

static void answer_add_source(struct sentence *sentence, const char *name, size_t length)
{
    if (answer_lists(sentence, name, length) || sentence->from_length + length + 2 > FROM_SIZE)
        return;
    if (sentence->from_length > 0)
        sentence->from[sentence->from_length++] = ' ';
    memcpy(sentence->from + sentence->from_length, name, length);
    sentence->from_length += length;
    sentence->from[sentence->from_length] = '\0';
}

/* Rounds to three digits. */
static uint64_t answer_round(uint64_t value)
{
    uint64_t unit = 1;

    while (value / unit >= 1000)
        unit *= 10;
    return (value + unit / 2) / unit * unit;
}

/* Adds a number with commas: 1,048,576. */
static void answer_add_number(struct sentence *sentence, uint64_t value)
{
    char digits[24];
    size_t length = print_to(digits, sizeof(digits), "%lu", value);

    for (size_t i = 0; i < length; i++) {
        answer_add(sentence, digits + i, 1);
        if (i + 1 < length && (length - i - 1) % 3 == 0)
            answer_add(sentence, ",", 1);
    }
}

static void answer_add_quotient(struct sentence *sentence, uint64_t a, uint64_t b,
                                unsigned decimals)
{
    uint64_t scale = decimals == 2 ? 100 : decimals == 1 ? 10 : 1;
    uint64_t scaled = b == 0 ? 0 : (a * scale + b / 2) / b;
    char fraction[8];

    answer_add_number(sentence, scaled / scale);
    if (decimals == 0)
        return;
    print_to(fraction, sizeof(fraction), decimals == 2 ? ".%02u" : ".%u",
             (unsigned)(scaled % scale));
    answer_add(sentence, fraction, decimals + 1U);
}

/* Reads the name of a figure; moves the place behind it and the blanks that follow. */
static bool answer_read(struct sentence *sentence, const char **at, uint64_t *value,
                        const char **unit)
{
    const char *name = *at;
    size_t length = 0;

    while (name[length] != ' ' && name[length] != '}' && name[length] != '\0')
        length++;
    *at += length;
    while (**at == ' ')
        *at += 1;
    answer_add_source(sentence, name, length);
    return ktap_figure(name, length, value, unit);
}

/* Appends the text for a pair of braces; returns the position of the closing one. */
static const char *answer_add_figure(struct sentence *sentence, const char *inside)
{
    const char *at = inside;
    const char *unit = "";
    uint64_t a = 0;
    uint64_t b = 0;
    bool found = answer_read(sentence, &at, &a, &unit);
    char action = *at;

    if (action != '}') {
        at++;
        while (*at == ' ')
            at++;
        found &= answer_read(sentence, &at, &b, &unit);
    }
    if (!found && sentence->missing == NULL)
        sentence->missing = inside;
    a = action == '-' ? (a > b ? a - b : b - a) : action == '+' ? a + b : a;
    if (action == '/')
        answer_add_quotient(sentence, a, b, *at == ':' ? (unsigned)(at[2] - '0') : 0);
    else
        answer_add_number(
            sentence, strcmp(unit, "instructions") == 0 && a >= ROUNDED_FROM ? answer_round(a) : a);
    while (*at != '}' && *at != '\0')
        at++;
    return at;
}

static void answer_build(struct sentence *sentence, const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '{') {
            at = answer_add_figure(sentence, at + 1);
            if (*at == '\0')
                return;
        } else {
            answer_add(sentence, at, 1);
        }
    }
}

const char *answer_print(const struct answer *answer)
{
    bool counted = ktap_counts_instructions() && answer->counted != NULL;
    const char *reason = ktap_skip_reason();
    struct sentence sentence = {.length = 0};

    if (!ktap_suite_ok())
        return NULL;
    if (reason != NULL && ktap_checks_made() <= RUNNER_CHECKS) {
        ktap_note("answer: none; %s.", reason);
        return NULL;
    }
    if (!counted && answer->text == NULL) {
        ktap_note("answer: none; every figure of the answer is a cost, and ticks are time here.");
        return NULL;
    }
    answer_build(&sentence, counted ? answer->counted : answer->text);
    if (sentence.missing != NULL) {
        ktap_note("answer: none; %s.", reason != NULL ? reason : "a figure is missing");
        return reason != NULL ? NULL : sentence.missing;
    }
    ktap_note("answer: %s.", sentence.text);
    if (sentence.from_length > 0)
        ktap_note("from: %s", sentence.from);
    if (answer->shipped != NULL)
        ktap_note("shipped: %s", answer->shipped);
    if (answer->limit != NULL)
        ktap_note("limit: %s", answer->limit);
    return NULL;
}
