/* Pages of a program as experiments use them. */
#include "tests/runner/user_pages.h"

#include "cpu/machine.h"
#include "cpu/trap/probe.h"
#include "lib/bytes.h"
#include "lib/ktap.h"
#include "lib/random.h"
#include "vmm/fault/fault.h"

#define WORDS (PAGE_SIZE / sizeof(uint64_t))

/* Refusals and differences that are said before they are only counted. */
#define COMPLAINTS_MAX 16U

static unsigned complaints;

static uint64_t expected[WORDS];
static uint64_t found[WORDS];

const uint64_t *page_of_tag(uint64_t tag)
{
    struct random random = random_from(tag);

    expected[0] = tag;
    for (unsigned i = 1; i < WORDS; i++)
        expected[i] = random_next(&random);
    return expected;
}

/* Logs why an access was refused. After some lines it only counts, since one cause may refuse
 * thousands. */
static void user_pages_complain(const char *what, uint64_t address, const struct trap_info *info)
{
    if (complaints++ < COMPLAINTS_MAX)
        ktap_note("%s the page at %lx: vector %u, error %lx, %s", what, address, info->vector,
                  info->error, status_name(fault_last_reason()));
}

static bool fetch_page(uint64_t address)
{
    struct trap_info info;

    if (user_copy_in(found, address, PAGE_SIZE, &info))
        return true;
    user_pages_complain("reading", address, &info);
    return false;
}

static bool compare_page(uint64_t address)
{
    for (unsigned i = 0; i < WORDS; i++) {
        if (found[i] != expected[i]) {
            if (complaints++ < COMPLAINTS_MAX)
                ktap_note("%lx holds %016lx instead of %016lx", address + i * sizeof(uint64_t),
                          found[i], expected[i]);
            return false;
        }
    }
    return true;
}

bool page_fill(uint64_t address, uint64_t tag)
{
    struct trap_info info;

    page_of_tag(tag);
    if (user_copy_out(address, expected, PAGE_SIZE, &info))
        return true;
    user_pages_complain("writing", address, &info);
    return false;
}

bool page_holds(uint64_t address, uint64_t tag)
{
    page_of_tag(tag);
    return fetch_page(address) && compare_page(address);
}

bool page_holds_but(uint64_t address, uint64_t tag, unsigned word, uint64_t value)
{
    page_of_tag(tag);
    expected[word] = value;
    return fetch_page(address) && compare_page(address);
}

bool page_is_zero(uint64_t address)
{
    memset(expected, 0, sizeof(expected));
    return fetch_page(address) && compare_page(address);
}

bool page_is_zero_but(uint64_t address, unsigned word, uint64_t value)
{
    memset(expected, 0, sizeof(expected));
    expected[word] = value;
    return fetch_page(address) && compare_page(address);
}

bool word_write(uint64_t address, uint64_t value)
{
    struct trap_info info;

    return probe_user_write64(address, value, &info);
}

bool word_read(uint64_t address, uint64_t *value)
{
    struct trap_info info;

    return probe_user_read64(address, value, &info);
}

static struct tree_place user_pages_place_of(const struct space *space, uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&space->tree, address);

    machine_interrupts_restore(were_on);
    return place;
}

unsigned level_at(const struct space *space, uint64_t address)
{
    return user_pages_place_of(space, address).level;
}

struct pte leaf_entry(const struct space *space, uint64_t address)
{
    struct tree_place place = user_pages_place_of(space, address);

    return place.level == 1 ? place.entry : pte_empty();
}

enum pte_state leaf_state(const struct space *space, uint64_t address)
{
    return pte_state(leaf_entry(space, address), 1);
}

struct pfn leaf_table(const struct space *space, uint64_t address)
{
    struct tree_place place = user_pages_place_of(space, address);

    return place.level == 1 ? place.table : PFN_NONE;
}

bool start_space(struct space **space)
{
    enum status status = space_create(space);

    if (status != OK) {
        ktap_note("no address space: %s", status_name(status));
        return false;
    }
    space_switch(*space);
    return true;
}

void end_space(struct space *space)
{
    space_switch(NULL);
    space_destroy(space);
}
