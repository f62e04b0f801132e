/* The account of committed pages. */
#include "vmm/space/commit.h"

#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/area.h"
#include "vmm/page/page.h"
#include "vmm/space/space.h"

static struct {
    enum overcommit_policy way;
    uint64_t frames; /* frames of the machine, constant once read; 0: not read yet */
    uint64_t pages;  /* changed atomically */
} account = {.way = OVERCOMMIT_HEURISTIC};

void commit_choose(enum overcommit_policy way)
{
    CHECK(way < OVERCOMMIT_POLICIES);
    account.way = way;
}

enum overcommit_policy commit_policy(void)
{
    return account.way;
}

uint64_t commit_pages(void)
{
    return __atomic_load_n(&account.pages, __ATOMIC_RELAXED);
}

/* Returns the slots that add capacity. A slot in RAM occupies memory that a frame could use. */
static uint64_t slots_of_disk(void)
{
    struct swap_usage swap = swap_usage();

    return swap.backing == SWAP_BACKING_DISK ? swap.slots : 0;
}

static uint64_t frames_of_machine(void)
{
    uint64_t frames = __atomic_load_n(&account.frames, __ATOMIC_RELAXED);

    if (frames == 0) {
        frames = pmm_usage().total;
        __atomic_store_n(&account.frames, frames, __ATOMIC_RELAXED);
    }
    return frames;
}

uint64_t commit_limit(void)
{
    struct pmm_usage usage = pmm_usage();
    uint64_t frames =
        usage.by_kind[FRAME_FREE] + usage.by_kind[FRAME_ANONYMOUS] + usage.by_kind[FRAME_SWAP];
    uint64_t kept = pmm_reserve() + frames / PTE_ENTRIES;

    frames = min_u64(frames > kept ? frames - kept : 0, resident_limit);
    return frames + slots_of_disk();
}

uint64_t commit_total(void)
{
    CHECK(frames_of_machine() > pmm_reserve());
    return frames_of_machine() - pmm_reserve() + slots_of_disk();
}

/* Returns true if one call asks for more than the whole machine has. Reads the disk's size only if
 * memory alone does not suffice. */
__attribute__((noinline)) static bool is_too_much(uint64_t pages)
{
    return pages > frames_of_machine() - pmm_reserve() && pages > commit_total();
}

/* Charges pages if the account stays within what memory and the disk hold, as one atomic step. */
__attribute__((noinline)) static enum status take_what_is_there(uint64_t pages)
{
    uint64_t before = commit_pages();

    do {
        uint64_t limit = commit_limit();

        if (before > limit || pages > limit - before)
            return STATUS_COMMIT;
    } while (!__atomic_compare_exchange_n(&account.pages, &before, before + pages, false,
                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return OK;
}

enum status commit_charge(uint64_t pages)
{
    if (account.way == OVERCOMMIT_NEVER)
        return take_what_is_there(pages);
    if (account.way == OVERCOMMIT_HEURISTIC && is_too_much(pages))
        return STATUS_COMMIT;
    __atomic_add_fetch(&account.pages, pages, __ATOMIC_RELAXED);
    return OK;
}

void commit_uncharge(uint64_t pages)
{
    uint64_t before = __atomic_fetch_sub(&account.pages, pages, __ATOMIC_RELAXED);

    CHECK_MSG(before >= pages, "%lu pages are given back, %lu are committed", pages, before);
}

/* ---- wired pages ---- */

static struct {
    uint64_t limit; /* UINT64_MAX: half of memory */
    uint64_t pages; /* changed atomically */
} wired = {.limit = UINT64_MAX};

uint64_t space_wired_pages(void)
{
    return __atomic_load_n(&wired.pages, __ATOMIC_RELAXED);
}

uint64_t space_wired_limit(void)
{
    uint64_t limit = __atomic_load_n(&wired.limit, __ATOMIC_RELAXED);

    return limit != UINT64_MAX ? limit : min_u64(pmm_usage().total, resident_limit) / 2;
}

void space_set_wired_limit(uint64_t pages)
{
    __atomic_store_n(&wired.limit, pages, __ATOMIC_RELAXED);
}

enum status wire_charge(uint64_t pages)
{
    uint64_t limit = space_wired_limit();
    uint64_t before = space_wired_pages();

    if (pages == 0)
        return OK;
    do {
        if (before > limit || pages > limit - before)
            return STATUS_LIMIT;
    } while (!__atomic_compare_exchange_n(&wired.pages, &before, before + pages, false,
                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return OK;
}

void wire_uncharge(uint64_t pages)
{
    uint64_t before = __atomic_fetch_sub(&wired.pages, pages, __ATOMIC_RELAXED);

    CHECK_MSG(before >= pages, "%lu pages are given back, %lu are wired", pages, before);
}
