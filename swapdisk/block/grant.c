/* Grants: each permits writing a range of sectors of one device. */
#include "swapdisk/block/grant.h"

#include <stddef.h>

#include "cpu/smp/spin.h"
#include "lib/bytes.h"
#include "lib/check.h"

/* Each field has a complement, which exposes a stray write to the grant. */
struct swap_grant {
    const void *device;
    uint64_t first_lba;
    uint64_t last_lba;
    uint64_t first_slot_lba; /* of swap: the sectors that may be discarded */
    uint64_t last_slot_lba;
    uintptr_t not_device;
    uint64_t not_first_lba;
    uint64_t not_last_lba;
    uint64_t not_first_slot_lba;
    uint64_t not_last_slot_lba;
};

/* A run of the grant for files, likewise with complements. */
struct granted_run {
    uint64_t first_lba;
    uint64_t last_lba;
    uint64_t not_first_lba;
    uint64_t not_last_lba;
};

/* The grants for swap; one with a device is in force. */
static struct swap_grant grants[SWAP_GRANTS_MAX];

/* The grant for files; its range bounds the runs, which ascend. */
static struct {
    struct swap_grant grant;
    bool granted; /* (l), as all but the range */
    uint8_t lock; /* taken last, inside a port's lock */
    uint32_t count;
    struct granted_run runs[FILES_RUNS_MAX];
} files;

static bool grant_intact(const struct swap_grant *grant)
{
    return (uintptr_t)grant->device == ~grant->not_device &&
           grant->first_lba == ~grant->not_first_lba && grant->last_lba == ~grant->not_last_lba;
}

static bool grant_slots_intact(const struct swap_grant *grant)
{
    return grant->first_slot_lba == ~grant->not_first_slot_lba &&
           grant->last_slot_lba == ~grant->not_last_slot_lba;
}

static struct swap_grant grant_of(const void *device, uint64_t first_lba, uint64_t last_lba)
{
    CHECK(device != NULL && first_lba <= last_lba);
    return (struct swap_grant){.device = device,
                               .first_lba = first_lba,
                               .last_lba = last_lba,
                               .not_device = ~(uintptr_t)device,
                               .not_first_lba = ~first_lba,
                               .not_last_lba = ~last_lba};
}

const struct swap_grant *swap_grant_make(const void *device, uint64_t first_lba, uint64_t last_lba,
                                         uint64_t first_slot_lba, uint64_t slot_sectors)
{
    struct swap_grant *made = NULL;

    CHECK(slot_sectors > 0 && first_slot_lba > first_lba && first_slot_lba <= last_lba &&
          slot_sectors <= last_lba - first_slot_lba);
    for (struct swap_grant *at = grants; at < grants + SWAP_GRANTS_MAX; at++) {
        CHECK_MSG(at->device != device || last_lba < at->first_lba || first_lba > at->last_lba,
                  "sectors %lx to %lx are granted already", at->first_lba, at->last_lba);
        if (at->device == NULL && made == NULL)
            made = at;
    }
    CHECK(made != NULL);
    *made = grant_of(device, first_lba, last_lba);
    made->first_slot_lba = first_slot_lba;
    made->last_slot_lba = first_slot_lba + slot_sectors - 1;
    made->not_first_slot_lba = ~made->first_slot_lba;
    made->not_last_slot_lba = ~made->last_slot_lba;
    return made;
}

/* Returns whether a pointer is to a grant for swap that is in force. */
static bool grant_in_force(const struct swap_grant *grant)
{
    uintptr_t offset = (uintptr_t)grant - (uintptr_t)grants;

    return offset < sizeof(grants) && offset % sizeof(grants[0]) == 0 && grant->device != NULL;
}

/* Returns whether the grant's range has the sectors. */
static bool grant_range_has(const struct swap_grant *grant, const void *device, uint64_t lba,
                            uint64_t sectors)
{
    if (!grant_intact(grant))
        PANIC("a grant was overwritten: sectors %lx to %lx", grant->first_lba, grant->last_lba);
    return grant->device == device && sectors > 0 && lba >= grant->first_lba &&
           lba <= grant->last_lba && sectors - 1 <= grant->last_lba - lba;
}

static bool files_grant_lock(void)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&files.lock);
    return were_on;
}

static void files_grant_unlock(bool were_on)
{
    spin_unlock(&files.lock);
    machine_interrupts_restore(were_on);
}

