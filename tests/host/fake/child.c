/* A piece of a test in a process of its own. */
#include "tests/host/fake/child.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/print.h"
#include "tests/host/fake/machine.h"

static struct child_end *end;

static void keep(struct print_sink *sink, const char *text, size_t size)
{
    (void)sink;
    if (size > CHILD_OUTPUT - 1 - end->length)
        size = CHILD_OUTPUT - 1 - end->length;
    memcpy(end->output + end->length, text, size);
    end->length += size;
}

static _Noreturn void be_child(void (*body)(void *context), void *context)
{
    static struct print_sink sink = {.write = keep};

    print_attach(&sink);
    end->panicked = PANICS(body(context)) != 0;
    if (end->panicked)
        memcpy(end->panic, fake_panic_message, sizeof(end->panic));
    _exit(0);
}

const struct child_end *child_run(void (*body)(void *context), void *context)
{
    pid_t child;
    int status = -1;

    if (end == NULL)
        end = mmap(NULL, sizeof(*end), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(end != MAP_FAILED);
    memset(end, 0, sizeof(*end));
    fflush(NULL);
    child = fork();
    if (child == 0)
        be_child(body, context);
    CHECK_MSG(child > 0 && waitpid(child, &status, 0) == child && status == 0,
              "the child ended with status %d after: %s", status, end->output);
    return end;
}

unsigned child_count_panics(void (*const bodies[])(void *context), unsigned count)
{
    unsigned panics = 0;

    while (panics < count && child_run(bodies[panics], NULL)->panicked)
        panics++;
    return panics;
}
