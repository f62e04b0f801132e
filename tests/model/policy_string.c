/* A policy of the kernel over a string of page references. */
#include "tests/model/policy_string.h"

#include "lib/bytes.h"
#include "lib/check.h"

static struct {
    const struct policy *policy;
    unsigned memory;
    struct policy_node *nodes[PAGE_STRING_PAGES]; /* of resident pages */
    struct policy_node *ghosts[PAGE_STRING_PAGES];
    bool accessed[PAGE_STRING_PAGES];
} simulated;

static void string_forgets(uint32_t page)
{
    CHECK(page < PAGE_STRING_PAGES && simulated.ghosts[page] != NULL);
    simulated.ghosts[page] = NULL;
}

static void string_tells_use(unsigned page)
{
    simulated.accessed[page] = false;
    if (simulated.policy->used != NULL)
        simulated.policy->used(simulated.nodes[page]);
}

static void string_harvest(void)
{
    if (simulated.policy->round != NULL)
        simulated.policy->round();
    for (unsigned page = 0; page < PAGE_STRING_PAGES; page++) {
        if (simulated.accessed[page])
            string_tells_use(page);
    }
}

/* Evicts a page. One that is named twice although it was used goes: its policy does not ask. */
static void string_makes_room(void)
{
    unsigned page = policy_page(simulated.policy->next());
    unsigned last = PAGE_STRING_PAGES;

    while (!simulated.policy->blind && simulated.accessed[page] && page != last) {
        last = page;
        string_tells_use(page);
        page = policy_page(simulated.policy->next());
    }
    simulated.accessed[page] = false;
    simulated.ghosts[page] = policy_goes(simulated.nodes[page]);
    simulated.nodes[page] = NULL;
}

static void string_faults(unsigned page)
{
    struct policy_node *ghost = simulated.ghosts[page];

    if (ghost != NULL && simulated.policy->ghost_hit != NULL)
        simulated.policy->ghost_hit(ghost);
    if (policy_resident() == simulated.memory)
        string_makes_room();
    ghost = simulated.ghosts[page]; /* making room may have ended it */
    simulated.ghosts[page] = NULL;
    simulated.nodes[page] = policy_insert(ghost, page);
    CHECK(simulated.nodes[page] != NULL);
}

enum status policy_string_faults(const struct policy *policy, const struct page_string *string,
                                 unsigned memory, unsigned harvest, uint64_t *faults)
{
    enum status status = policy_start(policy, 2 * memory + 2);

    CHECK(memory > 0 && !string->full);
    if (status != OK)
        return status;
    memset(&simulated, 0, sizeof(simulated));
    simulated.policy = policy;
    simulated.memory = memory;
    policy_set_capacity(memory);
    policy_on_forget(string_forgets);
    *faults = 0;
    for (unsigned i = 0; i < string->length; i++) {
        unsigned page = string->pages[i];

        if (simulated.nodes[page] == NULL) {
            string_faults(page);
            ++*faults;
        } else {
            simulated.accessed[page] = true;
            if (harvest == 0)
                string_tells_use(page);
        }
        if (harvest > 0 && policy->harvests && i % harvest == harvest - 1)
            string_harvest();
    }
    policy_stop();
    return OK;
}
