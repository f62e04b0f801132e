/* Populating: pages mapped before they are touched, many under one lock of their table. */
#include "cpu/machine.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/range/internal.h"

/* Pages mapped under one lock of a table. */
#define TOGETHER 32U

/* Pages set aside for the tickets of one leaf table. */
struct supply {
    unsigned count;
    struct pfn pages[TOGETHER];
};

/* Allocates at least one page, and more while the resident limit allows it. */
static enum status supply_reserve(struct supply *supply, uint64_t wanted)
{
    wanted = min_u64(wanted, TOGETHER);
    supply->count = 0;
    while (supply->count < wanted &&
           (supply->count == 0 || page_resident() + supply->count < resident_limit)) {
        enum status status = page_alloc(FRAME_CLEARED, &supply->pages[supply->count]);

        if (status != OK)
            return supply->count > 0 ? OK : status;
        supply->count++;
    }
    return OK;
}

/* Walks to an address and sets *place. Returns true if it has the ticket of a private region in an
 * own leaf table. */
static bool populate_at_ticket(const struct space *space, const struct region *region,
                               uint64_t address, struct tree_place *place)
{
    *place = tree_walk(&space->tree, address);
    return region->what.kind == REGION_PRIVATE && place->level == 1 && place->own &&
           place->entry.word == region->what.descriptor->ticket.word;
}

/* Replaces consecutive tickets, from an index on, by pages of the supply. Returns their number. */
static unsigned fill_ticket_run(const struct supply *supply, struct pfn table, unsigned index,
                                const struct descriptor *descriptor)
{
    const struct pte *entries = frame_pointer(table);
    unsigned filled = 0;

    for (unsigned i = index; i < PTE_ENTRIES && filled < supply->count; i++) {
        struct pfn page = supply->pages[filled];

        if (pte_read(&entries[i]).word != descriptor->ticket.word)
            break;
        rmap_reference(page, table, i);
        page_publish(page);
        tree_replace_entry(table, i, pte_leaf(page, 1, PTE_OWN, descriptor->rights));
        filled++;
    }
    return filled;
}

/* Replaces consecutive tickets from an address on by pages of the supply or, if that is NULL, of
 * the processor's caches. Returns their number. */
static unsigned fill_tickets(struct space *space, const struct region *region, uint64_t address,
                             uint64_t end, const struct supply *supply)
{
    const struct descriptor *descriptor = region->what.descriptor;
    bool were_on = machine_interrupts_off();
    struct tree_place place;
    unsigned filled = 0;

    if (populate_at_ticket(space, region, address, &place) && tree_lock(place.table)) {
        unsigned most = (unsigned)min_u64((end - address) / PAGE_SIZE, TOGETHER);

        filled = supply == NULL
                     ? fault_fill_tickets(place.table, place.index, place.index + most, descriptor)
                     : fill_ticket_run(supply, place.table, place.index, descriptor);
        tree_unlock(place.table);
    }
    machine_interrupts_restore(were_on);
    return filled;
}

/* Fills tickets from the processor's caches, if no limit of resident pages is set. */
static unsigned fill_from_caches(struct space *space, const struct region *region, uint64_t from,
                                 uint64_t to)
{
    uint64_t end = min_u64(to, round_down(from, pte_span(2)) + pte_span(2));
    unsigned filled;

    if (resident_limit != UINT64_MAX)
        return 0;
    filled = fill_tickets(space, region, from, end, NULL);
    return filled > 0 || !pmm_refill() ? filled : fill_tickets(space, region, from, end, NULL);
}

/* Populates a run of tickets, at most up to the end of the leaf table; evicts pages if memory is
 * short. */
static enum status populate_run(struct space *space, const struct region *region, uint64_t from,
                                uint64_t to, unsigned *filled)
{
    uint64_t end = min_u64(to, round_down(from, pte_span(2)) + pte_span(2));
    struct supply supply;
    enum status status = supply_reserve(&supply, (end - from) / PAGE_SIZE);

    *filled = 0;
    if (status != OK)
        return status;
    *filled = fill_tickets(space, region, from, end, &supply);
    for (unsigned i = *filled; i < supply.count; i++)
        pmm_free(supply.pages[i]);
    return OK;
}

enum status space_bring(struct space *space, const struct region *region, uint64_t start,
                        uint64_t end, struct fault_access access, unsigned *filled)
{
    enum status status = OK;
    struct tree_place place;
    bool were_on;
    bool ticket;

    *filled = access.write ? fill_from_caches(space, region, start, end) : 0;
    if (*filled > 0)
        return OK;
    were_on = machine_interrupts_off();
    ticket = access.write && populate_at_ticket(space, region, start, &place);
    machine_interrupts_restore(were_on);
    if (ticket)
        status = populate_run(space, region, start, end, filled);
    /* Other entries and missing tables are resolved by a fault. */
    if (!ticket || (status == OK && *filled == 0)) {
        status = fault_resolve(space, start, access);
        *filled = 1;
    }
    return status;
}

/* Returns the end of the pages from an address on that need no fault; the address itself if its own
 * page needs one. */
static uint64_t end_of_present(const struct space *space, uint64_t address, bool write)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&space->tree, address);
    bool own = place.own && pte_class(place.entry) == PTE_OWN;
    uint64_t span = pte_span(place.level);

    machine_interrupts_restore(were_on);
    if (!pte_present(place.entry) || (write && !own))
        return address;
    return round_down(address, span) + span;
}

enum status space_populate(struct space *space, const struct region *region, uint64_t start,
                           uint64_t end)
{
    struct rights rights = region->what.descriptor->rights;
    struct fault_access access = {
        .write = rights.write, .from_user = rights.user, .user_allowed = true};
    enum status status = rights.none ? STATUS_DENIED : OK;

    for (uint64_t at = start; at < end && status == OK;) {
        unsigned filled = access.write ? fill_from_caches(space, region, at, end) : 0;
        uint64_t next =
            filled > 0 ? at + filled * PAGE_SIZE : end_of_present(space, at, access.write);

        if (next == at) {
            status = space_bring(space, region, at, end, access, &filled);
            next = at + filled * PAGE_SIZE;
        }
        at = next;
    }
    return status;
}
