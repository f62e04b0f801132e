/* The log: whole logs as they are printed, verdicts, and misuse. Each log is a process's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/ktap.h"
#include "lib/print.h"
#include "lib/units.h"
#include "tests/host/fake/child.h"

static void assert_log(void (*body)(void *context), const char *expected)
{
    const struct child_end *end = child_run(body, NULL);

    if (end->panicked)
        fail_msg("panic: %s", end->panic);
    assert_string_equal(end->output, expected);
}

static void assert_panics(void (*body)(void *context))
{
    assert_true(child_run(body, NULL)->panicked);
}

static void begin_one(const char *name, unsigned checks)
{
    ktap_begin();
    ktap_plan(1);
    ktap_suite_begin(name, checks);
}

/* ---- figures ---- */

static void figures_run(void *context)
{
    const char *unit = "";
    uint64_t value = 0;

    (void)context;
    begin_one("cost", 2);
    ktap_metric("time", 804, "ticks");
    ktap_count_instructions(8);
    ktap_metric("fork", 804, "ticks");
    ktap_metric("pages", 9, "pages");
    ktap_metric_hundredths("of_floor", 1205, "floors");
    CHECK(ktap_figure("time", 4, &value, &unit) && value == 804 && strcmp(unit, "ticks") == 0);
    CHECK(ktap_figure("fork", 4, &value, &unit) && value == 101);
    CHECK(strcmp(unit, "instructions") == 0 && ktap_counts_instructions());
    CHECK(ktap_figure("pages of", 5, &value, &unit) && value == 9);
    CHECK(!ktap_figure("page", 4, &value, &unit) && !ktap_figure("pages.8m", 8, &value, &unit));
    CHECK(!ktap_figure("of_floor", 8, &value, &unit));
    CHECK(ktap_skip_reason() == NULL && !ktap_suite_ok());
    CHECK(ktap_check(true, "one"));
    ktap_skip("no disk", "another");
    CHECK(strcmp(ktap_skip_reason(), "no disk") == 0 && ktap_suite_ok());
    CHECK(ktap_checks_made() == 1);
    ktap_suite_end();
    (void)ktap_end();
}

static void figures_follow_the_clock(void **state)
{
    (void)state;
    assert_log(figures_run, "KTAP version 1\n"
                            "1..1\n"
                            "    KTAP version 1\n"
                            "    1..2\n"
                            "    # metric cost.time=804 ticks\n"
                            "    # metric cost.fork=101 instructions\n"
                            "    # metric cost.pages=9 pages\n"
                            "    # metric cost.of_floor=12.05 floors\n"
                            "    ok 1 one\n"
                            "    ok 2 another # SKIP no disk\n"
                            "ok 1 cost\n"
                            "# totals: experiments pass:1 fail:0 skip:0\n"
                            "# totals: checks pass:1 fail:0 skip:1\n"
                            "# verdict: pass\n");
}

static void figures_of_another_run(void *context)
{
    const char *unit = "";
    uint64_t value = 0;

    (void)context;
    ktap_begin();
    ktap_plan(2);
    ktap_suite_begin("first", 1);
    ktap_metric("pages", 9, "pages");
    CHECK(!ktap_check(false, "one"));
    CHECK(!ktap_suite_ok());
    ktap_suite_end();
    ktap_suite_begin("second", 1);
    CHECK(!ktap_figure("pages", 5, &value, &unit));
    CHECK(ktap_check(true, "one"));
    CHECK(ktap_suite_ok());
    ktap_suite_end();
    CHECK(ktap_end() == VERDICT_FAIL);
}

static void figures_end_with_their_experiment(void **state)
{
    (void)state;
    assert_false(child_run(figures_of_another_run, NULL)->panicked);
}

/* ---- sound logs ---- */

static void good_run(void *context)
{
    (void)context;
    ktap_begin();
    ktap_note("memory: %u MiB", 64U);
    ktap_plan(2);
    ktap_suite_begin("first", 2);
    CHECK(ktap_check(true, "page %x is zero", 0xabU));
    ktap_metric("faults", 1024, "faults");
    ktap_note("inside");
    CHECK(ktap_check(true, "the ledger is even"));
    ktap_suite_end();
    ktap_note("between");
    ktap_suite_begin("second", 1);
    CHECK(ktap_check(true, "one"));
    ktap_suite_end();
    CHECK(ktap_end() == VERDICT_PASS);
}

