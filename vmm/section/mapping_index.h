/*
 * The index of a section's mappings: an interval tree by place in the section.
 *
 * Mappings of one section overlap, unlike regions. So the red-black tree orders them by where they
 * begin, and each node records the highest end in its subtree: all mappings of a place are found in
 * O(log n) for each of them, whatever the number of others.
 *
 * A search can be interrupted: a cursor says which mapping was found last, and stays valid whatever
 * is inserted or removed meanwhile. Mappings that come in behind it are missed.
 *
 * Units: bytes in the section, half-open, modulo nothing. Owns: nothing; nodes are the caller's.
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

/* Gives a node that is inside another end. */
void mapping_index_set_end(struct mapping_index_node *node, uint64_t to);

/* The last node found; zeroes: none yet. */
struct mapping_cursor {
    uint64_t from;
    uint64_t serial;
};

/* Returns the next node that overlaps [from, to), in the order of their beginnings, and moves the
 * cursor on; NULL: no more. */
struct mapping_index_node *mapping_index_next(const struct mapping_index *index,
                                              struct mapping_cursor *cursor, uint64_t from,
                                              uint64_t to);

/* Proves order, colours and what each node says of its subtree; panics on a difference. */
void mapping_index_audit(const struct mapping_index *index);

#endif
