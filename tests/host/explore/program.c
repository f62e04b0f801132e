/* Programs: their text. */
#include "tests/host/explore/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"

/* Longest text of one operation. */
#define WORD_MAX 40U

/* The space of an operation that names none. */
#define OWN_SPACE 254U

/* Parses the part after an operation's name, such as "/1", "@64" and "+8". */
static bool parse_places(const char *text, struct operation *operation)
{
    while (*text != '\0') {
        char sign = *text++;
        char *end;
        uint64_t value = strtoull(text, &end, 0);

        if (end == text)
            return false;
        text = end;
        if (sign == '/' && value < SPACES_OF_TEST)
            operation->space = (unsigned)value;
        else if (sign == '@')
            operation->at = PROGRAM_BASE + value * PAGE_SIZE;
        else if (sign == '+')
            operation->size = value * PAGE_SIZE;
        else
            return false;
    }
    return true;
}

static bool parse_operation(const char *word, struct operation *operation)
{
    char name[WORD_MAX];
    size_t length = strcspn(word, "/@+");

    snprintf(name, sizeof(name), "%.*s", (int)length, word);
    operation->kind = operation_find(name);
    if (operation->kind == NULL)
        return false;
    operation->space = OWN_SPACE;
    operation->at = PROGRAM_BASE;
    operation->size = operation->kind->pages * PAGE_SIZE;
    return parse_places(word + length, operation);
}

static bool parse_word(const char *word, struct program *program)
{
    if (strncmp(word, "in=", 3) == 0) {
        program->runs_in = word[3] == '-' ? NO_SPACE : (unsigned)atoi(word + 3);
        return program->runs_in == NO_SPACE || program->runs_in < SPACES_OF_TEST;
    }
    return program->count < OPERATIONS_MAX &&
           parse_operation(word, &program->operations[program->count++]);
}

bool program_parse(const char *text, struct program *program, char *wrong, size_t size)
{
    memset(program, 0, sizeof(*program));
    while (*text != '\0') {
        size_t length = strcspn(text, ",;");

        snprintf(wrong, size, "%.*s", (int)length, text);
        if (!parse_word(wrong, program))
            return false;
        text += length;
        if (*text == ';')
            program->prepared = program->count;
        text += *text != '\0';
    }
    for (unsigned i = 0; i < program->count; i++) {
        struct operation *operation = &program->operations[i];

        if (operation->space == OWN_SPACE)
            operation->space = program->runs_in == NO_SPACE ? 0 : program->runs_in;
    }
    return true;
}

struct result program_perform(const struct program *program, unsigned i, unsigned processor,
                              uint64_t value)
{
    const struct operation *operation = &program->operations[i];

    return operation->kind->perform(&(struct call){.operation = operation,
                                                   .space = program_spaces[operation->space],
                                                   .processor = processor,
                                                   .value = value});
}