static void all_passed(void **state)
{
    (void)state;
    assert_log(good_run, "KTAP version 1\n"
                         "# memory: 64 MiB\n"
                         "1..2\n"
                         "    KTAP version 1\n"
                         "    1..2\n"
                         "    ok 1 page ab is zero\n"
                         "    # metric first.faults=1024 faults\n"
                         "    # inside\n"
                         "    ok 2 the ledger is even\n"
                         "ok 1 first\n"
                         "# between\n"
                         "    KTAP version 1\n"
                         "    1..1\n"
                         "    ok 1 one\n"
                         "ok 2 second\n"
                         "# totals: experiments pass:2 fail:0 skip:0\n"
                         "# totals: checks pass:3 fail:0 skip:0\n"
                         "# verdict: pass\n");
}

static void run_that_fails_at_closing(void *context)
{
    (void)context;
    ktap_begin();
    ktap_plan(1);
    ktap_suite_begin("good", 1);
    CHECK(ktap_check(true, "one"));
    ktap_suite_end();
    CHECK(ktap_verdict() == VERDICT_PASS);
    ktap_fail("disk %s is lost", "S1");
    CHECK(ktap_verdict() == VERDICT_FAIL);
    CHECK(ktap_end() == VERDICT_FAIL);
}

static void a_failure_outside_of_experiments_counts(void **state)
{
    (void)state;
    assert_log(run_that_fails_at_closing, "KTAP version 1\n"
                                          "1..1\n"
                                          "    KTAP version 1\n"
                                          "    1..1\n"
                                          "    ok 1 one\n"
                                          "ok 1 good\n"
                                          "# failure: disk S1 is lost\n"
                                          "# failed: the run: disk S1 is lost\n"
                                          "# totals: experiments pass:1 fail:0 skip:0\n"
                                          "# totals: checks pass:1 fail:0 skip:0\n"
                                          "# verdict: fail\n");
}

static void run_with_a_failure(void *context)
{
    (void)context;
    ktap_begin();
    ktap_plan(3);
    ktap_suite_begin("bad", 3);
    CHECK(ktap_check(true, "one"));
    CHECK(ktap_verdict() == VERDICT_SKIPPED);
    CHECK(!ktap_check(false, "two is %d", -2));
    CHECK(ktap_verdict() == VERDICT_FAIL);
    ktap_skip("no NX", "three");
    ktap_suite_end();
    ktap_suite_skip("away", "one processor only");
    ktap_suite_begin("good", 1);
    CHECK(ktap_check(true, "four"));
    ktap_suite_end();
    CHECK(ktap_end() == VERDICT_FAIL);
}

static void one_failed(void **state)
{
    (void)state;
    assert_log(run_with_a_failure, "KTAP version 1\n"
                                   "1..3\n"
                                   "    KTAP version 1\n"
                                   "    1..3\n"
                                   "    ok 1 one\n"
                                   "    not ok 2 two is -2\n"
                                   "    ok 3 three # SKIP no NX\n"
                                   "not ok 1 bad\n"
                                   "ok 2 away # SKIP one processor only\n"
                                   "    KTAP version 1\n"
                                   "    1..1\n"
                                   "    ok 1 four\n"
                                   "ok 3 good\n"
                                   "# failed: bad: check 2: two is -2\n"
                                   "# totals: experiments pass:1 fail:1 skip:1\n"
                                   "# totals: checks pass:2 fail:1 skip:1\n"
                                   "# verdict: fail\n");
}

static void run_of_skips(void *context)
{
    (void)context;
    ktap_begin();
    ktap_plan(2);
    ktap_suite_begin("empty", 2);
    ktap_skip("a", "one");
    ktap_skip("b", "two");
    ktap_suite_end();
    ktap_suite_skip("away", "c");
    CHECK(ktap_end() == VERDICT_SKIPPED);
}

