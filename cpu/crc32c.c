/* CRC-32C by a table of 256 words; pure. */
#include "cpu/crc32c.h"

#include <stdbool.h>

#define POLYNOMIAL_REFLECTED UINT32_C(0x82f63b78)

static uint32_t table[256];
static bool table_made;

static void make_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t word = byte;

        for (unsigned bit = 0; bit < 8; bit++)
            word = (word & 1) != 0 ? word >> 1 ^ POLYNOMIAL_REFLECTED : word >> 1;
        table[byte] = word;
    }
    __atomic_store_n(&table_made, true, __ATOMIC_RELEASE);
}

uint32_t crc32c_by_table(uint32_t crc, const void *data, size_t size)
{
    const uint8_t *bytes = data;

    if (!__atomic_load_n(&table_made, __ATOMIC_ACQUIRE))
        make_table();
    crc = ~crc;
    for (size_t i = 0; i < size; i++)
        crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 0xff];
    return ~crc;
}
