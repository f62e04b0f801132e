/* The clocks: lists of the resident pages, one for each processor. */
#include "cpu/machine.h"
#include "vmm/page/managed.h"

uint64_t page_clocks_begun;

/* The clock's hand. Its lock is taken before those of the clocks. */
static struct {
    uint8_t lock;
    unsigned clock;
    uint64_t left; /* pages left before it moves to the next clock */
} hand;

void page_init(void)
{
    for (unsigned cpu = 0; cpu <= CPU_MAX; cpu++)
        *page_clock_of(cpu) = (struct page_clock){.first = UINT32_MAX,
                                                  .last = UINT32_MAX,
                                                  .record = 1 | (uint64_t)FRAME_ANONYMOUS << 32 |
                                                            (uint64_t)(cpu + 1) << 48,
                                                  .bit = cpu < CPU_MAX ? UINT64_C(1) << cpu : 0};
}

/* Returns the number of clocks, from clock 0 on, that may have pages; at least 1. */
static unsigned clocks_begun(void)
{
    uint64_t begun = __atomic_load_n(&page_clocks_begun, __ATOMIC_ACQUIRE);

    return 64 - (unsigned)__builtin_clzll(begun | 1);
}

/* Returns the sum of the clocks' sizes; exact only while no page is published or withdrawn. */
uint64_t page_clock_size(void)
{
    unsigned begun = clocks_begun();
    uint64_t size = __atomic_load_n(&page_clock_of(MANAGED_CLOCK)->size, __ATOMIC_RELAXED);

    for (unsigned i = 0; i < begun; i++)
        size += __atomic_load_n(&page_clock_of(i)->size, __ATOMIC_RELAXED);
    return size;
}

/* ---- lists through the records ---- */

/* Inserts a page at the head or at the tail of its clock, which is locked. */
static void link_first(struct page_clock *clock, struct pfn page)
{
    frame_record(page)->page.list_next = clock->first;
    if (clock->first == UINT32_MAX)
        clock->last = page.index;
    else
        frame_record((struct pfn){clock->first})->page.list_prev = page.index;
    clock->first = page.index;
    clock->size++;
}

static void link_last(struct page_clock *clock, struct pfn page)
{
    frame_record(page)->page.list_prev = clock->last;
    if (clock->last == UINT32_MAX)
        page_clock_begin(clock, page);
    else
        frame_record((struct pfn){clock->last})->page.list_next = page.index;
    clock->last = page.index;
    clock->size++;
}

void page_publish(struct pfn page)
{
    bool were_on = machine_interrupts_off();
    struct frame *record = frame_record(page);
    struct page_clock *clock = page_clock_of(machine_cpu());

    CHECK(clock->bit != 0); /* page_init has run */
    CHECK(record->kind == FRAME_ANONYMOUS && record->clock == 0 &&
          record->page.list_next == UINT32_MAX && record->page.list_prev == UINT32_MAX);
    spin_lock(&clock->lock);
    __atomic_store_n(&record->clock, (uint16_t)(machine_cpu() + 1), __ATOMIC_RELAXED);
    link_last(clock, page);
    spin_unlock(&clock->lock);
    machine_interrupts_restore(were_on);
}

/* Links over neighbours, from first to last, in their clock, which is locked. */
static inline void link_over(struct page_clock *clock, const struct frame *first,
                             const struct frame *last)
{
    struct pfn before = {first->page.list_prev};
    struct pfn behind = {last->page.list_next};

    if (pfn_is_none(before))
        clock->first = behind.index;
    else
        frame_record(before)->page.list_next = behind.index;
    if (pfn_is_none(behind))
        clock->last = before.index;
    else
        frame_record(behind)->page.list_prev = before.index;
}

/* Removes a page from its clock, which is locked. */
static void unlink_page(struct page_clock *clock, struct pfn page)
{
    struct frame *record = frame_record(page);

    CHECK(clock->size > 0);
    link_over(clock, record, record);
    clock->size--;
    record->page.list_next = record->page.list_prev = UINT32_MAX;
}

