/*
 * fault-anatomy: what is a fault made of?
 *
 * Each kind of fault is made by ring 3 over fresh pages and stepped through, instruction by
 * instruction, from the first of the entry to the return (cpu/trap/step.h). The points in the code
 * (cpu/points.h) say to which part each one belongs. What the processor does by itself, delivery
 * and IRETQ, has no instructions: it is measured in ticks, without stepping, by a handler that does
 * nothing. The whole fault is measured in ticks as well.
 */
#include "cpu/machine.h"
#include "cpu/trap/step.h"
#include "cpu/trap/trap.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "paging/tree/table_access.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_code.h"
#include "tests/runner/user_pages.h"
#include "vmm/space/end.h"

#define START UINT64_C(0x600000000)

/* Faults of each kind; all within one leaf table, whose first page makes the table. */
#define FAULTS 16U
#define PAGES  (FAULTS + 1)

/* A class of the histogram covers this many instructions. */
#define CLASS_WIDTH 32U
#define CLASSES     64U

static struct {
    unsigned part;           /* where the fault is */
    uint64_t instructions;   /* of this fault */
    uint64_t locked;         /* likewise, with a bus lock */
    uint64_t parts[POINTS];  /* of all faults of this kind */
    uint64_t passed[POINTS]; /* faults in which the part came */
    bool came[POINTS];
    unsigned faults;
    uint64_t least, most;
    uint64_t totals[2 * FAULTS];     /* of each fault, in order of size */
    uint64_t locks[2 * FAULTS];      /* likewise */
    uint32_t histogram[CLASSES + 1]; /* the last one: more */
} anatomy;

static const char *const names[POINTS] = {"entry", "decode", "find", "allocate", "clear", "copy",
                                          "map",   "flush",  "slow", "upcall",   "return"};

/* ---- counting ---- */

static void fault_anatomy_sort_in(uint64_t *sorted, unsigned count, uint64_t value)
{
    for (; count > 0 && sorted[count - 1] > value; count--)
        sorted[count] = sorted[count - 1];
    sorted[count] = value;
}

/* Returns true if the instruction locks its memory operand: by the prefix, or as XCHG with memory
 * does without (SDM volume 2, 2.1 and XCHG). */
static bool is_locked(const uint8_t *code)
{
    bool prefix = true;
    bool lock = false;

    for (; prefix; code += prefix) {
        lock = lock || *code == 0xf0;
        prefix = *code == 0xf0 || *code == 0xf2 || *code == 0xf3 || *code == 0x65 ||
                 *code == 0x66 || (*code & 0xf0) == 0x40;
    }
    return lock || ((*code == 0x86 || *code == 0x87) && code[1] < 0xc0);
}

static void end_fault(void)
{
    uint64_t class = anatomy.instructions / CLASS_WIDTH;

    if (anatomy.instructions == 0)
        return;
    if (anatomy.faults < ARRAY_COUNT(anatomy.totals))
        fault_anatomy_sort_in(anatomy.totals, anatomy.faults, anatomy.instructions);
    if (anatomy.faults < ARRAY_COUNT(anatomy.locks))
        fault_anatomy_sort_in(anatomy.locks, anatomy.faults, anatomy.locked);
    anatomy.faults++;
    anatomy.least = min_u64(anatomy.least, anatomy.instructions);
    anatomy.most = max_u64(anatomy.most, anatomy.instructions);
    anatomy.histogram[min_u64(class, CLASSES)]++;
    for (unsigned part = 0; part < POINTS; part++)
        anatomy.passed[part] += anatomy.came[part];
    memset(anatomy.came, 0, sizeof(anatomy.came));
    anatomy.instructions = 0;
    anatomy.locked = 0;
}

static void fault_anatomy_visit(uint64_t rip)
{
    unsigned point = step_point_at(rip);

    if (point == POINT_ENTRY)
        end_fault();
    if (point != POINTS)
        anatomy.part = point;
    anatomy.came[anatomy.part] = true;
    anatomy.parts[anatomy.part]++;
    anatomy.instructions++;
    anatomy.locked += is_locked((const uint8_t *)(uintptr_t)rip);
}

static void begin_kind(void)
{
    memset(&anatomy, 0, sizeof(anatomy));
    anatomy.least = UINT64_MAX;
}

/* ---- making faults ---- */

