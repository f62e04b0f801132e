/* The log as KTAP version 1. */
#include "lib/ktap.h"

#include <stdarg.h>
#include <stddef.h>

#include "lib/bytes.h"
#include "lib/print.h"

/* A note up to this size is printed by one call, so that a note of another thread, as on a disk
 * error, cannot be in the middle of it. */
#define NOTE_SIZE 384
/* Failures that the end of the log names; more are counted only. */
#define FAILURES_MAX      64U
#define FAILURE_TEXT_SIZE 120U
/* Figures of one experiment that an answer can use; later ones are printed only. */
#define FIGURES_MAX      512U
#define FIGURE_NAME_SIZE 48U
#define REASON_SIZE      100U

/* The first failed check of an experiment, or a failure of the run itself. */
struct failure {
    const char *name; /* the experiment's, or NULL: the run */
    unsigned check;   /* its number; 0: no check failed */
    unsigned more;    /* failed checks of the experiment after this one */
    char text[FAILURE_TEXT_SIZE];
};

struct figure {
    char name[FIGURE_NAME_SIZE];
    const char *unit;
    uint64_t value;
};

static struct {
    unsigned planned; /* experiments */
    unsigned finished;
    unsigned passed;
    unsigned failed;
    unsigned skipped;
    unsigned checks_passed;
    unsigned checks_failed;
    unsigned checks_skipped;
    bool open; /* between begin and end */
    bool run_failed;
    unsigned failures;
    struct failure failure[FAILURES_MAX];
    struct {
        const char *name; /* NULL: no suite is open */
        unsigned planned;
        unsigned done;
        unsigned failed;
        unsigned skipped;
        char skip_reason[REASON_SIZE];
        unsigned figures;
        struct figure figure[FIGURES_MAX];
    } suite;
    uint64_t ticks_per_instruction; /* 0: ticks are time */
} the_log;

static uint64_t progress;
static void (*ktap_watcher)(void);

static const char *const verdict_names[] = {"pass", "fail", "crash", "skipped"};

/* Remembers a failure for the end of the log. Line breaks in the text are the caller's mistake. */
static void add_failure(const char *name, unsigned check, const char *format, va_list arguments)
{
    struct failure *failure;

    if (the_log.failures++ >= FAILURES_MAX)
        return;
    failure = &the_log.failure[the_log.failures - 1];
    *failure = (struct failure){.name = name, .check = check};
    print_to_va(failure->text, sizeof(failure->text), format, arguments);
}

static void add_failed_plan(const char *format, ...) PRINTF_LIKE(1, 2);

static void add_failed_plan(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    add_failure(the_log.suite.name, 0, format, arguments);
    va_end(arguments);
}

static void print_failures(void)
{
    unsigned kept = the_log.failures < FAILURES_MAX ? the_log.failures : FAILURES_MAX;

    for (unsigned i = 0; i < kept; i++) {
        const struct failure *failure = &the_log.failure[i];

        print("# failed: %s: ", failure->name != NULL ? failure->name : "the run");
        if (failure->check != 0)
            print("check %u: ", failure->check);
        print("%s", failure->text);
        if (failure->more > 0)
            print("; and %u more", failure->more);
        print("\n");
    }
    if (kept < the_log.failures)
        print("# failed: %u more\n", the_log.failures - kept);
}

void progress_note(void)
{
    __atomic_add_fetch(&progress, 1, __ATOMIC_RELAXED);
}

uint64_t progress_count(void)
{
    return __atomic_load_n(&progress, __ATOMIC_RELAXED);
}

void ktap_watch(void (*watcher)(void))
{
    ktap_watcher = watcher;
}

static void call_watcher(void)
{
    if (ktap_watcher != NULL)
        ktap_watcher();
}

void ktap_begin(void)
{
    CHECK(!the_log.open);
    the_log.open = true;
    print("KTAP version 1\n");
}

void ktap_plan(unsigned experiments)
{
    CHECK(the_log.open && the_log.suite.name == NULL && the_log.finished == 0);
    the_log.planned = experiments;
    print("1..%u\n", experiments);
}

void ktap_suite_begin(const char *name, unsigned checks)
{
    progress_note();
    CHECK(the_log.open && the_log.suite.name == NULL && checks > 0);
    the_log.suite.name = name;
    the_log.suite.planned = checks;
    the_log.suite.done = the_log.suite.failed = the_log.suite.skipped = 0;
    the_log.suite.figures = 0;
    print("    KTAP version 1\n    1..%u\n", checks);
    call_watcher();
}

