/* Chooses which prepared disks may be written. docs/disk-safety.md numbers the rules. */
#include "swapdisk/choose.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/print.h"
#include "swapdisk/block/grant.h"
#include "swapdisk/validate.h"

_Static_assert(SWAP_SETS_MAX <= SWAP_GRANTS_MAX, "each set has a grant");

/* Generations by which the halves of a mirror may differ: a power cut comes between two updates. */
#define HALVES_APART 1U

bool swap_same_group(const struct swap_header *a, const struct swap_header *b)
{
    return a->role != SET_ALONE && b->role != SET_ALONE &&
           memcmp(a->group_uuid, b->group_uuid, sizeof(a->group_uuid)) == 0;
}

const struct swap_choice *swap_choice_of(const struct swap_header *header,
                                         const struct options *options)
{
    for (unsigned i = 0; options->swap == SWAP_SET && i < options->swap_sets; i++) {
        const struct swap_choice *choice = &options->swap_set[i];

        if (memcmp(choice->uuid, header->set_uuid, sizeof(choice->uuid)) == 0 ||
            (header->role != SET_ALONE &&
             memcmp(choice->uuid, header->group_uuid, sizeof(choice->uuid)) == 0))
            return choice;
    }
    return NULL;
}

/* Chooses a disk by the options alone. */
static void choose_by_options(struct disk_finding *finding, const struct options *options,
                              bool under_hypervisor)
{
    const struct swap_choice *choice = swap_choice_of(&finding->header, options);
    const char *why = NULL;
    char uuid[37];

    swap_uuid_text(finding->header.set_uuid, uuid);
    if (options->swap == SWAP_NONE)
        why = "but the options say swap=none";
    else if (options->swap == SWAP_SET && choice == NULL)
        why = "but the options name another set";
    else if (options->swap != SWAP_SET && !under_hypervisor)
        why = "but on a real machine it is written only when the options name it";
    print_to(finding->reason, REASON_SIZE, "prepared as set %s%s%s", uuid, why != NULL ? ", " : "",
             why != NULL ? why : "");
    finding->chosen = why == NULL;
    finding->priority = choice != NULL ? choice->priority : 0;
}

/* Returns whether two disks claim to be the same set, or the same place of a group. */
static bool are_twins(const struct swap_header *a, const struct swap_header *b)
{
    return memcmp(a->set_uuid, b->set_uuid, sizeof(a->set_uuid)) == 0 ||
           (swap_same_group(a, b) && a->member == b->member);
}

/* Returns why two sets of one group cannot be used together, NULL if they can. */
static const char *group_disagreement(const struct swap_header *a, const struct swap_header *b)
{
    if (a->role != b->role || a->members != b->members)
        return "says otherwise what their group is";
    if (a->role != SET_MIRROR)
        return NULL;
    if (swap_header_slots(a) != swap_header_slots(b))
        return "is the other half of the mirror and has another size";
    if (max_u64(a->generation, b->generation) - min_u64(a->generation, b->generation) >
        HALVES_APART)
        return "is the other half of the mirror, and one was used without the other: prepare both";
    return NULL;
}

/* Returns why a disk cannot be used because of another one, NULL if it can. */
static const char *conflict(const struct disk_finding *disk, const struct disk_finding *other,
                            bool by_name)
{
    if (are_twins(&disk->header, &other->header))
        return "matches as well";
    if (!swap_same_group(&disk->header, &other->header))
        return by_name ? NULL : "matches as well";
    if (disk->header.role == SET_MIRROR && disk->priority != other->priority)
        return "is the other half of the mirror and has another priority";
    return group_disagreement(&disk->header, &other->header);
}

/* Judges one disk beside all others that the options choose. */
static void judge_beside(struct disk_finding *disk, const struct disk_finding *first, bool by_name)
{
    for (const struct disk_finding *at = first; at != NULL; at = at->next) {
        const char *why = at != disk && at->chosen ? conflict(disk, at, by_name) : NULL;
        char uuid[37];

        if (why == NULL || disk->refused)
            continue;
        swap_uuid_text(at->header.set_uuid, uuid);
        print_to(disk->reason, REASON_SIZE, "refused, since disk %s %s (set %s)", at->header.serial,
                 why, uuid);
        disk->refused = true;
    }
}

/* Refuses a set if another set of its group is refused on its own account. */
static void judge_group(struct disk_finding *disk, const struct disk_finding *first)
{
    for (const struct disk_finding *at = first; at != NULL && !disk->refused; at = at->next) {
        if (!at->chosen || !at->refused || !swap_same_group(&disk->header, &at->header))
            continue;
        print_to(disk->reason, REASON_SIZE, "refused, since disk %s of its group is refused",
                 at->header.serial);
        disk->refused = true;
    }
}

/* Judges a half of a mirror whose other half is not chosen: alone it serves only if the other one
 * is not there. */
static void judge_lone_half(struct disk_finding *disk, const struct disk_finding *first)
{
    size_t used = strlen(disk->reason);

    for (const struct disk_finding *at = first; at != NULL; at = at->next) {
        if (at == disk || !at->prepared || !swap_same_group(&disk->header, &at->header))
            continue;
        if (at->chosen)
            return;
        print_to(disk->reason, REASON_SIZE,
                 "refused, since disk %s, the other half of the mirror, is not named",
                 at->header.serial);
        disk->refused = true;
        return;
    }
    print_to(disk->reason + used, REASON_SIZE - used, "; the mirror's other half is not there");
}

/* Returns whether a disk is chosen and nothing speaks against it so far. */
static bool still_chosen(const struct disk_finding *finding)
{
    CHECK(!finding->chosen || finding->prepared);
    return finding->chosen && !finding->refused;
}

unsigned swap_choose(struct disk_finding *first, const struct options *options,
                     bool under_hypervisor)
{
    bool by_name = options->swap == SWAP_SET;
    unsigned count = 0;

    CHECK(options->swap == SWAP_AUTO || options->swap == SWAP_NONE || options->swap == SWAP_SET);
    for (struct disk_finding *at = first; at != NULL; at = at->next) {
        at->chosen = at->refused = false;
        if (at->prepared)
            choose_by_options(at, options, under_hypervisor);
    }
    for (struct disk_finding *at = first; at != NULL; at = at->next) {
        if (at->chosen)
            judge_beside(at, first, by_name);
    }
    for (struct disk_finding *at = first; at != NULL; at = at->next) {
        if (still_chosen(at))
            judge_group(at, first);
    }
    for (struct disk_finding *at = first; at != NULL; at = at->next) {
        if (still_chosen(at) && at->header.role == SET_MIRROR)
            judge_lone_half(at, first);
    }
    for (struct disk_finding *at = first; at != NULL; at = at->next) {
        if (still_chosen(at) && count == SWAP_SETS_MAX) {
            print_to(at->reason, REASON_SIZE, "refused, since there are more than %u sets",
                     SWAP_SETS_MAX);
            at->refused = true;
        }
        at->chosen = still_chosen(at);
        count += at->chosen;
    }
    return count;
}
