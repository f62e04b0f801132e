/* The workloads of the experiment `policy`. */
#include "tests/experiments/policy/workloads.h"

#include "lib/random.h"
#include "lib/units.h"
#include "tests/runner/user_pages.h"

#define RECORD_SIZE 512U
#define PER_PAGE    8U

static struct page_string *work_string;
static bool work_refused;
static struct random work_dice;

void work_begin(struct page_string *string)
{
    work_string = string;
    string->length = 0;
    string->full = false;
    work_refused = false;
    work_dice = random_from(1);
}

bool work_ended_well(void)
{
    return !work_refused && !work_string->full;
}

static uint64_t record_read(unsigned record)
{
    uint64_t value = 0;

    page_string_add(work_string, record / PER_PAGE);
    work_refused |= !word_read(WORK_START + record * RECORD_SIZE, &value);
    return value;
}

static void record_write(unsigned record, uint64_t value)
{
    page_string_add(work_string, record / PER_PAGE);
    work_refused |= !word_write(WORK_START + record * RECORD_SIZE, value);
}

static unsigned roll(unsigned below)
{
    return (unsigned)random_below(&work_dice, below);
}

/* Returns the content of a record, which follows from its number. */
static uint64_t value_of(unsigned record)
{
    return record * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

static void fill_pages(unsigned pages)
{
    for (unsigned i = 0; i < pages; i++)
        record_write(i * PER_PAGE, value_of(i * PER_PAGE));
}

static bool page_is_right(unsigned page)
{
    return record_read(page * PER_PAGE) == value_of(page * PER_PAGE);
}

/* ---- patterns ---- */

static bool run_sequential(void)
{
    uint64_t sum = 0;
    uint64_t expected = 0;

    for (unsigned i = 0; i < WORK_RECORDS; i++) {
        record_write(i, value_of(i));
        expected += value_of(i);
    }
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < WORK_RECORDS; i++)
            sum += record_read(i);
    }
    return sum == 2 * expected;
}

static bool run_loop(void)
{
    unsigned pages = WORK_MEMORY + WORK_MEMORY / 8;
    bool right = true;

    fill_pages(pages);
    for (unsigned i = 0; i < 15 * pages; i++)
        right &= page_is_right(i % pages);
    return right;
}

static bool run_random(void)
{
    bool right = true;

    fill_pages(WORK_PAGES);
    for (unsigned i = 0; i < 1500; i++)
        right &= page_is_right(roll(WORK_PAGES));
    return right;
}

/* Accesses pages nearly by Zipf's law: each page number is a product of uniform random numbers. */
static bool run_zipf(void)
{
    bool right = true;

    fill_pages(WORK_PAGES);
    for (unsigned i = 0; i < 2000; i++) {
        unsigned page = roll(1 + roll(1 + roll(WORK_PAGES)));

        right &= page_is_right(page * 37 % WORK_PAGES);
    }
    return right;
}

static bool run_scan(void)
{
    unsigned hot = 3 * WORK_MEMORY / 4;
    bool right = true;

    fill_pages(WORK_PAGES);
    for (unsigned i = 0; i < 1500; i++) {
        right &= page_is_right(roll(hot));
        if (i % 3 == 0)
            right &= page_is_right(hot + i / 3 % (WORK_PAGES - hot));
    }
    return right;
}

static bool run_phases(void)
{
    bool right = true;

    fill_pages(WORK_PAGES);
    for (unsigned i = 0; i < 2000; i++)
        right &= page_is_right((i / 500 * 29 + roll(50)) % WORK_PAGES);
    return right;
}

/* ---- matrices: A, B and C, one behind the other ---- */

#define SIDE       16U
#define A_OF(i, j) ((i)*SIDE + (j))
#define B_OF(i, j) (SIDE * SIDE + A_OF(i, j))
#define C_OF(i, j) (2 * SIDE * SIDE + A_OF(i, j))

static void fill_matrices(void)
{
    for (unsigned i = 0; i < SIDE; i++) {
        for (unsigned j = 0; j < SIDE; j++) {
            record_write(A_OF(i, j), i + 2 * j);
            record_write(B_OF(i, j), 3 * i + j);
            record_write(C_OF(i, j), 0);
        }
    }
}

/* Checks C against sums of products that are computed again from the formulas of A and B. */
static bool product_is_right(void)
{
    bool right = true;

    for (unsigned i = 0; i < SIDE; i++) {
        for (unsigned j = 0; j < SIDE; j++) {
            uint64_t sum = 0;

            for (unsigned k = 0; k < SIDE; k++)
                sum += (uint64_t)(i + 2 * k) * (3 * k + j);
            right &= record_read(C_OF(i, j)) == sum;
        }
    }
    return right;
}

