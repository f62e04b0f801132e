/*
 * The kernel's half of address spaces as host tests have it: behind paging/kernel/map.h.
 *
 * Every top table gets present kernel entries in its upper half, which no code for programs may
 * follow, share or drop, and its recursive slot. The slot is read as a processor would, by a walk
 * from the machine's root. Pages of windows are mapped in the test's own address space.
 *
 * Owns: two frames, the zero page and the kernel's root, from fake_kernel_map_start on.
 * Context: host tests. Fails by ending the process with words.
 */
#ifndef TESTS_HOST_FAKE_KERNEL_MAP_H
#define TESTS_HOST_FAKE_KERNEL_MAP_H

#include <stdbool.h>

/* After fake_machine_start, which forgets all frames. */
void fake_kernel_map_start(void);

/* The number of levels that trees get from now on, 4 or 5. */
extern unsigned fake_kernel_map_levels;

/* Sets the number of levels for new trees. No tree may exist. */
void fake_kernel_map_set_levels(unsigned levels);

/* Whether kernel_map_page fails with STATUS_NO_MEMORY. */
extern bool fake_kernel_map_full;

/* How many spaces the window of top tables shows, and whether showing one more fails with
 * STATUS_NO_MEMORY. */
extern unsigned fake_kernel_map_shown;
extern bool fake_kernel_map_window_full;

#endif
