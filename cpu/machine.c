/* The seam to the machine on the real processor. */
#include "cpu/machine.h"

#include "cpu/crc32c.h"
#include "cpu/features.h"
#include "cpu/registers.h"

void machine_flush_space(void)
{
    cr3_write(cr3_read());
}

/* Flushes everything: INVPCID or a change of CR4.PGE drops all contexts, global pages and
 * paging-structure caches (SDM volume 3, 4.10.4.1). Interrupts are off between the two changes of
 * PGE, so that no handler runs with PGE off. */
void machine_flush_all(void)
{
    bool were_on;
    uint64_t cr4;

    if (cpu_features()->invpcid) {
        invpcid(INVPCID_ALL, 0, 0);
        return;
    }
    were_on = machine_interrupts_off();
    cr4 = cr4_read();
    if ((cr4 & CR4_PGE) != 0) {
        cr4_write(cr4 & ~CR4_PGE);
        cr4_write(cr4);
    } else {
        cr3_write(cr3_read());
    }
    machine_interrupts_restore(were_on);
}

void machine_load_root(struct phys root)
{
    cr3_write(root.address | (machine_has_contexts() ? cr3_read() & CR3_PCID : 0));
}

void machine_load_context(struct phys root, unsigned context, bool keep)
{
    cr3_write(root.address | context | (keep ? CR3_KEEP : 0));
}

struct phys machine_root(void)
{
    return (struct phys){round_down(cr3_read(), PAGE_SIZE)};
}

/* Reads the counter. LFENCE keeps RDTSC from executing before earlier instructions (SDM volume 2,
 * RDTSC). */
uint64_t machine_ticks(void)
{
    uint32_t low;
    uint32_t high;

    __asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

/* Words per turn of the loop over a page, so that the loop itself costs little. */
#define CRC_UNROLLED 64U

struct crc_word {
    uint64_t word;
} __attribute__((packed, may_alias));

/* Continues a CRC over CRC_UNROLLED words, one instruction for each. */
static uint64_t crc32c_many(uint64_t state, const struct crc_word *words)
{
#pragma GCC unroll 64
    for (unsigned i = 0; i < CRC_UNROLLED; i++)
        __asm__("crc32q %1, %0" : "+r"(state) : "m"(words[i].word));
    return state;
}

static uint32_t crc32c_by_instruction(uint32_t crc, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    uint64_t state = (uint32_t)~crc;

    for (; size >= CRC_UNROLLED * sizeof(uint64_t); size -= CRC_UNROLLED * sizeof(uint64_t)) {
        state = crc32c_many(state, (const struct crc_word *)bytes);
        bytes += CRC_UNROLLED * sizeof(uint64_t);
    }
    for (; size >= sizeof(uint64_t); size -= sizeof(uint64_t), bytes += sizeof(uint64_t))
        __asm__("crc32q %1, %0" : "+r"(state) : "m"(((const struct crc_word *)bytes)->word));
    for (; size > 0; size--, bytes++)
        __asm__("crc32b %1, %k0" : "+r"(state) : "qm"(*bytes));
    return ~(uint32_t)state;
}

uint32_t machine_crc32c(uint32_t crc, const void *data, size_t size)
{
    if (cpu_features()->sse4_2)
        return crc32c_by_instruction(crc, data, size);
    return crc32c_by_table(crc, data, size);
}
