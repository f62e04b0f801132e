/*
 * The fast path's faults at tickets of sections: link the section's page, if it is resident.
 *
 * Each continues after the walk of fast.c, under the lock of the space's leaf table. While that is
 * held and the ticket is there, the mapping that covers the address is the ticket's. The lock of
 * the space's mappings keeps the mapping, and so its section, until the end. The section's own leaf
 * table is locked, too, from the look at its entry until the leaf is in the space. So an eviction,
 * a cut or a snapshot, which pass that lock first, find either no leaf or the whole of it, with its
 * count (rules S3, L4). Locks are only tried.
 *
 * A section's leaf table on an own path stays where it is, unless a cut frees it, and so is never
 * dead; but a snapshot has it, too, from then on. So each space remembers the table that it met
 * last, and the section's turn then: the walk is for the others. A cut makes the spaces forget
 * (section_lower_tree).
 *
 * In every other case nothing has changed, and the slow path decides (shared.c): the page is not
 * resident or a snapshot has it too, or the section ends before the page.
 */
#include "vmm/fault/fast_internal.h"

#include "cpu/machine.h"
#include "vmm/page/page.h"
#include "vmm/section/mapping.h"

#define WINDOW_SHIFT (PAGE_SHIFT + 9)

/* The bits of a link to a table that the section alone has, besides the frame. */
#define OWN_LINK (PTE_P | PTE_RW | PTE_US | PTE_A | CLASS(PTE_OWN) | PTE_MAY_WRITE)

/* A section's own entry of a page that the section alone has, but for the bits of no matter here:
 * the frame, NX, and those that the processor and reclaim change. */
#define OWN_PAGE        (PTE_P | PTE_RW | PTE_US | CLASS(PTE_OWN) | PTE_MAY_WRITE)
#define OWN_PAGE_IGNORE (PTE_FRAME_MASK | PTE_NX | PTE_A | PTE_D)

#define LIKELY(condition) __builtin_expect((condition), 1)

/* ---- one page ---- */

/* Locks the section's table, and looks at what a cut or a snapshot changes before it passes that
 * lock: the size, and the turn. */
INLINE bool lock_source(const struct section *section, uint64_t at,
                        const struct section_recent *recent)
{
    if (UNLIKELY(!spin_try(&recent->table->lock)))
        return false;
    if (LIKELY(at < section_reach(section)) &&
        LIKELY(__atomic_load_n(&section->turn, __ATOMIC_SEQ_CST) == recent->turn))
        return true;
    spin_unlock_fast(&recent->table->lock);
    return false;
}

/* Takes back a count of half the range and more, which may be saturated: within the margin of
 * COUNT_STILL. The slow path knows such counts. */
OUT_OF_LINE bool uncount(struct frame *record)
{
    __atomic_sub_fetch(&record->count, 1, __ATOMIC_RELAXED);
    return false;
}

/* Maps the page of a section's entry in place of a ticket. Returns false if it is not resident, a
 * snapshot has it too, or its count is saturated or about to be. Both tables are locked. The caller
 * counts the entry in `held`. */
INLINE bool link_resident(const struct pte *entry, struct pte *leaf, uint64_t link_bits)
{
    uint64_t word = pte_read(entry).word - OWN_PAGE;
    struct frame *record;

    if (UNLIKELY((word & ~OWN_PAGE_IGNORE) != 0))
        return false;
    word &= fault_constants.frame_mask;
    record = record_of(word);
    if (UNLIKELY((int32_t)__atomic_add_fetch(&record->count, 1, __ATOMIC_RELAXED) < 0))
        return uncount(record);
    __atomic_store_n(&leaf->word, word | link_bits, __ATOMIC_RELEASE);
    return true;
}

OUT_OF_LINE bool give_up_link(struct trap_frame *frame, struct frame *table)
{
    spin_unlock_fast(&space_current()->mappings_lock);
    return fault_give_up(frame, table, FAST_SLOW_PATH);
}

OUT_OF_LINE bool give_up_source(struct trap_frame *frame, struct frame *table, struct frame *source)
{
    spin_unlock_fast(&source->lock);
    return give_up_link(frame, table);
}

