/* Three layouts of an entry that hold the same pages. */
#include "tests/experiments/entry_states/layouts.h"

#include "lib/bytes.h"
#include "vmm/space/descriptor.h"

struct entry_world entry_world;

static const struct entry_area *area_of(unsigned number)
{
    unsigned low = 0;
    unsigned high = entry_world.area_count;

    entry_world.looks++;
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;

        if (entry_world.areas[middle].first <= number)
            low = middle;
        else
            high = middle;
    }
    return &entry_world.areas[low];
}

/* The shipped layout, with a ticket compared as in descriptor_of. Only a ticket's rights are
 * outside the entry, in its descriptor. */
static uint64_t shipped_encode(const struct entry_page *page)
{
    struct pfn frame = {page->number};

    switch (page->state) {
    case PTE_TICKET: return entry_world.tickets[page->number].word;
    case PTE_SWAPPED: return pte_swapped((struct slot){page->number}, page->rights).word;
    case PTE_TRANSIT: return pte_transit(frame, page->rights).word;
    case PTE_GUARD: return pte_guard().word;
    case PTE_WITHHELD: return pte_withheld(frame).word;
    case PTE_LEAF: return pte_leaf(frame, 1, PTE_COW, page->rights).word;
    default: return pte_empty().word;
    }
}

/* Returns a descriptor's rights. Without NX in the processor, an entry cannot forbid execution. */
static struct rights rights_of(uint32_t descriptor)
{
    return (struct rights){.write = (descriptor & 1) != 0,
                           .execute = (descriptor & 2) != 0 || pte_nx == 0,
                           .user = (descriptor & 4) != 0};
}

static struct entry_page shipped_decode(uint64_t word, unsigned number)
{
    struct pte entry = {word};
    struct entry_page page = {.state = pte_state(entry, 1)};

    (void)number;
    switch (page.state) {
    case PTE_TICKET:
        page.number = (uint32_t)pte_payload(entry) & 0xffff;
        entry_world.looks++;
        if (page.number >= ENTRY_DESCRIPTORS || entry_world.tickets[page.number].word != word)
            return (struct entry_page){.state = PTE_CORRUPT};
        page.rights = rights_of(page.number);
        return page;
    case PTE_LEAF: page.number = pte_frame(entry).index; break;
    case PTE_SWAPPED:
    case PTE_TRANSIT:
    case PTE_WITHHELD: page.number = (uint32_t)pte_payload(entry); break;
    default: return page;
    }
    page.rights = pte_rights(entry);
    return page;
}

static enum pte_state shipped_told(uint64_t word)
{
    return pte_state((struct pte){word}, 1);
}

static uint64_t shipped_side_bytes(void)
{
    unsigned used = 0;

    for (unsigned i = 0; i < entry_world.area_count; i++)
        used |= 1U << entry_world.areas[i].descriptor;
    return entry_count_bits(used) * sizeof(struct descriptor);
}

/* As Linux has it on x86-64: type in bits 59 to 63, the offset inverted in 9 to 58, and a page
 * without access as a frame, inverted, with bit 8 set. Reserved memory has no entry. */
#define LINUX_TYPE_SHIFT 59U
#define LINUX_OFFSET     ((UINT64_C(1) << 50) - 1)
#define LINUX_NO_ACCESS  (UINT64_C(1) << 8)

enum linux_type { LINUX_SWAP = 1, LINUX_MIGRATION = 28, LINUX_MARKER = 31 };

static uint64_t linux_swap(enum linux_type type, uint64_t offset)
{
    return (uint64_t)type << LINUX_TYPE_SHIFT | (~offset & LINUX_OFFSET) << 9;
}

static uint64_t linux_encode(const struct entry_page *page)
{
    struct pfn frame = {page->number};

    switch (page->state) {
    case PTE_SWAPPED: return linux_swap(LINUX_SWAP, page->number);
    case PTE_TRANSIT: return linux_swap(LINUX_MIGRATION, page->number);
    case PTE_GUARD: return linux_swap(LINUX_MARKER, 0);
    case PTE_WITHHELD: return LINUX_NO_ACCESS | (~phys_of(frame).address & PTE_FRAME_MASK);
    case PTE_LEAF:
        return phys_of(frame).address | PTE_P | PTE_A | (page->rights.user ? PTE_US : 0) |
               (page->rights.execute ? 0 : PTE_NX);
    default: return 0;
    }
}

static struct entry_page linux_decode(uint64_t word, unsigned number)
{
    const struct entry_area *area = area_of(number);
    struct entry_page page = {.rights = area->rights,
                              .number = (uint32_t)(~word >> 9 & LINUX_OFFSET)};

    if ((word & (PTE_P | LINUX_NO_ACCESS)) != 0) {
        page.state = (word & PTE_P) != 0 ? PTE_LEAF : PTE_WITHHELD;
        if (page.state == PTE_WITHHELD)
            page.rights = (struct rights){.none = true};
        page.number = (uint32_t)(((word & PTE_P) != 0 ? word : ~word) << 12 >> 24);
        return page;
    }
    switch (word >> LINUX_TYPE_SHIFT) {
    case 0:
        if (area->hole)
            return (struct entry_page){.state = PTE_EMPTY};
        page.state = PTE_TICKET;
        page.number = area->descriptor;
        return page;
    case LINUX_SWAP: page.state = PTE_SWAPPED; return page;
    case LINUX_MIGRATION: page.state = PTE_TRANSIT; return page;
    case LINUX_MARKER: return (struct entry_page){.state = PTE_GUARD};
    default: return (struct entry_page){.state = PTE_CORRUPT};
    }
}