static void all_skipped(void **state)
{
    (void)state;
    assert_log(run_of_skips, "KTAP version 1\n"
                             "1..2\n"
                             "    KTAP version 1\n"
                             "    1..2\n"
                             "    ok 1 one # SKIP a\n"
                             "    ok 2 two # SKIP b\n"
                             "ok 1 empty # SKIP every check was skipped\n"
                             "ok 2 away # SKIP c\n"
                             "# totals: experiments pass:0 fail:0 skip:2\n"
                             "# totals: checks pass:0 fail:0 skip:2\n"
                             "# verdict: skipped\n");
}

static void partly_skipped_run(void *context)
{
    (void)context;
    begin_one("some", 2);
    ktap_skip("a", "one");
    CHECK(ktap_check(true, "two"));
    ktap_suite_end();
    CHECK(ktap_end() == VERDICT_PASS);
}

static void skips_do_not_spoil(void **state)
{
    (void)state;
    assert_log(partly_skipped_run, "KTAP version 1\n1..1\n"
                                   "    KTAP version 1\n    1..2\n"
                                   "    ok 1 one # SKIP a\n    ok 2 two\n"
                                   "ok 1 some\n"
                                   "# totals: experiments pass:1 fail:0 skip:0\n"
                                   "# totals: checks pass:1 fail:0 skip:1\n"
                                   "# verdict: pass\n");
}

/* ---- plans that are not met ---- */

static void too_few_checks(void *context)
{
    (void)context;
    begin_one("short", 2);
    CHECK(ktap_check(true, "one"));
    ktap_suite_end();
    CHECK(ktap_end() == VERDICT_FAIL);
}

static void too_many_checks(void *context)
{
    (void)context;
    begin_one("long", 1);
    CHECK(ktap_check(true, "one"));
    CHECK(ktap_check(true, "two"));
    ktap_suite_end();
    CHECK(ktap_end() == VERDICT_FAIL);
}

static void too_few_experiments(void *context)
{
    (void)context;
    ktap_begin();
    ktap_plan(2);
    ktap_suite_begin("only", 1);
    CHECK(ktap_check(true, "one"));
    ktap_suite_end();
    CHECK(ktap_end() == VERDICT_FAIL);
}

static void plans_must_be_met(void **state)
{
    (void)state;
    assert_log(too_few_checks, "KTAP version 1\n1..1\n"
                               "    KTAP version 1\n    1..2\n    ok 1 one\n"
                               "    # planned 2 checks, made 1\n"
                               "not ok 1 short\n"
                               "# failed: short: planned 2 checks, made 1\n"
                               "# totals: experiments pass:0 fail:1 skip:0\n"
                               "# totals: checks pass:1 fail:0 skip:0\n"
                               "# verdict: fail\n");
    assert_log(too_many_checks, "KTAP version 1\n1..1\n"
                                "    KTAP version 1\n    1..1\n    ok 1 one\n    ok 2 two\n"
                                "    # planned 1 checks, made 2\n"
                                "not ok 1 long\n"
                                "# failed: long: planned 1 checks, made 2\n"
                                "# totals: experiments pass:0 fail:1 skip:0\n"
                                "# totals: checks pass:2 fail:0 skip:0\n"
                                "# verdict: fail\n");
    assert_log(too_few_experiments, "KTAP version 1\n1..2\n"
                                    "    KTAP version 1\n    1..1\n    ok 1 one\n"
                                    "ok 1 only\n"
                                    "# failure: planned 2 experiments, ran 1\n"
                                    "# failed: the run: planned 2 experiments, ran 1\n"
                                    "# totals: experiments pass:1 fail:0 skip:0\n"
                                    "# totals: checks pass:1 fail:0 skip:0\n"
                                    "# verdict: fail\n");
}

/* ---- failures at the end of the log ---- */

static void fail_after_success(void *context)
{
    (void)context;
    begin_one("good", 1);
    CHECK(ktap_check(true, "one"));
    ktap_suite_end();
    ktap_fail("closing: %s", "no answer");
    CHECK(ktap_verdict() == VERDICT_FAIL);
    CHECK(ktap_end() == VERDICT_FAIL);
}

