/* The whole log of this run in memory. */
#include "efi/log/kept_log.h"

#include <stdint.h>

#include "cpu/machine.h"
#include "efi/log/memory_log.h"
#include "lib/bytes.h"
#include "paging/kernel/map.h"

/* Looks at the lock before the text is appended without it: the holder may be a processor that a
 * crash has stopped. */
#define LOCK_LOOKS 1000000U

static struct {
    uint8_t lock;
    bool cut;
    size_t length;
    struct phys block; /* of the copy that survives */
    struct memory_log memory;
    char text[KEPT_LOG_SIZE];
} kept;

/* The last line of a log that was cut; room is kept for it. */
static const char cut_words[] = "\n# the kept log ends here: it has no room for more\n";

static void kept_log_append(const char *text, size_t size)
{
    memcpy(kept.text + kept.length, text, size);
    kept.length += size;
    if (kept.memory.block != NULL)
        memory_log_add(&kept.memory, text, size);
}

void kept_log_write(const char *text, size_t size)
{
    size_t room;

    for (unsigned look = 0; look < LOCK_LOOKS; look++) {
        if (__atomic_exchange_n(&kept.lock, 1, __ATOMIC_ACQUIRE) == 0)
            break;
        machine_pause();
    }
    room = kept.cut ? 0 : KEPT_LOG_SIZE - (sizeof(cut_words) - 1) - kept.length;
    kept_log_append(text, size < room ? size : room);
    if (size > room && !kept.cut) {
        kept.cut = true;
        kept_log_append(cut_words, sizeof(cut_words) - 1);
    }
    __atomic_store_n(&kept.lock, 0, __ATOMIC_RELEASE);
}

const char *kept_log_text(size_t *size)
{
    *size = kept.length;
    return kept.text;
}

void kept_log_survive(struct phys block)
{
    kept.block = block;
    memory_log_begin(&kept.memory, (volatile void *)(uintptr_t)block.address, KEPT_LOG_BLOCK);
    memory_log_add(&kept.memory, kept.text, kept.length);
}

/* Maps the block again, uncached, since a reset loses the contents of caches. */
void kept_log_relocated(void)
{
    if (kept.memory.block != NULL)
        kept.memory.block = kernel_map_device(kept.block, KEPT_LOG_BLOCK, DEVICE_UNCACHED);
}

bool kept_log_survives(void)
{
    return kept.memory.block != NULL;
}
