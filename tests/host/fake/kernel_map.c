/* The kernel's half as host tests have it. */
#include "tests/host/fake/kernel_map.h"

#include <string.h>
#include <sys/mman.h>

#include "cpu/machine.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "paging/tree/tree.h"
#include "pmm/pmm.h"

unsigned fake_kernel_map_levels = 4;
bool fake_kernel_map_full;
unsigned fake_kernel_map_shown;
bool fake_kernel_map_window_full;

/* The frames mapped in the window; 0: none. */
static struct pfn window[SPACES_MAX];

static struct pfn zero_frame;
static struct pfn kernel_root;

void fake_kernel_map_start(void)
{
    enum status status = pmm_alloc_order(3, FRAME_KERNEL, FRAME_CLEARED, &zero_frame);

    CHECK(status == OK);
    pmm_split(zero_frame, 3, 0);
    zero_ladder_build(frame_pointer(zero_frame), zero_frame);
    memset(window, 0, sizeof(window));
    fake_kernel_map_shown = 0;
    status = pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &kernel_root);
    CHECK(status == OK);
    kernel_map_share_half(kernel_root);
}

void fake_kernel_map_set_levels(unsigned levels)
{
    enum status status;

    fake_kernel_map_levels = levels;
    status = tree_ready_roots();
    CHECK(status == OK);
}

unsigned kernel_map_levels(void)
{
    return fake_kernel_map_levels;
}

void kernel_map_share_half(struct pfn top_table)
{
    struct pte *entries = frame_pointer(top_table);

    for (unsigned i = PTE_ENTRIES / 2; i < PTE_ENTRIES; i += 51)
        entries[i].word = phys_of(kernel_root).address | PTE_P | PTE_RW | PTE_A | PTE_NX;
    entries[recursive_index(fake_kernel_map_levels)].word =
        phys_of(top_table).address | PTE_P | PTE_RW | PTE_A | PTE_NX;
}

void kernel_map_check_half(struct pfn top_table)
{
    const struct pte *entries = frame_pointer(top_table);
    unsigned slot = recursive_index(fake_kernel_map_levels);

    for (unsigned i = PTE_ENTRIES / 2; i < PTE_ENTRIES; i++) {
        bool kernel = (i - PTE_ENTRIES / 2) % 51 == 0;
        struct pfn named = i == slot ? top_table : pfn_of(phys_of(kernel_root));

        CHECK_MSG(pte_present(entries[i]) == (kernel || i == slot) &&
                      (!pte_present(entries[i]) || pfn_equal(pte_frame(entries[i]), named)),
                  "entry %u of root %x is %lx", i, top_table.index, entries[i].word);
    }
}

enum status kernel_map_window_show(uint32_t space, struct pfn top_table)
{
    CHECK(space < SPACES_MAX && window[space].index == 0);
    if (fake_kernel_map_window_full)
        return STATUS_NO_MEMORY;
    window[space] = top_table;
    fake_kernel_map_shown++;
    return OK;
}

struct pfn kernel_map_window_hide(uint32_t space)
{
    struct pfn unused;

    CHECK(window[space].index != 0);
    window[space].index = 0;
    /* A frame to be freed comes back each time that the last is hidden. */
    if (--fake_kernel_map_shown > 0 || pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &unused) != OK)
        return PFN_NONE;
    return unused;
}

struct pte kernel_map_window_read(uint32_t space, unsigned index)
{
    CHECK(space < SPACES_MAX);
    if (window[space].index == 0)
        return pte_empty();
    return pte_read((const struct pte *)frame_pointer(window[space]) + index);
}

/* Walks as the processor does, and reads the memory at the address. */
bool kernel_map_recursive_read(uint64_t address, struct pte *entry)
{
    uint64_t table = machine_root().address;

    for (unsigned level = fake_kernel_map_levels; level > 0; level--) {
        const struct pte *entries = phys_pointer((struct phys){table});
        struct pte next = pte_read(&entries[pte_index(address, level)]);

        if (!pte_present(next) || (level > 1 && (next.word & PTE_PS) != 0))
            return false;
        table = next.word & PTE_FRAME_MASK;
    }
    *entry = pte_read((const struct pte *)phys_pointer((struct phys){table}) +
                      address % PAGE_SIZE / sizeof(struct pte));
    return true;
}

struct phys kernel_map_root(void)
{
    return phys_of(kernel_root);
}

struct pfn kernel_map_zero_frame(void)
{
    return zero_frame;
}

enum status kernel_map_page(uint64_t address, struct pfn frame)
{
    void *wanted = (void *)(uintptr_t)address;

    CHECK(address % PAGE_SIZE == 0 && frame_record(frame)->kind == FRAME_KERNEL);
    if (fake_kernel_map_full)
        return STATUS_NO_MEMORY;
    CHECK(mmap(wanted, PAGE_SIZE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == wanted);
    return OK;
}