static void multiply_step(unsigned i, unsigned j, unsigned k)
{
    uint64_t product = record_read(A_OF(i, k)) * record_read(B_OF(k, j));

    record_write(C_OF(i, j), record_read(C_OF(i, j)) + product);
}

static bool run_matrix_ijk(void)
{
    fill_matrices();
    for (unsigned i = 0; i < SIDE; i++) {
        for (unsigned j = 0; j < SIDE; j++) {
            uint64_t sum = 0;

            for (unsigned k = 0; k < SIDE; k++)
                sum += record_read(A_OF(i, k)) * record_read(B_OF(k, j));
            record_write(C_OF(i, j), sum);
        }
    }
    return product_is_right();
}

/* Multiplies in the order k, i, j: `a` is the outer loop of k and i. */
static bool run_matrix_kij(void)
{
    fill_matrices();
    for (unsigned k = 0; k < SIDE; k++) {
        for (unsigned i = 0; i < SIDE; i++) {
            for (unsigned j = 0; j < SIDE; j++)
                multiply_step(i, j, k);
        }
    }
    return product_is_right();
}

static bool run_matrix_jki(void)
{
    fill_matrices();
    for (unsigned j = 0; j < SIDE; j++) {
        for (unsigned k = 0; k < SIDE; k++) {
            for (unsigned i = 0; i < SIDE; i++)
                multiply_step(i, j, k);
        }
    }
    return product_is_right();
}

/* ---- sorting ---- */

#define KEYS 500U

static uint64_t fill_keys(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < 2 * KEYS; i++)
        record_write(i, 0);
    for (unsigned i = 0; i < KEYS; i++) {
        uint64_t key = random_next(&work_dice) >> 8;

        record_write(i, key);
        sum += key;
    }
    return sum;
}

static bool keys_are_sorted(uint64_t sum)
{
    uint64_t last = 0;
    bool right = true;

    for (unsigned i = 0; i < KEYS; i++) {
        uint64_t key = record_read(i);

        right &= key >= last;
        last = key;
        sum -= key;
    }
    return right && sum == 0;
}

/* Sorts by quicksort. The ranges still to be sorted are on a stack in kernel memory. */
static bool run_quicksort(void)
{
    unsigned low[64];
    unsigned high[64];
    unsigned depth = 1;
    uint64_t sum = fill_keys();

    low[0] = 0;
    high[0] = KEYS;
    while (depth > 0) {
        unsigned from = low[--depth];
        unsigned to = high[depth];
        unsigned middle = from;
        uint64_t pivot;

        if (to - from < 2)
            continue;
        pivot = record_read(to - 1);
        for (unsigned i = from; i < to - 1; i++) {
            uint64_t key = record_read(i);

            if (key >= pivot)
                continue;
            record_write(i, record_read(middle));
            record_write(middle++, key);
        }
        record_write(to - 1, record_read(middle));
        record_write(middle, pivot);
        /* The larger part first, so that the stack stays low. */
        low[depth] = middle - from > to - middle ? from : middle + 1;
        high[depth++] = middle - from > to - middle ? middle : to;
        low[depth] = middle - from > to - middle ? middle + 1 : from;
        high[depth++] = middle - from > to - middle ? to : middle;
    }
    return keys_are_sorted(sum);
}

static void merge_runs(unsigned from, unsigned to, unsigned start, unsigned width)
{
    unsigned middle = start + width < KEYS ? start + width : KEYS;
    unsigned end = middle + width < KEYS ? middle + width : KEYS;
    unsigned left = start;
    unsigned right = middle;

    for (unsigned i = start; i < end; i++) {
        uint64_t a = left < middle ? record_read(from + left) : UINT64_MAX;
        uint64_t b = right < end ? record_read(from + right) : UINT64_MAX;

        record_write(to + i, a <= b ? a : b);
        if (a <= b)
            left++;
        else
            right++;
    }
}

static bool run_mergesort(void)
{
    uint64_t sum = fill_keys();
    unsigned from = 0;

    for (unsigned width = 1; width < KEYS; width *= 2) {
        for (unsigned start = 0; start < KEYS; start += 2 * width)
            merge_runs(from, KEYS - from, start, width);
        from = KEYS - from;
    }
    for (unsigned i = 0; from != 0 && i < KEYS; i++)
        record_write(i, record_read(from + i));
    return keys_are_sorted(sum);
}

