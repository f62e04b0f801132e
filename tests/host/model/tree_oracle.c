/* A second AUDIT, written from docs/rules.md alone. */
#include "tests/host/model/tree_oracle.h"

#include <stdlib.h>

#include "pmm/pmm.h"

/* docs/tree.md, 'Encoding of an entry'. */
#define TYPE_OF(word)  ((word) >> 1 & 7)
#define TYPE_TICKET    1
#define TYPE_SWAPPED   2
#define TYPE_TRANSIT   3
#define TYPE_GUARD     4
#define TYPE_WITHHELD  5
#define CLASS_OF(word) ((word) >> 9 & 3)
#define CLASS_OWN      1
#define CLASS_COW      2
#define CLASS_SHARED   3
#define MAY_WRITE      (UINT64_C(1) << 11)
#define BIT_P          (UINT64_C(1) << 0)
#define BIT_RW         (UINT64_C(1) << 1)
#define BIT_US         (UINT64_C(1) << 2)
#define BIT_A          (UINT64_C(1) << 5)
#define BIT_PS         (UINT64_C(1) << 7)
#define BIT_NX         (UINT64_C(1) << 63)
#define FRAME_OF(word) ((uint32_t)((word) >> 12))
#define PAYLOAD_OF(word)                                                                           \
    ((uint32_t)(((word) >> 12 & 0xfffff) | ((word) >> 4 & 0xff) << 20 | (word) >> 52 << 28))

/* The findings for one frame. */
struct found {
    uint32_t pointers;
    uint32_t own;      /* pointers that are own */
    uint32_t shared;   /* pointers that are shared leaves */
    uint32_t transits; /* pointers that are in transit */
    bool visited;
};

struct oracle {
    struct found *frames;
    uint32_t limit;
    uint32_t zero;
    struct oracle_census census;
};

static void point(struct oracle *oracle, uint32_t frame, uint64_t word)
{
    CHECK_MSG(frame < oracle->limit && frame_record((struct pfn){frame})->kind != FRAME_FREE,
              "entry %lx names frame %x, which is free or none", word, frame);
    oracle->frames[frame].pointers++;
    if ((word & BIT_P) != 0 && CLASS_OF(word) == CLASS_OWN)
        oracle->frames[frame].own++;
    if ((word & BIT_P) != 0 && CLASS_OF(word) == CLASS_SHARED)
        oracle->frames[frame].shared++;
    if ((word & BIT_P) == 0 && TYPE_OF(word) == TYPE_TRANSIT)
        oracle->frames[frame].transits++;
}

/* Returns whether an entry references the zero page or a zero table of level 1 to 4, which are
 * consecutive frames (rule C8). */
static bool is_zero(const struct oracle *oracle, uint64_t word)
{
    return FRAME_OF(word) - oracle->zero < 5;
}

/* Checks every entry of the zero tables: COW, all rights, the frame below. */
static void check_zero_ladder(const struct oracle *oracle)
{
    for (unsigned level = 1; level < 5; level++) {
        const uint64_t *words = frame_pointer((struct pfn){oracle->zero + level});

        for (unsigned i = 0; i < PTE_ENTRIES; i++)
            CHECK_MSG((words[i] & ~BIT_A) == ((uint64_t)(oracle->zero + level - 1) << 12 | BIT_P |
                                              BIT_US | MAY_WRITE | CLASS_COW << 9),
                      "entry %u of the zero table of level %u is %lx", i, level, words[i]);
    }
}

static void check_present(const struct oracle *oracle, uint64_t word, unsigned level)
{
    bool writable = (word & MAY_WRITE) != 0 && CLASS_OF(word) != CLASS_COW;

    CHECK_MSG(CLASS_OF(word) != 0 && ((word & BIT_RW) != 0) == writable,
              "entry %lx of level %u: class and R/W do not fit", word, level);
    CHECK_MSG((word & (UINT64_C(0x7ff) << 52)) == 0, "entry %lx has high bits", word);
    if (is_zero(oracle, word)) {
        CHECK_MSG(CLASS_OF(word) == CLASS_COW && FRAME_OF(word) == oracle->zero + level - 1,
                  "zeroes of level %u by entry %lx", level, word);
        return;
    }
    if (level > 1 && (word & BIT_PS) == 0)
        CHECK_MSG((word & (MAY_WRITE | BIT_US | BIT_NX)) == (MAY_WRITE | BIT_US),
                  "link %lx of level %u forbids something", word, level);
}

static void visit(struct oracle *oracle, uint32_t table, unsigned level, uint64_t base,
                  unsigned entries);

/* Returns true if the entry has a count of its target. */
static bool visit_entry(struct oracle *oracle, uint64_t word, unsigned level, uint64_t address)
{
    if ((word & BIT_P) != 0) {
        check_present(oracle, word, level);
        if (is_zero(oracle, word))
            return false;
        point(oracle, FRAME_OF(word), word);
        if (level > 1 && (word & BIT_PS) == 0)
            visit(oracle, FRAME_OF(word), level - 1, address, PTE_ENTRIES);
        else
            oracle->frames[FRAME_OF(word)].visited = true;
        return true;
    }
    CHECK_MSG((word >> 32 & 0xfffff) == 0xfffff, "entry %lx lacks the ones", word);
    switch (TYPE_OF(word)) {
    case TYPE_TICKET:
    case TYPE_GUARD: return false;
    case TYPE_SWAPPED: CHECK(level == 1); return true;
    case TYPE_TRANSIT:
    case TYPE_WITHHELD:
        point(oracle, PAYLOAD_OF(word), word);
        oracle->frames[PAYLOAD_OF(word)].visited = true;
        return true;
    default: PANIC("entry %lx of level %u has no type", word, level);
    }
}

