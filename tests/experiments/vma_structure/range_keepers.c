/* Three ways to keep ranges. */

#include "tests/experiments/vma_structure/range_keepers.h"

#include <bsd/sys/tree.h>
#include <stddef.h>

#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/units.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "vmm/space/space.h"

/* A processor reads this much of memory at a time. */
#define LINE 64U

#define LINES_SEEN 4096U

static struct {
    bool on;
    uint64_t count;
    uint64_t seen[LINES_SEEN];
} lines;

static inline void vma_structure_range_keepers_touch(const void *pointer)
{
    uint64_t line = (uint64_t)(uintptr_t)pointer / LINE;

    if (__builtin_expect(!lines.on, 1) || lines.seen[line % LINES_SEEN] == line)
        return;
    lines.seen[line % LINES_SEEN] = line;
    lines.count++;
}

uint64_t keeper_count_lines(bool on)
{
    uint64_t count = lines.count;

    memset(lines.seen, 0, sizeof(lines.seen));
    lines.count = 0;
    lines.on = on;
    return count;
}

/* ---- nodes ---- */

struct list_node {
    uint32_t next;
    uint32_t start;
    uint32_t end;
};

struct tree_node {
    RB_ENTRY(tree_node) link;
    uint32_t start;
    uint32_t end;
    uint32_t low;  /* of the subtree: the lowest start, */
    uint32_t high; /* the highest end, */
    uint32_t gap;  /* and the largest gap between two neighbours */
};

/* Either, in a line of its own. */
union node {
    struct list_node list;
    struct tree_node tree;
    uint8_t line[LINE];
};

_Static_assert(sizeof(union node) == LINE, "a node is a line");

#define NODES_A_BLOCK ((uint32_t)(2 * MIB / sizeof(union node)))
#define BLOCKS        (KEEPER_RANGES_MAX / NODES_A_BLOCK + 1)

static struct pfn blocks[BLOCKS];
static uint32_t block_count;

bool keeper_make_room(uint32_t ranges)
{
    while ((uint64_t)block_count * NODES_A_BLOCK < ranges) {
        if (pmm_alloc_order(ORDER_HUGE, FRAME_KERNEL, FRAME_UNCLEARED, &blocks[block_count]) != OK)
            return false;
        block_count++;
    }
    return true;
}

void keeper_end(void)
{
    while (block_count > 0)
        pmm_free_order(blocks[--block_count], ORDER_HUGE);
}

static union node *node_at(uint32_t number)
{
    return (union node *)frame_pointer(blocks[number / NODES_A_BLOCK]) + number % NODES_A_BLOCK;
}

/* ---- the list ---- */

static uint32_t list_first;

static bool list_start(uint32_t pages)
{
    (void)pages;
    list_first = KEEPER_NONE;
    return true;
}

static void list_stop(void)
{
    list_first = KEEPER_NONE;
}

/* Returns the link to the first range that ends after the page. */
static uint32_t *list_link(uint32_t page)
{
    uint32_t *link = &list_first;

    while (*link != KEEPER_NONE) {
        struct list_node *node = &node_at(*link)->list;

        vma_structure_range_keepers_touch(node);
        if (node->end > page)
            break;
        link = &node->next;
    }
    return link;
}

static bool list_insert(uint32_t number, uint32_t start, uint32_t end)
{
    uint32_t *link = list_link(start);

    vma_structure_range_keepers_touch(node_at(number));
    node_at(number)->list = (struct list_node){*link, start, end};
    *link = number;
    return true;
}

static void list_remove(uint32_t number, uint32_t start, uint32_t end)
{
    uint32_t *link = list_link(start);

    (void)end;
    CHECK(*link == number);
    *link = node_at(number)->list.next;
}

static uint32_t list_find(uint32_t page)
{
    uint32_t number = *list_link(page);

    return number != KEEPER_NONE && node_at(number)->list.start <= page
               ? node_at(number)->list.start
               : KEEPER_NONE;
}

static uint32_t list_find_gap(uint32_t size)
{
    uint32_t at = 0;

    for (uint32_t number = list_first; number != KEEPER_NONE;) {
        const struct list_node *node = &node_at(number)->list;

        vma_structure_range_keepers_touch(node);
        if (node->start - at >= size)
            break;
        at = node->end;
        number = node->next;
    }
    return at;
}