/* Returns the state that the entry alone gives. Zero is an unmapped page or an untouched one; only
 * the area tells which. */
static enum pte_state linux_told(uint64_t word)
{
    if ((word & PTE_P) != 0)
        return PTE_LEAF;
    if ((word & LINUX_NO_ACCESS) != 0)
        return PTE_WITHHELD;
    switch (word >> LINUX_TYPE_SHIFT) {
    case LINUX_SWAP: return PTE_SWAPPED;
    case LINUX_MIGRATION: return PTE_TRANSIT;
    case LINUX_MARKER: return PTE_GUARD;
    default: return PTE_CORRUPT;
    }
}

static uint64_t linux_side_bytes(void)
{
    return entry_world.area_count * sizeof(struct entry_area);
}

/* Encodes the plain layout: an entry that is not present has the number of a record. */
static uint64_t plain_encode(const struct entry_page *page)
{
    if (page->state == PTE_EMPTY)
        return 0;
    if (page->state == PTE_LEAF)
        return linux_encode(page) | (page->rights.write ? PTE_RW : 0);
    entry_world.records[++entry_world.record_count] = (struct entry_record){
        .state = (uint8_t)page->state, .rights = page->rights, .number = page->number};
    return (uint64_t)entry_world.record_count << 1;
}

static struct entry_page plain_decode(uint64_t word, unsigned number)
{
    struct pte entry = {word};
    const struct entry_record *record = &entry_world.records[word >> 1 & 0xfff];

    (void)number;
    if (pte_present(entry))
        return (struct entry_page){.state = PTE_LEAF,
                                   .number = pte_frame(entry).index,
                                   .rights = {.write = (word & PTE_RW) != 0,
                                              .execute = (word & PTE_NX) == 0,
                                              .user = (word & PTE_US) != 0}};
    if (word == 0)
        return (struct entry_page){.state = PTE_EMPTY};
    entry_world.looks++;
    return (struct entry_page){
        .state = (enum pte_state)record->state, .rights = record->rights, .number = record->number};
}

static enum pte_state plain_told(uint64_t word)
{
    if (word == 0)
        return PTE_EMPTY;
    return (word & PTE_P) != 0 ? PTE_LEAF : PTE_CORRUPT;
}

static uint64_t plain_side_bytes(void)
{
    return entry_world.record_count * sizeof(struct entry_record);
}

const struct entry_layout entry_layouts[ENTRY_LAYOUTS] = {
    {"shipped", shipped_encode, shipped_decode, shipped_told, shipped_side_bytes},
    {"linux", linux_encode, linux_decode, linux_told, linux_side_bytes},
    {"plain", plain_encode, plain_decode, plain_told, plain_side_bytes},
};

/* Returns a random state. Half of the pages are tickets, since most mapped memory is untouched. */
static enum pte_state some_state(struct random *random)
{
    static const enum pte_state states[] = {PTE_SWAPPED,  PTE_TRANSIT, PTE_GUARD,
                                            PTE_WITHHELD, PTE_LEAF,    PTE_LEAF};

    return random_below(random, 2) == 0 ? PTE_TICKET
                                        : states[random_below(random, ARRAY_COUNT(states))];
}

/* Begins an area; one in eight is a hole. */
static struct entry_area *begin_area(unsigned first, struct random *random)
{
    struct entry_area *area = &entry_world.areas[entry_world.area_count++];

    area->first = first;
    area->hole = random_below(random, 8) == 0;
    area->descriptor = (uint32_t)random_below(random, ENTRY_DESCRIPTORS);
    area->rights = rights_of(area->descriptor);
    return area;
}

static struct entry_page some_page(const struct entry_area *area, struct random *random)
{
    struct entry_page page = {.state = some_state(random),
                              .rights = area->rights,
                              .number = (uint32_t)random_next(random) & 0x7fffffff};

    if (area->hole)
        return (struct entry_page){.state = PTE_EMPTY};
    if (page.state == PTE_GUARD)
        return (struct entry_page){.state = PTE_GUARD};
    if (page.state == PTE_TICKET)
        page.number = area->descriptor;
    if (page.state == PTE_WITHHELD)
        page.rights = (struct rights){.none = true};
    return page;
}

void entry_world_make(struct random *random)
{
    struct entry_area *area = NULL;

    memset(&entry_world, 0, sizeof(entry_world));
    for (unsigned i = 0; i < ENTRY_DESCRIPTORS; i++)
        entry_world.tickets[i] = pte_ticket((uint16_t)i, 1);
    for (unsigned i = 0; i < ENTRY_PAGES; i++) {
        if (area == NULL ||
            (random_below(random, 64) == 0 && entry_world.area_count < ENTRY_AREAS_MAX))
            area = begin_area(i, random);
        area->end = i + 1;
        entry_world.pages[i] = some_page(area, random);
    }
}
