/* crash-null and crash-panic: does a crash report itself, and end the run as one? */
#include "cpu/machine.h"
#include "tests/experiment.h"

static void __attribute__((noinline)) read_null(void)
{
    volatile uint64_t *null = (volatile uint64_t *)machine_root().address;

    /* An address that the compiler cannot know: 0. */
    null = (volatile uint64_t *)((uintptr_t)null - machine_root().address);
    (void)*null;
}

static void run_null(const struct options *options)
{
    (void)options;
    read_null();
    ktap_check(false, "the kernel read address 0");
}

static void run_panic(const struct options *options)
{
    PANIC("deliberate, with seed %lu", options->seed);
}

const struct experiment crash_null_experiment = {
    .name = "crash-null",
    .question = "What does a stray access of the kernel look like?",
    .checks = 1,
    .only_by_name = true,
    .run = run_null,
};

const struct experiment crash_panic_experiment = {
    .name = "crash-panic",
    .question = "What does a panic look like?",
    .checks = 1,
    .only_by_name = true,
    .run = run_panic,
};
