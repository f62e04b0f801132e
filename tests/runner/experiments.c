/* The list of experiments, in the order in which they run. */
#include "tests/runner/experiment.h"

#include <stddef.h>

extern const struct experiment demand_zero_experiment;
extern const struct experiment zero_page_experiment;
extern const struct experiment zero_ladder_experiment;
extern const struct experiment cow_experiment;
extern const struct experiment shared_map_experiment;
extern const struct experiment swap_experiment;
extern const struct experiment wild_experiment;
extern const struct experiment levels_experiment;
extern const struct experiment table_access_experiment;
extern const struct experiment ring3_experiment;
extern const struct experiment fault_anatomy_experiment;
extern const struct experiment mmu_truth_experiment;
extern const struct experiment mmu_truth_all_experiment;
extern const struct experiment frame_allocator_experiment;
extern const struct experiment frame_stress_experiment;
extern const struct experiment frame_stress_minute_experiment;
extern const struct experiment no_heap_experiment;
extern const struct experiment zeroing_experiment;
extern const struct experiment no_memory_experiment;
extern const struct experiment space_limit_experiment;
extern const struct experiment overcommit_experiment;
extern const struct experiment spurious_experiment;
extern const struct experiment tlb_truth_experiment;
extern const struct experiment shootdown_experiment;
extern const struct experiment entry_states_experiment;
extern const struct experiment ticket_forge_experiment;
extern const struct experiment ticket_share_experiment;
extern const struct experiment ticket_range_experiment;
extern const struct experiment ticket_exit_experiment;
extern const struct experiment table_ledger_experiment;
extern const struct experiment fork_ways_experiment;
extern const struct experiment fork_ways_all_experiment;
extern const struct experiment large_page_experiment;
extern const struct experiment wire_experiment;
extern const struct experiment fault_around_experiment;
extern const struct experiment snapshot_experiment;
extern const struct experiment fault_dumb_experiment;
extern const struct experiment vma_structure_experiment;
extern const struct experiment model_experiment;
extern const struct experiment model_long_experiment;
extern const struct experiment stress_experiment;
extern const struct experiment dead_processor_experiment;
extern const struct experiment bench_experiment;
extern const struct experiment hold_experiment;
extern const struct experiment mmu_hold_experiment;
extern const struct experiment crash_null_experiment;
extern const struct experiment crash_panic_experiment;
extern const struct experiment crash_jump_experiment;
extern const struct experiment crash_double_fault_experiment;
extern const struct experiment crash_handler_experiment;
extern const struct experiment crash_overflow_experiment;
extern const struct experiment crash_lost_experiment;
extern const struct experiment crash_lock_order_experiment;
extern const struct experiment crash_hang_experiment;

/* clang-format off: one a line, so that two changes do not meet. */
const struct experiment *const experiments[] = {
    &demand_zero_experiment,
    &zero_page_experiment,
    &zero_ladder_experiment,
    &cow_experiment,
    &shared_map_experiment,
    &swap_experiment,
    &wild_experiment,
    &levels_experiment,
    &table_access_experiment,
    &ring3_experiment,
    &fault_anatomy_experiment,
    &mmu_truth_experiment,
    &mmu_truth_all_experiment,
    &frame_allocator_experiment,
    &frame_stress_experiment,
    &frame_stress_minute_experiment,
    &no_heap_experiment,
    &zeroing_experiment,
    &no_memory_experiment,
    &space_limit_experiment,
    &overcommit_experiment,
    &spurious_experiment,
    &tlb_truth_experiment,
    &shootdown_experiment,
    &entry_states_experiment,
    &ticket_forge_experiment,
    &ticket_share_experiment,
    &ticket_range_experiment,
    &ticket_exit_experiment,
    &table_ledger_experiment,
    &fork_ways_experiment,
    &fork_ways_all_experiment,
    &large_page_experiment,
    &wire_experiment,
    &fault_around_experiment,
    &snapshot_experiment,
    &fault_dumb_experiment,
    &vma_structure_experiment,
    &model_experiment,
    &model_long_experiment,
    &stress_experiment,
    &dead_processor_experiment,
    &bench_experiment,
    &hold_experiment,
    &mmu_hold_experiment,
    &crash_null_experiment,
    &crash_panic_experiment,
    &crash_jump_experiment,
    &crash_double_fault_experiment,
    &crash_handler_experiment,
    &crash_overflow_experiment,
    &crash_lost_experiment,
    &crash_lock_order_experiment,
    &crash_hang_experiment,
    NULL,
};
/* clang-format on */
