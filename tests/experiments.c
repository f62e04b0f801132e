/* The list of experiments, in the order in which they run. */
#include "tests/experiment.h"

#include <stddef.h>

extern const struct experiment demand_zero_experiment;
extern const struct experiment zero_page_experiment;
extern const struct experiment cow_experiment;
extern const struct experiment swap_experiment;
extern const struct experiment wild_experiment;
<<<<<<< HEAD
extern const struct experiment levels_experiment;
extern const struct experiment table_access_experiment;
=======
extern const struct experiment ring3_experiment;
extern const struct experiment fault_anatomy_experiment;
extern const struct experiment mmu_truth_experiment;
extern const struct experiment mmu_truth_all_experiment;
extern const struct experiment mmu_hold_experiment;
>>>>>>> ring3
extern const struct experiment bench_experiment;
extern const struct experiment hold_experiment;
extern const struct experiment crash_null_experiment;
extern const struct experiment crash_panic_experiment;

const struct experiment *const experiments[] = {
<<<<<<< HEAD
    &demand_zero_experiment, &zero_page_experiment,  &cow_experiment,          &swap_experiment,
    &wild_experiment,        &levels_experiment,     &table_access_experiment, &bench_experiment,
    &hold_experiment,        &crash_null_experiment, &crash_panic_experiment,  NULL,
=======
    &demand_zero_experiment,   &zero_page_experiment,   &cow_experiment,
    &swap_experiment,          &wild_experiment,        &ring3_experiment,
    &fault_anatomy_experiment, &mmu_truth_experiment,   &mmu_truth_all_experiment,
    &bench_experiment,         &hold_experiment,        &mmu_hold_experiment,
    &crash_null_experiment,    &crash_panic_experiment, NULL,
>>>>>>> ring3
};
