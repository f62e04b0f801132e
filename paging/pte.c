/* The entry: decoding, the ticket's signature, and changes in place. */
#include "paging/pte.h"

/* CRC-16-CCITT: any two valid codes of this length differ in 4 bits or more (rule E6 asks for 3).
 */
#define TICKET_POLYNOMIAL 0x1021U

/* Rights in a payload, from bit 32: write, execute, user, none. */
#define RIGHTS_NONE UINT64_C(8)

/* Payload of a ticket: index 0-15, generation 16-23, check 24-39. */
#define TICKET_GENERATION_SHIFT 16U
#define TICKET_CHECK_SHIFT      24U

uint64_t pte_nx = PTE_NX;

static uint16_t ticket_key;

/* Returns true if R/W is set exactly when may-write is set without COW (rule E1). */
static bool class_is_sound(struct pte entry)
{
    bool writable = (entry.word & PTE_MAY_WRITE) != 0 && pte_class(entry) != PTE_COW;

    return pte_class(entry) != PTE_CLASS_NONE && ((entry.word & PTE_RW) != 0) == writable;
}

/* Returns whether a link is sound. Rights are in the lowest entry, so an own link that denies an
 * access is corrupt (rule E2). */
static bool link_is_sound(struct pte entry)
{
    uint64_t rights = entry.word & (PTE_MAY_WRITE | PTE_US | PTE_NX);

    return pte_class(entry) != PTE_OWN || rights == (PTE_MAY_WRITE | PTE_US);
}

static enum pte_state present_state(struct pte entry, unsigned level)
{
    bool large = level > 1 && (entry.word & PTE_PS) != 0;
    uint64_t frame = (entry.word & PTE_FRAME_MASK) >> PAGE_SHIFT;

    if (!class_is_sound(entry) || (entry.word & (PTE_HIGH_ZERO | PTE_PWT | PTE_PCD | PTE_G)) != 0 ||
        frame >> 32 != 0 || frame == UINT32_MAX)
        return PTE_CORRUPT;
    if (level == 1)
        return (entry.word & PTE_PAT) != 0 ? PTE_CORRUPT : PTE_LEAF;
    if (!large)
        return link_is_sound(entry) ? PTE_TABLE : PTE_CORRUPT;
    if (level > 3 || frame % (pte_span(level) >> PAGE_SHIFT) != 0)
        return PTE_CORRUPT;
    return PTE_LEAF;
}

/* Returns whether rights are sound: RIGHTS_NONE excludes the others, and the bits above it are
 * zero. */
static bool rights_are_sound(uint64_t payload)
{
    return payload >> 32 <= RIGHTS_NONE;
}

static enum pte_state absent_state(struct pte entry, unsigned level)
{
    uint64_t payload = pte_payload(entry);

    if (entry.word == 0)
        return PTE_EMPTY;
    if ((entry.word & PTE_ONES) != PTE_ONES)
        return PTE_CORRUPT;
    switch ((entry.word & PTE_TYPE_MASK) >> PTE_TYPE_SHIFT) {
    case PTE_TYPE_TICKET: return PTE_TICKET;
    case PTE_TYPE_GUARD: return payload == 0 ? PTE_GUARD : PTE_CORRUPT;
    case PTE_TYPE_SWAPPED:
        return level == 1 && rights_are_sound(payload) ? PTE_SWAPPED : PTE_CORRUPT;
    case PTE_TYPE_TRANSIT:
        return level == 1 && rights_are_sound(payload) ? PTE_TRANSIT : PTE_CORRUPT;
    case PTE_TYPE_WITHHELD:
        return level <= 3 && payload >> 32 == RIGHTS_NONE ? PTE_WITHHELD : PTE_CORRUPT;
    default: return PTE_CORRUPT;
    }
}

enum pte_state pte_state(struct pte entry, unsigned level)
{
    CHECK(level >= 1 && level <= 5);
    return pte_present(entry) ? present_state(entry, level) : absent_state(entry, level);
}

bool pte_are_leaves(struct pte_bits bits)
{
    struct pte any = {bits.any};

    return ((bits.any ^ bits.all) & ~(PTE_FRAME_MASK | PTE_A | PTE_D)) == 0 &&
           pte_state(any, 1) == PTE_LEAF;
}

const char *pte_state_name(enum pte_state state)
{
    static const char *const names[] = {"corrupt", "empty",    "ticket", "swapped", "in transit",
                                        "guard",   "withheld", "leaf",   "table"};

    _Static_assert(ARRAY_COUNT(names) == PTE_STATES, "one name for each state");
    CHECK(state < PTE_STATES);
    return names[state];
}

static uint16_t ticket_check(uint16_t index, uint8_t generation)
{
    uint32_t message = (uint32_t)generation << 16 | index;
    uint32_t crc = 0;

    for (int bit = 23; bit >= 0; bit--) {
        bool carry = ((crc >> 15 & 1) ^ (message >> bit & 1)) != 0;

        crc = (crc << 1 & 0xffff) ^ (carry ? TICKET_POLYNOMIAL : 0);
    }
    return (uint16_t)(crc ^ ticket_key);
}

void pte_ticket_key(uint16_t key)
{
    ticket_key = key;
}

struct pte pte_ticket(uint16_t index, uint8_t generation)
{
    return pte_absent(PTE_TYPE_TICKET, (uint64_t)ticket_check(index, generation)
                                               << TICKET_CHECK_SHIFT |
                                           (uint64_t)generation << TICKET_GENERATION_SHIFT | index);
}

bool pte_ticket_decode(struct pte entry, uint16_t *index, uint8_t *generation)
{
    uint64_t payload = pte_payload(entry);

    CHECK(!pte_present(entry));
    *index = (uint16_t)payload;
    *generation = (uint8_t)(payload >> TICKET_GENERATION_SHIFT);
    return entry.word == pte_ticket(*index, *generation).word;
}

struct pte pte_make_cow(struct pte *entry)
{
    struct pte old = pte_read(entry);
    uint64_t cow;

    CHECK_MSG(pte_present(old) && pte_class(old) == PTE_OWN, "entry %lx cannot become COW",
              old.word);
    do {
        cow = (old.word & ~(PTE_CLASS_MASK | PTE_RW)) | (uint64_t)PTE_COW << PTE_CLASS_SHIFT;
    } while (!__atomic_compare_exchange_n(&entry->word, &old.word, cow, false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_ACQUIRE));
    return old;
}

void pte_make_own(struct pte *entry)
{
    struct pte old = pte_read(entry);
    uint64_t own;

    CHECK_MSG(pte_present(old) && pte_class(old) == PTE_COW, "entry %lx cannot become own",
              old.word);
    do {
        own = (old.word & ~PTE_CLASS_MASK) | (uint64_t)PTE_OWN << PTE_CLASS_SHIFT |
              ((old.word & PTE_MAY_WRITE) != 0 ? PTE_RW : 0);
    } while (!__atomic_compare_exchange_n(&entry->word, &old.word, own, false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_ACQUIRE));
}
