/* The grant: permission to write a range of sectors of one device. */
#include "swapdisk/ahci/grant.h"

#include <stddef.h>

#include "lib/check.h"

/* Each field has a complement, which exposes a stray write to the grant. */
struct swap_grant {
    const void *device;
    uint64_t first_lba;
    uint64_t last_lba;
    uintptr_t not_device;
    uint64_t not_first_lba;
    uint64_t not_last_lba;
};

static struct swap_grant the_grant;
static bool granted;

static bool grant_intact(void)
{
    return (uintptr_t)the_grant.device == ~the_grant.not_device &&
           the_grant.first_lba == ~the_grant.not_first_lba &&
           the_grant.last_lba == ~the_grant.not_last_lba;
}

const struct swap_grant *swap_grant_make(const void *device, uint64_t first_lba, uint64_t last_lba)
{
    CHECK(!granted && device != NULL && first_lba <= last_lba);
    the_grant = (struct swap_grant){.device = device,
                                    .first_lba = first_lba,
                                    .last_lba = last_lba,
                                    .not_device = ~(uintptr_t)device,
                                    .not_first_lba = ~first_lba,
                                    .not_last_lba = ~last_lba};
    granted = true;
    return &the_grant;
}

bool swap_grant_covers(const struct swap_grant *grant, const void *device, uint64_t lba,
                       uint64_t sectors)
{
    if (!granted || grant != &the_grant || device == NULL)
        return false;
    if (!grant_intact())
        PANIC("the swap grant was overwritten: sectors %lx to %lx", the_grant.first_lba,
              the_grant.last_lba);
    return grant->device == device && sectors > 0 && lba >= grant->first_lba &&
           lba <= grant->last_lba && sectors - 1 <= grant->last_lba - lba;
}

void swap_grant_revoke(void)
{
    granted = false;
    the_grant = (struct swap_grant){0};
}
