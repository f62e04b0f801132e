/* The steps of the workers of the experiment stress. */
#include "cpu/trap/probe.h"
#include "cpu/trap/trap.h"
#include "lib/bytes.h"
#include "tests/experiments/stress/stress.h"
#include "tests/runner/user_pages.h"

#define OWN_START UINT64_C(0x2000000000)
#define OWN_STEP  UINT64_C(0x40000000)

/* The areas: shared pages, then blocks. */
#define AREAS (STRESS_SHARED + STRESS_BLOCKS)

/* The word of a block's page that no worker writes. */
#define FREE_WORD (STRESS_WORDS - 1)

/* The share of each kind among 64 steps. */
enum action {
    ACT_MAP,
    ACT_UNMAP,
    ACT_PROTECT,
    ACT_BLANK,
    ACT_FILL,
    ACT_CHECK,
    ACT_SHARED,
    ACT_BLOCK,
    ACT_CLOSE_PAGE,
    ACT_CLOSE_BLOCK,
    ACT_FORK,
    ACT_WIRE,
    ACTIONS
};

static const uint8_t weights[ACTIONS] = {
    [ACT_MAP] = 4,        [ACT_UNMAP] = 3,       [ACT_PROTECT] = 6, [ACT_BLANK] = 1,
    [ACT_FILL] = 12,      [ACT_CHECK] = 12,      [ACT_SHARED] = 15, [ACT_BLOCK] = 6,
    [ACT_CLOSE_PAGE] = 1, [ACT_CLOSE_BLOCK] = 2, [ACT_FORK] = 1,    [ACT_WIRE] = 1};

/* How often each area was closed and opened: odd while it is closed. Taken by compare-and-swap. */
static uint32_t closures[AREAS];

static uint64_t own_page(const struct stress_worker *worker, unsigned page)
{
    return OWN_START + worker->number * OWN_STEP + page * PAGE_SIZE;
}

static uint64_t word_of_worker(uint64_t page, unsigned worker)
{
    return page + worker * (STRESS_WORDS / STRESS_WORKERS_MAX) * sizeof(uint64_t);
}

uint64_t stress_shared_word(unsigned page, unsigned worker)
{
    return word_of_worker(STRESS_SHARED_START + page * PAGE_SIZE, worker);
}

static uint64_t block_page(unsigned block, unsigned page)
{
    return STRESS_BLOCKS_START + block * STRESS_BLOCK_BYTES + page * PAGE_SIZE;
}

static bool stress_steps_fail(struct stress_worker *worker, const char *what, uint64_t address)
{
    if (worker->wrong == NULL) {
        worker->wrong = what;
        worker->wrong_address = address;
    }
    return false;
}

static unsigned pick(struct stress_worker *worker, unsigned below)
{
    return (unsigned)random_below(&worker->random, below);
}

/* ---- what a page holds, and how an access is refused ---- */

/* Returns a word of the page with this tag; those of tag 0 are zero. */
static uint64_t stress_steps_word_of(uint64_t tag, unsigned word)
{
    return tag == 0 ? 0 : (tag + word) * UINT64_C(0x9e3779b97f4a7c15);
}

static bool stress_steps_fill(struct stress_worker *worker, unsigned page, uint64_t tag)
{
    for (unsigned i = 0; i < STRESS_WORDS; i++)
        worker->buffer[i] = stress_steps_word_of(tag, i);
    if (!user_copy_out(own_page(worker, page), worker->buffer, PAGE_SIZE, NULL))
        return stress_steps_fail(worker, "a page of its own could not be written",
                                 own_page(worker, page));
    return true;
}

static bool stress_steps_holds(struct stress_worker *worker, unsigned page, uint64_t tag)
{
    uint64_t address = own_page(worker, page);

    if (!user_copy_in(worker->buffer, address, PAGE_SIZE, NULL))
        return stress_steps_fail(worker, "a page of its own could not be read", address);
    for (unsigned i = 0; i < STRESS_WORDS; i++) {
        if (worker->buffer[i] != stress_steps_word_of(tag, i))
            return stress_steps_fail(worker, "a page of its own holds something else",
                                     address + i * 8);
    }
    return true;
}

