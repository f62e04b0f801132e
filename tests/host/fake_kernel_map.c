/* The kernel's half as host tests have it. */
#include "tests/host/fake_kernel_map.h"

#include <sys/mman.h>

#include "paging/kernel_map.h"
#include "paging/pte.h"
#include "pmm/pmm.h"

unsigned fake_kernel_map_levels = 4;
bool fake_kernel_map_full;

static struct pfn zero_frame;
static struct pfn kernel_root;

void fake_kernel_map_start(void)
{
    enum status status = pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &zero_frame);

    CHECK(status == OK);
    status = pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &kernel_root);
    CHECK(status == OK);
    kernel_map_share_half(kernel_root);
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