/* Ends the path where the table is locked, or not what it was: the next touch looks for it. */
OUT_OF_LINE bool give_up_table(struct trap_frame *frame, struct frame *table)
{
    space_current()->recent.section = NULL;
    return give_up_link(frame, table);
}

/* Continues at a place of a section, in the window that the space has met last. */
static GOES_ON bool link_at(uint64_t at, struct space *space, struct trap_frame *frame,
                            const struct descriptor *descriptor, struct frame *table,
                            struct pte *leaf)
{
    if (UNLIKELY(!lock_source(space->recent.section, at, &space->recent)))
        return give_up_table(frame, table);
    if (UNLIKELY(
            !link_resident(&space->recent.entries[pte_index(at, 1)], leaf, descriptor->link_bits)))
        return give_up_source(frame, table, space->recent.table);
    table->table.held++;
    spin_unlock_fast(&space->recent.table->lock);
    spin_unlock_fast(&space->mappings_lock);
    count_event(&space->faults.shared);
    return fast_unlock_table(table);
}

/* ---- groups ---- */

/* One fault whose mapping is found and locked. */
struct link {
    const struct mapping *mapping;
    struct section_recent *recent; /* of the space */
    uint64_t at;                   /* the place in the section of the page */
    struct pte *leaf;
    struct frame *table;
    const struct descriptor *descriptor;
};

/* Return how far the group reaches from the page of the fault: no further than its mapping, the
 * section, and the two leaf tables. */
static unsigned pages_above(const struct link *link)
{
    const struct mapping *mapping = link->mapping;
    unsigned group = (1U << mapping->around) - 1;
    unsigned index = leaf_index(link->leaf);
    uint64_t end = min_u64(mapping->node.end - mapping->origin, section_reach(mapping->section));
    uint64_t most;

    if (end <= link->at) /* cut meanwhile; the cut recalls this page, too */
        return 0;
    most = min_u64((end - link->at) / PAGE_SIZE, PTE_ENTRIES - pte_index(link->at, 1)) - 1;
    return (unsigned)min_u64(most, group - (index & group));
}

static unsigned pages_below(const struct link *link)
{
    const struct mapping *mapping = link->mapping;
    unsigned group = (1U << mapping->around) - 1;
    uint64_t start = mapping->node.start - mapping->origin;
    uint64_t most = min_u64((link->at - start) / PAGE_SIZE, pte_index(link->at, 1));

    return (unsigned)min_u64(most, leaf_index(link->leaf) & group);
}

/* Maps the resident pages of the fault's group where the ticket is the same. Their leaves are not
 * accessed yet, so that reclaim need not take them for used. Returns how many. */
static unsigned link_neighbours(const struct link *link)
{
    struct pte *leaf = link->leaf - pages_below(link);
    const struct pte *end = link->leaf + pages_above(link) + 1;
    uintptr_t entries = (uintptr_t)&link->recent->entries[pte_index(link->at, 1)];
    uintptr_t distance = entries - (uintptr_t)link->leaf; /* modulo 2^64 */
    unsigned linked = (unsigned)(end - leaf);
    uint64_t ticket = link->descriptor->ticket.word;
    uint64_t link_bits = link->descriptor->link_bits & ~PTE_A;

    CHECK(link->mapping->around <= AROUND_MOST && linked <= 1U << AROUND_MOST);
    for (; leaf < end; leaf++) {
        const struct pte *entry = (const struct pte *)((uintptr_t)leaf + distance);

        if (UNLIKELY(pte_read(leaf).word != ticket) ||
            UNLIKELY(!link_resident(entry, leaf, link_bits)))
            linked--;
    }
    return linked;
}

/* Maps the page and its group, and marks a table that has pages of private mappings. */
static bool link_group(const struct link *link)
{
    const struct section_recent *recent = link->recent;
    unsigned more = 0;
    bool linked;

    CHECK(recent->window == link->at >> WINDOW_SHIFT && recent->table != link->table);
    if (!lock_source(link->mapping->section, link->at, recent))
        return false;
    linked = link_resident(&recent->entries[pte_index(link->at, 1)], link->leaf,
                           link->descriptor->link_bits);
    if (linked && link->mapping->around > 0)
        more = link_neighbours(link);
    spin_unlock_fast(&recent->table->lock);
    if (!linked)
        return false;
    link->table->table.held = (uint16_t)(link->table->table.held + 1 + more);
    CHECK_MSG(link->table->table.held <= link->table->live, "%u entries of %u own a reference",
              link->table->table.held, link->table->live);
    if (link->descriptor->copies)
        tree_mark_copies(frame_pfn(link->table));
    __atomic_add_fetch(&space_current()->faults.around, more, __ATOMIC_RELAXED);
    return true;
}