/* Returns whether the trap is a page fault at the address, by a read or write of the kernel, whose
 * only cause is that the page is absent or read-only. */
static bool is_refusal(const struct trap_info *info, uint64_t address, bool write)
{
    uint64_t expected = write ? PF_WR : 0;

    return info->vector == TRAP_PF && info->address == address &&
           (info->error & ~(write ? PF_P : 0)) == expected;
}

static void expect_read_refused(struct stress_worker *worker, uint64_t address)
{
    struct trap_info info;
    uint64_t value;

    if (probe_user_read64(address, &value, &info))
        stress_steps_fail(worker, "a page without access can be read", address);
    else if (!is_refusal(&info, address, false))
        stress_steps_fail(worker, "a read was refused by another fault", address);
    worker->refused++;
}

static void expect_write_refused(struct stress_worker *worker, uint64_t address)
{
    struct trap_info info;

    if (probe_user_write64(address, ~UINT64_C(0), &info))
        stress_steps_fail(worker, "a page that may not be written was written", address);
    else if (!is_refusal(&info, address, true))
        stress_steps_fail(worker, "a write was refused by another fault", address);
    worker->refused++;
}

/* ---- own pages ---- */

static void check_own(struct stress_worker *worker, unsigned page)
{
    enum stress_access access = worker->access[page];

    if (access <= OWN_NONE)
        expect_read_refused(worker, own_page(worker, page));
    if (access <= OWN_READ)
        expect_write_refused(worker, own_page(worker, page) + pick(worker, STRESS_WORDS) * 8);
    if (access >= OWN_READ)
        stress_steps_holds(worker, page, worker->tags[page]);
}

void stress_check_all(struct stress_worker *worker)
{
    for (unsigned i = 0; i < STRESS_OWN_PAGES && worker->wrong == NULL; i++)
        check_own(worker, i);
}

static void fill_own(struct stress_worker *worker, unsigned page)
{
    if (worker->access[page] != OWN_WRITE)
        return;
    worker->tags[page] = random_next(&worker->random) | 1;
    stress_steps_fill(worker, page, worker->tags[page]);
}

/* Returns the length of a run of pages that are all mapped, or all unmapped. */
static unsigned run_of(struct stress_worker *worker, unsigned from, bool mapped)
{
    unsigned most = 1 + pick(worker, 16);
    unsigned count = 0;

    while (count < most && from + count < STRESS_OWN_PAGES &&
           (worker->access[from + count] != OWN_UNMAPPED) == mapped)
        count++;
    return count;
}

static struct rights rights_for(enum stress_access access)
{
    return access == OWN_NONE ? (struct rights){.none = true}
                              : (struct rights){.write = access == OWN_WRITE, .user = true};
}

/* Makes one call (map, unmap, protect or blank) on a run of the worker's own pages. */
static enum status call_on(struct stress_worker *worker, enum action action, uint64_t start,
                           uint64_t size, enum stress_access access)
{
    switch (action) {
    case ACT_MAP: return space_map(worker->space, &SPACE_AT(start, size, rights_for(access)), NULL);
    case ACT_UNMAP: return space_unmap(worker->space, start, size);
    case ACT_PROTECT: return space_protect(worker->space, start, size, rights_for(access));
    case ACT_BLANK: return space_advise(worker->space, start, size, SPACE_DONT_NEED);
    default: return STATUS_RANGE;
    }
}

static void change_own(struct stress_worker *worker, enum action action)
{
    unsigned from = pick(worker, STRESS_OWN_PAGES);
    unsigned count = run_of(worker, from, action != ACT_MAP);
    enum stress_access access = OWN_WRITE;

    if (count == 0)
        return;
    if (action == ACT_UNMAP)
        access = OWN_UNMAPPED;
    if (action == ACT_PROTECT)
        access = OWN_NONE + pick(worker, 3);
    if (call_on(worker, action, own_page(worker, from), count * PAGE_SIZE, access) != OK)
        stress_steps_fail(worker, "a call on its own range failed", own_page(worker, from));
    for (unsigned i = from; i < from + count; i++) {
        if (action != ACT_BLANK)
            worker->access[i] = access;
        if (action != ACT_PROTECT)
            worker->tags[i] = 0;
        check_own(worker, i);
    }
    worker->protects += action == ACT_PROTECT;
}

