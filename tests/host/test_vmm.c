/* Address spaces: random operations on forks of forks, beside a model, with a TLB that forgets
 * nothing; and the same with memory that runs out at every allocation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "swapdisk/area.h"
#include "tests/host/space_model.h"

#define MEMORY (16 * MIB)
#define SLOTS  64U

/* Operations of one round, which has its own bounds. */
#define ROUND 2000U

/* Everything is compared after so many operations; in the first rounds after each. */
#define CHECK_EACH    32U
#define CAREFUL_ROUND 2U

static int set_up(void **state)
{
    struct options options = {0};

    (void)state;
    model_start(MEMORY);
    return swap_open(&options, SLOTS) == OK ? 0 : -1;
}

static void run_round(uint64_t seed, unsigned levels, unsigned check_each, uint64_t ops)
{
    model_begin(seed, levels);
    for (uint64_t i = 0; i < ops; i++) {
        struct model_op op = model_choose();

        (void)model_perform(&op);
        if (i % check_each == 0)
            model_check();
    }
    model_end();
}

static void spaces_mean_what_the_model_says(void **state)
{
    uint64_t ops = model_ops(150000);
    uint64_t seed = model_seed();

    (void)state;
    for (uint64_t round = 0; round * ROUND < ops; round++)
        run_round(seed + round, round % 3 == 2 ? 5 : 4, round < CAREFUL_ROUND ? 1 : CHECK_EACH,
                  ROUND);
}

/* With 0 free frames, 1, 2, ...: until the operation succeeds it changes nothing that it means. */
static uint64_t try_with_each_failure(const struct model_op *op)
{
    uint64_t failures = 0;

    for (uint64_t frames = 0;; frames++) {
        model_leave_frames(frames);
        if (!model_is_failure(model_perform(op)))
            break;
        failures++;
        model_check();
    }
    return failures;
}

static void failing_allocations_change_no_meaning(void **state)
{
    uint64_t ops = model_ops(150000) / 50;
    uint64_t seed = model_seed();
    uint64_t failures = 0;

    (void)state;
    model_may_fail = true;
    for (uint64_t round = 0; round * 200 < ops; round++) {
        model_begin(seed + round, round % 2 == 0 ? 4 : 5);
        for (unsigned i = 0; i < 200; i++) {
            struct model_op op = model_choose();

            failures += try_with_each_failure(&op);
        }
        model_end();
    }
    model_may_fail = false;
    assert_true(failures > ops / 10);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(spaces_mean_what_the_model_says),
        cmocka_unit_test(failing_allocations_change_no_meaning),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
