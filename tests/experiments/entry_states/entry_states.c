/*
 * entry-states: what fits into the spare bits?
 *
 * The question (forum thread 1): an entry that is not present has 63 bits to spare, one that is
 * present a few. Which states of a page do they tell apart, and how much must a table beside them
 * say?
 *
 * Two parts. First the shipped layout is swept: every combination of its twelve control bits at the
 * low end, with the high control bits and the payload at their corners, at every level. A second
 * description of the layout, written as masks and not as code, must match exactly one state, the
 * one that pte_state names, or none where that says corrupt.
 *
 * Then the same pages are written in three layouts and read back: the shipped one; one in the way
 * of Linux, with a type, an inverted offset, and rights that only the area knows; and a plain one
 * whose entries are numbers of records, one a page. All must give back each page. The answer is how
 * many states an entry tells by itself, how many pages need a look elsewhere, and the bytes there
 * for 8 MiB of pages.
 */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "tests/experiments/entry_states/layouts.h"
#include "tests/runner/experiment.h"
#include "tests/runner/null_fault.h"

#define LEVELS 5U

/* ---- the shipped layout as masks ---- */

/* Bits of an entry that a state needs set, and bits that it needs clear. */
struct pattern {
    enum pte_state state;
    uint64_t set;
    uint64_t clear;
    unsigned first_level;
    unsigned last_level;
};

#define ABSENT(type)  (UINT64_C(0xfffff00000000) | (uint64_t)(type) << 1)
#define NO_TYPE(type) (~(uint64_t)(type) << 1 & 0xe)

/* Payload bits 35 to 39 (no access, which excludes other rights, and the bits above), and all of
 * the payload. */
#define PAYLOAD_REST (UINT64_C(0x1f) << 59)
#define NO_ACCESS    (UINT64_C(1) << 59)
#define WITH_ACCESS  (UINT64_C(0xf7) << 56)
#define PAYLOAD_ALL  UINT64_C(0xfff00000fffffff0)

/* Present: the frame has 32 bits; 52 to 62, PWT, PCD and G are clear. */
#define PRESENT_CLEAR UINT64_C(0x7ff0000000000118)
#define WIDE_FRAME    UINT64_C(0x000ff00000000000)

#define P       UINT64_C(1)
#define RW      UINT64_C(2)
#define US      UINT64_C(4)
#define PS      UINT64_C(0x80)
#define OWN     UINT64_C(0x200)
#define COW     UINT64_C(0x400)
#define MAY     UINT64_C(0x800)
#define NX      (UINT64_C(1) << 63)
#define LEAF_2M UINT64_C(0x1ff000)
#define LEAF_1G UINT64_C(0x3ffff000)

/* A leaf and a table share how class, may-write and R/W agree: six combinations. */
#define SIX(state, set, clear, first, last)                                                        \
    {state, (set) | P | OWN, (clear) | COW | MAY | RW, first, last},                               \
        {state, (set) | P | OWN | MAY | RW, (clear) | COW, first, last},                           \
        {state, (set) | P | COW, (clear) | OWN | MAY | RW, first, last},                           \
        {state, (set) | P | COW | MAY, (clear) | OWN | RW, first, last},                           \
        {state, (set) | P | OWN | COW, (clear) | MAY | RW, first, last},                           \
    {                                                                                              \
        state, (set) | P | OWN | COW | MAY | RW, (clear), first, last                              \
    }