/* ---- the section's table ---- */

/* Finds the section's leaf table of a place along an own path. Interrupts are off, so that no table
 * of the path is freed (rule P5). */
static bool find_table(const struct section *section, uint64_t at, struct pfn *table)
{
    struct tree_place place = plain_walk(&section->tree, at);

    CHECK(frame_record(place.table)->kind == FRAME_TABLE);
    *table = place.table;
    return place.level == 1 && place.own;
}

/* Remembers the table of a place. Returns false if there is none that the section alone has. The
 * turn is read first: if it is the same under the table's lock, no snapshot has begun between. */
static bool remember_table(struct section_recent *recent, const struct section *section,
                           uint64_t at)
{
    uint32_t turn = __atomic_load_n(&section->turn, __ATOMIC_SEQ_CST);
    struct pfn table;

    if ((turn & 1) != 0 || at >= section_reach(section) || !find_table(section, at, &table))
        return false;
    *recent = (struct section_recent){.section = section,
                                      .window = at >> WINDOW_SHIFT,
                                      .table = frame_record(table),
                                      .entries = frame_pointer(table),
                                      .turn = turn};
    return true;
}

static bool is_remembered(const struct section_recent *recent, const struct section *section,
                          uint64_t at)
{
    return recent->section == section && at >> WINDOW_SHIFT == recent->window &&
           __atomic_load_n(&section->turn, __ATOMIC_RELAXED) == recent->turn;
}

/* Ends the path where the space has met another table, or the mapping wants more than one page at a
 * touch, or is private. */
static GOES_ON bool link_otherwise(uint64_t at, const struct mapping *mapping,
                                   struct trap_frame *frame, const struct descriptor *descriptor,
                                   struct frame *table, struct pte *leaf)
{
    struct section_recent *recent = &space_current()->recent;
    const struct link link = {mapping, recent, at, leaf, table, descriptor};
    bool linked = (is_remembered(recent, mapping->section, at) ||
                   remember_table(recent, mapping->section, at)) &&
                  link_group(&link);

    spin_unlock_fast(&space_current()->mappings_lock);
    if (!linked)
        return fault_give_up(frame, table, FAST_SLOW_PATH);
    count_event(&space_current()->faults.shared);
    return fast_unlock_table(table);
}

/* Returns the mapping that covers an address, or NULL. */
INLINE const struct mapping *mapping_covering(const struct space *space, uint64_t address)
{
    const struct region_node *node = RB_ROOT(&space->mappings);

    while (node != NULL) {
        if (address < node->start)
            node = RB_LEFT(node, link);
        else if (address >= node->end)
            node = RB_RIGHT(node, link);
        else
            break;
    }
    return (const struct mapping *)node;
}

GOES_ON bool fault_link_section(uint64_t address, uint64_t error, struct trap_frame *frame,
                                const struct descriptor *descriptor, struct frame *table,
                                struct pte *leaf)
{
    const struct mapping *mapping;
    struct space *space;
    uint64_t at;

    (void)error;
    if (UNLIKELY(!spin_try(&space_current()->mappings_lock)))
        return fault_give_up(frame, table, FAST_SLOW_PATH);
    mapping = mapping_covering(space_current(), address);
    if (UNLIKELY(mapping == NULL))
        return give_up_link(frame, table);
    at = address - mapping->origin;
    space = space_current();
    if (mapping->around > 0 || UNLIKELY(descriptor->copies) ||
        UNLIKELY(mapping->section != space->recent.section) ||
        UNLIKELY(at >> WINDOW_SHIFT != space->recent.window))
        return link_otherwise(round_down(at, PAGE_SIZE), mapping, frame, descriptor, table, leaf);
    return link_at(at, space, frame, descriptor, table, leaf);
}