/* ---- areas: used by all, closed by one now and then ---- */

void stress_begin(void)
{
    memset(closures, 0, sizeof(closures));
}

static uint32_t closures_of(unsigned area)
{
    return __atomic_load_n(&closures[area], __ATOMIC_SEQ_CST);
}

/* Returns whether an area has stayed open since it was closed for the n-th time. */
static bool was_open_since(unsigned area, uint32_t before)
{
    return before % 2 == 0 && closures_of(area) == before;
}

/* Tries to write to an area. A refusal is right if the area was closed meanwhile. */
static bool try_write(struct stress_worker *worker, unsigned area, uint64_t address, uint64_t value)
{
    uint32_t before = closures_of(area);
    struct trap_info info;

    if (probe_user_write64(address, value, &info))
        return true;
    if (!is_refusal(&info, address, true) || was_open_since(area, before))
        stress_steps_fail(worker, "a word that all may write could not be written", address);
    return false;
}

static bool try_read(struct stress_worker *worker, unsigned area, uint64_t address, uint64_t *value)
{
    uint32_t before = closures_of(area);
    struct trap_info info;

    if (probe_user_read64(address, value, &info))
        return true;
    if (!is_refusal(&info, address, false) || was_open_since(area, before))
        stress_steps_fail(worker, "a word that all may read could not be read", address);
    return false;
}

/* Checks that each worker's word of a shared page, which counts its writes, never decreases. */
static void touch_shared(struct stress_worker *worker)
{
    unsigned page = pick(worker, STRESS_SHARED);
    unsigned other = pick(worker, worker->count);
    uint64_t own = stress_shared_word(page, worker->number);
    uint64_t value;

    if (try_write(worker, page, own, worker->own_count[page] + 1))
        worker->own_count[page]++;
    if (try_read(worker, page, own, &value) && value != worker->own_count[page])
        stress_steps_fail(worker, "a shared page lost its own write", own);
    if (!try_read(worker, page, stress_shared_word(page, other), &value))
        return;
    if (value < worker->seen[page][other])
        stress_steps_fail(worker, "a shared page went back", stress_shared_word(page, other));
    worker->seen[page][other] = value;
}

/* Touches a block. Its pages read as zero except for the workers' writes; the worker's own write
 * remains until some worker closes, and so blanks, the block. */
static void touch_block(struct stress_worker *worker)
{
    unsigned block = pick(worker, STRESS_BLOCKS);
    unsigned area = STRESS_SHARED + block;
    uint64_t page = block_page(block, pick(worker, STRESS_BLOCK_BYTES / PAGE_SIZE));
    uint64_t own = word_of_worker(page, worker->number);
    uint32_t before = closures_of(area);
    uint64_t value;

    if (try_read(worker, area, page + FREE_WORD * 8, &value) && value != 0)
        stress_steps_fail(worker, "blank memory is not zero", page + FREE_WORD * 8);
    if (pick(worker, 4) != 0 || !try_write(worker, area, own, page))
        return;
    if (try_read(worker, area, own, &value) && value != page && was_open_since(area, before))
        stress_steps_fail(worker, "a block lost its own write", own);
}