static bool fault_anatomy_run_user_code(const char *code, unsigned count, bool handler)
{
    struct program program = user_code_program(space_current(), code, START + PAGE_SIZE);

    program.frame.rsi = count;
    program.frame.rdx = PAGE_SIZE;
    program.frame.rcx = USER_CODE_BUFFER;
    program.handler = handler ? user_code_address(user_code_skip_handler) : 0;
    return program_run(&program) == PROGRAM_EXITED;
}

/* Returns the median of the ticks that the user code wrote. */
static uint64_t median_ticks(void)
{
    static uint64_t ticks[FAULTS];

    for (unsigned i = 0; i < FAULTS; i++) {
        uint64_t value = 0;

        if (!word_read(USER_CODE_BUFFER + i * sizeof(value), &value))
            return 0;
        fault_anatomy_sort_in(ticks, i, value);
    }
    return ticks[FAULTS / 2];
}

/* ---- reporting ---- */

static void print_histogram(const char *kind)
{
    char line[256];
    size_t length = 0;

    for (unsigned class = 0; class <= CLASSES && length < sizeof(line); class ++) {
        if (anatomy.histogram[class] > 0)
            length +=
                print_to(line + length, sizeof(line) - length, " %u%s:%u", class * CLASS_WIDTH,
                         class == CLASSES ? "-" : "", anatomy.histogram[class]);
    }
    ktap_note("histogram of %s, instructions from:faults%s", kind, length > 0 ? line : " none");
}

static void print_figure(const char *kind, const char *figure, uint64_t instructions)
{
    char name[64];

    print_to(name, sizeof(name), "%s.%s", kind, figure);
    ktap_metric(name, instructions, "instructions");
}

/* Prints means over all faults of the kind, so that the parts add up to the mean of the whole. */
static void print_parts(const char *kind)
{
    unsigned kept = (unsigned)min_u64(anatomy.faults, ARRAY_COUNT(anatomy.totals));
    uint64_t sum = 0;

    for (unsigned part = 0; part < POINTS; part++) {
        sum += anatomy.parts[part];
        if (anatomy.passed[part] > 0)
            print_figure(kind, names[part],
                         (anatomy.parts[part] + anatomy.faults / 2) / anatomy.faults);
    }
    print_figure(kind, "mean", (sum + anatomy.faults / 2) / anatomy.faults);
    print_figure(kind, "median", anatomy.totals[kept / 2]);
    print_figure(kind, "least", anatomy.least);
    print_figure(kind, "most", anatomy.most);
    print_figure(kind, "locked", anatomy.locks[kept / 2]);
}

/* Measures each kind twice: in ticks, then stepped. `prepare` puts the pages into the needed state
 * before each. */
struct kind {
    const char *name;
    const char *code;
    bool handler;
    unsigned must_pass; /* a part without which it is not this kind */
    bool (*prepare)(struct space *space);
};

static bool examine(struct space *space, const struct kind *kind)
{
    char name[64];
    uint64_t ticks;
    bool ok =
        kind->prepare(space) && fault_anatomy_run_user_code(kind->code, FAULTS, kind->handler);

    ticks = ok ? median_ticks() : 0;
    ok = ok && kind->prepare(space);
    begin_kind();
    if (ok) {
        step_begin(fault_anatomy_visit);
        ok = fault_anatomy_run_user_code(kind->code, FAULTS, kind->handler);
        step_end();
    }
    end_fault();
    if (anatomy.faults == 0)
        return false;
    print_parts(kind->name);
    print_to(name, sizeof(name), "%s.whole", kind->name);
    ktap_metric(name, ticks, "ticks");
    print_histogram(kind->name);
    return ok && anatomy.faults >= FAULTS && anatomy.passed[kind->must_pass] >= FAULTS;
}

/* ---- kinds ---- */

static bool map_fresh(struct space *space)
{
    uint64_t value;

    if (space_region_at(space, START) != NULL &&
        !SUCCEEDS(space_unmap(space, START, PAGES * PAGE_SIZE)))
        return false;
    return SUCCEEDS(
               space_map(space, &SPACE_AT(START, PAGES * PAGE_SIZE, RIGHTS_READ_WRITE), NULL)) &&
           word_read(START, &value);
}

static bool map_zero_pages(struct space *space)
{
    uint64_t value;
    bool ok = map_fresh(space);

    for (unsigned i = 0; i < PAGES && ok; i++)
        ok = word_read(START + i * PAGE_SIZE, &value);
    return ok;
}

