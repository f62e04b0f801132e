/* The low-memory notice: members, and what each has been told. */
#include "vmm/program/notice.h"

#include "lib/check.h"

static uint32_t members;
static void (*on_change)(void);

static void notice_level_changed(struct pmm_watcher *watcher, enum pmm_pressure level)
{
    void (*changed)(void) = __atomic_load_n(&on_change, __ATOMIC_ACQUIRE);

    (void)watcher;
    CHECK(level <= PMM_CRITICAL);
    if (changed != NULL && __atomic_load_n(&members, __ATOMIC_RELAXED) != 0)
        changed();
}

void notice_join(struct notice_member *member)
{
    static struct pmm_watcher watcher = {.changed = notice_level_changed};
    static bool watching;

    CHECK(!member->joined);
    member->joined = true;
    __atomic_add_fetch(&members, 1, __ATOMIC_RELAXED);
    if (!__atomic_exchange_n(&watching, true, __ATOMIC_RELAXED))
        pmm_watch(&watcher);
}

void notice_leave(struct notice_member *member)
{
    CHECK(member->joined);
    member->joined = false;
    CHECK(__atomic_fetch_sub(&members, 1, __ATOMIC_RELAXED) > 0);
}

bool notice_pending(const struct notice_member *member, enum pmm_pressure *level)
{
    *level = pmm_pressure();
    return member->joined && *level != member->told;
}

void notice_told(struct notice_member *member, enum pmm_pressure level)
{
    CHECK(member->joined && level <= PMM_CRITICAL);
    member->told = level;
}

void notice_on_change(void (*changed)(void))
{
    __atomic_store_n(&on_change, changed, __ATOMIC_RELEASE);
}

uint32_t notice_members(void)
{
    return __atomic_load_n(&members, __ATOMIC_RELAXED);
}
