/* The low-memory notice: members, and what each has been told. */
#include "vmm/program/notice.h"

#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "lib/check.h"

static uint8_t members_lock; /* members changes, and on_members is called, only under it */
static bool watching;        /* likewise */
static uint32_t members;
static void (*on_change)(void);
static void (*on_members)(bool any);

static void notice_level_changed(struct pmm_watcher *watcher, enum pmm_pressure level)
{
    void (*changed)(void) = __atomic_load_n(&on_change, __ATOMIC_ACQUIRE);

    (void)watcher;
    CHECK(level <= PMM_CRITICAL);
    if (changed != NULL && __atomic_load_n(&members, __ATOMIC_RELAXED) != 0)
        changed();
}

static bool lock_members(void)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&members_lock);
    return were_on;
}

static void unlock_members(bool were_on)
{
    spin_unlock(&members_lock);
    machine_interrupts_restore(were_on);
}

/* Changes the number of members by one. on_members hears of the changes in their order, so that the
 * last call that it gets is true. */
static void count_members(bool joins)
{
    static struct pmm_watcher watcher = {.changed = notice_level_changed};
    void (*changed)(bool any) = __atomic_load_n(&on_members, __ATOMIC_ACQUIRE);
    bool were_on = lock_members();
    uint32_t count = joins ? members + 1 : members - 1;

    CHECK(joins || members > 0);
    __atomic_store_n(&members, count, __ATOMIC_RELAXED);
    if (changed != NULL && count == (joins ? 1 : 0))
        changed(joins);
    if (!watching)
        pmm_watch(&watcher);
    watching = true;
    unlock_members(were_on);
}

void notice_join(struct notice_member *member)
{
    CHECK(!member->joined);
    member->joined = true;
    count_members(true);
}

void notice_leave(struct notice_member *member)
{
    CHECK(member->joined);
    member->joined = false;
    count_members(false);
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

void notice_on_members(void (*changed)(bool any))
{
    __atomic_store_n(&on_members, changed, __ATOMIC_RELEASE);
}

uint32_t notice_members(void)
{
    return __atomic_load_n(&members, __ATOMIC_RELAXED);
}
