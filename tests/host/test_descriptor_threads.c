/*
 * Descriptors taken and put by several threads at once, each a processor: taking counts one without
 * the lock, and must never count another that has got its index meanwhile.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/random.h"
#include "pmm/pmm.h"
#include "tests/host/fake/kernel_map.h"
#include "tests/host/fake/machine.h"
#include "vmm/space/descriptor.h"
#include "vmm/space/space.h"

#define MEMORY  (32 * MIB)
#define THREADS 4U
#define STEPS   400000U

/* Few: each is made and unmade all the time, and so the same indexes come back with other
 * rights. */
#define RIGHTS 3U

struct worker {
    pthread_t thread;
    unsigned number;
    unsigned wrong;
};

static struct rights rights_of(unsigned number)
{
    return (struct rights){
        .write = (number & 1) != 0, .execute = (number & 2) != 0, .user = (number & 4) != 0};
}

/* Takes one, and one more now and then, which it holds for a while. */
static void *work(void *context)
{
    struct worker *worker = context;
    struct random random = random_from(worker->number + 1);

    fake_machine_be_cpu(worker->number);
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned number = (unsigned)random_below(&random, RIGHTS);
        struct descriptor *descriptor;
        enum status status = descriptor_anonymous(rights_of(number), &descriptor);
        struct rights rights;

        CHECK(status == OK);
        rights = descriptor->rights;
        worker->wrong += rights.write != rights_of(number).write ||
                         rights.execute != rights_of(number).execute ||
                         rights.user != rights_of(number).user ||
                         descriptor_of(descriptor->ticket, descriptor_bound()) != descriptor;
        if (step % 2 == 0) {
            descriptor_hold(descriptor, 1);
            descriptor_put(descriptor, 1);
        }
        descriptor_put(descriptor, 1);
    }
    return NULL;
}

static void who_asks_gets_the_rights(void **state)
{
    struct worker workers[THREADS];

    (void)state;
    fake_machine_start(MEMORY);
    fake_kernel_map_start();
    assert_int_equal(vmm_init(), OK);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.number = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        assert_int_equal(workers[i].wrong, 0);
    }
    assert_int_equal(descriptor_count(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_asks_gets_the_rights),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
