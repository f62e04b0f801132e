/* The table of descriptors. */
#include "vmm/space/descriptor.h"

#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "paging/kernel/map.h"
#include "paging/tree/tree.h"
#include "pmm/pmm.h"

/* Sizes of pages: 4 KiB, 2 MiB, 1 GiB. */
#define LEVELS 3U

/* Index 0, which is none, and one index for each set of attributes. */
#define DESCRIPTORS_MAX   (1U + ((AROUND_MOST + 1) * LEVELS + 2) * 16)
#define DESCRIPTORS_FRAME (PAGE_SIZE / sizeof(struct descriptor))

/* The generation of all tickets: a descriptor keeps its index for good, so one generation
 * suffices. */
#define GENERATION 1U

_Static_assert(DESCRIPTORS_MAX - 1 <= UINT16_MAX, "an index has 16 bits, in tickets as here");

uint32_t descriptor_limit;

static struct {
    uint8_t lock;
    uint16_t made; /* index of the last one made; descriptors are never freed */
    unsigned in_use;
    /* The index of the descriptor of blank memory with these hints and rights; 0 = not made yet. */
    uint16_t blank[AROUND_MOST + 1][LEVELS][16];
    /* The same for memory of sections, by rights. */
    uint16_t sections[2][16];
    /* The tickets of the descriptors that were made, by index: computed once (rule E6). */
    struct pte tickets[DESCRIPTORS_MAX];
} table;

static struct descriptor *descriptor_at(uint32_t index)
{
    CHECK(index < DESCRIPTORS_MAX);
    return (struct descriptor *)(uintptr_t)DESCRIPTORS_BASE + index;
}

/* Packs four bytes of 0 or 1 into four bits: each factor moves one of them to its place. */
static unsigned rights_number(struct rights rights)
{
    uint32_t bytes;

    _Static_assert(sizeof(rights) == sizeof(bytes), "a byte each");
    __builtin_memcpy(&bytes, &rights, sizeof(bytes));
    return bytes * (1U << 24 | 1U << 17 | 1U << 10 | 1U << 3) >> 24 & 15;
}

/* Adds a frame of descriptors. */
static enum status descriptor_grow(void)
{
    uint32_t limit = descriptor_limit + (uint32_t)DESCRIPTORS_FRAME;
    struct pfn frame;
    enum status status;

    CHECK(descriptor_limit < DESCRIPTORS_MAX);
    status = pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &frame);
    if (status != OK)
        return status;
    status = kernel_map_page(
        (uintptr_t)((struct descriptor *)(uintptr_t)DESCRIPTORS_BASE + descriptor_limit), frame);
    if (status != OK) {
        pmm_free(frame);
        return status;
    }
    /* Index 0 is none: no entry, not even the empty one, equals this word. */
    if (descriptor_limit == 0)
        descriptor_at(0)->ticket.word = UINT64_MAX;
    /* Faults read it without the lock. */
    __atomic_store_n(&descriptor_limit, limit, __ATOMIC_RELEASE);
    return OK;
}

enum status descriptor_init(void)
{
    CHECK(descriptor_limit == 0);
    return descriptor_grow();
}

/* Returns the error codes (SDM volume 3, 4.7; P, W/R, U/S, I/D are bits 0, 1, 2, 4) that the fast
 * path may resolve. For other codes the error code does not suffice (ring 0 at a user page, a
 * reserved bit), or the fault maps several pages. */
static uint32_t allowed_codes(struct rights rights, struct page_hint hint)
{
    uint32_t allowed = 0;

    for (unsigned code = 0; code < 32; code++) {
        bool write = (code & 2) != 0;
        bool user = (code & 4) != 0;
        bool reserved = (code & 8) != 0;
        bool fetch = (code & 16) != 0;

        if (!rights.none && user == rights.user && !reserved &&
            (!write || (rights.write && hint.around == 0)) && (!fetch || rights.execute))
            allowed |= UINT32_C(1) << code;
    }
    return allowed;
}

/* Returns the error codes of ring 3 that the rights deny. Codes with another cause are not among
 * them. */
