/* Searching the schedules of a scenario. */
#include "tests/host/explore/search.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "lib/units.h"
#include "tests/host/explore/report.h"
#include "tests/host/explore/scenario.h"

#define BOUND_MAX  4U
#define POINTS_MAX 20000U
#define ORDERS_MAX 4096U
#define WHY_MAX    1000U

/* Runs in one round of learning, and number of rounds. */
#define LEARNING_RUNS   40U
#define LEARNING_ROUNDS 8U

/* In memory that is not restored. */
struct search {
    struct search_limits limits;
    struct search_figures figures;
    struct run run;
    char outcome[OUTCOME_MAX];
    char why[WHY_MAX];
    unsigned schedules; /* tried so far */
    unsigned left;      /* of the bounded ones */
    unsigned allowed_count;
    char allowed[ORDERS_MAX][OUTCOME_MAX]; /* outcomes of serial orders */
    uint32_t points[BOUND_MAX + 1][POINTS_MAX];
};

static struct search *search;

static void start(const struct search_limits *limits)
{
    search->limits = *limits;
    search->run.processors = scenario.processors;
    search->run.program = scenario_program;
    search->run.point_max = POINTS_MAX;
    *run_settings() = (struct run_settings){.thin = limits->thin, .delays = limits->delays != 0};
}

/* ---- failures ---- */

/* Copies the words without their numbers. */
static void make_key(const char *why, char *key, size_t size)
{
    size_t length = 0;

    for (; *why != '\0' && length + 1 < size; why++) {
        if (!isxdigit((unsigned char)*why) || isalpha((unsigned char)*why))
            key[length++] = *why;
    }
    key[length] = '\0';
}

/* Counts the failure. Returns true if it is the first of its kind. */
static bool count_failure(void)
{
    struct search_figures *figures = &search->figures;
    char key[sizeof(figures->failures[0].key)];
    unsigned i = 0;

    make_key(search->why, key, sizeof(key));
    while (i < figures->failure_count && strcmp(figures->failures[i].key, key) != 0)
        i++;
    if (i == FAILURES_MAX)
        return false;
    if (i == figures->failure_count) {
        figures->failures[i].times = 0;
        figures->failures[i].schedule = search->schedules;
        snprintf(figures->failures[i].key, sizeof(key), "%s", key);
        figures->failure_count++;
    }
    return figures->failures[i].times++ == 0;
}

/* ---- one schedule ---- */

static void check(void *outcome)
{
    scenario_check(outcome);
}

static bool is_allowed(void)
{
    for (unsigned i = 0; i < search->allowed_count; i++) {
        if (strcmp(search->allowed[i], search->outcome) == 0)
            return true;
    }
    return false;
}

static void add_allowed(void)
{
    if (!is_allowed() && search->allowed_count < ORDERS_MAX)
        strcpy(search->allowed[search->allowed_count++], search->outcome);
}

/* Checks the last run; search->why is empty if nothing broke. */
static void judge(void)
{
    if (search->run.end != RUN_ENDED) {
        report_end(&search->run, search->why, WHY_MAX);
        return;
    }
    search->why[0] = '\0';
    if (run_guarded(check, search->outcome, search->why, WHY_MAX) == RUN_ENDED && !is_allowed())
        snprintf(search->why, WHY_MAX, "no serial order gives: %s", search->outcome);
}

static bool try_schedule(void)
{
    (void)run_go(&search->run);
    search->schedules++;
    judge();
    run_restore_memory();
    if (search->why[0] == '\0')
        return true;
    if (count_failure()) {
        printf("# schedule %u: %s\n", search->schedules, search->why);
        report_schedule(&search->run);
        report_trace(&search->run);
    }
    return false;
}

static bool is_over(void)
{
    return search->limits.stops && search->figures.failure_count > 0;
}

/* ---- serial orders ---- */

struct order {
    uint8_t numbers[RUN_PROCESSORS_MAX * OPERATIONS_MAX];
    unsigned count;
};

static void perform_and_check(void *context)
{
    const struct order *order = context;

    scenario_serial(order->numbers, order->count);
    scenario_check(search->outcome);
}

static void try_order(struct order *order)
{
    search->why[0] = '\0';
    search->figures.serial++;
    if (run_guarded(perform_and_check, order, search->why, WHY_MAX) == RUN_ENDED) {
        add_allowed();
    } else if (count_failure()) {
        printf("# serial order %u: %s\n", search->figures.serial, search->why);
    }
    run_restore_memory();
}

static void try_orders(struct order *order, unsigned *left)
{
    bool complete = true;

    for (unsigned i = 0; i < scenario.processors; i++) {
        if (left[i] == 0)
            continue;
        complete = false;
        left[i]--;
        order->numbers[order->count++] = (uint8_t)i;
        try_orders(order, left);
        order->count--;
        left[i]++;
    }
    if (complete && search->figures.serial < ORDERS_MAX)
        try_order(order);
}

static void try_all_orders(void)
{
    struct order order = {.count = 0};
    unsigned left[RUN_PROCESSORS_MAX] = {0};

    for (unsigned i = 0; i < scenario.processors; i++)
        left[i] = scenario.programs[i].count - scenario.programs[i].prepared;
    try_orders(&order, left);
}

/* ---- schedules ---- */

