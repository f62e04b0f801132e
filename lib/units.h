/*
 * Units as types: a physical address is not a frame number is not a slot.
 *
 * Each is a struct of one field, so that a swapped argument does not compile; the machine code is
 * that of the bare number. Virtual addresses are plain uint64_t: the code computes with them
 * everywhere and they are mixed up with nothing else.
 *
 * Units: bytes for addresses and sizes, 4 KiB for frames, pages and slots. Ranges are half-open.
 */
#ifndef LIB_UNITS_H
#define LIB_UNITS_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE_SHIFT 12U
#define PAGE_SIZE  (UINT64_C(1) << PAGE_SHIFT)
#define KIB        UINT64_C(1024)
#define MIB        (UINT64_C(1024) * KIB)
#define GIB        (UINT64_C(1024) * MIB)

#define ARRAY_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A byte address in physical memory. */
struct phys {
    uint64_t address;
};

/* A frame number: physical address / 4 KiB. 32 bits reach 16 TiB; more is left out by pmm/. */
struct pfn {
    uint32_t index;
};

/* A page-sized place in the swap area, counted from its first. */
struct slot {
    uint32_t index;
};

/* No frame: frame 0 never holds data, but it exists; this index does not. */
#define PFN_NONE  ((struct pfn){UINT32_MAX})
#define SLOT_NONE ((struct slot){UINT32_MAX})

static inline struct phys phys_of(struct pfn frame)
{
    return (struct phys){(uint64_t)frame.index << PAGE_SHIFT};
}

/* Returns the frame of a physical address below 16 TiB. */
static inline struct pfn pfn_of(struct phys physical)
{
    return (struct pfn){(uint32_t)(physical.address >> PAGE_SHIFT)};
}

static inline bool pfn_equal(struct pfn a, struct pfn b)
{
    return a.index == b.index;
}

static inline bool pfn_is_none(struct pfn frame)
{
    return frame.index == UINT32_MAX;
}

static inline uint64_t round_down(uint64_t value, uint64_t power_of_two)
{
    return value & ~(power_of_two - 1);
}

/* Rounds up. The caller ensures that value + power_of_two does not wrap. */
static inline uint64_t round_up(uint64_t value, uint64_t power_of_two)
{
    return (value + power_of_two - 1) & ~(power_of_two - 1);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