static uint32_t denied_codes(struct rights rights)
{
    uint32_t denied = 0;

    for (unsigned code = 0; code < 32; code++) {
        bool write = (code & 2) != 0;
        bool user = (code & 4) != 0;
        bool reserved = (code & 8) != 0;
        bool fetch = (code & 16) != 0;

        if (user && !reserved &&
            (rights.none || !rights.user || (write && !rights.write) ||
             (fetch && !rights.execute && pte_nx != 0)))
            denied |= UINT32_C(1) << code;
    }
    return denied;
}

/* Returns the error codes that a section's page resolves. A write through a private mapping copies
 * the page, which the fast path does not. */
static uint32_t linking_codes(struct rights rights, struct page_hint hint)
{
    CHECK(hint.shared || !hint.copies);
    rights.write = rights.write && !hint.copies;
    return hint.shared ? allowed_codes(rights, hint) : 0;
}

static uint64_t link_bits_of(struct rights rights, struct page_hint hint)
{
    struct pfn none = {0};

    if (rights.none || !hint.shared)
        return 0;
    return pte_leaf(none, 1, hint.copies ? PTE_COW : PTE_SHARED, rights).word;
}

/* Fills in a descriptor. Memory of sections has no pages of its own, and never zeros: no error code
 * is allowed, and only the bits of links are prepared. */
static void descriptor_fill(struct descriptor *descriptor, uint16_t index, struct rights rights,
                            struct page_hint hint)
{
    bool fast = !rights.none && !hint.shared;
    struct pfn none = {0};

    descriptor->index = index;
    descriptor->rights = rights;
    descriptor->hint = hint;
    descriptor->allows = fast ? allowed_codes(rights, hint) : 0;
    descriptor->denies = denied_codes(rights);
    descriptor->links = linking_codes(rights, hint);
    descriptor->link_bits = link_bits_of(rights, hint);
    CHECK(((descriptor->allows | descriptor->links) & descriptor->denies) == 0);
    descriptor->zero_leaf = fast ? zero_ladder_entry(1, rights) : pte_empty();
    descriptor->own_bits = fast ? pte_leaf(none, 1, PTE_OWN, rights).word : 0;
}

/* Makes the descriptor of these attributes, with count 0. */
static enum status descriptor_make(uint16_t *place, struct rights rights, struct page_hint hint)
{
    enum status status = table.made + 1U == descriptor_limit ? descriptor_grow() : OK;

    if (status != OK)
        return status;
    table.made++;
    CHECK_MSG(descriptor_at(table.made)->count == 0, "descriptor %u has count %u", table.made,
              descriptor_at(table.made)->count);
    descriptor_fill(descriptor_at(table.made), table.made, rights, hint);
    table.tickets[table.made] = pte_ticket(table.made, GENERATION);
    __atomic_store_n(place, table.made, __ATOMIC_RELEASE);
    return OK;
}

/* Returns true for single small pages of blank memory. One compare: a struct of four bytes. */
static bool is_usual(struct page_hint hint)
{
    const struct page_hint usual = {.level = 1};

    _Static_assert(sizeof(hint) == sizeof(uint32_t), "no byte between the fields");
    return __builtin_memcmp(&hint, &usual, sizeof(hint)) == 0;
}

/* Returns the slot for the index of the one descriptor with these attributes. */
static uint16_t *descriptor_place_of(struct rights rights, struct page_hint hint)
{
    if (__builtin_expect(is_usual(hint), 1))
        return &table.blank[0][0][rights_number(rights)];
    CHECK(hint.level >= 1 && hint.level <= LEVELS && hint.around <= AROUND_MOST);
    CHECK(hint.shared || !hint.copies);
    return hint.shared ? &table.sections[hint.copies][rights_number(rights)]
                       : &table.blank[hint.around][hint.level - 1][rights_number(rights)];
}

/* Drops the last counts. The descriptor keeps its place, but no ticket is valid until it is used
 * again. */
__attribute__((noinline)) static void put_last(struct descriptor *descriptor, uint32_t counts)
{
    bool were_on = machine_interrupts_off();
    uint32_t before;

    spin_lock(&table.lock);
    before = __atomic_fetch_sub(&descriptor->count, counts, __ATOMIC_ACQ_REL);
    CHECK(before >= counts);
    if (before == counts) {
        CHECK(table.in_use > 0);
        table.in_use--;
        descriptor->ticket = pte_empty();
    }
    spin_unlock(&table.lock);
    machine_interrupts_restore(were_on);
}

