/* The index of mappings against a list that is searched whole, with cursors that live on while
 * mappings come and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/random.h"
#include "lib/units.h"
#include "vmm/section/mapping_index.h"

#define NODES  96U
#define PLACES 64U
#define STEPS  20000U

static struct mapping_index map_index;
static struct mapping_index_node nodes[NODES];
static bool inside[NODES];

static int compare(const struct mapping_index_node *a, uint64_t from, uint64_t serial)
{
    if (a->from != from)
        return a->from < from ? -1 : 1;
    return a->serial < serial ? -1 : a->serial > serial;
}

/* Returns the first node behind the cursor that overlaps the range, by looking at all. */
static struct mapping_index_node *search(const struct mapping_cursor *cursor, uint64_t from,
                                         uint64_t to)
{
    struct mapping_index_node *best = NULL;

    for (unsigned i = 0; i < NODES; i++) {
        struct mapping_index_node *at = &nodes[i];

        if (!inside[i] || at->from >= to || at->to <= from ||
            (cursor->serial != 0 && compare(at, cursor->from, cursor->serial) <= 0))
            continue;
        if (best == NULL || compare(at, best->from, best->serial) < 0)
            best = at;
    }
    return best;
}

static void change(struct random *random)
{
    unsigned i = (unsigned)random_below(random, NODES);

    if (!inside[i]) {
        nodes[i].from = random_below(random, PLACES);
        nodes[i].to = nodes[i].from + 1 + random_below(random, PLACES / 4);
        mapping_index_insert(&map_index, &nodes[i]);
        inside[i] = true;
    } else if (random_below(random, 4) == 0) {
        mapping_index_set_end(&nodes[i], nodes[i].from + 1 + random_below(random, PLACES));
    } else {
        mapping_index_remove(&map_index, &nodes[i]);
        inside[i] = false;
    }
}

static void finds_what_a_whole_search_finds(void **state)
{
    struct random random = random_from(1);

    (void)state;
    for (unsigned step = 0; step < STEPS; step++) {
        uint64_t from = random_below(&random, PLACES);
        uint64_t to = from + 1 + random_below(&random, 8);
        struct mapping_cursor cursor = {0};
        struct mapping_index_node *found;

        do {
            struct mapping_index_node *expected = search(&cursor, from, to);

            found = mapping_index_next(&map_index, &cursor, from, to);
            assert_ptr_equal(found, expected);
            change(&random);
        } while (found != NULL);
        mapping_index_audit(&map_index);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_a_whole_search_finds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
