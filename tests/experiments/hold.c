/* hold: keeps pages of every kind for a while, so that a debugger outside can compare the MMU's
 * view. */
#include "cpu/machine.h"
#include "lib/print.h"
#include "paging/kernel/map.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"

#define START UINT64_C(0x7f0000000)

/* How long the pages stay, for a debugger outside. */
#define HOLD_MS 5000U

/* Prints an address, its frame according to the tree, and the rights, as bits of the entry. */
static void hold_describe(const struct space *space, uint64_t address, const char *what)
{
    struct pte entry = leaf_entry(space, address);

    ktap_note("hold va=%lx pa=%lx flags=%s%s%s%s%s what=%s", address,
              phys_of(pte_frame(entry)).address, (entry.word & PTE_RW) != 0 ? "W" : "-",
              (entry.word & PTE_US) != 0 ? "U" : "-", (entry.word & PTE_A) != 0 ? "A" : "-",
              (entry.word & PTE_D) != 0 ? "D" : "-", (entry.word & PTE_NX) != 0 ? "X" : "-", what);
}

static void hold_run(const struct options *options)
{
    struct deadline end;
    struct space *space;
    uint64_t value;
    bool ok;

    (void)options;
    if (!start_space(&space))
        return;
    ok = SUCCEEDS(space_map(space, &SPACE_AT(START, 4 * PAGE_SIZE, RIGHTS_READ_WRITE), NULL)) &&
         SUCCEEDS(
             space_map(space, &SPACE_AT(START + 4 * PAGE_SIZE, PAGE_SIZE, RIGHTS_READ), NULL)) &&
         word_write(START, 1) && word_read(START + PAGE_SIZE, &value) &&
         word_read(START + 4 * PAGE_SIZE, &value);
    ktap_check(ok, "pages to look at");
    if (ok) {
        hold_describe(space, START, "own");
        hold_describe(space, START + PAGE_SIZE, "zero");
        hold_describe(space, START + 4 * PAGE_SIZE, "read-only");
        ktap_note("holding for %u ms", HOLD_MS);
        for (end = deadline_after_ms(HOLD_MS); !deadline_passed(end);) {
        }
    }
    end_space(space);
}

EXPERIMENT(hold, 440) = {
    .theme = THEME_PAGES,
    .name = "hold",
    .question = "What does the machine's own view say of these pages?",
    .checks = 1,
    .only_by_name = true,
    .run = hold_run,
    .answer =
        {
            .text = "none; a debugger or monitor reads the pages",
        },
};
