/*
 * The index of a section's mappings: an interval tree by place in the section.
 *
 * Mappings of one section overlap, unlike regions. So the red-black tree orders them by where they
 * begin, and each node records the highest end in its subtree: all mappings of a place are found in
 * O(log n) each, however many others there are.
 *
 * A search can be interrupted: a cursor records the last mapping found, and stays valid while
 * others are inserted or removed. Mappings inserted before it are missed.
 *
 * Units: bytes in the section; ranges are half-open. Owns: nothing; nodes are the caller's.
 * State of a node: outside -> mapping_index_insert -> inside -> mapping_index_remove -> outside.
 * Fails with: nothing. Context: any, one call on an index at a time (the section's lock).
 */
#ifndef VMM_SECTION_MAPPING_INDEX_H
#define VMM_SECTION_MAPPING_INDEX_H

#include <bsd/sys/tree.h>
#include <stdbool.h>
#include <stdint.h>

struct mapping_index_node {
    RB_ENTRY(mapping_index_node) link;
    uint64_t from;
    uint64_t to;
    uint64_t serial; /* orders nodes that begin at one place; set by mapping_index_insert */
    uint64_t high;   /* the highest end in the subtree of which this node is the root */
};

RB_HEAD(mapping_index_tree, mapping_index_node);

struct mapping_index {
    struct mapping_index_tree tree;
    uint64_t serials; /* given so far */
    uint32_t count;
};

/* Inserts a node whose range is set. */
void mapping_index_insert(struct mapping_index *index, struct mapping_index_node *node);
void mapping_index_remove(struct mapping_index *index, struct mapping_index_node *node);

/* Changes the end of a node that is in the index. */
void mapping_index_set_end(struct mapping_index_node *node, uint64_t to);

/* The last node found; all zero before the first. */
struct mapping_cursor {
    uint64_t from;
    uint64_t serial;
};

/* Returns the next node that overlaps [from, to), in the order of their starts, and advances the
 * cursor; NULL after the last. */
struct mapping_index_node *mapping_index_next(const struct mapping_index *index,
                                              struct mapping_cursor *cursor, uint64_t from,
                                              uint64_t to);

/* Checks order, colours and the sums of each node; panics on a difference. */
void mapping_index_audit(const struct mapping_index *index);

#endif
