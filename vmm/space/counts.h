/*
 * Counts of the faults of a space by result, for the log; count_event counts them. Those of the
 * fast path are counted for the processor, and added to the space's when the processor leaves the
 * space or space_faults is called.
 *
 * Units: faults since the space was created. Owns: nothing. Context: any.
 */
#ifndef VMM_SPACE_COUNTS_H
#define VMM_SPACE_COUNTS_H

#include <stdbool.h>
#include <stdint.h>

/* The counts that the fast path keeps per processor by machine_count. */
enum fault_fast_count {
    FAULT_ZERO_READ,
    FAULT_FIRST_WRITE,
    FAULT_ZERO_TO_PRIVATE,
    FAULT_COW_COPY,
    FAULT_COW_REUSE,
    FAULT_FAST_COUNTS
};

struct fault_counts {
    union {
        struct {
            uint64_t zero_read;       /* a ticket read: the zero page */
            uint64_t first_write;     /* a ticket written: a cleared page */
            uint64_t zero_to_private; /* the zero page written */
            uint64_t cow_copy;
            uint64_t cow_reuse; /* COW written by its last owner */
        };
        uint64_t fast[FAULT_FAST_COUNTS];
    };
    uint64_t large;       /* a ticket touched: a large page */
    uint64_t shared;      /* a ticket of a shared region touched: the section's page */
    uint64_t swap_in;     /* read from the area */
    uint64_t swap_cached; /* found in the frame that another entry had read */
    uint64_t around;      /* pages mapped by fault-around */
    uint64_t path;        /* tables made or unshared for the fault */
    uint64_t spurious;
    uint64_t violations;
    uint64_t failed; /* no memory, device error, lost page */
};

struct space;

/* Returns the counts of a space so far. */
struct fault_counts space_faults(const struct space *space);

struct section;
struct frame;
struct pte;

/* Where no place in a section is. */
#define SECTION_NO_WINDOW UINT64_MAX

/* The leaf table of a section that a touch in the space met last, under the lock of the space's
 * mappings. A mapping keeps the section. A snapshot takes the table from it, and changes the
 * section's turn first; a cut that frees tables sets the window without the lock, and frees them
 * after all processors have answered. */
struct section_recent {
    const struct section *section; /* NULL: none */
    uint64_t window;               /* place in the section / 2 MiB, or SECTION_NO_WINDOW */
    struct frame *table;
    const struct pte *entries;
    uint32_t turn; /* of the section, as it was then */
};

/* What a space has lent and borrowed (vmm/section/mapping.h); under the lock of lends. */
struct lend_counts {
    uint32_t ties;  /* its mappings that are lent or borrowed */
    uint32_t lends; /* mappings that borrow from its own */
    bool held;      /* under the space's lock: its holder has the lock of lends, too */
};

#endif