/* clang-format off: one a line. */
static const struct pattern patterns[] = {
    {PTE_EMPTY, 0, UINT64_MAX, 1, 5},
    {PTE_TICKET, ABSENT(1), P | NO_TYPE(1), 1, 5},
    {PTE_SWAPPED, ABSENT(2), P | NO_TYPE(2) | PAYLOAD_REST, 1, 1},
    {PTE_SWAPPED, ABSENT(2) | NO_ACCESS, P | NO_TYPE(2) | WITH_ACCESS, 1, 1},
    {PTE_TRANSIT, ABSENT(3), P | NO_TYPE(3) | PAYLOAD_REST, 1, 1},
    {PTE_TRANSIT, ABSENT(3) | NO_ACCESS, P | NO_TYPE(3) | WITH_ACCESS, 1, 1},
    {PTE_GUARD, ABSENT(4), P | NO_TYPE(4) | PAYLOAD_ALL, 1, 5},
    {PTE_WITHHELD, ABSENT(5) | NO_ACCESS, P | NO_TYPE(5) | WITH_ACCESS, 1, 3},
    SIX(PTE_LEAF, 0, PRESENT_CLEAR | WIDE_FRAME | PS, 1, 1),
    SIX(PTE_LEAF, PS, PRESENT_CLEAR | WIDE_FRAME | LEAF_2M, 2, 2),
    SIX(PTE_LEAF, PS, PRESENT_CLEAR | WIDE_FRAME | LEAF_1G, 3, 3),
    /* An own link allows all; COW and shared links may narrow. */
    {PTE_TABLE, P | OWN | MAY | RW | US, COW | NX | PRESENT_CLEAR | WIDE_FRAME | PS, 2, 5},
    {PTE_TABLE, P | COW, OWN | MAY | RW | PRESENT_CLEAR | WIDE_FRAME | PS, 2, 5},
    {PTE_TABLE, P | COW | MAY, OWN | RW | PRESENT_CLEAR | WIDE_FRAME | PS, 2, 5},
    {PTE_TABLE, P | OWN | COW, MAY | RW | PRESENT_CLEAR | WIDE_FRAME | PS, 2, 5},
    {PTE_TABLE, P | OWN | COW | MAY | RW, PRESENT_CLEAR | WIDE_FRAME | PS, 2, 5},
};
/* clang-format on */

/* Bits 12 to 51, and 52 to 63, at their corners. */
static const uint64_t middles[] = {
    0,
    UINT64_C(1) << 12,
    UINT64_C(0x1ff) << 12,
    UINT64_C(1) << 21,
    UINT64_C(1) << 30,
    UINT64_C(0xfffff) << 12,
    UINT64_C(0xfffffffe) << 12,
    UINT64_C(1) << 44,
    UINT64_C(0xfffff) << 32,
    UINT64_C(0xfffff00001) << 12,
    UINT64_C(0xffffffffff) << 12,
    UINT64_C(0x7fffffffff) << 12,
    UINT64_C(0xffffe00000) << 12,
};
static const uint64_t highs[] = {0x000, 0x001, 0x00f, 0x010, 0x040, 0x07f, 0x080,
                                 0x100, 0x400, 0x7ff, 0x800, 0x801, 0xfff};

static struct {
    uint64_t seen[LEVELS + 1][PTE_STATES];
    uint64_t words;
    uint64_t ambiguous; /* more than one pattern matches */
    uint64_t different; /* the matching state differs from pte_state */
} sweep;

static void sweep_word(uint64_t word, unsigned level)
{
    enum pte_state found = PTE_CORRUPT;
    enum pte_state said = pte_state((struct pte){word}, level);
    unsigned matches = 0;

    for (unsigned i = 0; i < ARRAY_COUNT(patterns); i++) {
        const struct pattern *pattern = &patterns[i];

        if ((word & pattern->set) == pattern->set && (word & pattern->clear) == 0 &&
            level >= pattern->first_level && level <= pattern->last_level) {
            found = pattern->state;
            matches++;
        }
    }
    /* The one number that is no frame. */
    if ((word & P) != 0 && (word & PTE_FRAME_MASK) == UINT64_C(0xffffffff) << 12)
        matches = 0, found = PTE_CORRUPT;
    sweep.words++;
    sweep.ambiguous += matches > 1;
    sweep.seen[level][said]++;
    if (found != said && sweep.different++ == 0)
        ktap_note("%016lx at level %u is %s, the masks say %s", word, level, pte_state_name(said),
                  pte_state_name(found));
}

static void sweep_all(void)
{
    memset(&sweep, 0, sizeof(sweep));
    for (unsigned level = 1; level <= LEVELS; level++) {
        for (unsigned high = 0; high < ARRAY_COUNT(highs); high++) {
            for (unsigned middle = 0; middle < ARRAY_COUNT(middles); middle++) {
                for (uint64_t low = 0; low < PAGE_SIZE; low++)
                    sweep_word(highs[high] << 52 | middles[middle] | low, level);
            }
        }
    }
}

/* Returns whether each state was met at the levels that allow it, and at no other. */
static bool each_state_at_its_levels(void)
{
    bool right = true;

    for (unsigned level = 1; level <= LEVELS; level++) {
        for (unsigned state = PTE_EMPTY; state < PTE_STATES; state++) {
            bool wanted = false;

            for (unsigned i = 0; i < ARRAY_COUNT(patterns); i++)
                wanted |= patterns[i].state == state && level >= patterns[i].first_level &&
                          level <= patterns[i].last_level;
            right &= wanted == (sweep.seen[level][state] != 0);
        }
    }
    return right;
}