static void several_failures(void *context)
{
    (void)context;
    ktap_begin();
    ktap_plan(2);
    ktap_suite_begin("bad", 4);
    CHECK(!ktap_check(false, "one"));
    CHECK(ktap_check(true, "two"));
    CHECK(!ktap_check(false, "three"));
    CHECK(!ktap_check(false, "four"));
    ktap_suite_end();
    ktap_suite_begin("worse", 2);
    CHECK(!ktap_check(false, "five"));
    ktap_bail_out(VERDICT_FAIL, "out of time");
}

/* Prints nothing of the experiments: their lines are many. */
static void failures_without_end(void *context)
{
    (void)context;
    ktap_begin();
    ktap_plan(70);
    for (unsigned i = 0; i < 70; i++) {
        ktap_suite_begin("bad", 2);
        CHECK(!ktap_check(false, "%u", i));
        CHECK(!ktap_check(false, "again"));
        ktap_suite_end();
    }
    CHECK(ktap_end() == VERDICT_FAIL);
}

static void failures_are_named(void **state)
{
    const struct child_end *end;

    (void)state;
    assert_log(fail_after_success, "KTAP version 1\n1..1\n"
                                   "    KTAP version 1\n    1..1\n    ok 1 one\nok 1 good\n"
                                   "# failure: closing: no answer\n"
                                   "# failed: the run: closing: no answer\n"
                                   "# totals: experiments pass:1 fail:0 skip:0\n"
                                   "# totals: checks pass:1 fail:0 skip:0\n"
                                   "# verdict: fail\n");
    assert_log(several_failures, "KTAP version 1\n1..2\n"
                                 "    KTAP version 1\n    1..4\n    not ok 1 one\n"
                                 "    ok 2 two\n    not ok 3 three\n    not ok 4 four\n"
                                 "not ok 1 bad\n"
                                 "    KTAP version 1\n    1..2\n    not ok 1 five\n"
                                 "# experiment: worse, after 1 of 2 checks\n"
                                 "# failed: bad: check 1: one; and 2 more\n"
                                 "# failed: worse: check 1: five\n"
                                 "Bail out! out of time\n"
                                 "# verdict: fail\n");
    end = child_run(failures_without_end, NULL);
    assert_false(end->panicked);
    assert_non_null(strstr(end->output, "63; and 1 more\n# failed: 6 more\n# totals"));
}

/* ---- the end before it is printed ---- */

static char rehearsed[1000];

static void rehearse_write(struct print_sink *sink, const char *text, size_t size)
{
    (void)sink;
    strncat(rehearsed, text, size);
}

static void end_after_rehearsals(void *context)
{
    struct print_sink sink = {.write = rehearse_write};

    (void)context;
    begin_one("good", 1);
    CHECK(ktap_check(true, "one"));
    ktap_suite_end();
    ktap_rehearse_end(&sink);
    CHECK(strcmp(rehearsed, "# totals: experiments pass:1 fail:0 skip:0\n"
                            "# totals: checks pass:1 fail:0 skip:0\n"
                            "# verdict: pass\n") == 0);
    ktap_fail("the disk is full");
    rehearsed[0] = '\0';
    ktap_rehearse_end(&sink);
    CHECK(strncmp(rehearsed, "# failed: the run: the disk is full\n# totals: ", 46) == 0);
    CHECK(strstr(rehearsed, "# verdict: fail\n") != NULL);
    CHECK(ktap_end() == VERDICT_FAIL);
    ktap_note("too late");
    print("\nmore\n");
}

/* Prints the end's own lines once, and marks those behind the verdict. */
static void the_end_can_be_rehearsed(void **state)
{
    (void)state;
    assert_log(end_after_rehearsals, "KTAP version 1\n1..1\n"
                                     "    KTAP version 1\n    1..1\n    ok 1 one\nok 1 good\n"
                                     "# failure: the disk is full\n"
                                     "# failed: the run: the disk is full\n"
                                     "# totals: experiments pass:1 fail:0 skip:0\n"
                                     "# totals: checks pass:1 fail:0 skip:0\n"
                                     "# verdict: fail\n"
                                     "# ! # too late\n# ! \n# ! more\n");
}

static void rehearse_short(void *context)
{
    struct print_sink sink = {.write = rehearse_write};

    (void)context;
    ktap_begin();
    ktap_plan(2);
    ktap_rehearse_end(&sink);
    CHECK(ktap_end() == VERDICT_FAIL);
}

