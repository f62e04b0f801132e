/*
 * The page-table entry: 64 bits, in one format for every level of the tree.
 *
 * Present entries, by bit: 0 P, 1 R/W, 2 U/S, 3 PWT, 4 PCD, 5 A, 6 D, 7 PS, 8 G, 9-10 class,
 * 11 may-write, 12-51 frame, 52-62 zero, 63 NX. R/W is derived (rule E1): set exactly when
 * may-write is set and the class is not COW.
 *
 * Entries that are not present: 0 zero, 1-3 type, then a payload of 40 bits: its bits 0-19 at
 * 12-31, 20-27 at 4-11, 28-39 at 52-63. Bits 32-51 are all ones: a processor that speculatively
 * takes any payload for an address reaches the top 4 GiB of the physical address width, where
 * Faultline uses no RAM (rule E7, L1TF). The exception is empty: all 64 bits zero.
 *
 * Levels: 1 is the leaf table, 4 or 5 the top. Only the functions here build and decode entries; a
 * pattern that none of them builds is PTE_CORRUPT.
 *
 * Owns: nothing. Context: any. Cannot fail. Pure, but for the NX mask of the machine.
 * Spec: Intel SDM volume 3, 4.5 (4-level and 5-level paging). Rules: E1 to E8.
 */
#ifndef PAGING_PTE_H
#define PAGING_PTE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/check.h"
#include "lib/units.h"

#define PTE_P           (UINT64_C(1) << 0)
#define PTE_RW          (UINT64_C(1) << 1)
#define PTE_US          (UINT64_C(1) << 2)
#define PTE_PWT         (UINT64_C(1) << 3)
#define PTE_PCD         (UINT64_C(1) << 4)
#define PTE_A           (UINT64_C(1) << 5)
#define PTE_D           (UINT64_C(1) << 6)
#define PTE_PS          (UINT64_C(1) << 7) /* levels 2 and 3: a large page */
#define PTE_PAT         (UINT64_C(1) << 7) /* level 1 */
#define PTE_G           (UINT64_C(1) << 8)
#define PTE_CLASS_SHIFT 9U
#define PTE_CLASS_MASK  (UINT64_C(3) << PTE_CLASS_SHIFT)
#define PTE_MAY_WRITE   (UINT64_C(1) << 11)
#define PTE_FRAME_MASK  UINT64_C(0x000ffffffffff000)
#define PTE_HIGH_ZERO   (UINT64_C(0x7ff) << 52)
#define PTE_NX          (UINT64_C(1) << 63)

#define PTE_TYPE_SHIFT 1U
#define PTE_TYPE_MASK  (UINT64_C(7) << PTE_TYPE_SHIFT)
#define PTE_ONES       (UINT64_C(0xfffff) << 32)

#define PTE_ENTRIES    512U
#define PTE_INDEX_BITS 9U

/* One entry. */
struct pte {
    uint64_t word;
};

_Static_assert(sizeof(struct pte) == 8, "an entry is 64 bits");

enum pte_class { PTE_CLASS_NONE, PTE_OWN, PTE_COW, PTE_SHARED };

enum pte_state {
    PTE_CORRUPT,
    PTE_EMPTY,
    PTE_TICKET,
    PTE_SWAPPED,
    PTE_TRANSIT,
    PTE_GUARD,
    PTE_WITHHELD,
    PTE_LEAF,
    PTE_TABLE,
    PTE_STATES
};

/* The rights to a page. Read is implied (rule E3) unless `none` is set: then the other fields are
 * false, and a resident page is withheld (PROT_NONE). */
struct rights {
    bool write;
    bool execute;
    bool user;
    bool none;
};

/* The types of entries that are not present, as encoded. */
enum pte_type {
    PTE_TYPE_TICKET = 1,
    PTE_TYPE_SWAPPED,
    PTE_TYPE_TRANSIT,
    PTE_TYPE_GUARD,
    PTE_TYPE_WITHHELD
};