static bool try_random(uint64_t seed, unsigned depth, uint32_t horizon)
{
    bool fine;

    search->run.random = true;
    search->run.seed = seed;
    search->run.depth = depth;
    search->run.horizon = horizon;
    search->run.point_at = NULL;
    fine = try_schedule();
    search->run.random = false;
    return fine;
}

/* Makes the run without preemptions in which this processor begins. */
static void try_plain(unsigned first)
{
    search->run.schedule = (struct run_schedule){.first = (uint8_t)first};
    search->run.point_at = search->points[0];
    (void)try_schedule();
}

/* Repeats runs until they find no more shared words. */
static void learn(void)
{
    unsigned words = 0;
    unsigned before = search->schedules;

    for (unsigned round = 0; round < LEARNING_ROUNDS && !is_over(); round++) {
        uint32_t horizon = 0;

        for (unsigned i = 0; i < scenario.processors; i++) {
            try_plain(i);
            horizon += search->run.points;
        }
        for (unsigned i = 0; i < LEARNING_RUNS && !is_over(); i++)
            (void)try_random(1000 * round + i + 77, 2, horizon);
        if (round > 0 && run_shared_words() == words)
            break;
        words = run_shared_words();
    }
    search->figures.learning = search->schedules - before;
}

/* Returns an upper bound of the ways to choose `bound` of `count` points. */
static double ways(double count, unsigned bound)
{
    double all = 1;

    for (unsigned i = 0; i < bound; i++)
        all = all * count / (i + 1);
    return all;
}

/* Chooses how many points to skip, so that the limit of schedules suffices. */
static unsigned stride_for(unsigned points)
{
    unsigned targets = scenario.processors - 1;
    unsigned stride = 1;

    while (ways((double)points / stride * targets, search->limits.bound) > search->limits.schedules)
        stride++;
    return stride;
}

static void try_switches(uint32_t at, unsigned depth, unsigned stride);

static void enumerate(unsigned depth, unsigned stride)
{
    struct run_schedule *schedule = &search->run.schedule;
    uint32_t last = depth > 0 ? schedule->switches[depth - 1].at : 0;
    unsigned count;

    schedule->count = (uint8_t)depth;
    search->run.point_at = search->points[depth];
    (void)try_schedule();
    search->left -= search->left > 0;
    if (depth == search->limits.bound)
        return;
    count = (unsigned)min_u64(search->run.points, POINTS_MAX);
    for (unsigned i = (unsigned)(search->limits.seed % stride); i < count; i += stride) {
        uint32_t at = search->points[depth][i];

        if ((at & ~RUN_POINT_HOLDS) > last)
            try_switches(at, depth, stride);
    }
}

/* Tries all switches at a point: to each other processor, with and without stores held back. */
static void try_switches(uint32_t at, unsigned depth, unsigned stride)
{
    unsigned targets = scenario.processors > 2 ? scenario.processors : 1;
    unsigned ways = (at & RUN_POINT_HOLDS) != 0 ? 2 : 1;

    for (unsigned i = 0; i < targets * ways && search->left > 0 && !is_over(); i++) {
        search->run.schedule.switches[depth] =
            (struct run_switch){.at = at & ~RUN_POINT_HOLDS,
                                .to = (uint8_t)(i / ways),
                                .holds = i % ways == 0 ? 0 : RUN_HOLDS_ALL};
        enumerate(depth + 1, stride);
    }
}

static void search_bounded(void)
{
    for (unsigned first = 0; first < scenario.processors && !is_over(); first++) {
        unsigned before;
        unsigned stride;

        try_plain(first);
        search->figures.points = (unsigned)max_u64(search->figures.points, search->run.points);
        stride = stride_for(search->run.points + search->run.holding);
        search->figures.stride = (unsigned)max_u64(search->figures.stride, stride);
        before = search->schedules;
        search->left = search->limits.schedules + 1;
        enumerate(0, stride);
        search->figures.bounded += search->schedules - before;
    }
}

static void search_random(void)
{
    uint32_t horizon = 2 * search->figures.points;
    unsigned before = search->schedules;

    for (unsigned i = 0; i < search->limits.random && !is_over(); i++)
        (void)try_random(search->limits.seed + i, search->limits.depth, horizon);
    search->figures.random = search->schedules - before;
}

const struct search_figures *search_scenario(const struct search_limits *limits)
{
    start(limits);
    try_all_orders();
    learn();
    search_bounded();
    search_random();
    search->figures.words = run_shared_words();
    return &search->figures;
}

bool search_replay(const char *text)
{
    start(&(struct search_limits)SEARCH_LIMITS_USUAL);
    try_all_orders();
    if (!report_parse_schedule(text, &search->run.schedule)) {
        printf("'%s' is no schedule: the processor that begins, and behind colons the accesses at "
               "which it changes, as in 0:141:584\n",
               text);
        return false;
    }
    run_settings()->everywhere = true;
    run_settings()->thin = 0;
    (void)run_go(&search->run);
    judge();
    report_trace(&search->run);
    printf("outcome: %s\n", search->outcome);
    if (search->why[0] != '\0')
        printf("BROKEN: %s\n", search->why);
    return search->why[0] == '\0';
}

void search_init(void)
{
    search = run_own_memory(sizeof(*search));
    report_init();
}
