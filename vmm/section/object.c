/*
 * Sections as objects: made with a pager, read, written, resized.
 *
 * A section is made smaller in this order (rule W2): the size; the leaves of what is cut off, in
 * all mappings; one flush of everything; then page by page, once the section alone has it: the
 * entry. The size comes first, and each fault looks at it again behind the lock of the section's
 * table. So only faults that were there before can map a page after its leaves were recalled:
 * their hold shows in the page's count, and the round is repeated. Leaves that were recalled keep
 * their counts until the flush; the page's record says how many they are, in the place of the
 * slot, which no page of a section has.
 *
 * A page may be held for ever, by a disk command that never ends (rule D1). So the rounds have a
 * time limit. Past it the size stays cut and no touch reaches the page, since every fault looks at
 * the size before it installs a leaf. The page and the promise stay with the section, until a
 * later resize can drop them or the section ends. Until then the section cannot grow, so that the
 * old content never comes back.
 */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "swapdisk/area.h"
#include "vmm/page/page.h"
#include "vmm/section/internal.h"
#include "vmm/space/commit.h"

enum status section_create(const struct pager *pager, const void *source, uint64_t size,
                           struct rights most, struct section **created)
{
    enum status status;

    CHECK(pager != NULL && !most.none);
    if (size > SECTION_SIZE_MAX)
        return STATUS_RANGE;
    status = section_make(pager, source, size, most, created);
    if (status != OK)
        return status;
    CHECK((*created)->count == 1 && (*created)->mapped == 0);
    (*created)->opens = 1;
    (*created)->is_object = true;
    return OK;
}

void section_close(struct section *section)
{
    uint32_t before = __atomic_fetch_sub(&section->opens, 1, __ATOMIC_RELAXED);

    CHECK_MSG(before > 0, "a section is closed that %u have open", before);
    section_put(section);
}

/* ---- its bytes ---- */

/* Makes the page of a place resident and holds it, without a space. */
static enum status hold_place(struct section *section, uint64_t at, enum section_purpose purpose,
                              struct pfn *page)
{
    struct section_place place = {.section = section, .at = round_down(at, PAGE_SIZE)};
    struct page_reserve reserve = {.page = PFN_NONE};
    enum status status;

    do {
        status = section_bring(NULL, &place, purpose, &reserve, page);
    } while (status == STATUS_AGAIN);
    page_reserve_drain(&reserve);
    return status;
}

/* Marks the page after its bytes have changed, not before: else it could be taken for clean between
 * (rule N2). */
static void release_written(struct pfn page)
{
    __atomic_or_fetch(&frame_record(page)->flags, FRAME_DIRTY, __ATOMIC_RELEASE);
    page_release(page);
}

/* Returns how many of the bytes lie before the section's end, on the page of the first. */
static uint64_t bytes_here(const struct section *section, uint64_t offset, uint64_t bytes)
{
    uint64_t size = section_size(section);

    if (offset >= size)
        return 0;
    return min_u64(min_u64(bytes, size - offset), PAGE_SIZE - offset % PAGE_SIZE);
}

enum status section_read(struct section *section, uint64_t offset, void *to, uint64_t bytes,
                         uint64_t *done)
{
    *done = 0;
    while (bytes > *done) {
        uint64_t at = offset + *done;
        uint64_t here = bytes_here(section, at, bytes - *done);
        struct pfn page;
        enum status status = here > 0 ? hold_place(section, at, SECTION_READ, &page) : STATUS_RANGE;

        if (status != OK)
            return status == STATUS_RANGE && *done > 0 ? OK : status;
        memcpy((uint8_t *)to + *done, (const uint8_t *)frame_pointer(page) + at % PAGE_SIZE, here);
        page_release(page);
        *done += here;
    }
    return OK;
}

enum status section_write(struct section *section, uint64_t offset, const void *from,
                          uint64_t bytes, uint64_t *done)
{
    *done = 0;
    if (section->frozen)
        return STATUS_DENIED;
    while (bytes > *done) {
        uint64_t at = offset + *done;
        uint64_t here = bytes_here(section, at, bytes - *done);
        struct pfn page;
        enum status status = here > 0 ? hold_place(section, at, SECTION_USE, &page) : STATUS_RANGE;

        if (status != OK)
            return status == STATUS_RANGE && *done > 0 ? OK : status;
        memcpy((uint8_t *)frame_pointer(page) + at % PAGE_SIZE, (const uint8_t *)from + *done,
               here);
        release_written(page);
        *done += here;
    }
    return OK;
}

/* ---- size ---- */

/* Zeroes the bytes of the last page after the section's end. Mappings may have written there. */
static enum status zero_tail(struct section *section)
{
    uint64_t size = section_size(section);
    struct pfn page;
    enum status status;

    if (size % PAGE_SIZE == 0)
        return OK;
    status = hold_place(section, size, SECTION_USE, &page);
    if (status != OK)
        return status;
    memset((uint8_t *)frame_pointer(page) + size % PAGE_SIZE, 0, PAGE_SIZE - size % PAGE_SIZE);
    release_written(page);
    return OK;
}