/* PTE_NX if the processor has it, else 0: then every page is executable, which the log reports. */
extern uint64_t pte_nx;

/* ---- decoding ---- */

static inline bool pte_present(struct pte entry)
{
    return (entry.word & PTE_P) != 0;
}

static inline enum pte_class pte_class(struct pte entry)
{
    return (enum pte_class)((entry.word & PTE_CLASS_MASK) >> PTE_CLASS_SHIFT);
}

/* Returns the frame of a leaf or table. */
static inline struct pfn pte_frame(struct pte entry)
{
    return (struct pfn){(uint32_t)((entry.word & PTE_FRAME_MASK) >> PAGE_SHIFT)};
}

static inline uint64_t pte_payload(struct pte entry)
{
    return ((entry.word >> 12) & 0xfffff) | ((entry.word >> 4) & 0xff) << 20 |
           (entry.word >> 52) << 28;
}

/* Return the frame of an entry in transit or withheld, and the slot of a swapped one. */
static inline struct pfn pte_payload_frame(struct pte entry)
{
    return (struct pfn){(uint32_t)pte_payload(entry)};
}

static inline struct slot pte_slot(struct pte entry)
{
    return (struct slot){(uint32_t)pte_payload(entry)};
}

/* Returns the rights of a leaf, or of a swapped, withheld or transit entry. */
static inline struct rights pte_rights(struct pte entry)
{
    uint64_t payload = pte_payload(entry);

    if (pte_present(entry))
        return (struct rights){.write = (entry.word & PTE_MAY_WRITE) != 0,
                               .execute = (entry.word & PTE_NX) == 0,
                               .user = (entry.word & PTE_US) != 0};
    return (struct rights){.write = (payload >> 32 & 1) != 0,
                           .execute = (payload >> 33 & 1) != 0,
                           .user = (payload >> 34 & 1) != 0,
                           .none = (payload >> 35 & 1) != 0};
}

/* Returns the state of an entry at this level, 1 to 5. */
enum pte_state pte_state(struct pte entry, unsigned level);

/* Returns the state's name, for the log. */
const char *pte_state_name(enum pte_state state);

/* ---- building ---- */

static inline uint64_t pte_class_bits(enum pte_class class, bool may_write)
{
    return (uint64_t) class << PTE_CLASS_SHIFT | (may_write ? PTE_MAY_WRITE : 0) |
           (may_write && class != PTE_COW ? PTE_RW : 0);
}

/* Builds a leaf of 4 KiB (level 1), 2 MiB (2) or 1 GiB (3); frame is the first of its block. A is
 * set at once, which saves the processor a write. */
static inline struct pte pte_leaf(struct pfn frame, unsigned level, enum pte_class class,
                                  struct rights rights)
{
    CHECK(level >= 1 && level <= 3 && class != PTE_CLASS_NONE);
    return (struct pte){phys_of(frame).address | PTE_P | PTE_A |
                        pte_class_bits(class, rights.write) | (rights.user ? PTE_US : 0) |
                        (rights.execute ? 0 : pte_nx) | (level > 1 ? PTE_PS : 0)};
}

/* Builds a link that carries rights: to a zero table, or a shared link (rule E2). */
static inline struct pte pte_link(struct pfn table, enum pte_class class, struct rights rights)
{
    CHECK(class != PTE_CLASS_NONE);
    return (struct pte){phys_of(table).address | PTE_P | PTE_A |
                        pte_class_bits(class, rights.write) | (rights.user ? PTE_US : 0) |
                        (rights.execute ? 0 : pte_nx)};
}

/* Builds any other link to the next table. It allows everything: rights are in the lowest entry. */
static inline struct pte pte_table(struct pfn table, enum pte_class class)
{
    return pte_link(table, class, (struct rights){.write = true, .execute = true, .user = true});
}

static inline struct pte pte_absent(enum pte_type type, uint64_t payload)
{
    CHECK(payload >> 40 == 0);
    return (struct pte){(uint64_t)type << PTE_TYPE_SHIFT | PTE_ONES | (payload & 0xfffff) << 12 |
                        (payload >> 20 & 0xff) << 4 | (payload >> 28) << 52};
}

