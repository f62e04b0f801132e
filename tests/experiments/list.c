/* list: prints every experiment with its question. `run=list` reads as a command. */
#include "tests/runner/experiment.h"

static void list_run(const struct options *options)
{
    unsigned count = 0;

    (void)options;
    while (experiment_at(count) != NULL)
        count++;
    experiments_print();
    ktap_metric("experiments", count, "experiments");
    ktap_check(count > 1, "%u experiments", count);
}

EXPERIMENT(list, 005) = {
    .theme = THEME_PAGES,
    .name = "list",
    .question = "Which experiments are there?",
    .checks = 1,
    .only_by_name = true,
    .run = list_run,
    .answer = {.text = "{experiments} experiments; each line above has a name and its question"},
};
