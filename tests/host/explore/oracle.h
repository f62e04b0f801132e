/*
 * The checks after every schedule: AUDIT, the tests' second audit, each processor's TLB against the
 * tables, and the ledger after all spaces have ended.
 *
 * Context: host tests, outside of a schedule. Fails with: a panic with values.
 */
#ifndef TESTS_HOST_EXPLORE_ORACLE_H
#define TESTS_HOST_EXPLORE_ORACLE_H

/* Records the resources that are in use before any space exists. */
void oracle_start(void);

/* Checks the state that the scenario has left. Writes the part that programs can see into outcome,
 * OUTCOME_MAX bytes: the results of all operations and the content of some pages. Ends all
 * spaces. */
void oracle_judge(char *outcome);

#endif
