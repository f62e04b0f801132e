/* cow: do two address spaces see one page until one of them writes, and what does each write cost?
 */
#include "cpu/machine.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/user_pages.h"
#include "vmm/space/end.h"

#define START    UINT64_C(0x400000000)
#define PAGES    64U
#define CHILDREN 300U

/* Checks of many_children. */
#define MANY_CHECKS 4U

/* Tags: the parent's first content, and each side's later content. */
#define OLD_TAG(page)   (0x1000 + (uint64_t)(page))
#define NEW_TAG(page)   (0x2000 + (uint64_t)(page))
#define CHILD_TAG(page) (0x3000 + (uint64_t)(page))

static uint64_t cow_page_at(unsigned number)
{
    return START + number * PAGE_SIZE;
}

static unsigned count_holding(uint64_t (*tag_of)(unsigned page), unsigned from, unsigned to)
{
    unsigned right = 0;

    for (unsigned i = from; i < to; i++)
        right += page_holds(cow_page_at(i), tag_of(i));
    return right;
}

static uint64_t cow_old_tag(unsigned page)
{
    return OLD_TAG(page);
}

/* Returns the parent's tag of a page. The parent wrote the second and third quarter, the child the
 * third and fourth. */
static uint64_t parent_tag(unsigned page)
{
    return page >= PAGES / 4 && page < PAGES * 3 / 4 ? NEW_TAG(page) : OLD_TAG(page);
}

static uint64_t child_tag(unsigned page)
{
    return page >= PAGES / 2 ? CHILD_TAG(page) : OLD_TAG(page);
}

static bool fill_parent(struct space *parent)
{
    bool ok =
        SUCCEEDS(space_map(parent, &SPACE_AT(START, PAGES * PAGE_SIZE, RIGHTS_READ_WRITE), NULL));

    for (unsigned i = 0; i < PAGES && ok; i++)
        ok = page_fill(cow_page_at(i), OLD_TAG(i));
    return ok;
}

/* Writes one word of a page, and checks that the copy has the rest of the page. */
static bool write_word_of(unsigned page)
{
    return word_write(cow_page_at(page) + 8 * 5, page) &&
           page_holds_but(cow_page_at(page), OLD_TAG(page), 5, page);
}

/* Writes words right after the fork, through cached translations: they must not reach the other
 * side. The first write of a side also copies tables, the second only the page. */
static void write_words(struct space *parent, struct space *child)
{
    const unsigned last = PAGES - 1;
    bool ok = write_word_of(last) && write_word_of(last - 1);

    space_switch(child);
    ok = ok && count_holding(cow_old_tag, 0, PAGES) == PAGES && write_word_of(last - 2) &&
         write_word_of(last - 3);
    space_switch(parent);
    ok = ok && page_holds(cow_page_at(last - 2), OLD_TAG(last - 2)) &&
         page_holds(cow_page_at(last - 3), OLD_TAG(last - 3));
    ktap_check(ok, "words written right after the fork stay on their side, with their pages' rest");
    ok = page_fill(cow_page_at(last), OLD_TAG(last)) &&
         page_fill(cow_page_at(last - 1), OLD_TAG(last - 1));
    space_switch(child);
    ok = ok && page_fill(cow_page_at(last - 2), OLD_TAG(last - 2)) &&
         page_fill(cow_page_at(last - 3), OLD_TAG(last - 3));
    space_switch(parent);
    ktap_check(ok, "all four written back");
}

/* Lets each side write its part, then checks all pages of both. */
static void write_both_sides(struct space *parent, struct space *child)
{
    bool ok = true;

    space_switch(child);
    ktap_check(count_holding(cow_old_tag, 0, PAGES) == PAGES,
               "the child reads what the parent wrote");
    for (unsigned i = PAGES / 2; i < PAGES && ok; i++)
        ok = page_fill(cow_page_at(i), CHILD_TAG(i));
    space_switch(parent);
    ktap_check(ok && count_holding(cow_old_tag, 0, PAGES) == PAGES,
               "the child's writes do not reach the parent");
    for (unsigned i = PAGES / 4; i < PAGES * 3 / 4 && ok; i++)
        ok = page_fill(cow_page_at(i), NEW_TAG(i));
    ktap_check(ok && count_holding(parent_tag, 0, PAGES) == PAGES, "the parent has its own writes");
    space_switch(child);
    ktap_check(count_holding(child_tag, 0, PAGES) == PAGES, "the child has its own");
    space_switch(parent);
}

/* Checks that a write keeps the frame once the other side has ended or has its own copy. */
static void write_as_last_owner(struct space *parent, struct space *child)
{
    struct pfn frame = pte_frame(leaf_entry(parent, cow_page_at(0)));
    uint64_t copies = space_faults(parent).cow_copy;
    bool ok;

    space_destroy(child);
    space_finish_ends(); /* until then the child's tables have references */
    ok = page_fill(cow_page_at(0), NEW_TAG(0)) && page_holds(cow_page_at(0), NEW_TAG(0));
    ktap_check(ok && pfn_equal(pte_frame(leaf_entry(parent, cow_page_at(0))), frame) &&
                   space_faults(parent).cow_copy == copies,
               "the last owner writes without a copy");
    ktap_check(frame_record(frame)->count == 1 &&
                   pte_class(leaf_entry(parent, cow_page_at(0))) == PTE_OWN,
               "its entry is own again");
}