/* Reads the clock's number again under its lock: another CPU may have withdrawn the page. */
bool page_withdraw(struct pfn page)
{
    bool were_on = machine_interrupts_off();
    struct frame *record = frame_record(page);
    bool withdrawn = false;
    uint16_t number;

    while (!withdrawn && (number = __atomic_load_n(&record->clock, __ATOMIC_RELAXED)) != 0) {
        struct page_clock *clock = page_clock_of(number - 1U);

        spin_lock(&clock->lock);
        withdrawn = record->clock == number;
        if (withdrawn) {
            if (__builtin_expect(number == PAGE_MANAGED, 0))
                managed_left(page);
            unlink_page(clock, page);
            __atomic_store_n(&record->clock, 0, __ATOMIC_RELAXED);
        }
        spin_unlock(&clock->lock);
    }
    machine_interrupts_restore(were_on);
    return withdrawn;
}

/* Moves the first page of a locked clock to the end. */
static void turn_list(struct page_clock *clock)
{
    struct frame *first = frame_record((struct pfn){clock->first});
    uint32_t second = first->page.list_next;

    if (second == UINT32_MAX)
        return;
    frame_record((struct pfn){clock->last})->page.list_next = clock->first;
    first->page.list_prev = clock->last;
    first->page.list_next = UINT32_MAX;
    frame_record((struct pfn){second})->page.list_prev = UINT32_MAX;
    clock->last = clock->first;
    clock->first = second;
}

/* Moves the first page of a clock to the end and returns it, held. Returns PFN_NONE if the clock is
 * empty, or if the page's last reference was just dropped: then it is leaving the clock. */
static struct pfn turn_clock(struct page_clock *clock)
{
    struct pfn page;

    spin_lock(&clock->lock);
    page.index = clock->first;
    if (!pfn_is_none(page)) {
        turn_list(clock);
        if (!tree_try_hold(page))
            page = PFN_NONE;
    }
    spin_unlock(&clock->lock);
    return page;
}

void page_deactivate(struct pfn page)
{
    bool were_on = machine_interrupts_off();
    uint16_t number;

    spin_lock(&hand.lock);
    number = __atomic_load_n(&frame_record(page)->clock, __ATOMIC_RELAXED);
    if (number != 0) {
        struct page_clock *clock = page_clock_of(number - 1U);

        spin_lock(&clock->lock);
        if (frame_record(page)->clock == number) {
            unlink_page(clock, page);
            link_first(clock, page);
            if (managed_policy != NULL) {
                frame_record(page)->page.history |= PAGE_COLD;
            } else {
                hand.clock = number - 1U;
                hand.left = clock->size;
            }
        }
        spin_unlock(&clock->lock);
    }
    spin_unlock(&hand.lock);
    machine_interrupts_restore(were_on);
}

/* Moves the locked hand to the next page. Returns it, held; PFN_NONE: no page, or it is leaving. */
static struct pfn hand_step(unsigned begun)
{
    /* Pages may have left the clock since its round began. */
    hand.left = min_u64(hand.left, page_clock_of(hand.clock)->size);
    CHECK(hand.clock < begun);
    if (hand.left == 0) {
        hand.clock = hand.clock + 1 < begun ? hand.clock + 1 : 0;
        hand.left = page_clock_of(hand.clock)->size;
    }
    if (hand.left == 0)
        return PFN_NONE;
    hand.left--;
    return turn_clock(page_clock_of(hand.clock));
}

struct pfn page_clock_next(void)
{
    bool were_on = machine_interrupts_off();
    unsigned begun = clocks_begun();
    struct pfn page;

    spin_lock(&hand.lock);
    page = hand_step(begun);
    if (pfn_is_none(page)) {
        /* Each page once, and each clock may be empty. */
        for (uint64_t looks = page_clock_size() + begun; looks > 0 && pfn_is_none(page); looks--)
            page = hand_step(begun);
    }
    spin_unlock(&hand.lock);
    machine_interrupts_restore(were_on);
    return page;
}

/* ---- pages that a policy manages ---- */

struct pfn page_clock_manage_first(unsigned cpu, bool (*manage)(struct pfn page))
{
    bool were_on = machine_interrupts_off();
    struct page_clock *from = page_clock_of(cpu);
    struct page_clock *to = page_clock_of(MANAGED_CLOCK);
    struct pfn page;

