/*
 * The policies once more, as their papers describe them, in arrays that are searched from the
 * start: slow, and short enough to be compared with the paper. Tests run them beside those of
 * vmm/policy/ and vmm/ghosts/.
 *
 * Units: pages by number, below REFERENCE_PAGES. Owns: its arrays, one policy at a time.
 * Context: host tests. Fails with: nothing.
 */
#ifndef TESTS_HOST_POLICY_REFERENCE_H
#define TESTS_HOST_POLICY_REFERENCE_H

#include <stdbool.h>

#define REFERENCE_PAGES 1024U

/* The calls come in the order of vmm/policy/policy.h: `ghost_hit` for every page that faults. */
struct reference {
    const char *name;
    void (*start)(void);
    void (*ghost_hit)(unsigned page); /* NULL, as for `hit` and `round`: ignored */
    unsigned (*victim)(void);
    void (*evict)(unsigned page);
    void (*insert)(unsigned page);
    void (*hit)(unsigned page);
    void (*round)(void);
};

/* Tells that the page was written. */
void reference_dirty(unsigned page);

/* Starts the policy of this name with this many pages of memory. Returns NULL if there is none. */
const struct reference *reference_start(const char *name, unsigned capacity);

#endif
