/* Members of the low-memory notice join and leave on several processors at once: while there is
 * one, faults look for notices. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/units.h"
#include "tests/host/fake/machine.h"
#include "vmm/program/notice.h"

#define MEMORY  (16 * MIB)
#define THREADS 4U
#define ROUNDS  20000U

/* What run_machine.c makes of the calls: whether faults look for notices. */
static bool faults_look;
static uint64_t calls;

struct worker {
    pthread_t thread;
    unsigned number;
    unsigned deaf; /* rounds in which it was a member and faults did not look */
};

/* Both are plain: the lock of the members guards them, which ThreadSanitizer checks. */
static void members_changed(bool any)
{
    CHECK(faults_look != any);
    calls++;
    __atomic_store_n(&faults_look, any, __ATOMIC_RELAXED);
}

static void *come_and_go(void *context)
{
    struct worker *worker = context;

    fake_machine_be_cpu(worker->number);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct notice_member member = {0};

        notice_join(&member);
        worker->deaf += !__atomic_load_n(&faults_look, __ATOMIC_RELAXED);
        notice_leave(&member);
    }
    return NULL;
}

static void a_member_is_never_deaf(void **state)
{
    struct worker workers[THREADS];

    (void)state;
    fake_machine_start(MEMORY);
    notice_on_members(members_changed);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.number = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, come_and_go, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        assert_int_equal(workers[i].deaf, 0);
    }
    assert_int_equal(notice_members(), 0);
    assert_false(faults_look);
    assert_true(calls >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_member_is_never_deaf),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
