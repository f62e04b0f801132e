/* The pages of the matrices of disk faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/host/fake/mmu.h"
#include "tests/host/model/matrix_pages.h"
#include "vmm/page/reclaim.h"

#define START (4 * MIB)

const struct fault_access matrix_read = {.from_user = true};
const struct fault_access matrix_write = {.write = true, .from_user = true};

uint64_t matrix_page_at(unsigned number)
{
    return START + number * PAGE_SIZE;
}

struct pte matrix_entry(const struct space *space, unsigned number)
{
    struct fake_walk walk =
        fake_mmu_walk(phys_of(space->tree.root), space->tree.levels, matrix_page_at(number), 1);

    assert_int_equal(walk.level, 1);
    return (struct pte){walk.entry};
}

static uint64_t *word_of(const struct space *space, unsigned number)
{
    return frame_pointer(pte_frame(matrix_entry(space, number)));
}

void matrix_write_pages(struct space *space, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        assert_int_equal(fault_resolve(space, matrix_page_at(i), matrix_write), OK);
        *word_of(space, i) = matrix_page_at(i);
    }
}

struct space *matrix_pages_map(void)
{
    static const struct rights read_write = {.write = true, .user = true};
    struct space *space;

    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(space_map(space, &SPACE_AT(START, MATRIX_PAGES * PAGE_SIZE, read_write), NULL),
                     OK);
    matrix_write_pages(space, 0, MATRIX_PAGES);
    return space;
}

void matrix_evict_pages(void)
{
    unsigned evicted;

    for (unsigned gone = 0; gone < MATRIX_PAGES; gone += evicted)
        assert_int_equal(reclaim_pages(16, &evicted), OK);
}

bool matrix_is_told(enum status status)
{
    return status == STATUS_IO || status == STATUS_TIMEOUT || status == STATUS_CORRUPT;
}

bool matrix_page_is_right(struct space *space, unsigned number, bool in_memory)
{
    enum status status = fault_resolve(space, matrix_page_at(number), matrix_read);

    if (status == OK) {
        assert_int_equal(*word_of(space, number), matrix_page_at(number));
        return true;
    }
    assert_true(matrix_is_told(status));
    assert_false(in_memory);
    return false;
}
