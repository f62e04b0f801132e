/*
 * wire: do wired pages stay when memory is short, and does a fork leave them alone?
 *
 * A range is wired. Then every processor writes more pages than may be resident, so that everything
 * else is evicted; the wired pages must take no fault and stay in their frames. A fork copies them:
 * the parent continues to write without a fault, the child has the old content, and neither sees
 * the other's writes.
 *
 * On several processors one writes to the wired pages all the time, one after the other in turn,
 * while another forks. So the child's copies show the order of the writes: no page behind another
 * one may be newer, or the copies were not made at one moment. On one processor that part is
 * skipped.
 *
 * Faults are counted at the gate, by their address.
 */
#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "cpu/trap/trap.h"
#include "lib/bytes.h"
#include "swapdisk/area.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/page/page.h"

#define START UINT64_C(0x740000000)
#define OTHER UINT64_C(0x780000000)
#define APART (64 * MIB)

#define WIRED     48U
#define RESIDENT  160U
#define OTHERS    320U /* of all processors, about twice as many as may be resident */
#define CPUS_MOST 4U
#define FORKS     12U

/* Pages that may all be out at once: those not wired, and a child's copies. */
#define SLOTS_NEEDED (OTHERS + 2 * WIRED)

#define TAG(page) (0xb000 + (uint64_t)(page))

/* Pages of all processors; the space's own wired pages begin at START. */
static struct {
    bool (*handler)(uint64_t address, uint64_t error, struct trap_frame *frame);
    uint64_t faults;
    struct space *space;
    uint32_t frames[WIRED];
    struct thread *threads[CPUS_MOST];
    unsigned each; /* pages that each processor writes when memory is to be short */
    unsigned working;
    unsigned failed;
    bool over;
} wire;

static uint64_t wire_page_at(unsigned number)
{
    return START + number * PAGE_SIZE;
}

static bool count_fault(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    if (address >= START && address < START + WIRED * PAGE_SIZE)
        __atomic_add_fetch(&wire.faults, 1, __ATOMIC_RELAXED);
    return wire.handler(address, error, frame);
}

/* Faults at the wired pages since the last time. */
static uint64_t faults_since(void)
{
    return __atomic_exchange_n(&wire.faults, 0, __ATOMIC_RELAXED);
}

static void note_frames(void)
{
    for (unsigned i = 0; i < WIRED; i++)
        wire.frames[i] = pte_frame(leaf_entry(wire.space, wire_page_at(i))).index;
}

static unsigned same_frames(void)
{
    unsigned same = 0;

    for (unsigned i = 0; i < WIRED; i++)
        same += leaf_state(wire.space, wire_page_at(i)) == PTE_LEAF &&
                pte_frame(leaf_entry(wire.space, wire_page_at(i))).index == wire.frames[i];
    return same;
}

/* ---- threads on other processors ---- */

static unsigned wire_processors(void)
{
    unsigned count = 0;

    for (uint64_t at = machine_processors(); at != 0; at &= at - 1)
        count++;
    return count;
}

/* Starts a thread on each of up to this many other processors; returns how many started. */
static unsigned wire_start_others(void (*entry)(void *), unsigned most)
{
    uint64_t cpus = machine_processors() & ~(UINT64_C(1) << machine_cpu());
    unsigned count = 0;

    for (; cpus != 0 && count < most; cpus &= cpus - 1) {
        void *number = (void *)(uintptr_t)(count + 1);

        if (!SUCCEEDS(thread_create((unsigned)__builtin_ctzll(cpus), entry, number,
                                    &wire.threads[count])))
            break;
        count++;
    }
    return count;
}

static void join_others(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        thread_join(wire.threads[i]);
}

/* ---- memory is short ---- */

/* Writes pages; all processors together write more than may be resident. */
static void press(void *number)
{
    uint64_t start = OTHER + (uintptr_t)number * APART;
    bool ok = true;

    space_switch(wire.space);
    for (unsigned i = 0; i < wire.each; i++)
        ok = word_write(start + i * PAGE_SIZE, i) && ok;
    space_switch(NULL);
    if (!ok)
        __atomic_add_fetch(&wire.failed, 1, __ATOMIC_RELAXED);
}