/* Closes the area for all others; returns false if another worker has it. */
static bool close_area(struct stress_worker *worker, unsigned area)
{
    uint32_t before = closures_of(area);

    if (before % 2 != 0 || !__atomic_compare_exchange_n(&closures[area], &before, before + 1, false,
                                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return false;
    worker->closed++;
    return true;
}

static void open_area(unsigned area)
{
    __atomic_add_fetch(&closures[area], 1, __ATOMIC_SEQ_CST);
}

static bool stress_steps_protect(struct stress_worker *worker, uint64_t start, uint64_t size,
                                 enum stress_access access)
{
    worker->protects++;
    if (space_protect(worker->space, start, size, rights_for(access)) != OK)
        return stress_steps_fail(worker, "an area could not be protected", start);
    return true;
}

/* Closes a page: makes it read-only for every processor. Once the call has returned no word of the
 * page may change, not even while it has no access at all. */
static void close_page(struct stress_worker *worker)
{
    unsigned area = pick(worker, STRESS_SHARED);
    uint64_t page = STRESS_SHARED_START + area * PAGE_SIZE;
    uint64_t words[STRESS_WORKERS_MAX];
    uint64_t value = 0;

    if (!close_area(worker, area))
        return;
    stress_steps_protect(worker, page, PAGE_SIZE, OWN_READ);
    for (unsigned i = 0; i < worker->count; i++)
        probe_user_read64(word_of_worker(page, i), &words[i], NULL);
    expect_write_refused(worker, word_of_worker(page, worker->number));
    stress_steps_protect(worker, page, PAGE_SIZE, OWN_NONE);
    expect_read_refused(worker, page);
    stress_steps_protect(worker, page, PAGE_SIZE, OWN_READ);
    for (unsigned i = 0; i < worker->count; i++) {
        if (!probe_user_read64(word_of_worker(page, i), &value, NULL) || value != words[i])
            stress_steps_fail(worker, "a page changed that nobody may write",
                              word_of_worker(page, i));
    }
    stress_steps_protect(worker, page, PAGE_SIZE, OWN_WRITE);
    open_area(area);
}

static void blank(struct stress_worker *worker, uint64_t block)
{
    if (space_advise(worker->space, block, STRESS_BLOCK_BYTES, SPACE_DONT_NEED) != OK)
        stress_steps_fail(worker, "a block could not be blanked", block);
}

/* Closes a block: blanks it while others may still write, so that they split its one entry during
 * the protection. After a second blanking it reads as zeros everywhere, since no worker may write
 * it before it is open. */
static void close_block(struct stress_worker *worker)
{
    unsigned block = pick(worker, STRESS_BLOCKS);
    uint64_t start = block_page(block, 0);
    uint64_t value;

    if (!close_area(worker, STRESS_SHARED + block))
        return;
    blank(worker, start);
    stress_steps_protect(worker, start, STRESS_BLOCK_BYTES, OWN_READ);
    blank(worker, start);
    for (unsigned i = 0; i < STRESS_BLOCK_BYTES / PAGE_SIZE; i += 1 + pick(worker, 64)) {
        uint64_t word = word_of_worker(start + i * PAGE_SIZE, pick(worker, worker->count));

        if (!probe_user_read64(word, &value, NULL) || value != 0)
            stress_steps_fail(worker, "a block that was blanked is not zero", word);
    }
    expect_write_refused(worker, start);
    stress_steps_protect(worker, start, STRESS_BLOCK_BYTES, OWN_WRITE);
    open_area(STRESS_SHARED + block);
}

/* ---- forks ---- */

/* Makes all pages of a child writable, checks their content, also where the parent had no access,
 * and writes the child's own. */
static void write_in_child(struct stress_worker *worker, struct space *child)
{
    if (space_protect(child, STRESS_SHARED_START, STRESS_SHARED * PAGE_SIZE, RIGHTS_READ_WRITE) !=
        OK)
        stress_steps_fail(worker, "a child could not be protected", STRESS_SHARED_START);
    for (unsigned page = 0; page < STRESS_SHARED; page++) {
        uint64_t word = stress_shared_word(page, worker->number);
        uint64_t value;

        if (!word_read(word, &value) || value != worker->own_count[page])
            stress_steps_fail(worker, "a child's shared page is not the parent's", word);
        if (!word_write(word, UINT64_MAX))
            stress_steps_fail(worker, "a child's shared page could not be written", word);
    }
    for (unsigned i = 0; i < STRESS_OWN_PAGES && worker->wrong == NULL; i++) {
        check_own(worker, i);
        if (worker->access[i] == OWN_UNMAPPED)
            continue;
        if (space_protect(child, own_page(worker, i), PAGE_SIZE, RIGHTS_READ_WRITE) != OK)
            stress_steps_fail(worker, "a child could not be protected", own_page(worker, i));
        if (stress_steps_holds(worker, i, worker->tags[i]) && i % 2 == 0)
            stress_steps_fill(worker, i, worker->tags[i] + 2);
    }
}

/* Checks the child's pages after the parent has continued: its own writes, and the parent's old
 * content. */
static void check_child(struct stress_worker *worker, const uint64_t tags[STRESS_OWN_PAGES],
                        const enum stress_access access[STRESS_OWN_PAGES])
{
    for (unsigned i = 0; i < STRESS_OWN_PAGES && worker->wrong == NULL; i++) {
        if (access[i] != OWN_UNMAPPED)
            stress_steps_holds(worker, i, i % 2 == 0 ? tags[i] + 2 : tags[i]);
    }
}

static void fork_and_check(struct stress_worker *worker)
{
    uint64_t tags[STRESS_OWN_PAGES];
    enum stress_access access[STRESS_OWN_PAGES];
    struct space *child;

    if (space_fork(worker->space, &child) != OK) {
        stress_steps_fail(worker, "a fork failed", 0);
        return;
    }
    worker->forks++;
    memcpy(tags, worker->tags, sizeof(tags));
    memcpy(access, worker->access, sizeof(access));
    space_switch(child);
    write_in_child(worker, child);
    space_switch(worker->space);
    stress_check_all(worker);
    for (unsigned i = 0; i < STRESS_OWN_PAGES; i += 1 + pick(worker, 8))
        fill_own(worker, i);
    change_own(worker, ACT_UNMAP);
    space_switch(child);
    check_child(worker, tags, access);
    space_switch(worker->space);
    space_destroy(child);
    stress_check_all(worker);
}

/* ---- wires ---- */

/* Wires or unwires some shared pages while others write, close, fork and evict. Wires do not nest,
 * so another worker may end this one at once: the check is that no content is lost. */
static void wire_shared(struct stress_worker *worker)
{
    unsigned first = pick(worker, STRESS_SHARED);
    uint64_t start = STRESS_SHARED_START + first * PAGE_SIZE;
    uint64_t size = (1 + pick(worker, STRESS_SHARED - first)) * PAGE_SIZE;
    enum status status = pick(worker, 2) == 0 ? space_unwire(worker->space, start, size)
                                              : space_wire(worker->space, start, size);

    /* No worker may touch or wire a page of a closed area. */
    if (status != OK && status != STATUS_DENIED)
        stress_steps_fail(worker, "shared pages could not be wired or unwired", start);
    for (unsigned page = first; page < STRESS_SHARED && worker->wrong == NULL; page++) {
        uint64_t value;

        if (probe_user_read64(stress_shared_word(page, worker->number), &value, NULL) &&
            value != worker->own_count[page])
            stress_steps_fail(worker, "a shared page lost a write when it was wired", start);
    }
}

/* ---- one of them ---- */

void stress_step(struct stress_worker *worker)
{
    unsigned dice = pick(worker, 64);
    unsigned action = 0;

    while (dice >= weights[action])
        dice -= weights[action++];
    switch ((enum action)action) {
    case ACT_MAP:
    case ACT_UNMAP:
    case ACT_PROTECT:
    case ACT_BLANK: change_own(worker, (enum action)action); break;
    case ACT_FILL: fill_own(worker, pick(worker, STRESS_OWN_PAGES)); break;
    case ACT_CHECK: check_own(worker, pick(worker, STRESS_OWN_PAGES)); break;
    case ACT_SHARED: touch_shared(worker); break;
    case ACT_BLOCK: touch_block(worker); break;
    case ACT_CLOSE_PAGE: close_page(worker); break;
    case ACT_CLOSE_BLOCK: close_block(worker); break;
    case ACT_FORK: fork_and_check(worker); break;
    case ACT_WIRE: wire_shared(worker); break;
    case ACTIONS: break;
    }
}