static inline uint64_t pte_rights_payload(struct rights rights)
{
    return (uint64_t)rights.write << 32 | (uint64_t)rights.execute << 33 |
           (uint64_t)rights.user << 34 | (uint64_t)rights.none << 35;
}

static inline struct pte pte_swapped(struct slot slot, struct rights rights)
{
    return pte_absent(PTE_TYPE_SWAPPED, slot.index | pte_rights_payload(rights));
}

static inline struct pte pte_transit(struct pfn frame, struct rights rights)
{
    return pte_absent(PTE_TYPE_TRANSIT, frame.index | pte_rights_payload(rights));
}

static inline struct pte pte_withheld(struct pfn frame)
{
    return pte_absent(PTE_TYPE_WITHHELD,
                      frame.index | pte_rights_payload((struct rights){.none = true}));
}

/* Builds the entry of a resident page: a leaf, or withheld if the rights allow no access. */
static inline struct pte pte_page(struct pfn frame, unsigned level, enum pte_class class,
                                  struct rights rights)
{
    return rights.none ? pte_withheld(frame) : pte_leaf(frame, level, class, rights);
}

static inline struct pte pte_guard(void)
{
    return pte_absent(PTE_TYPE_GUARD, 0);
}

static inline struct pte pte_empty(void)
{
    return (struct pte){0};
}

/* ---- tickets ---- */

/* Sets the key of the signature. Tickets built with another key no longer decode. */
void pte_ticket_key(uint16_t key);

/* Builds a ticket: a descriptor's index and generation, and a keyed check over both (rule E6). */
struct pte pte_ticket(uint16_t index, uint8_t generation);

/* Decodes a ticket. Returns false if its check is wrong. */
bool pte_ticket_decode(struct pte entry, uint16_t *index, uint8_t *generation);

/* ---- changes in place: the hardware may set A and D at any time (rule E8) ---- */

static inline struct pte pte_read(const struct pte *entry)
{
    return (struct pte){__atomic_load_n(&entry->word, __ATOMIC_ACQUIRE)};
}

static inline struct pte pte_exchange(struct pte *entry, struct pte with)
{
    return (struct pte){__atomic_exchange_n(&entry->word, with.word, __ATOMIC_ACQ_REL)};
}

/* The OR and the AND of the entries of a run. */
struct pte_bits {
    uint64_t any;
    uint64_t all;
};

/* Returns the OR and the AND of the entries [from, to), in any state. */
static inline struct pte_bits pte_common(const struct pte *from, const struct pte *to)
{
    struct pte_bits bits = {.any = 0, .all = UINT64_MAX};

#pragma GCC unroll 8
    for (; from < to; from++) {
        uint64_t word = __atomic_load_n(&from->word, __ATOMIC_RELAXED);

        bits.any |= word;
        bits.all &= word;
    }
    return bits;
}

/* Returns true if all entries of a run at level 1 are leaves of one class with the same rights.
 * Then they differ only in A, D and their frames. */
bool pte_are_leaves(struct pte_bits bits);

/* Turns an own entry into COW in place, and keeps A and D. Returns the old entry. */
struct pte pte_make_cow(struct pte *entry);

/* Turns a COW entry into own in place, for the last owner (rule C6). */
void pte_make_own(struct pte *entry);

/* Returns the index of an address in a table of this level. */
static inline unsigned pte_index(uint64_t address, unsigned level)
{
    return (unsigned)(address >> (PAGE_SHIFT + 9 * (level - 1))) & (PTE_ENTRIES - 1);
}

/* Return the bytes that one entry of this level covers: as a shift, and as a number. */
static inline unsigned pte_shift(unsigned level)
{
    return PAGE_SHIFT + 9 * (level - 1);
}

static inline uint64_t pte_span(unsigned level)
{
    return PAGE_SIZE << (9 * (level - 1));
}

#endif
