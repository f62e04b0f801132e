/* Measures how many pages a TLB batch should invalidate one by one on this machine. */
#include "tests/runner/tlb_limit.h"

#include "lib/ktap.h"
#include "paging/tlb/cost.h"
#include "tests/runner/tick.h"

static void keep_limit(const char *why)
{
    ktap_note("tlb: %s: up to %u pages are dropped one by one, as is the default", why,
              tlb_limit());
}

void tlb_limit_start(void)
{
    struct tlb_cost cost;
    enum status status;
    unsigned limit;

    if (ticks_per_instruction() != 0) {
        keep_limit("counted instructions do not tell what a flush costs");
        return;
    }
    status = tlb_cost_measure(&cost);
    if (status != OK) {
        keep_limit(status_name(status));
        return;
    }
    ktap_note(
        "tlb: %u pages one by one cost %lu ticks, all at once %lu with the misses of %u pages",
        cost.page_count, cost.pages, cost.whole, TLB_COST_WORKING_SET);
    limit = tlb_limit_for(&cost);
    if (limit == 0) {
        keep_limit("less than a tick for each page or miss is not believable");
        return;
    }
    tlb_set_limit(limit);
    ktap_note("tlb: up to %u pages are dropped one by one, more of them all at once", limit);
}
