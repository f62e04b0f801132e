/* Names the functions of this image by address, from its own table. */
#include "cpu/crash/symbols.h"

#include "lib/print.h"

extern const char image_base[];
extern const char image_symbols_start[];
extern const char image_symbols_end[];

static size_t print_symbol(char *buffer, size_t size, uint64_t address, uint32_t back)
{
    uint64_t offset = address - back - (uint64_t)(uintptr_t)image_base;
    size_t table_size = (size_t)(image_symbols_end - image_symbols_start);
    struct symbol symbol;

    if (offset > UINT32_MAX ||
        !symbols_find(image_symbols_start, table_size, (uint32_t)offset, &symbol))
        return print_to(buffer, size, "0x%lx", address);
    return print_to(buffer, size, "%s+0x%x", symbol.name, symbol.distance + back);
}

size_t symbols_print_to(char *buffer, size_t size, uint64_t address)
{
    return print_symbol(buffer, size, address, 0);
}

size_t symbols_print_return_to(char *buffer, size_t size, uint64_t address)
{
    return print_symbol(buffer, size, address, 1);
}