static void a_short_run_fails_in_the_rehearsal(void **state)
{
    (void)state;
    assert_log(rehearse_short, "KTAP version 1\n1..2\n"
                               "# failure: planned 2 experiments, ran 0\n"
                               "# failed: the run: planned 2 experiments, ran 0\n"
                               "# totals: experiments pass:0 fail:0 skip:0\n"
                               "# totals: checks pass:0 fail:0 skip:0\n"
                               "# verdict: fail\n");
}

/* ---- a run that cannot go on ---- */

static void bail_out_in_the_middle(void *context)
{
    (void)context;
    begin_one("broken", 2);
    CHECK(ktap_check(true, "one"));
    ktap_bail_out(VERDICT_CRASH, "page fault at %lx", 0x1000UL);
    ktap_note("after it");
}

static void bail_out_before_all(void *context)
{
    (void)context;
    ktap_begin();
    ktap_bail_out(VERDICT_FAIL, "an option is not understood");
}

static void bailing_out(void **state)
{
    (void)state;
    assert_log(bail_out_in_the_middle, "KTAP version 1\n1..1\n"
                                       "    KTAP version 1\n    1..2\n    ok 1 one\n"
                                       "# experiment: broken, after 1 of 2 checks\n"
                                       "Bail out! page fault at 1000\n"
                                       "# verdict: crash\n"
                                       "# ! # after it\n");
    assert_log(bail_out_before_all, "KTAP version 1\n"
                                    "Bail out! an option is not understood\n"
                                    "# verdict: fail\n");
}

/* ---- misuse ---- */

static void begin_twice(void *context)
{
    (void)context;
    ktap_begin();
    ktap_begin();
}

static void plan_before_begin(void *context)
{
    (void)context;
    ktap_plan(1);
}

static void plan_after_results(void *context)
{
    good_run(context);
    ktap_begin();
    ktap_plan(1);
}

static void suite_in_suite(void *context)
{
    (void)context;
    begin_one("a", 1);
    ktap_suite_begin("b", 1);
}

static void suite_of_nothing(void *context)
{
    (void)context;
    begin_one("a", 0);
}

static void skip_in_suite(void *context)
{
    (void)context;
    begin_one("a", 1);
    ktap_suite_skip("b", "c");
}

static void check_outside(void *context)
{
    (void)context;
    ktap_begin();
    (void)ktap_check(true, "one");
}

static void skipped_check_outside(void *context)
{
    (void)context;
    ktap_skip("a", "b");
}

static void metric_outside(void *context)
{
    (void)context;
    ktap_metric("a", 1, "b");
}

static void end_of_no_suite(void *context)
{
    (void)context;
    ktap_suite_end();
}

static void end_in_suite(void *context)
{
    (void)context;
    begin_one("a", 1);
    (void)ktap_end();
}

static void end_twice(void *context)
{
    good_run(context);
    (void)ktap_end();
}

static void misuse_panics(void **state)
{
    static void (*const mistakes[])(void *) = {
        begin_twice,      plan_before_begin, plan_after_results, suite_in_suite,
        suite_of_nothing, skip_in_suite,     check_outside,      skipped_check_outside,
        metric_outside,   end_of_no_suite,   end_in_suite,       end_twice};

    (void)state;
    for (unsigned i = 0; i < ARRAY_COUNT(mistakes); i++)
        assert_panics(mistakes[i]);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_passed),
        cmocka_unit_test(figures_follow_the_clock),
        cmocka_unit_test(figures_end_with_their_experiment),
        cmocka_unit_test(one_failed),
        cmocka_unit_test(a_failure_outside_of_experiments_counts),
        cmocka_unit_test(all_skipped),
        cmocka_unit_test(skips_do_not_spoil),
        cmocka_unit_test(plans_must_be_met),
        cmocka_unit_test(the_end_can_be_rehearsed),
        cmocka_unit_test(a_short_run_fails_in_the_rehearsal),
        cmocka_unit_test(bailing_out),
        cmocka_unit_test(failures_are_named),
        cmocka_unit_test(misuse_panics),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