void ktap_suite_end(void)
{
    bool ok;

    progress_note();
    CHECK(the_log.suite.name != NULL);
    if (the_log.suite.done != the_log.suite.planned)
        print("    # planned %u checks, made %u\n", the_log.suite.planned, the_log.suite.done);
    if (the_log.suite.done != the_log.suite.planned && the_log.suite.failed == 0)
        add_failed_plan("planned %u checks, made %u", the_log.suite.planned, the_log.suite.done);
    ok = the_log.suite.failed == 0 && the_log.suite.done == the_log.suite.planned;
    the_log.finished++;
    if (ok && the_log.suite.skipped == the_log.suite.planned) {
        the_log.skipped++;
        print("ok %u %s # SKIP every check was skipped\n", the_log.finished, the_log.suite.name);
    } else {
        *(ok ? &the_log.passed : &the_log.failed) += 1;
        print("%sok %u %s\n", ok ? "" : "not ", the_log.finished, the_log.suite.name);
    }
    the_log.suite.name = NULL;
    call_watcher();
}

void ktap_suite_skip(const char *name, const char *reason)
{
    CHECK(the_log.open && the_log.suite.name == NULL);
    the_log.finished++;
    the_log.skipped++;
    print("ok %u %s # SKIP %s\n", the_log.finished, name, reason);
}

bool ktap_check(bool ok, const char *format, ...)
{
    va_list arguments;

    progress_note();
    CHECK(the_log.suite.name != NULL);
    the_log.suite.done++;
    if (ok) {
        the_log.checks_passed++;
    } else {
        the_log.checks_failed++;
        if (the_log.suite.failed++ == 0) {
            va_start(arguments, format);
            add_failure(the_log.suite.name, the_log.suite.done, format, arguments);
            va_end(arguments);
        } else if (the_log.failures <= FAILURES_MAX) {
            the_log.failure[the_log.failures - 1].more++;
        }
    }
    print("    %sok %u ", ok ? "" : "not ", the_log.suite.done);
    va_start(arguments, format);
    print_va(format, arguments);
    va_end(arguments);
    print("\n");
    call_watcher();
    return ok;
}

void ktap_skip(const char *reason, const char *format, ...)
{
    va_list arguments;

    progress_note();
    CHECK(the_log.suite.name != NULL);
    the_log.suite.done++;
    if (the_log.suite.skipped++ == 0)
        print_to(the_log.suite.skip_reason, REASON_SIZE, "%s", reason);
    the_log.checks_skipped++;
    print("    ok %u ", the_log.suite.done);
    va_start(arguments, format);
    print_va(format, arguments);
    va_end(arguments);
    print(" # SKIP %s\n", reason);
    call_watcher();
}

unsigned ktap_checks_left(void)
{
    CHECK(the_log.suite.name != NULL);
    if (the_log.suite.done >= the_log.suite.planned)
        return 0;
    return the_log.suite.planned - the_log.suite.done;
}