/* Returns the number of runs that begin at or before a sector. The lock is held. */
static uint32_t runs_up_to(uint64_t lba)
{
    uint32_t low = 0;
    uint32_t high = files.count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (files.runs[middle].first_lba <= lba)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Returns whether one run has all of the sectors. The lock is held. */
static bool run_has(uint64_t lba, uint64_t sectors)
{
    uint32_t count = runs_up_to(lba);
    const struct granted_run *run;

    if (count == 0)
        return false;
    run = &files.runs[count - 1];
    if (run->first_lba != ~run->not_first_lba || run->last_lba != ~run->not_last_lba)
        PANIC("a run of the grant for files was overwritten: sectors %lx to %lx", run->first_lba,
              run->last_lba);
    return lba <= run->last_lba && sectors - 1 <= run->last_lba - lba;
}

static bool files_grant_covers(const void *device, uint64_t lba, uint64_t sectors)
{
    bool were_on = files_grant_lock();
    bool covers = files.granted && grant_range_has(&files.grant, device, lba, sectors) &&
                  run_has(lba, sectors);

    files_grant_unlock(were_on);
    return covers;
}

bool swap_grant_covers(const struct swap_grant *grant, const void *device, uint64_t lba,
                       uint64_t sectors)
{
    if (grant == NULL || device == NULL)
        return false;
    if (grant == &files.grant)
        return files_grant_covers(device, lba, sectors);
    return grant_in_force(grant) && grant_range_has(grant, device, lba, sectors);
}

bool swap_grant_covers_slots(const struct swap_grant *grant, const void *device, uint64_t lba,
                             uint64_t sectors)
{
    if (grant == NULL || device == NULL || !grant_in_force(grant) ||
        !grant_range_has(grant, device, lba, sectors))
        return false;
    if (!grant_slots_intact(grant))
        PANIC("the slots of a grant were overwritten: sectors %lx to %lx", grant->first_slot_lba,
              grant->last_slot_lba);
    return lba >= grant->first_slot_lba && lba <= grant->last_slot_lba &&
           sectors - 1 <= grant->last_slot_lba - lba;
}

void swap_grant_revoke(void)
{
    memset(grants, 0, sizeof(grants));
}

/* ---- the grant for files ---- */

const struct swap_grant *files_grant_make(const void *device, uint64_t first_lba, uint64_t last_lba)
{
    CHECK(!files.granted && files.count == 0);
    files.grant = grant_of(device, first_lba, last_lba);
    files.granted = true;
    return &files.grant;
}

bool files_grant_begins_at(const struct swap_grant *grant, const void *device, uint64_t lba)
{
    return grant == &files.grant && files.granted && grant_range_has(grant, device, lba, 1) &&
           grant->first_lba == lba;
}

enum status files_grant_add(const struct swap_grant *grant, uint64_t lba, uint64_t sectors)
{
    bool were_on = files_grant_lock();
    enum status status = OK;
    uint32_t at = runs_up_to(lba);

    if (grant != &files.grant || !files.granted ||
        !grant_range_has(grant, grant->device, lba, sectors) ||
        (at > 0 && files.runs[at - 1].last_lba >= lba) ||
        (at < files.count && files.runs[at].first_lba - lba < sectors))
        status = STATUS_REFUSED;
    else if (files.count == FILES_RUNS_MAX)
        status = STATUS_LIMIT;
    if (status == OK) {
        memmove(&files.runs[at + 1], &files.runs[at], (files.count - at) * sizeof(files.runs[0]));
        files.runs[at] = (struct granted_run){lba, lba + sectors - 1, ~lba, ~(lba + sectors - 1)};
        files.count++;
    }
    files_grant_unlock(were_on);
    return status;
}

void files_grant_remove(const struct swap_grant *grant, uint64_t lba, uint64_t sectors)
{
    bool were_on = files_grant_lock();
    uint32_t at = runs_up_to(lba);

    if (grant == &files.grant && files.granted) {
        CHECK_MSG(at > 0 && files.runs[at - 1].first_lba == lba &&
                      files.runs[at - 1].last_lba == lba + sectors - 1,
                  "no run of %lx sectors at %lx", sectors, lba);
        files.count--;
        memmove(&files.runs[at - 1], &files.runs[at],
                (files.count - (at - 1)) * sizeof(files.runs[0]));
    }
    files_grant_unlock(were_on);
}

void files_grant_revoke(void)
{
    bool were_on = files_grant_lock();

    files.granted = false;
    files.count = 0;
    files.grant = (struct swap_grant){0};
    files_grant_unlock(were_on);
}