static void report_sweep(void)
{
    char name[32];

    sweep_all();
    ktap_metric("patterns", sweep.words, "entries");
    for (unsigned level = 1; level <= LEVELS; level++) {
        unsigned states = 0;

        for (unsigned state = PTE_EMPTY; state < PTE_STATES; state++)
            states += sweep.seen[level][state] != 0;
        print_to(name, sizeof(name), "states.level%u", level);
        ktap_metric(name, states, "states");
        print_to(name, sizeof(name), "corrupt.level%u", level);
        ktap_metric(name, sweep.seen[level][PTE_CORRUPT] * 1000 / (sweep.words / LEVELS),
                    "per-mille");
    }
    ktap_check(sweep.ambiguous == 0, "%lu of %lu patterns have more than one state",
               sweep.ambiguous, sweep.words);
    ktap_check(sweep.different == 0, "%lu of %lu patterns decode otherwise than the masks say",
               sweep.different, sweep.words);
    ktap_check(each_state_at_its_levels(), "each state at each of its levels, and nowhere else");
}

/* ---- the same pages in three layouts ---- */

static bool same_page(const struct entry_page *a, const struct entry_page *b)
{
    return a->state == b->state && a->number == b->number && a->rights.write == b->rights.write &&
           a->rights.execute == b->rights.execute && a->rights.user == b->rights.user &&
           a->rights.none == b->rights.none;
}

/* Returns the number of states that the entry alone shows, for every page in that state. */
static unsigned states_told(const struct entry_layout *layout)
{
    unsigned met = 0;
    unsigned missed = 0;

    for (unsigned i = 0; i < ENTRY_PAGES; i++) {
        met |= 1U << entry_world.pages[i].state;
        if (layout->told(entry_world.words[i]) != entry_world.pages[i].state)
            missed |= 1U << entry_world.pages[i].state;
    }
    return entry_count_bits(met & ~missed);
}

static unsigned decode_all(const struct entry_layout *layout)
{
    unsigned right = 0;

    entry_world.looks = 0;
    for (unsigned i = 0; i < ENTRY_PAGES; i++) {
        struct entry_page page = layout->decode(entry_world.words[i], i);

        right += same_page(&page, &entry_world.pages[i]);
    }
    return right;
}

static void entry_states_put(const struct entry_layout *layout, const char *what, uint64_t value,
                             const char *unit)
{
    char name[64];

    print_to(name, sizeof(name), "%s.%s", layout->name, what);
    ktap_metric(name, value, unit);
}

/* Runs a layout twice and measures the second run, when an emulator has translated the code. */
static void try_layout(const struct entry_layout *layout)
{
    unsigned right;
    uint64_t ticks;

    for (unsigned i = 0; i < ENTRY_PAGES; i++)
        entry_world.words[i] = layout->encode(&entry_world.pages[i]);
    right = decode_all(layout);
    ticks = machine_ticks();
    right = (unsigned)min_u64(right, decode_all(layout));
    ticks = machine_ticks() - ticks;
    entry_states_put(layout, "states_in_entry", states_told(layout), "states");
    entry_states_put(layout, "pages_looked_up", (uint64_t)entry_world.looks * 1000 / ENTRY_PAGES,
                     "per-mille");
    entry_states_put(layout, "side_table_8m", layout->side_bytes(), "bytes");
    null_fault_metric_of(layout->name, "decode", ticks / ENTRY_PAGES);
    ktap_check(right == ENTRY_PAGES, "%s: %u of %u pages are read back as they were written",
               layout->name, right, ENTRY_PAGES);
}

static void entry_states_run(const struct options *options)
{
    struct random random = random_from(options->seed);

    null_fault_measure();
    report_sweep();
    entry_world_make(&random);
    for (unsigned i = 0; i < ENTRY_LAYOUTS; i++)
        try_layout(&entry_layouts[i]);
}

EXPERIMENT(entry_states, 250) = {
    .theme = THEME_TABLES,
    .name = "entry-states",
    .question = "What fits into the spare bits?",
    .checks = 6,
    .run = entry_states_run,
    .answer =
        {
            .text = "{shipped.states_in_entry} states, and {shipped.side_table_8m} bytes beside it "
                    "for 8 MiB; Linux's layout {linux.states_in_entry} and {linux.side_table_8m}",
            .shipped = "tickets in the entry",
            .limit = "the cost of decoding, where a plain entry takes fewer instructions",
        },
};