/* Calls visit for each entry of the section's own leaf tables in [from, to); returns the sum of the
 * answers. Leaves in spaces map pages of own tables only. */
static uint64_t visit_entries(struct section *section, uint64_t from, uint64_t to,
                              uint64_t (*visit)(struct section *section, uint64_t at,
                                                const struct tree_place *place))
{
    uint64_t sum = 0;

    while (from < to) {
        bool were_on = machine_interrupts_off();
        struct tree_place place = plain_walk(&section->tree, from);
        bool is_here = place.level == 1 && place.own;
        uint64_t span = pte_span(is_here || place.level > 1 ? place.level : 2);

        machine_interrupts_restore(were_on);
        if (is_here)
            sum += visit(section, from, &place);
        from = round_down(from, span) + span;
    }
    return sum;
}

/* Removes the leaves that map a page which only the section owns, and keeps their counts. */
static uint64_t recall_page(struct section *section, uint64_t at, const struct tree_place *place)
{
    struct pfn page;
    unsigned recalled;

    if (pte_state(place->entry, 1) != PTE_LEAF || pte_class(place->entry) != PTE_OWN)
        return 0;
    page = pte_frame(place->entry);
    CHECK_MSG(section_is_marked(section) || at >= section_reach(section),
              "the page at %lx is recalled, the section ends at %lx", at, section_reach(section));
    recalled = section_recall(section->family, at, page);
    if (recalled > 0)
        __atomic_add_fetch(&frame_record(page)->page.slot, recalled, __ATOMIC_RELAXED);
    return recalled;
}

void section_recall_range(struct section *section, uint64_t from, uint64_t to)
{
    if (visit_entries(section, from, to, recall_page) > 0)
        section_flush();
}

/* Drops the counts of the leaves recalled from a page, which the section's entry still has. */
static void drop_recalled(struct pfn page)
{
    uint32_t recalled = __atomic_exchange_n(&frame_record(page)->page.slot, 0, __ATOMIC_RELAXED);

    for (; recalled > 0; recalled--)
        CHECK(tree_release(page) > 0);
}

/* Drops the counts of the leaves recalled from the page of an entry, in a locked table. */
static void drop_recalled_of(struct pte entry)
{
    enum pte_state state = pte_state(entry, 1);

    if (state != PTE_SWAPPED)
        drop_recalled(state == PTE_LEAF ? pte_frame(entry) : pte_payload_frame(entry));
}

/* Locks an entry that is cut off. Returns false if there is none, or it has just changed. */
static bool lock_cut_entry(const struct tree_place *place, bool *were_on)
{
    enum pte_state state = pte_state(place->entry, 1);

    if (state == PTE_EMPTY)
        return false;
    CHECK_MSG(state == PTE_LEAF || state == PTE_SWAPPED || state == PTE_TRANSIT,
              "entry %lx of a section is %s", place->entry.word, pte_state_name(state));
    return section_lock_place(place, were_on);
}

/* Returns true if the entry's page is being read or written, or is the section's alone and has
 * other references. */
static bool is_in_use(struct pte entry)
{
    enum pte_state state = pte_state(entry, 1);

    return state == PTE_TRANSIT ||
           (state == PTE_LEAF && pte_class(entry) == PTE_OWN &&
            __atomic_load_n(&frame_record(pte_frame(entry))->count, __ATOMIC_ACQUIRE) > 1);
}

/* Empties an entry that is cut off. Returns 1 if it is still in use: another round is needed. */
static uint64_t empty_entry(struct section *section, uint64_t at, const struct tree_place *place)
{
    struct pte old;
    bool were_on;

    (void)at;
    (void)section;
    if (!lock_cut_entry(place, &were_on))
        return pte_state(place->entry, 1) != PTE_EMPTY;
    drop_recalled_of(place->entry);
    if (is_in_use(place->entry)) {
        section_unlock_place(place, were_on);
        return 1;
    }
    old = tree_replace_entry(place->table, place->index, pte_empty());
    section_unlock_place(place, were_on);
    tree_drop(&(struct tlb_release){.entry = old, .level = 1});
    return 0;
}

/* Drops the counts of the recalled leaves of an entry's page, after the flush. Returns 1 if it is
 * in use for something else. */
static uint64_t settle_entry(struct section *section, uint64_t at, const struct tree_place *place)
{
    struct tree_place now = *place;
    bool used;
    bool were_on;

    while (!lock_cut_entry(&now, &were_on)) {
        if (pte_state(now.entry, 1) == PTE_EMPTY)
            return 0;
        machine_relax();
        were_on = machine_interrupts_off();
        now = plain_walk(&section->tree, at);
        machine_interrupts_restore(were_on);
    }
    drop_recalled_of(now.entry);
    used = is_in_use(now.entry);
    section_unlock_place(&now, were_on);
    return used;
}

uint64_t section_settle_range(struct section *section, uint64_t from, uint64_t to)
{
    return visit_entries(section, from, to, settle_entry);
}

/* Takes and releases the table's lock. */
static void pass_lock(struct pfn table)
{
    bool passed = false;

    while (!passed) {
        bool were_on = machine_interrupts_off();

        passed = tree_lock(table);
        if (passed)
            tree_unlock(table);
        machine_interrupts_restore(were_on);
        if (!passed)
            machine_relax();
    }
}

