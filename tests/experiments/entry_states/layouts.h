/*
 * Three layouts of an entry that hold the same pages, for
 * tests/experiments/entry_states/entry_states.c.
 *
 * If an entry has no room for some information, the layout keeps it in a table beside the entries:
 * descriptors, areas, or a record a page. A decoder counts its look-ups there.
 *
 * Units: pages, numbered from 0. Owns: one world of pages. Context: thread, one at a time.
 * State: entry_world_make -> (encode all, decode each) for each layout in turn.
 */
#ifndef TESTS_EXPERIMENTS_ENTRY_STATES_LAYOUTS_H
#define TESTS_EXPERIMENTS_ENTRY_STATES_LAYOUTS_H

#include "lib/random.h"
#include "paging/pte.h"

#define ENTRY_PAGES     2048U
#define ENTRY_AREAS_MAX 64U
#define ENTRY_LAYOUTS   3U

/* Numbered by their rights. */
#define ENTRY_DESCRIPTORS 8U

/* The content of a page. The number is a slot, a frame or a descriptor's index. */
struct entry_page {
    enum pte_state state;
    struct rights rights;
    uint32_t number;
};

/* Pages [first, end) with the same rights, as a tree of areas would hold it. */
struct entry_area {
    uint64_t first;
    uint64_t end;
    uint64_t links[3];
    struct rights rights;
    bool hole; /* nothing is mapped */
    uint32_t descriptor;
};

/* One for each page that is not present: the forum thread's ticket. */
struct entry_record {
    uint8_t state;
    struct rights rights;
    uint32_t number;
};

struct entry_world {
    struct entry_page pages[ENTRY_PAGES];
    struct entry_area areas[ENTRY_AREAS_MAX];
    struct entry_record records[ENTRY_PAGES + 1];
    uint64_t words[ENTRY_PAGES]; /* the entries, in one layout at a time */
    struct pte tickets[ENTRY_DESCRIPTORS];
    unsigned area_count;
    unsigned record_count;
    unsigned looks; /* into a table beside the entries, while decoding */
};

extern struct entry_world entry_world;

struct entry_layout {
    const char *name;
    uint64_t (*encode)(const struct entry_page *page);
    struct entry_page (*decode)(uint64_t word, unsigned number);
    enum pte_state (*told)(uint64_t word); /* from the entry alone; or PTE_CORRUPT */
    uint64_t (*side_bytes)(void);          /* in use beside the entries */
};

extern const struct entry_layout entry_layouts[ENTRY_LAYOUTS];

/* Returns the number of ones in a set. */
static inline unsigned entry_count_bits(uint32_t set)
{
    unsigned count = 0;

    for (; set != 0; set &= set - 1)
        count++;
    return count;
}

/* Makes random pages in areas of equal rights. */
void entry_world_make(struct random *random);

#endif
