/* OPT and LRU over a string of page references. */
#include "tests/model/page_string.h"

#include "lib/bytes.h"
#include "lib/check.h"

static uint32_t next_use[PAGE_STRING_MAX];
static uint32_t stamps[PAGE_STRING_PAGES]; /* 0: not resident */

void page_string_add(struct page_string *string, unsigned page)
{
    CHECK(page < PAGE_STRING_PAGES);
    if (string->length > 0 && string->pages[string->length - 1] == page)
        return;
    string->full = string->full || string->length == PAGE_STRING_MAX;
    if (!string->full)
        string->pages[string->length++] = (uint16_t)page;
}

/* Finds each reference's next use of the same page; a number beyond the length if there is none. */
static void find_next_uses(const struct page_string *string)
{
    uint32_t next[PAGE_STRING_PAGES];

    for (unsigned i = 0; i < PAGE_STRING_PAGES; i++)
        next[i] = PAGE_STRING_MAX + 1;
    for (unsigned i = string->length; i-- > 0;) {
        next_use[i] = next[string->pages[i]];
        next[string->pages[i]] = i;
    }
}

/* Returns the resident page with the largest, or smallest, stamp. */
static unsigned extreme_page(bool largest)
{
    unsigned best = PAGE_STRING_PAGES;

    for (unsigned i = 0; i < PAGE_STRING_PAGES; i++) {
        if (stamps[i] != 0 && (best == PAGE_STRING_PAGES ||
                               (largest ? stamps[i] > stamps[best] : stamps[i] < stamps[best])))
            best = i;
    }
    CHECK(best < PAGE_STRING_PAGES);
    return best;
}

static uint64_t count_faults(const struct page_string *string, unsigned memory, bool ahead)
{
    unsigned resident = 0;
    uint64_t faults = 0;

    CHECK(memory > 0 && !string->full);
    memset(stamps, 0, sizeof(stamps));
    for (unsigned i = 0; i < string->length; i++) {
        unsigned page = string->pages[i];

        if (stamps[page] == 0) {
            faults++;
            if (resident == memory)
                stamps[extreme_page(ahead)] = 0;
            else
                resident++;
        }
        stamps[page] = ahead ? next_use[i] : i + 1;
    }
    return faults;
}

uint64_t page_string_opt(const struct page_string *string, unsigned memory)
{
    find_next_uses(string);
    return count_faults(string, memory, true);
}

uint64_t page_string_lru(const struct page_string *string, unsigned memory)
{
    return count_faults(string, memory, false);
}