static void two_spaces(struct space *parent)
{
    struct ledger before = ledger_take();
    struct space *child;
    uint64_t ticks = machine_ticks();
    bool forked = SUCCEEDS(space_fork(parent, &child));

    ticks = machine_ticks() - ticks;
    ktap_check(forked && ledger_growth(&before, FRAME_ANONYMOUS) == 0 &&
                   ledger_growth(&before, FRAME_TABLE) == 1,
               "a fork copies no page and one table, the root");
    ktap_metric("fork", ticks, "ticks");
    if (!forked)
        return;
    write_words(parent, child);
    write_both_sides(parent, child);
    /* The child's half twice, and the parent's second quarter. */
    ktap_check(ledger_growth(&before, FRAME_ANONYMOUS) == PAGES * 3 / 4,
               "three quarters of the pages exist twice: %lu",
               (uint64_t)ledger_growth(&before, FRAME_ANONYMOUS));
    ktap_metric("copies", space_faults(parent).cow_copy + space_faults(child).cow_copy, "faults");
    space_audit();
    write_as_last_owner(parent, child);
    ktap_metric("reuses", space_faults(parent).cow_reuse, "faults");
}

/* Forks pages that are COW already, from either side; the child's child outlives the child. */
static void fork_of_a_fork(struct space *parent)
{
    struct space *child;
    struct space *grandchild;
    bool ok;

    if (!SUCCEEDS(space_fork(parent, &child)))
        return;
    space_switch(child);
    ok = page_holds(cow_page_at(1), OLD_TAG(1));
    if (!SUCCEEDS(space_fork(child, &grandchild)))
        return;
    ktap_check(ok, "a second fork of pages that are COW already");
    space_switch(grandchild);
    ok = page_holds(cow_page_at(1), OLD_TAG(1)) && page_fill(cow_page_at(1), CHILD_TAG(1));
    space_switch(child);
    ok = ok && page_holds(cow_page_at(1), OLD_TAG(1));
    space_switch(parent);
    ok = ok && page_holds(cow_page_at(1), OLD_TAG(1)) && page_fill(cow_page_at(2), NEW_TAG(2));
    space_switch(grandchild);
    ok = ok && page_holds(cow_page_at(1), CHILD_TAG(1)) && page_holds(cow_page_at(2), OLD_TAG(2));
    ktap_check(ok, "three generations see three contents");
    space_audit();
    space_switch(parent);
    space_destroy(child);
    space_switch(grandchild);
    ktap_check(page_holds(cow_page_at(1), CHILD_TAG(1)) && page_holds(cow_page_at(3), OLD_TAG(3)),
               "the grandchild outlives the child");
    space_switch(parent);
    space_destroy(grandchild);
    space_finish_ends(); /* the next ones count references */
}

/* Forks children. Each writes to a page beside the shared one, and so owns its leaf table. */
static unsigned fork_children(struct space *parent, struct space **children)
{
    unsigned count = 0;

    for (; count < CHILDREN; count++) {
        if (!SUCCEEDS(space_fork(parent, &children[count])))
            break;
        space_switch(children[count]);
        if (!page_fill(cow_page_at(5), CHILD_TAG(count)) || !page_holds(cow_page_at(4), OLD_TAG(4)))
            break;
        space_switch(parent);
    }
    return count;
}

static void many_children(struct space *parent)
{
    static struct space *children[CHILDREN];
    uint64_t copies = space_faults(parent).cow_copy;
    unsigned count = fork_children(parent, children);
    struct pfn shared = pte_frame(leaf_entry(parent, cow_page_at(4)));
    unsigned tables = 0;
    unsigned right = 0;

    space_switch(parent);
    ktap_check(count == CHILDREN && frame_record(shared)->count == CHILDREN + 1,
               "%u children share a page with count %u", count, frame_record(shared)->count);
    space_audit();
    for (unsigned i = 0; i < count; i++) {
        struct pfn table = leaf_table(children[i], cow_page_at(4));

        tables += !pfn_equal(table, leaf_table(parent, cow_page_at(4))) &&
                  frame_record(table)->count == 1;
    }
    ktap_check(tables == count, "%u of them own their leaf table", tables);
    ktap_check(page_fill(cow_page_at(4), NEW_TAG(4)) && frame_record(shared)->count == CHILDREN &&
                   space_faults(parent).cow_copy > copies,
               "the parent's write copies");
    for (unsigned i = 0; i < count; i++) {
        space_switch(children[i]);
        right += page_holds(cow_page_at(4), OLD_TAG(4)) && page_holds(cow_page_at(5), CHILD_TAG(i));
    }
    ktap_check(right == count, "%u children still see the old content and their own", right);
    space_switch(parent);
    for (unsigned i = 0; i < count; i++)
        space_destroy(children[i]);
    ktap_metric("children", count, "spaces");
}

static void cow_run(const struct options *options)
{
    struct space *parent;
    struct ledger before;

    (void)options;
    if (!start_space(&parent))
        return;
    if (ktap_check(fill_parent(parent), "the parent has %u pages", PAGES)) {
        before = ledger_take();
        two_spaces(parent);
        fork_of_a_fork(parent);
        if (experiment_may_promise(CHILDREN * PAGES)) {
            many_children(parent);
        } else {
            for (unsigned i = 0; i < MANY_CHECKS; i++)
                ktap_skip("overcommit=never does not promise enough", "%u children", CHILDREN);
        }
        ktap_check(ledger_growth(&before, FRAME_ANONYMOUS) == 0, "every copy has been given back");
    }
    space_audit();
    end_space(parent);
}

EXPERIMENT(cow, 040) = {
    .theme = THEME_PAGES,
    .name = "cow",
    .question = "Do two address spaces see one page until one of them writes?",
    .spaces = 301,
    .checks = 19,
    .run = cow_run,
    .answer =
        {
            .text = "Yes: {copies} written pages are copied, {reuses} reused; {children} children "
                    "share a page",
        },
};