/* ---- the tree ---- */

RB_HEAD(keeper_tree, tree_node);

static struct keeper_tree tree_root;

static void vma_structure_range_keepers_sum_up(struct tree_node *node)
{
    const struct tree_node *left = RB_LEFT(node, link);
    const struct tree_node *right = RB_RIGHT(node, link);
    uint32_t gap = 0;

    vma_structure_range_keepers_touch(node);
    node->low = node->start;
    node->high = node->end;
    if (left != NULL) {
        vma_structure_range_keepers_touch(left);
        gap = left->gap > node->start - left->high ? left->gap : node->start - left->high;
        node->low = left->low;
    }
    if (right != NULL) {
        vma_structure_range_keepers_touch(right);
        if (right->low - node->end > gap)
            gap = right->low - node->end;
        if (right->gap > gap)
            gap = right->gap;
        node->high = right->high;
    }
    node->gap = gap;
}

static int tree_compare(const struct tree_node *a, const struct tree_node *b)
{
    vma_structure_range_keepers_touch(b);
    return a->start < b->start ? -1 : a->start > b->start;
}

/* <bsd/sys/tree.h> calls it for the nodes of a rotation; the way up is done here. */
#undef RB_AUGMENT
#define RB_AUGMENT(node) vma_structure_range_keepers_sum_up(node)

RB_GENERATE_INTERNAL(keeper_tree, tree_node, link, tree_compare, __attribute__((unused)) static)

static void vma_structure_range_keepers_sum_up_path(struct tree_node *node)
{
    for (; node != NULL; node = RB_PARENT(node, link))
        vma_structure_range_keepers_sum_up(node);
}

static bool vma_structure_range_keepers_tree_start(uint32_t pages)
{
    (void)pages;
    RB_INIT(&tree_root);
    return true;
}

static void tree_stop(void)
{
    RB_INIT(&tree_root);
}

static bool tree_insert(uint32_t number, uint32_t start, uint32_t end)
{
    struct tree_node *node = &node_at(number)->tree;

    *node = (struct tree_node){.start = start, .end = end};
    if (RB_INSERT(keeper_tree, &tree_root, node) != NULL)
        return false;
    vma_structure_range_keepers_sum_up_path(node);
    return true;
}

/* Removes a node; if it has two children, the next node takes its place. */
static void tree_remove(uint32_t number, uint32_t start, uint32_t end)
{
    struct tree_node *node = &node_at(number)->tree;
    struct tree_node *lowest = RB_PARENT(node, link);
    struct tree_node *next;

    CHECK(node->start == start && node->end == end);
    if (RB_LEFT(node, link) != NULL && RB_RIGHT(node, link) != NULL) {
        next = RB_NEXT(keeper_tree, &tree_root, node);
        lowest = RB_PARENT(next, link) == node ? next : RB_PARENT(next, link);
    }
    RB_REMOVE(keeper_tree, &tree_root, node);
    vma_structure_range_keepers_sum_up_path(lowest);
}

static uint32_t tree_find(uint32_t page)
{
    const struct tree_node *node = RB_ROOT(&tree_root);

    while (node != NULL) {
        vma_structure_range_keepers_touch(node);
        if (page < node->start)
            node = RB_LEFT(node, link);
        else if (page >= node->end)
            node = RB_RIGHT(node, link);
        else
            return node->start;
    }
    return KEEPER_NONE;
}

/* Finds the lowest gap along one path: in the left subtree if its largest gap suffices, else the
 * gap left of the node, else in the right subtree. */
static uint32_t tree_find_gap(uint32_t size)
{
    const struct tree_node *node = RB_ROOT(&tree_root);

    if (node == NULL || node->low >= size)
        return 0;
    if (node->gap < size)
        return node->high;
    for (;;) {
        const struct tree_node *left = RB_LEFT(node, link);
        const struct tree_node *right = RB_RIGHT(node, link);

        vma_structure_range_keepers_touch(node);
        vma_structure_range_keepers_touch(left != NULL ? left : node);
        if (left != NULL && left->gap >= size) {
            node = left;
            continue;
        }
        if (left != NULL && node->start - left->high >= size)
            return left->high;
        CHECK(right != NULL);
        vma_structure_range_keepers_touch(right);
        if (right->low - node->end >= size)
            return node->end;
        node = right;
    }
}

