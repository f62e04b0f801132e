/*
 * What must hold after every schedule: AUDIT, the tests' second look at the trees, each processor's
 * TLB against the tables, and the ledger once all spaces have ended.
 *
 * Context: host tests, outside of a schedule. Fails with: a panic with values.
 */
#ifndef TESTS_HOST_EXPLORE_ORACLE_H
#define TESTS_HOST_EXPLORE_ORACLE_H

/* Records the resources that are in use before any space exists. */
void oracle_start(void);

/* Judges the state that the scenario has left, and writes what programs can see of it into outcome,
 * OUTCOME_MAX bytes: the results of all operations, and what some pages hold. Ends all spaces. */
void oracle_judge(char *outcome);

#endif