/* Checks that each tree reaches a table at the address in its record. */
static void visit(struct oracle *oracle, uint32_t table, unsigned level, uint64_t base,
                  unsigned entries)
{
    const struct frame *record = frame_record((struct pfn){table});
    const uint64_t *words = frame_pointer((struct pfn){table});
    unsigned live = 0;
    unsigned held = 0;

    CHECK_MSG(((uint64_t)record->base_high << 32 | record->table.base_low) << 21 == base,
              "table %x is reached at %lx, its record says %x and %x", table, base,
              record->base_high, record->table.base_low);
    if (oracle->frames[table].visited)
        return;
    oracle->frames[table].visited = true;
    oracle->census.tables++;
    CHECK_MSG(record->kind == FRAME_TABLE && record->level == level,
              "table %x has kind %u, level %u", table, record->kind, record->level);
    for (unsigned i = 0; i < entries; i++) {
        if (words[i] == 0)
            continue;
        live++;
        held += visit_entry(oracle, words[i], level, base + (i * PAGE_SIZE << 9 * (level - 1)));
    }
    CHECK_MSG(record->live == live && record->table.held == held,
              "table %x says %u live and %u held, there are %u and %u", table, record->live,
              record->table.held, live, held);
    oracle->census.entries += live;
}

/* Checks that all pointers to a page are found from its record, in one ring and at one index
 * (R1). */
static void check_page(const struct oracle *oracle, uint32_t page)
{
    const struct found *found = &oracle->frames[page];
    unsigned leaves = tree_find_pointers((struct pfn){page}, PTE_LEAF, NULL, 0);
    unsigned transits = tree_find_pointers((struct pfn){page}, PTE_TRANSIT, NULL, 0);
    unsigned withheld = tree_find_pointers((struct pfn){page}, PTE_WITHHELD, NULL, 0);

    /* Checks a section's page: its record names the section's entry, which is own unless a snapshot
     * has the page too; the others are leaves in spaces (S1, S3). */
    if ((frame_record((struct pfn){page})->flags & FRAME_SHARED) != 0) {
        CHECK_MSG(found->own + found->shared <= found->pointers && found->own <= 1 &&
                      leaves + transits >= 1 && (found->own == 0 || leaves == 1) && withheld == 0,
                  "page %x is shared by %u of %u pointers, own by %u; its ring gives %u leaves, %u "
                  "in transit, %u withheld",
                  page, found->shared, found->pointers, found->own, leaves, transits, withheld);
        return;
    }
    CHECK_MSG(found->shared == 0, "page %x is shared by %u pointers, and is no section's", page,
              found->shared);
    CHECK_MSG(leaves + transits + withheld == found->pointers && transits == found->transits,
              "page %x has %u pointers, %u in transit; its ring gives %u leaves, %u in transit, %u "
              "withheld",
              page, found->pointers, found->transits, leaves, transits, withheld);
}

/* Checks that a table's neighbours in the ring name it as theirs. */
static void check_ring(uint32_t table)
{
    const struct frame *record = frame_record((struct pfn){table});
    const struct frame *next;

    if (record->table.ring_next == UINT32_MAX) {
        CHECK(record->table.ring_prev == UINT32_MAX);
        return;
    }
    next = frame_record((struct pfn){record->table.ring_next});
    CHECK_MSG(next->kind == FRAME_TABLE && next->table.ring_prev == table &&
                  next->level == record->level,
              "the ring of table %x is broken at %x", table, record->table.ring_next);
    CHECK(record->table.ring_next != table);
}

static void check_frame(const struct oracle *oracle, uint32_t index)
{
    const struct frame *record = frame_record((struct pfn){index});
    const struct found *found = &oracle->frames[index];

    if (record->kind != FRAME_TABLE && record->kind != FRAME_ANONYMOUS) {
        CHECK_MSG(found->pointers == 0, "frame %x of kind %u has %u pointers", index, record->kind,
                  found->pointers);
        return;
    }
    CHECK_MSG(record->count == found->pointers, "frame %x of kind %u: count %u, %u pointers", index,
              record->kind, record->count, found->pointers);
    CHECK_MSG(found->own == 0 || found->pointers == 1 || (record->flags & FRAME_SHARED) != 0,
              "frame %x is own, but has %u pointers", index, found->pointers);
    CHECK_MSG(found->visited && record->lock == 0 && (record->marks & FRAME_SEEN) == 0 &&
                  (record->flags & FRAME_IO) == 0,
              "frame %x of kind %u: visited %d, lock %u, flags %x", index, record->kind,
              found->visited, record->lock, record->flags);
    if (record->kind == FRAME_ANONYMOUS)
        check_page(oracle, index);
    else
        check_ring(index);
}

struct oracle_census oracle_check(const struct tree *trees, unsigned count)
{
    struct oracle oracle = {.limit = pmm_frame_limit(), .zero = tree_zero_page().index};

    oracle.frames = calloc(oracle.limit, sizeof(*oracle.frames));
    CHECK(oracle.frames != NULL);
    check_zero_ladder(&oracle);
    for (unsigned i = 0; i < count; i++) {
        /* Checks that a root has one count, its tree's. */
        oracle.frames[trees[i].root.index].pointers++;
        visit(&oracle, trees[i].root.index, trees[i].levels, 0,
              PTE_ENTRIES / (trees[i].plain ? 1 : 2));
    }
    for (uint32_t i = 0; i < oracle.limit; i++) {
        if (frame_record((struct pfn){i})->kind != FRAME_FREE || oracle.frames[i].pointers != 0)
            check_frame(&oracle, i);
        oracle.census.pages += frame_record((struct pfn){i})->kind == FRAME_ANONYMOUS;
    }
    free(oracle.frames);
    return oracle.census;
}