/* ---- data structures ---- */

#define BUCKETS 512U
#define ROWS    400U

static unsigned bucket_of(uint64_t key)
{
    return (unsigned)(key * UINT64_C(0x9e3779b97f4a7c15) >> 55);
}

/* Runs a hash join: puts rows with the keys 3, 6, 9... into a table with open addressing, and looks
 * up 1, 2, 3... */
static bool run_hash_join(void)
{
    unsigned matches = 0;

    for (unsigned i = 0; i < BUCKETS; i++)
        record_write(i, 0);
    for (unsigned i = 0; i < ROWS; i++)
        record_write(BUCKETS + i, i + 1);
    for (unsigned i = 0; i < ROWS * 2 / 3; i++) {
        unsigned at = bucket_of(3 * (i + 1));

        while (record_read(at) != 0)
            at = (at + 1) % BUCKETS;
        record_write(at, 3 * (i + 1));
    }
    for (unsigned i = 0; i < ROWS; i++) {
        uint64_t key = record_read(BUCKETS + i);
        unsigned at = bucket_of(key);
        uint64_t found;

        while ((found = record_read(at)) != 0 && found != key)
            at = (at + 1) % BUCKETS;
        matches += found == key;
    }
    return matches == ROWS / 3;
}

/* A node is a page of 8 keys; node n has the children 8 n + 1 to 8 n + 8. The key of place p in
 * node n leads to child p, and is the least key under it. */
#define BTREE_LEAVES 64U
#define BTREE_INNER  9U

static bool run_btree(void)
{
    unsigned found = 0;

    for (unsigned place = 0; place < PER_PAGE; place++)
        record_write(place, place * 64);
    for (unsigned node = 1; node < BTREE_INNER; node++) {
        for (unsigned place = 0; place < PER_PAGE; place++)
            record_write(node * PER_PAGE + place, (node - 1) * 64 + place * 8);
    }
    for (unsigned leaf = 0; leaf < BTREE_LEAVES; leaf++) {
        for (unsigned place = 0; place < PER_PAGE; place++)
            record_write((BTREE_INNER + leaf) * PER_PAGE + place, leaf * 8 + place);
    }
    for (unsigned i = 0; i < 700; i++) {
        unsigned key = roll(BTREE_LEAVES * 8);
        unsigned node = 0;

        for (unsigned level = 0; level < 2; level++) {
            unsigned place = PER_PAGE - 1;

            while (record_read(node * PER_PAGE + place) > key)
                place--;
            node = 8 * node + 1 + place;
        }
        for (unsigned place = 0; place < PER_PAGE; place++)
            found += record_read(node * PER_PAGE + place) == key;
    }
    return found == 700;
}

/* The neighbours of a vertex follow from its number; vertex v has a mark, and the queue lies behind
 * the marks. Every vertex is reached, since v leads to 2 v and 2 v + 1 modulo their number. */
#define VERTICES 500U

static bool run_graph(void)
{
    unsigned head = 0;
    unsigned tail = 0;
    uint64_t sum = 0;

    for (unsigned i = 0; i < 2 * VERTICES; i++)
        record_write(i, 0);
    record_write(1, 1);
    record_write(VERTICES + tail++, 1);
    while (head < tail) {
        unsigned vertex = (unsigned)record_read(VERTICES + head++);

        sum += vertex;
        for (unsigned i = 0; i < 4; i++) {
            unsigned next =
                i < 2 ? (2 * vertex + i) % VERTICES : (vertex * 17 + i * 101) % VERTICES;

            if (record_read(next) != 0)
                continue;
            record_write(next, 1);
            record_write(VERTICES + tail++, next);
        }
    }
    return tail == VERTICES && sum == (uint64_t)VERTICES * (VERTICES - 1) / 2;
}

const struct workload workloads[] = {
    {"sequential", run_sequential},
    {"loop", run_loop},
    {"random", run_random},
    {"zipf", run_zipf},
    {"scan", run_scan},
    {"phases", run_phases},
    {"matrix_ijk", run_matrix_ijk},
    {"matrix_kij", run_matrix_kij},
    {"matrix_jki", run_matrix_jki},
    {"quicksort", run_quicksort},
    {"mergesort", run_mergesort},
    {"hash_join", run_hash_join},
    {"btree", run_btree},
    {"graph", run_graph},
};

const unsigned workload_count = ARRAY_COUNT(workloads);