/* Adds a count to a descriptor, and makes its ticket valid before the first one. The table is
 * locked; but a count other than 0 may be raised by others without the lock. */
static void hold_again(struct descriptor *descriptor)
{
    if (__atomic_load_n(&descriptor->count, __ATOMIC_ACQUIRE) == 0) {
        descriptor->ticket = table.tickets[descriptor->index];
        table.in_use++;
    }
    __atomic_add_fetch(&descriptor->count, 1, __ATOMIC_ACQ_REL);
}

/* Adds a count to the descriptor of these attributes, and makes it if there is none, under the
 * table's lock. */
__attribute__((noinline)) static enum status hold_or_make(uint16_t *place, struct rights rights,
                                                          struct page_hint hint,
                                                          struct descriptor **descriptor)
{
    bool were_on = machine_interrupts_off();
    enum status status = OK;

    spin_lock(&table.lock);
    if (*place == 0)
        status = descriptor_make(place, rights, hint);
    if (status == OK) {
        CHECK_MSG(*place != 0 && *place <= table.made, "descriptor %u of %u", *place, table.made);
        *descriptor = descriptor_at(*place);
        hold_again(*descriptor);
    }
    spin_unlock(&table.lock);
    machine_interrupts_restore(were_on);
    return status;
}

/* Usually the descriptor is in use, and its count is raised without the lock. */
enum status descriptor_with_hint(struct rights rights, struct page_hint hint,
                                 struct descriptor **descriptor)
{
    uint16_t *place = descriptor_place_of(rights, hint);
    uint16_t index = __atomic_load_n(place, __ATOMIC_ACQUIRE);
    struct descriptor *held = descriptor_at(index);
    uint32_t count;

    if (index == 0)
        return hold_or_make(place, rights, hint, descriptor);
    count = __atomic_load_n(&held->count, __ATOMIC_ACQUIRE);
    do {
        if (count == 0 || count == UINT32_MAX)
            return hold_or_make(place, rights, hint, descriptor);
    } while (!__atomic_compare_exchange_n(&held->count, &count, count + 1, false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_ACQUIRE));
    *descriptor = held;
    return OK;
}

/* Returns the index of the descriptor of shared memory with these rights, or 0 if none is in
 * use. */
static uint16_t section_index(struct rights rights, bool copies)
{
    uint16_t index =
        __atomic_load_n(&table.sections[copies][rights_number(rights)], __ATOMIC_ACQUIRE);

    if (index != 0 && __atomic_load_n(&descriptor_at(index)->count, __ATOMIC_ACQUIRE) == 0)
        index = 0;
    return index;
}

/* Without NX an entry does not record whether its region allows execution, so two descriptors are
 * possible. Returns false if both are in use. */
bool descriptor_section_ticket(struct rights rights, bool copies, struct pte *ticket)
{
    struct rights other = rights;
    uint16_t index = section_index(rights, copies);

    if (pte_nx == 0) {
        uint16_t second;

        other.execute = !rights.execute;
        second = section_index(other, copies);
        if (index != 0 && second != 0)
            return false;
        index = index != 0 ? index : second;
    }
    CHECK_MSG(index != 0, "no region is shared with rights w%d x%d u%d n%d", rights.write,
              rights.execute, rights.user, rights.none);
    *ticket = descriptor_at(index)->ticket;
    return true;
}

void descriptor_hold(struct descriptor *descriptor, uint32_t counts)
{
    uint32_t before = __atomic_fetch_add(&descriptor->count, counts, __ATOMIC_RELAXED);

    CHECK(before > 0 && counts <= UINT32_MAX - before);
}

void descriptor_put(struct descriptor *descriptor, uint32_t counts)
{
    uint32_t count = __atomic_load_n(&descriptor->count, __ATOMIC_ACQUIRE);

    CHECK(counts > 0);
    while (count > counts) {
        if (__atomic_compare_exchange_n(&descriptor->count, &count, count - counts, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            return;
    }
    put_last(descriptor, counts);
}

unsigned descriptor_count(void)
{
    return table.in_use;
}