void section_pass_locks(struct section *section, uint64_t from, uint64_t to)
{
    while (from < to) {
        bool were_on = machine_interrupts_off();
        struct tree_place place = plain_walk(&section->tree, from);
        uint64_t span = pte_span(place.level > 1 ? place.level : 2);

        machine_interrupts_restore(were_on);
        if (place.level == 1)
            pass_lock(place.table);
        from = round_down(from, span) + span;
    }
}

/* Removes the pages in [from, to), which are cut off, from all spaces and from the section. Returns
 * false if one of them is still in use after the time limit. */
static bool cut_off(struct section *section, uint64_t from, uint64_t to)
{
    struct deadline end = deadline_after_ms(SECTION_LIMIT_MS);
    uint64_t left;

    section_pass_locks(section, from, to);
    do {
        section_recall_range(section, from, to);
        left = visit_entries(section, from, to, empty_entry);
        if (left > 0)
            machine_relax();
    } while (left > 0 && !deadline_passed(end));
    if (left > 0)
        (void)section_settle_range(section, from, to);
    return left == 0;
}

enum status section_finish_cut(struct section *section)
{
    uint64_t reach = section_reach(section);
    uint64_t pages;

    if (section->uncut <= reach)
        return OK;
    if (!cut_off(section, reach, section->uncut))
        return STATUS_TIMEOUT;
    section->uncut = 0;
    if (section->charged == 0)
        return OK;
    CHECK_MSG(section->charged >= reach / PAGE_SIZE, "%lu pages are promised, %lu remain",
              section->charged, reach / PAGE_SIZE);
    pages = section->charged - reach / PAGE_SIZE;
    section->charged -= pages;
    commit_uncharge(pages);
    return OK;
}

/* Makes the leaf tables of the section in [from, to) own: those that a snapshot has too are copied,
 * so that a cut empties the section's entries only. */
static enum status own_tables(struct section *section, uint64_t from, uint64_t to)
{
    struct page_reserve reserve = {.page = PFN_NONE};
    enum status status = OK;

    while (from < to && status == OK) {
        bool were_on = machine_interrupts_off();
        struct tree_place place = plain_walk(&section->tree, from);
        uint64_t span = pte_span(place.level > 1 ? place.level : 2);

        machine_interrupts_restore(were_on);
        if (place.level == 1 && !place.own)
            status = section_own_path(section, from, 1, &reserve);
        else
            from = round_down(from, span) + span;
        status = status == STATUS_AGAIN ? OK : status;
    }
    page_reserve_drain(&reserve);
    return status;
}

/* Does the rest of a cut, after the size. */
static enum status finish_size(struct section *section)
{
    enum status status = section_finish_cut(section);
    enum status zeroed = zero_tail(section);

    if (status == OK)
        section_lower_tree(section);
    CHECK(status != OK || section->uncut <= section_reach(section));
    return status != OK ? status : zeroed;
}

static enum status make_smaller(struct section *section, uint64_t size)
{
    enum status status = own_tables(section, round_up(size, PAGE_SIZE), section_reach(section));

    if (status != OK)
        return status;
    CHECK_MSG(size < section_size(section) && section->backed <= section_size(section),
              "a section of %lx bytes, %lx of them from its pager, is cut at %lx",
              section_size(section), section->backed, size);
    section->uncut = max_u64(section->uncut, section_reach(section));
    section_set_size(section, size);
    if (size < section->backed)
        __atomic_store_n(&section->backed, size, __ATOMIC_RELAXED);
    return finish_size(section);
}

/* Makes a section larger. Zeroes the tail of its last page first, since mappings may have written
 * there. */
static enum status make_larger(struct section *section, uint64_t size)
{
    bool charges = section->most.write || section->pager->get == NULL;
    uint64_t pages = (round_up(size, PAGE_SIZE) - section_reach(section)) / PAGE_SIZE;
    enum status status = section_finish_cut(section);

    CHECK_MSG(size > section_size(section), "a section of %lx bytes grows to %lx",
              section_size(section), size);
    if (status == OK)
        status = section_raise_tree(section, size);
    if (status == OK)
        status = commit_charge(charges ? pages : 0);
    if (status != OK)
        return status;
    status = zero_tail(section);
    if (status != OK) {
        commit_uncharge(charges ? pages : 0);
        return status;
    }
    section->charged += charges ? pages : 0;
    section_set_size(section, size);
    return OK;
}

enum status section_resize(struct section *section, uint64_t size)
{
    enum status status = OK;

    CHECK_MSG(section->is_object, "a section without a name is resized to %lx", size);
    if (size > SECTION_SIZE_MAX)
        return STATUS_RANGE;
    if (section->frozen || section->pager->put != NULL)
        return STATUS_DENIED;
    mutex_lock(&section->resizing);
    if (size < section_size(section))
        status = make_smaller(section, size);
    else if (size > section_size(section))
        status = make_larger(section, size);
    else
        status = finish_size(section);
    mutex_unlock(&section->resizing);
    return status;
}
