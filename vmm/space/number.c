/* Numbers of address spaces: each has its place in the window of top tables. */
#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "paging/tlb/tlb.h"
#include "pmm/pmm.h"
#include "vmm/space/internal.h"

#define WORD_BITS 64U

static struct {
    uint8_t lock;
    uint32_t limit; /* numbers from this one on are not given out */
    uint32_t first; /* no word before this one has a free number */
    uint64_t taken[SPACES_MAX / WORD_BITS];
} numbers = {.limit = SPACES_MAX};

_Static_assert(SPACES_MAX - 1 <= UINT16_MAX, "a number has 16 bits");

/* Returns the lowest free number, which may be past the limit. The caller has the lock. */
static uint32_t find_free(void)
{
    while (numbers.first < ARRAY_COUNT(numbers.taken) && numbers.taken[numbers.first] == UINT64_MAX)
        numbers.first++;
    if (numbers.first == ARRAY_COUNT(numbers.taken))
        return SPACES_MAX;
    return numbers.first * WORD_BITS + (uint32_t)__builtin_ctzll(~numbers.taken[numbers.first]);
}

void space_set_limit(uint32_t spaces)
{
    CHECK(spaces >= 1 && spaces <= SPACES_MAX);
    numbers.limit = spaces;
}

enum status space_number_take(struct tree *tree)
{
    bool were_on = machine_interrupts_off();
    enum status status = STATUS_LIMIT;
    uint32_t number;

    spin_lock(&numbers.lock);
    number = find_free();
    if (number < numbers.limit)
        status = kernel_map_window_show(number, tree->root);
    if (status == OK) {
        numbers.taken[number / WORD_BITS] |= UINT64_C(1) << number % WORD_BITS;
        tree->number = (uint16_t)number;
    }
    spin_unlock(&numbers.lock);
    machine_interrupts_restore(were_on);
    return status;
}

void space_number_give(const struct tree *tree)
{
    uint32_t number = tree->number;
    uint64_t bit = UINT64_C(1) << number % WORD_BITS;
    struct tlb_batch batch;
    struct pfn unused;
    bool were_on = machine_interrupts_off();

    spin_lock(&numbers.lock);
    CHECK_MSG((numbers.taken[number / WORD_BITS] & bit) != 0, "space %u is not taken", number);
    unused = kernel_map_window_hide(number);
    numbers.taken[number / WORD_BITS] &= ~bit;
    if (number / WORD_BITS < numbers.first)
        numbers.first = number / WORD_BITS;
    spin_unlock(&numbers.lock);
    machine_interrupts_restore(were_on);
    if (pfn_is_none(unused))
        return;
    /* Any processor may have cached the table of the kernel's half that is freed (rule P5). */
    tlb_begin(&batch, NULL);
    tlb_add_kernel(&batch);
    tlb_commit(&batch);
    pmm_free(unused);
}