void ktap_note(const char *format, ...)
{
    const char *indent = the_log.suite.name != NULL ? "    " : "";
    char text[NOTE_SIZE];
    va_list arguments;
    size_t length;

    progress_note();
    va_start(arguments, format);
    length = print_to_va(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (length < sizeof(text)) {
        print("%s# %s\n", indent, text);
        return;
    }
    print("%s# ", indent);
    va_start(arguments, format);
    print_va(format, arguments);
    va_end(arguments);
    print("\n");
}

void ktap_count_instructions(uint64_t ticks_per_instruction)
{
    the_log.ticks_per_instruction = ticks_per_instruction;
}

bool ktap_counts_instructions(void)
{
    return the_log.ticks_per_instruction != 0;
}

void ktap_metric(const char *name, uint64_t value, const char *unit)
{
    uint64_t per_instruction = the_log.ticks_per_instruction;
    struct figure *figure;

    progress_note();
    CHECK(the_log.suite.name != NULL);
    if (per_instruction != 0 && strcmp(unit, "ticks") == 0) {
        value = (value + per_instruction / 2) / per_instruction;
        unit = "instructions";
    }
    print("    # metric %s.%s=%lu %s\n", the_log.suite.name, name, value, unit);
    if (the_log.suite.figures == FIGURES_MAX)
        return;
    figure = &the_log.suite.figure[the_log.suite.figures++];
    print_to(figure->name, FIGURE_NAME_SIZE, "%s", name);
    figure->value = value;
    figure->unit = unit;
}

void ktap_metric_hundredths(const char *name, uint64_t hundredths, const char *unit)
{
    progress_note();
    CHECK(the_log.suite.name != NULL);
    print("    # metric %s.%s=%lu.%02u %s\n", the_log.suite.name, name, hundredths / 100,
          (unsigned)(hundredths % 100), unit);
}

bool ktap_figure(const char *name, size_t length, uint64_t *value, const char **unit)
{
    for (unsigned i = 0; i < the_log.suite.figures; i++) {
        const struct figure *figure = &the_log.suite.figure[i];

        if (length < FIGURE_NAME_SIZE && memcmp(figure->name, name, length) == 0 &&
            figure->name[length] == '\0') {
            *value = figure->value;
            *unit = figure->unit;
            return true;
        }
    }
    return false;
}

const char *ktap_skip_reason(void)
{
    return the_log.suite.skipped > 0 ? the_log.suite.skip_reason : NULL;
}

unsigned ktap_checks_made(void)
{
    return the_log.suite.done - the_log.suite.skipped;
}

bool ktap_suite_ok(void)
{
    return the_log.suite.failed == 0 && the_log.suite.done == the_log.suite.planned;
}

void ktap_fail(const char *format, ...)
{
    va_list arguments;

    progress_note();
    CHECK(the_log.open && the_log.suite.name == NULL);
    the_log.run_failed = true;
    va_start(arguments, format);
    add_failure(NULL, 0, format, arguments);
    va_end(arguments);
    print("# failure: ");
    va_start(arguments, format);
    print_va(format, arguments);
    va_end(arguments);
    print("\n");
}

const char *ktap_suite(void)
{
    return the_log.suite.name;
}

enum verdict ktap_verdict(void)
{
    if (the_log.run_failed || the_log.failed > 0 ||
        (the_log.suite.name != NULL && the_log.suite.failed > 0))
        return VERDICT_FAIL;
    return the_log.passed > 0 ? VERDICT_PASS : VERDICT_SKIPPED;
}

void ktap_forget(void)
{
    uint64_t ticks = the_log.ticks_per_instruction;

    CHECK(!the_log.open);
    memset(&the_log, 0, sizeof(the_log));
    the_log.ticks_per_instruction = ticks;
}

static void end_log(void)
{
    the_log.open = false;
    if (!print_has_line_start())
        print_set_line_start(KTAP_AFTER_END);
}

static void require_plan(void)
{
    CHECK(the_log.open && the_log.suite.name == NULL);
    if (the_log.finished != the_log.planned)
        ktap_fail("planned %u experiments, ran %u", the_log.planned, the_log.finished);
    the_log.planned = the_log.finished;
}

static void print_end(enum verdict verdict)
{
    print_failures();
    print("# totals: experiments pass:%u fail:%u skip:%u\n", the_log.passed, the_log.failed,
          the_log.skipped);
    print("# totals: checks pass:%u fail:%u skip:%u\n", the_log.checks_passed,
          the_log.checks_failed, the_log.checks_skipped);
    print("# verdict: %s\n", verdict_names[verdict]);
}

void ktap_rehearse_end(struct print_sink *sink)
{
    require_plan();
    print_divert(sink);
    print_end(ktap_verdict());
    print_divert(NULL);
}

enum verdict ktap_end(void)
{
    enum verdict verdict;

    require_plan();
    verdict = ktap_verdict();
    print_end(verdict);
    end_log();
    return verdict;
}

void ktap_bail_out(enum verdict verdict, const char *format, ...)
{
    const char *name = the_log.suite.name;
    va_list arguments;

    CHECK(verdict <= VERDICT_SKIPPED);
    /* A crash in the lines below comes back here: it must not read the name again. */
    the_log.suite.name = NULL;
    if (name != NULL)
        print("# experiment: %s, after %u of %u checks\n", name, the_log.suite.done,
              the_log.suite.planned);
    print_failures();
    print("Bail out! ");
    va_start(arguments, format);
    print_va(format, arguments);
    va_end(arguments);
    print("\n# verdict: %s\n", verdict_names[verdict]);
    end_log();
}