static void press_everywhere(void)
{
    unsigned others;

    wire.each = OTHERS / (unsigned)max_u64(1, min_u64(CPUS_MOST, wire_processors()));
    others = wire_start_others(press, CPUS_MOST - 1);
    press(NULL);
    join_others(others);
    space_switch(wire.space);
}

static bool map_others(void)
{
    bool ok = true;

    for (unsigned i = 0; i < CPUS_MOST; i++)
        ok = ok && SUCCEEDS(space_map(
                       wire.space,
                       &SPACE_AT(OTHER + i * APART, OTHERS * PAGE_SIZE, RIGHTS_READ_WRITE), NULL));
    return ok;
}

static void stay(void)
{
    uint64_t out = swap_usage().pages_written;
    unsigned right = 0;

    (void)faults_since();
    for (unsigned i = 0; i < WIRED; i++)
        right += page_fill(wire_page_at(i), TAG(i));
    note_frames();
    press_everywhere();
    out = swap_usage().pages_written - out;
    ktap_check(wire.failed == 0 && out > 0, "%lu pages went out, of others", out);
    for (unsigned i = 0; i < WIRED; i++)
        right += page_holds(wire_page_at(i), TAG(i));
    ktap_check(right == 2 * WIRED && same_frames() == WIRED,
               "%u wired pages are in their frames, with what they hold", same_frames());
    ktap_check(wire.faults == 0, "%lu faults at wired pages", wire.faults);
    ktap_metric("pages_out", out, "pages");
    ktap_metric("wired", WIRED, "pages");
    ktap_metric("wired_faults", wire.faults, "faults");
}

/* ---- forks ---- */

/* Returns how many of the child's pages are not its own: in the parent's frame, or never copied.
 * A copy of its own may be resident, on its way, or out already, since memory is short. */
static unsigned wire_count_shared(const struct space *child)
{
    unsigned shared = 0;

    for (unsigned i = 0; i < WIRED; i++) {
        struct pte entry = leaf_entry(child, wire_page_at(i));
        enum pte_state state = pte_state(entry, 1);

        if (state == PTE_LEAF)
            shared += pte_frame(entry).index == wire.frames[i];
        else
            shared += state != PTE_SWAPPED && state != PTE_TRANSIT;
    }
    return shared;
}

static void fork_alone(void)
{
    struct space *child;
    uint64_t ticks = machine_ticks();
    unsigned right = 0;
    unsigned shared;

    if (!ktap_check(SUCCEEDS(space_fork(wire.space, &child)), "a fork"))
        return;
    ktap_metric("fork", (machine_ticks() - ticks) / WIRED, "ticks");
    (void)faults_since();
    for (unsigned i = 0; i < WIRED; i++)
        right += word_write(wire_page_at(i) + 8, 1);
    ktap_check(right == WIRED && wire.faults == 0 && same_frames() == WIRED,
               "the parent writes to %u of its pages, with %lu faults", right, wire.faults);
    ktap_metric("in_their_frames", same_frames(), "pages");
    shared = wire_count_shared(child);
    ktap_check(shared == 0 && child->wired == 0, "%u of the child's pages are the parent's",
               shared);
    /* They can go out, and come back. */
    press_everywhere();
    space_switch(child);
    right = 0;
    for (unsigned i = 0; i < WIRED; i++)
        right += page_holds(wire_page_at(i), TAG(i));
    space_switch(wire.space);
    ktap_check(right == WIRED, "%u of them hold what stood there", right);
    space_destroy(child);
}

/* Writes a number to each page in turn, then the next number. */
static void write_in_turn(void *number)
{
    bool ok = true;

    (void)number;
    space_switch(wire.space);
    for (uint64_t round = 1; ok && !__atomic_load_n(&wire.over, __ATOMIC_ACQUIRE); round++) {
        for (unsigned i = 0; i < WIRED && ok; i++)
            ok = word_write(wire_page_at(i), round);
        __atomic_store_n(&wire.working, 1, __ATOMIC_RELEASE);
    }
    space_switch(NULL);
    if (!ok)
        __atomic_add_fetch(&wire.failed, 1, __ATOMIC_RELAXED);
}

