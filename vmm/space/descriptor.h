/*
 * Descriptors: the attributes that a ticket refers to: the origin and rights of a page, but no
 * address.
 *
 * One table holds them, with access by index in O(1). Each stores its ticket word and the prepared
 * bits of its future entries, so that one compare checks type, index, generation, signature and
 * ones at once. A descriptor is immutable while counted. All blank memory with the same rights and
 * page size shares one, and so does all shared memory with the same rights.
 *
 * Units: indexes of 16 bits; 0 is none. Owns: the frames of the table.
 * State: descriptor_blank or descriptor_section (count 1) -> hold/put -> count 0: not in use, no
 * ticket is valid -> descriptor_blank ... It keeps its index for good, since there are few sets of
 * attributes; so indexes never run out (rule E6).
 * Fails with: STATUS_NO_MEMORY.
 * Context: thread; descriptor_of in a fault too. Protectors: (c) constant while counted, (d) the
 * table's lock. Rules: E6, T1, T2.
 */
#ifndef VMM_SPACE_DESCRIPTOR_H
#define VMM_SPACE_DESCRIPTOR_H

#include "lib/status.h"
#include "paging/kernel/layout.h"
#include "paging/pte.h"

/* The kind of pages that a region wants. Blank memory: large pages of page_level where they fit
 * (vmm/page/large.h; 1 is small ones), and 2^around pages at a first write. Or pages of a
 * section. */
struct page_hint {
    uint8_t level;
    uint8_t around;
    bool shared; /* of a section; level is 1 and around 0 then */
    bool copies; /* of a section, by a private mapping; shared is set too */
};

struct descriptor {
    struct pte ticket;    /* (c) the ticket's word in entries; 0 while unused */
    struct pte zero_leaf; /* (c) entry that maps the zero page; empty without access */
    uint64_t own_bits;    /* (c) entry of an own page, without its frame; 0 without access */
    struct rights rights; /* (c) */
    union {
        struct page_hint hint; /* (c) */
        struct {
            uint8_t page_level; /* (c) pages are leaves of this level where they fit, 1 to 3 */
            uint8_t around;     /* (c) a first write brings up to 2^around pages */
            bool shared;        /* (c) pages are a section's: no bits for own pages */
            bool copies;        /* (c) shared, too: a write copies the page */
        };
    };
    uint32_t count;     /* (d) regions that refer to it */
    uint16_t index;     /* (c) */
    uint32_t allows;    /* (c) a bit for each page-fault error code below 32: access allowed, and
                           * for the fast path to resolve */
    uint32_t denies;    /* (c) likewise for ring 3: denied in every state of the page */
    uint32_t links;     /* (c) likewise, for the fast path to resolve by a section's page */
    uint64_t link_bits; /* (c) entry of a section's page, without its frame */
};

/* At most 16 pages are mapped by one fault, which bounds how long the table is locked. */
#define AROUND_MOST 4U

_Static_assert(sizeof(struct descriptor) == 64, "a descriptor is one cache line");

/* Allocates the first frame of the table. Called once, before any other call. */
MUST_USE enum status descriptor_init(void);

/* Returns the descriptor of memory with these rights and hints, with one more count. */
MUST_USE enum status descriptor_with_hint(struct rights rights, struct page_hint hint,
                                          struct descriptor **descriptor);

static inline enum status descriptor_blank(struct rights rights, unsigned level,
                                           struct descriptor **descriptor)
{
    return descriptor_with_hint(rights, (struct page_hint){.level = (uint8_t)level}, descriptor);
}

static inline struct page_hint descriptor_hint(const struct descriptor *descriptor)
{
    return descriptor->hint;
}

static inline enum status descriptor_anonymous(struct rights rights, struct descriptor **descriptor)
{
    return descriptor_blank(rights, 1, descriptor);
}

/* Returns the descriptor of memory that sections back, with these rights and one more count;
 * `copies`: of private mappings. The mapping says which section and which part of it (rule T1). */
static inline enum status descriptor_section(struct rights rights, bool copies,
                                             struct descriptor **descriptor)
{
    return descriptor_with_hint(
        rights, (struct page_hint){.level = 1, .shared = true, .copies = copies}, descriptor);
}

/* Builds the ticket of that descriptor with an entry's rights; another holder keeps it alive.
 * Returns false on a processor without NX if such regions differ in the right to execute, which
 * entries there do not record. */
MUST_USE bool descriptor_section_ticket(struct rights rights, bool copies, struct pte *ticket);

/* Add counts, and drop them. */
void descriptor_hold(struct descriptor *descriptor, uint32_t counts);
void descriptor_put(struct descriptor *descriptor, uint32_t counts);

/* Returns the number of descriptors in use. */
unsigned descriptor_count(void);

/* Returns the descriptor that a ticket refers to; NULL if the ticket is stale, damaged or
 * forged. */
static inline const struct descriptor *descriptor_of(struct pte ticket, uint32_t limit)
{
    uint32_t index = (uint32_t)pte_payload(ticket) & 0xffff;
    const struct descriptor *descriptor =
        (const struct descriptor *)(uintptr_t)DESCRIPTORS_BASE + index;

    if (index >= limit || descriptor->ticket.word != ticket.word)
        return NULL;
    return descriptor;
}

/* One more than the highest index that has memory: the limit for descriptor_of. */
extern uint32_t descriptor_limit;

/* Returns descriptor_limit, which others may raise meanwhile. */
static inline uint32_t descriptor_bound(void)
{
    return __atomic_load_n(&descriptor_limit, __ATOMIC_ACQUIRE);
}

#endif