    spin_lock(&from->lock);
    spin_lock(&to->lock);
    page.index = from->first;
    if (!pfn_is_none(page) && manage(page)) {
        unlink_page(from, page);
        if (frame_record(page)->page.history == PAGE_COLD)
            link_first(to, page);
        else
            link_last(to, page);
        __atomic_store_n(&frame_record(page)->clock, PAGE_MANAGED, __ATOMIC_RELAXED);
    } else {
        page = PFN_NONE;
    }
    spin_unlock(&to->lock);
    spin_unlock(&from->lock);
    machine_interrupts_restore(were_on);
    return page;
}

bool page_clock_unmanage_first(void)
{
    struct pfn page = {page_clock_of(MANAGED_CLOCK)->first};

    if (pfn_is_none(page))
        return false;
    CHECK(page_withdraw(page));
    page_publish(page);
    return true;
}

struct pfn page_clock_next_managed(void)
{
    bool were_on = machine_interrupts_off();
    struct pfn page = turn_clock(page_clock_of(MANAGED_CLOCK));

    machine_interrupts_restore(were_on);
    return page;
}

bool page_withdraw_managed(struct pfn page)
{
    bool were_on = machine_interrupts_off();
    struct page_clock *clock = page_clock_of(MANAGED_CLOCK);
    bool withdrawn;

    spin_lock(&clock->lock);
    withdrawn = frame_record(page)->clock == PAGE_MANAGED;
    if (withdrawn) {
        managed_goes(page);
        unlink_page(clock, page);
        __atomic_store_n(&frame_record(page)->clock, 0, __ATOMIC_RELAXED);
    }
    spin_unlock(&clock->lock);
    machine_interrupts_restore(were_on);
    return withdrawn;
}

/* ---- ends and proof ---- */

/* Removes pages from a locked clock, from the first on, as long as they are in it; returns how
 * many. Their links stay as they were, since they are about to be freed. */
static unsigned unlink_freed(struct page_clock *clock, uint16_t number, const struct pfn *pages,
                             const struct pfn *end)
{
    const struct pfn *at = pages;
    unsigned count;

    do {
        struct frame *record = frame_record(*at);
        const struct frame *first = record;

        __atomic_store_n(&record->clock, 0, __ATOMIC_RELAXED);
        while (++at < end && record->page.list_next == at->index) {
            record = frame_record(*at);
            __atomic_store_n(&record->clock, 0, __ATOMIC_RELAXED);
        }
        link_over(clock, first, record);
    } while (at < end && frame_record(*at)->clock == number);
    count = (unsigned)(at - pages);
    CHECK(clock->size >= count);
    clock->size -= count;
    return count;
}

/* Withdraws freed pages. A page whose count is 0 is neither published nor withdrawn by others, so
 * its record has its clock. */
void page_withdraw_freed(const struct pfn *pages, unsigned count)
{
    bool were_on = machine_interrupts_off();

    for (unsigned done = 0; done < count;) {
        uint16_t number = frame_record(pages[done])->clock;
        struct page_clock *clock;

        if (number - 1U >= CPU_MAX) { /* 0, or managed */
            if (number != 0)
                (void)page_withdraw(pages[done]);
            done++;
            continue;
        }
        clock = page_clock_of(number - 1U);
        spin_lock(&clock->lock);
        done += unlink_freed(clock, number, &pages[done], &pages[count]);
        spin_unlock(&clock->lock);
    }
    machine_interrupts_restore(were_on);
}

/* Panics unless each clock is linked both ways, has as many pages as its size says, and each page's
 * record has its number. */
void page_clock_audit(void)
{
    for (unsigned cpu = 0; cpu <= CPU_MAX; cpu++) {
        const struct page_clock *clock = page_clock_of(cpu);
        struct pfn before = PFN_NONE;
        uint64_t pages = 0;

        for (struct pfn at = {clock->first}; !pfn_is_none(at) && pages <= clock->size; pages++) {
            const struct frame *record = frame_record(at);

            CHECK_MSG(record->kind == FRAME_ANONYMOUS && record->clock == cpu + 1 &&
                          record->page.list_prev == before.index,
                      "page %x of kind %u in clock %u says clock %u, behind %x and not %x",
                      at.index, record->kind, cpu, record->clock - 1U, record->page.list_prev,
                      before.index);
            before = at;
            at.index = record->page.list_next;
        }
        CHECK_MSG(pages == clock->size && clock->last == before.index,
                  "clock %u has %lu pages of %lu, and ends in %x, not %x", cpu, pages, clock->size,
                  before.index, clock->last);
    }
}