/* Returns whether the copies are of one moment: some pages of a round, those behind them of the one
 * before. */
static bool of_one_moment(struct space *child)
{
    uint64_t first;
    uint64_t before;
    bool ok;

    space_switch(child);
    ok = word_read(wire_page_at(0), &first);
    before = first;
    for (unsigned i = 1; i < WIRED && ok; i++) {
        uint64_t value;

        ok = word_read(wire_page_at(i), &value) && value <= before && value + 1 >= first;
        before = value;
    }
    space_switch(wire.space);
    return ok;
}

static void fork_beside_a_writer(void)
{
    unsigned writers = wire_start_others(write_in_turn, 1);
    unsigned right = 0;

    while (writers > 0 && __atomic_load_n(&wire.working, __ATOMIC_ACQUIRE) == 0)
        machine_relax();
    for (unsigned i = 0; i < FORKS && writers > 0; i++) {
        struct space *child;

        if (!SUCCEEDS(space_fork(wire.space, &child)))
            break;
        right += of_one_moment(child);
        space_destroy(child);
    }
    __atomic_store_n(&wire.over, true, __ATOMIC_RELEASE);
    join_others(writers);
    if (writers == 0) {
        ktap_skip("there is one processor", "forks beside a writer");
        return;
    }
    ktap_check(wire.failed == 0 && right == FORKS && same_frames() == WIRED,
               "%u forks beside a writer, each of one moment; %u pages in their frames", right,
               same_frames());
    ktap_metric("writes_that_waited", faults_since(), "faults");
}

/* ---- the end of the wire ---- */

static void unwire(void)
{
    struct space_view view;
    bool ok = SUCCEEDS(space_unwire(wire.space, START, WIRED * PAGE_SIZE)) &&
              SUCCEEDS(space_advise(wire.space, START, WIRED * PAGE_SIZE, SPACE_COLD));

    press_everywhere();
    ok = ok && SUCCEEDS(space_query(wire.space, START, &view)) && !view.wired;
    ktap_check(ok && view.resident < WIRED && space_wired_pages() == 0,
               "unwired, %lu of the pages are left", ok ? view.resident : WIRED);
}

static void wire_run(const struct options *options)
{
    uint64_t limit = resident_limit;

    (void)options;
    if (swap_usage().slots < SLOTS_NEEDED) {
        experiment_skip_rest("the swap area has %u slots, this needs %u", swap_usage().slots,
                             SLOTS_NEEDED);
        return;
    }
    memset(&wire, 0, sizeof(wire));
    if (!start_space(&wire.space))
        return;
    wire.handler = trap_page_fault;
    trap_page_fault = count_fault;
    page_set_limit(pmm_usage().by_kind[FRAME_ANONYMOUS] + RESIDENT);
    /* A fork promises the pages once more. */
    if (!experiment_may_promise(wire_processors() * OTHERS + 2 * WIRED)) {
        experiment_skip_rest("overcommit=never does not promise enough");
    } else if (ktap_check(map_others() &&
                              SUCCEEDS(space_map(wire.space,
                                                 &SPACE_AT(START, WIRED * PAGE_SIZE,
                                                           RIGHTS_READ_WRITE, .flags = SPACE_WIRED),
                                                 NULL)),
                          "%u pages are wired, %u may be resident", WIRED, RESIDENT)) {
        stay();
        fork_alone();
        fork_beside_a_writer();
        unwire();
        space_audit();
    }
    end_space(wire.space);
    page_set_limit(limit);
    trap_page_fault = wire.handler;
}

EXPERIMENT(wire, 340) = {
    .theme = THEME_PAGES,
    .name = "wire",
    .question = "Do wired pages stay, whatever is short, and does a fork leave them alone?",
    .spaces = 2,
    .checks = 10,
    .run = wire_run,
    .answer =
        {
            .text = "Yes: {wired_faults} faults at {wired} wired pages; {pages_out} others went "
                    "out, and after a fork {in_their_frames} are in their frames",
        },
};
