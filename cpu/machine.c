/* The seam to the machine: what the logic above needs of the processor. */
#include "cpu/machine.h"

#include "cpu/crc32c.h"
#include "cpu/features.h"
#include "cpu/gs.h"
#include "cpu/points.h"
#include "cpu/registers.h"
#include "lib/bytes.h"

#define TCG_NAME "TCGTCGTCGTCG"

/* How frames are cleared and copied: REP STOSB and MOVSB where the processor makes them fast, else
 * by words. An emulator says ERMS and takes each byte singly, so it gets words. */
enum frame_way { FRAME_WAY_UNKNOWN, FRAME_BY_WORDS, FRAME_BY_BYTES };

static enum frame_way frame_way;

bool machine_interrupts_on(void)
{
    uint64_t flags;

    __asm__ volatile("pushfq\n\tpopq %0" : "=r"(flags));
    return (flags & RFLAGS_IF) != 0;
}

bool machine_interrupts_off(void)
{
    bool were_on = machine_interrupts_on();

    __asm__ volatile("cli" : : : "memory");
    return were_on;
}

void machine_interrupts_restore(bool were_on)
{
    if (were_on)
        __asm__ volatile("sti" : : : "memory");
}

void machine_pause(void)
{
    __asm__ volatile("pause" : : : "memory");
}

/* Meaningful from cpu_init on: before it GS is the firmware's. */
unsigned machine_cpu(void)
{
    unsigned number;

    __asm__ volatile("movl %%gs:%c1, %0" : "=r"(number) : "i"(GS_NUMBER));
    return number;
}

static enum frame_way choose_frame_way(void)
{
    const struct cpu_features *features = cpu_features();

    if (features->erms && strcmp(features->hypervisor_name, TCG_NAME) != 0)
        return FRAME_BY_BYTES;
    return FRAME_BY_WORDS;
}

static bool frame_by_bytes(void)
{
    if (__builtin_expect(frame_way == FRAME_WAY_UNKNOWN, 0))
        frame_way = choose_frame_way();
    return frame_way == FRAME_BY_BYTES;
}

void machine_clear_frame(void *frame)
{
    uint64_t count = PAGE_SIZE;

    CODE_POINT(POINT_CLEAR);
    if (frame_by_bytes()) {
        __asm__ volatile("rep stosb" : "+D"(frame), "+c"(count) : "a"(0) : "memory");
    } else {
        count /= sizeof(uint64_t);
        __asm__ volatile("rep stosq" : "+D"(frame), "+c"(count) : "a"(0L) : "memory");
    }
    CODE_POINT(POINT_ALLOCATE);
}

void machine_copy_frame(void *restrict to, const void *restrict from)
{
    uint64_t count = PAGE_SIZE;

    CODE_POINT(POINT_COPY);
    if (frame_by_bytes()) {
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    } else {
        count /= sizeof(uint64_t);
        __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    }
}

void machine_flush_page(uint64_t address)
{
    __asm__ volatile("invlpg (%0)" : : "r"(address) : "memory");
}

void machine_flush_space(void)
{
    cr3_write(cr3_read());
}

/* INVPCID or a change of CR4.PGE drops everything, in all contexts, global pages and
 * paging-structure caches included: SDM volume 3, 4.10.4.1. No interrupt may come between the two
 * changes, since it could run with PGE off. */
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

/* LFENCE keeps the counter from being read ahead of what is measured: SDM volume 2, RDTSC. */
uint64_t machine_ticks(void)
{
    uint32_t low;
    uint32_t high;

    __asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

static uint32_t crc32c_by_instruction(uint32_t crc, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    uint64_t state = (uint32_t)~crc;

    for (; size >= sizeof(uint64_t); size -= sizeof(uint64_t), bytes += sizeof(uint64_t)) {
        uint64_t word;

        __builtin_memcpy(&word, bytes, sizeof(word));
        __asm__("crc32q %1, %0" : "+r"(state) : "r"(word));
    }
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
