/*
 * AUDIT: checks that every count equals the reachable references.
 *
 * It needs no memory. The first pass visits each table once and subtracts every reference from its
 * target's count. Zero must be left for all but roots. The second pass restores the counts.
 */
#include "paging/kernel/map.h"
#include "paging/tree/internal.h"
#include "pmm/memory_map.h"

struct audit {
    struct tree_census census;
    bool taking; /* first pass */
};

/* `alone`: an own entry is the only reference. */
static void count_pointer(struct audit *audit, struct pfn target, struct pte entry, bool alone)
{
    struct frame *record = frame_record(target);

    if (record->count >= COUNT_STILL)
        return; /* saturated */
    if (!audit->taking)
        record->count++;
    /* The first pass checks before the first subtraction, the second after the last addition: one
     * of them sees the other references of an own entry. */
    CHECK_MSG(record->count > 0, "frame %x has fewer counts than pointers (entry %lx)",
              target.index, entry.word);
    CHECK_MSG(!alone || !pte_present(entry) || pte_class(entry) != PTE_OWN || record->count == 1,
              "frame %x is own by entry %lx but has count %u", target.index, entry.word,
              record->count);
    if (audit->taking)
        record->count--;
}

static void audit_table(struct audit *audit, struct pfn table, unsigned level, unsigned entries);

/* Checks a page's back pointer. All its entries have one index, except the leaves in spaces of a
 * section's page, whose back pointer is in the section's tree (rules R1, S3). There an own entry is
 * the only one, and is the back pointer (rule S1). */
static void check_name(struct pfn page, struct pte entry, struct pfn table, unsigned index)
{
    const struct frame *record = frame_record(page);
    bool shared = (record->flags & FRAME_SHARED) != 0;
    bool own = pte_present(entry) && pte_class(entry) == PTE_OWN;

    CHECK_MSG((shared || record->page.back_index == index) && rmap_has_pointer(page),
              "page %x, which entry %lx at %u names, names entry %u of frame %x", page.index,
              entry.word, index, record->page.back_index, record->page.back_table);
    CHECK_MSG(!shared || !own ||
                  (record->page.back_table == table.index &&
                   tree_find_pointers(page, PTE_LEAF, NULL, 0) == 1),
              "section's page %x is own by entry %lx of frame %x, names frame %x", page.index,
              entry.word, table.index, record->page.back_table);
}

static void audit_page(struct audit *audit, struct pfn page, struct pte entry, struct pfn table,
                       unsigned index)
{
    unsigned level = frame_record(table)->level;
    bool shared = (frame_record(page)->flags & FRAME_SHARED) != 0;

    CHECK_MSG(frame_record(page)->kind == FRAME_ANONYMOUS,
              "entry %lx of level %u names frame %x of kind %u", entry.word, level, page.index,
              frame_record(page)->kind);
    CHECK_MSG(level == 1 ? (frame_record(page)->flags & FRAME_BLOCK) == 0
                         : (frame_record(page)->flags & FRAME_BLOCK) != 0 &&
                               frame_record(page)->level == leaf_order(level),
              "entry %lx of level %u names frame %x with flags %x, order %u", entry.word, level,
              page.index, frame_record(page)->flags, frame_record(page)->level);
    check_name(page, entry, table, index);
    CHECK_MSG(shared ? pte_state(entry, level) != PTE_WITHHELD
                     : !pte_present(entry) || pte_class(entry) != PTE_SHARED,
              "entry %lx of level %u names page %x with flags %x", entry.word, level, page.index,
              frame_record(page)->flags);
    count_pointer(audit, page, entry, !shared);
    audit->census.leaves++;
}

/* Checks an entry that maps zeros (rule C8). */
static void audit_zero(struct audit *audit, struct pte entry, unsigned level)
{
    CHECK_MSG(pte_class(entry) == PTE_COW &&
                  pte_frame(entry).index == tree_zero_page().index + level - 1,
              "entry %lx of level %u shows zeroes, but is not COW or not of its level", entry.word,
              level);
    audit->census.zero_links[level]++;
}

/* Returns true if a link allows everything, as all do but zero ladder and shared (rule E2). */
static bool link_allows_all(struct pte entry)
{
    uint64_t rights = PTE_MAY_WRITE | PTE_US;

    return pte_class(entry) == PTE_SHARED || (entry.word & (rights | PTE_NX)) == rights;
}