static bool map_own_pages(struct space *space)
{
    bool ok = map_fresh(space);

    for (unsigned i = 0; i < PAGES && ok; i++)
        ok = word_write(START + i * PAGE_SIZE, 1);
    return ok;
}

static bool map_nothing(struct space *space)
{
    return space_region_at(space, START) == NULL ||
           SUCCEEDS(space_unmap(space, START, PAGES * PAGE_SIZE));
}

/* The child exists while faults of the parent shall copy, and has ended before those that shall
 * reuse the page. The first write in a table makes the parent's table own. */
static struct space *child;

/* Ends the child wholly: until then a write of the parent finds other references, and copies. */
static void end_child(void)
{
    if (child != NULL)
        space_destroy(child);
    child = NULL;
    space_finish_ends();
}

static bool fault_anatomy_share_pages(struct space *space)
{
    end_child();
    return map_own_pages(space) && SUCCEEDS(space_fork(space, &child)) && word_write(START, 2) &&
           word_write(USER_CODE_BUFFER, 0) && word_write(USER_CODE_STACK - sizeof(uint64_t), 0);
}

static bool share_and_leave(struct space *space)
{
    bool ok = fault_anatomy_share_pages(space);

    end_child();
    return ok;
}

static const struct kind kinds[] = {
    {"zero_read", user_code_measure_read, false, POINT_MAP, map_fresh},
    {"anon_first_write", user_code_measure_write, false, POINT_CLEAR, map_fresh},
    {"zero_to_private", user_code_measure_write, false, POINT_CLEAR, map_zero_pages},
    {"cow_copy", user_code_measure_write, false, POINT_COPY, fault_anatomy_share_pages},
    {"cow_reuse", user_code_measure_write, false, POINT_MAP, share_and_leave},
    {"violation", user_code_measure_write, true, POINT_UPCALL, map_nothing},
};

/* Handles a fault by stepping over the store: delivery, entry and return are the floor. */
static bool fault_anatomy_skip_store(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    (void)address;
    (void)error;
    frame->rip += USER_CODE_STORE_LENGTH;
    return true;
}

static void measure_floor(struct space *space)
{
    bool (*handler)(uint64_t, uint64_t, struct trap_frame *) = trap_page_fault;
    bool ok =
        map_nothing(space) && fault_anatomy_run_user_code(user_code_measure_nothing, FAULTS, false);
    uint64_t nothing = ok ? median_ticks() : 0;

    ktap_metric("clock", nothing, "ticks");
    trap_page_fault = fault_anatomy_skip_store;
    ok = ok && fault_anatomy_run_user_code(user_code_measure_write, FAULTS, false);
    trap_page_fault = handler;
    ktap_metric("delivery", ok ? median_ticks() : 0, "ticks");
    ktap_check(ok, "an empty handler: delivery and return");
}

static void fault_anatomy_run(const struct options *options)
{
    struct space *space;
    enum status status;

    (void)options;
    if (table_access() != TABLES_DIRECT) {
        experiment_skip_rest("the fast path reads tables by the direct map only");
        return;
    }
    if (!start_space(&space))
        return;
    space_set_zero_levels(space, 1); /* page by page */
    pmm_idle_pause();                /* frames cleared in advance would hide the cost of clearing */
    pmm_drain();
    status = user_code_install(space);
    if (ktap_check(status == OK, "pieces of user code are in place: %s", status_name(status))) {
        measure_floor(space);
        for (unsigned i = 0; i < ARRAY_COUNT(kinds); i++) {
            bool ok = examine(space, &kinds[i]);

            ktap_check(ok, "%s: %u faults, %lu to %lu instructions", kinds[i].name, anatomy.faults,
                       anatomy.least, anatomy.most);
        }
    }
    end_child();
    end_space(space);
    pmm_idle_resume();
}

EXPERIMENT(fault_anatomy, 110) = {
    .theme = THEME_PAGES,
    .name = "fault-anatomy",
    .question = "What is a fault made of?",
    .spaces = 2,
    .checks = 8,
    .run = fault_anatomy_run,
    .answer =
        {
            .text = "{anon_first_write.clear} of {anon_first_write.median} instructions clear the "
                    "page; find {anon_first_write.find}, map {anon_first_write.map}, allocate "
                    "{anon_first_write.allocate}",
            .limit = "cache and TLB misses, and delivery by the hardware: instructions alone are "
                     "counted",
        },
};
