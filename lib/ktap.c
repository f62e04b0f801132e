/* The log as KTAP version 1. */
#include "lib/ktap.h"

#include <stdarg.h>
#include <stddef.h>

#include "lib/print.h"

/* A note up to this size is printed by one call, so that a note of another thread, as on a disk
 * error, cannot be in the middle of it. */
#define NOTE_SIZE 384

static struct {
    unsigned planned; /* experiments */
    unsigned finished;
    unsigned passed;
    unsigned failed;
    unsigned skipped;
    unsigned checks_passed;
    unsigned checks_failed;
    unsigned checks_skipped;
    unsigned failures; /* outside of experiments */
    bool open;         /* between begin and end */
    struct {
        const char *name; /* NULL: no suite is open */
        unsigned planned;
        unsigned done;
        unsigned failed;
        unsigned skipped;
    } suite;
} the_log;

static uint64_t progress;

static const char *const verdict_names[] = {"pass", "fail", "crash", "skipped"};

static void note_progress(void)
{
    __atomic_add_fetch(&progress, 1, __ATOMIC_RELAXED);
}

uint64_t ktap_progress(void)
{
    return __atomic_load_n(&progress, __ATOMIC_RELAXED);
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
    note_progress();
    CHECK(the_log.open && the_log.suite.name == NULL && checks > 0);
    the_log.suite.name = name;
    the_log.suite.planned = checks;
    the_log.suite.done = the_log.suite.failed = the_log.suite.skipped = 0;
    print("    KTAP version 1\n    1..%u\n", checks);
}

void ktap_suite_end(void)
{
    bool ok;

    note_progress();
    CHECK(the_log.suite.name != NULL);
    if (the_log.suite.done != the_log.suite.planned)
        print("    # planned %u checks, made %u\n", the_log.suite.planned, the_log.suite.done);
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

    note_progress();
    CHECK(the_log.suite.name != NULL);
    the_log.suite.done++;
    if (ok) {
        the_log.checks_passed++;
    } else {
        the_log.suite.failed++;
        the_log.checks_failed++;
    }
    print("    %sok %u ", ok ? "" : "not ", the_log.suite.done);
    va_start(arguments, format);
    print_va(format, arguments);
    va_end(arguments);
    print("\n");
    return ok;
}

void ktap_skip(const char *reason, const char *format, ...)
{
    va_list arguments;

    note_progress();
    CHECK(the_log.suite.name != NULL);
    the_log.suite.done++;
    the_log.suite.skipped++;
    the_log.checks_skipped++;
    print("    ok %u ", the_log.suite.done);
    va_start(arguments, format);
    print_va(format, arguments);
    va_end(arguments);
    print(" # SKIP %s\n", reason);
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

    note_progress();
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

void ktap_metric(const char *name, uint64_t value, const char *unit)
{
    note_progress();
    CHECK(the_log.suite.name != NULL);
    print("    # metric %s.%s=%lu %s\n", the_log.suite.name, name, value, unit);
}

void ktap_fail(const char *format, ...)
{
    va_list arguments;

    note_progress();
    CHECK(the_log.open && the_log.suite.name == NULL);
    the_log.failures++;
    print("# failure: ");
    va_start(arguments, format);
    print_va(format, arguments);
    va_end(arguments);
    print("\n");
}

enum verdict ktap_verdict(void)
{
    if (the_log.failed > 0 || the_log.failures > 0 ||
        (the_log.suite.name != NULL && the_log.suite.failed > 0))
        return VERDICT_FAIL;
    return the_log.passed > 0 ? VERDICT_PASS : VERDICT_SKIPPED;
}

enum verdict ktap_end(void)
{
    enum verdict verdict = ktap_verdict();

    CHECK(the_log.open && the_log.suite.name == NULL);
    if (the_log.finished != the_log.planned) {
        print("# planned %u experiments, ran %u\n", the_log.planned, the_log.finished);
        verdict = VERDICT_FAIL;
    }
    print("# totals: experiments pass:%u fail:%u skip:%u\n", the_log.passed, the_log.failed,
          the_log.skipped);
    print("# totals: checks pass:%u fail:%u skip:%u\n", the_log.checks_passed,
          the_log.checks_failed, the_log.checks_skipped);
    print("# verdict: %s\n", verdict_names[verdict]);
    the_log.open = false;
    return verdict;
}

void ktap_bail_out(enum verdict verdict, const char *format, ...)
{
    va_list arguments;

    CHECK(verdict <= VERDICT_SKIPPED);
    print("Bail out! ");
    va_start(arguments, format);
    print_va(format, arguments);
    va_end(arguments);
    print("\n# verdict: %s\n", verdict_names[verdict]);
    the_log.open = false;
    the_log.suite.name = NULL;
}