static void audit_entry(struct audit *audit, struct pte entry, struct pfn table, unsigned index)
{
    unsigned level = frame_record(table)->level;
    struct pfn next;

    switch (pte_state(entry, level)) {
    case PTE_LEAF:
        if (entry_is_held(entry)) {
            audit_page(audit, pte_frame(entry), entry, table, index);
            return;
        }
        audit_zero(audit, entry, level);
        return;
    case PTE_TRANSIT:
    case PTE_WITHHELD: audit_page(audit, pte_payload_frame(entry), entry, table, index); return;
    case PTE_SWAPPED: audit->census.swapped++; return;
    case PTE_TABLE:
        if (entry_is_zero(entry)) {
            audit_zero(audit, entry, level);
            return;
        }
        next = pte_frame(entry);
        CHECK_MSG(link_allows_all(entry), "entry %lx of level %u forbids something", entry.word,
                  level);
        CHECK_MSG(frame_record(next)->kind == FRAME_TABLE && frame_record(next)->level == level - 1,
                  "entry %lx of level %u names frame %x: kind %u, level %u", entry.word, level,
                  next.index, frame_record(next)->kind, frame_record(next)->level);
        count_pointer(audit, next, entry, true);
        audit_table(audit, next, level - 1, PTE_ENTRIES);
        return;
    case PTE_EMPTY:
    case PTE_TICKET:
    case PTE_GUARD: return;
    case PTE_CORRUPT:
    case PTE_STATES: break;
    }
    PANIC("entry %lx of level %u is corrupt", entry.word, level);
}

/* Visits a table when it is first reached in this pass. */
static void audit_table(struct audit *audit, struct pfn table, unsigned level, unsigned entries)
{
    struct frame *record = frame_record(table);
    const struct pte *at = frame_pointer(table);
    unsigned live = 0;
    unsigned held = 0;

    if (((record->marks & FRAME_SEEN) != 0) == audit->taking)
        return;
    record->marks ^= FRAME_SEEN;
    CHECK_MSG((record->flags & FRAME_DEAD) == 0 && record->lock == 0,
              "table %x is reachable with flags %x and lock %u", table.index, record->flags,
              record->lock);
    audit->census.tables[level]++;
    for (unsigned i = 0; i < entries; i++) {
        struct pte entry = pte_read(&at[i]);

        live += entry.word != 0;
        held += entry_is_held(entry);
        audit_entry(audit, entry, table, i);
    }
    CHECK_MSG(live == record->live && held == record->table.held,
              "table %x has %u live and %u held entries, its record says %u and %u", table.index,
              live, held, record->live, record->table.held);
}

static void audit_tree(const struct tree *tree, void *audit)
{
    audit_table(audit, tree->root, tree->levels, PTE_ENTRIES / (tree->plain ? 1 : 2));
}

/* After the first pass a root has one reference left, all else none. */
static void take_root(const struct tree *tree, void *context)
{
    struct frame *record = frame_record(tree->root);

    (void)context;
    if (!tree->plain)
        kernel_map_check_half(tree->root);
    CHECK_MSG(record->count == 1, "root %x has count %u", tree->root.index, record->count);
    record->count = 0;
}

static void restore_root(const struct tree *tree, void *context)
{
    (void)context;
    frame_record(tree->root)->count = 1;
}

static void check_remainders(const struct memory_range *in)
{
    for (uint64_t at = in->start; memory_is_ram(in->kind) && at < in->end; at += PAGE_SIZE) {
        const struct frame *record = frame_record(pfn_of((struct phys){at}));

        if (record->kind == FRAME_TABLE || record->kind == FRAME_ANONYMOUS)
            CHECK_MSG(record->count == 0 || record->count >= COUNT_STILL,
                      "frame %lx of kind %u: %u counts without a pointer", at >> PAGE_SHIFT,
                      record->kind, record->count);
    }
}

struct tree_census tree_audit(void (*visit_all)(tree_visit *visit, void *context))
{
    const struct memory_map *map = memory_map();
    struct audit audit = {.taking = true};

    visit_all(audit_tree, &audit);
    visit_all(take_root, NULL);
    for (uint32_t i = 0; i < map->count; i++)
        check_remainders(&map->ranges[i]);
    visit_all(restore_root, NULL);
    audit = (struct audit){.taking = false};
    visit_all(audit_tree, &audit);
    return audit.census;
}