/* ---- the page tables ---- */

/* A space without regions. Each page that is taken has an entry that is not empty, with its range's
 * start. */
static struct {
    struct space *space;
    struct tree *tree;
    uint32_t pages;
} scan;

static bool make_leaf_table(uint32_t page)
{
    struct tree_reserve reserve = {0};
    enum status status = tree_reserve_fill(&reserve, scan.tree->levels - 1U);
    struct tlb_batch batch;

    tlb_begin(&batch, scan.tree);
    if (status == OK)
        status = tree_make_path(scan.tree, page * PAGE_SIZE, 1, TREE_BUILD, &reserve, &batch);
    tlb_commit(&batch);
    tree_reserve_drain(&reserve);
    return status == OK;
}

static void scan_stop(void)
{
    space_destroy(scan.space);
}

static bool scan_start(uint32_t pages)
{
    bool ok = SUCCEEDS(space_create(&scan.space));

    if (!ok)
        return false;
    scan.tree = &scan.space->tree;
    scan.pages = pages;
    for (uint32_t page = 0; page < pages && ok; page += PTE_ENTRIES)
        ok = make_leaf_table(page);
    if (!ok)
        scan_stop();
    return ok;
}

static struct tree_place vma_structure_range_keepers_place_of(uint32_t page)
{
    struct tree_place place = tree_walk(scan.tree, page * PAGE_SIZE);

    if (lines.on) {
        lines.count += scan.tree->levels - 1U;
        vma_structure_range_keepers_touch((const struct pte *)frame_pointer(place.table) +
                                          place.index);
    }
    return place;
}

/* Walks a range in the tables, one leaf table after the other. */
static void scan_set(uint32_t start, uint32_t end, struct pte with)
{
    for (uint32_t page = start; page < end;) {
        bool were_on = machine_interrupts_off();
        struct tree_place place = vma_structure_range_keepers_place_of(page);
        bool locked = tree_lock(place.table);

        CHECK(locked && place.level == 1);
        for (uint32_t i = place.index; i < PTE_ENTRIES && page < end; i++, page++) {
            vma_structure_range_keepers_touch((const struct pte *)frame_pointer(place.table) + i);
            tree_replace_entry(place.table, i, with);
        }
        tree_unlock(place.table);
        machine_interrupts_restore(were_on);
    }
}

static bool scan_insert(uint32_t number, uint32_t start, uint32_t end)
{
    (void)number;
    scan_set(start, end, pte_absent(PTE_TYPE_TICKET, start));
    return true;
}

static void scan_remove(uint32_t number, uint32_t start, uint32_t end)
{
    (void)number;
    scan_set(start, end, pte_empty());
}

static uint32_t scan_find(uint32_t page)
{
    struct pte entry;

    if (page >= scan.pages)
        return KEEPER_NONE;
    entry = vma_structure_range_keepers_place_of(page).entry;
    return entry.word == 0 ? KEEPER_NONE : (uint32_t)pte_payload(entry);
}

static uint32_t scan_find_gap(uint32_t size)
{
    uint32_t free_from = 0;

    for (uint32_t page = 0; page < scan.pages;) {
        const struct pte *entries = frame_pointer(vma_structure_range_keepers_place_of(page).table);

        for (unsigned i = 0; i < PTE_ENTRIES; i++, page++) {
            vma_structure_range_keepers_touch(&entries[i]);
            if (pte_read(&entries[i]).word != 0)
                free_from = page + 1;
            else if (page + 1 - free_from >= size)
                return free_from;
        }
    }
    return free_from;
}

const struct keeper keepers[KEEPERS] = {
    {"list", list_start, list_stop, list_insert, list_remove, list_find, list_find_gap},
    {"tree", vma_structure_range_keepers_tree_start, tree_stop, tree_insert, tree_remove, tree_find,
     tree_find_gap},
    {"scan", scan_start, scan_stop, scan_insert, scan_remove, scan_find, scan_find_gap},
};
