/* The machine as host tests have it. */
#include "tests/host/fake/machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/cpu.h"
#include "cpu/interrupts/idle_halt.h"
#include "cpu/machine.h"
#include "cpu/smp/lock_check.h"
#include "cpu/smp/thread.h"
#include "lib/check.h"
#include "pmm/memory_map.h"
#include "pmm/pmm.h"

jmp_buf fake_panic_landing;
int fake_panic_expected;
char fake_panic_message[512];
uint64_t fake_clock_step_ns = 1000;
uint64_t fake_clock_ns;
unsigned fake_wakes;
uint64_t fake_interrupts_opened;
void (*fake_on_flush_page)(uint64_t address);
void (*fake_on_flush_space)(void);
void (*fake_on_flush_all)(void);
uint64_t fake_processors = 1;
bool fake_contexts;

/* The explorer of interleavings has its own of these, which a schedule decides. */
#define DECIDED __attribute__((weak))

/* Each thread is a processor. */
static _Thread_local bool interrupts = true;
static _Thread_local unsigned cpu;
static const uint64_t no_table[PAGE_SIZE / sizeof(uint64_t)];
static struct phys roots[CPU_MAX];
static unsigned contexts[CPU_MAX];
static void *spaces[CPU_MAX];
static const void *tops[CPU_MAX]; /* NULL: none was set yet */

#ifdef LOCK_CHECKS
static unsigned locks_before_panic;
#endif

void fake_expect_panic(void)
{
    fake_panic_expected = 1;
#ifdef LOCK_CHECKS
    locks_before_panic = lock_check_count();
#endif
}

DECIDED _Noreturn void panic_at(const char *file, int line, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(fake_panic_message, sizeof(fake_panic_message), format, arguments);
    va_end(arguments);
    if (fake_panic_expected) {
#ifdef LOCK_CHECKS
        lock_check_abandon(locks_before_panic);
#endif
        longjmp(fake_panic_landing, 1);
    }
    fprintf(stderr, "panic at %s:%d: %s\n", file, line, fake_panic_message);
    abort();
}

static void lay_out(uint64_t base, uint64_t bytes)
{
    void *wanted = (void *)(uintptr_t)base;

    munmap(wanted, bytes);
    if (mmap(wanted, bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != wanted) {
        perror("mmap of simulated memory");
        abort();
    }
}

void fake_machine_memory(uint64_t bytes)
{
    lay_out(DIRECT_MAP_BASE, bytes);
    lay_out(FRAME_RECORDS_BASE, bytes / PAGE_SIZE * sizeof(struct frame));
    interrupts = true;
}

void fake_machine_start(uint64_t bytes)
{
    struct memory_region all = {.pages = bytes / PAGE_SIZE, .kind = MEMORY_USABLE};
    enum status status;

    fake_machine_memory(bytes);
    status = memory_map_build(&all, 1, bytes);
    CHECK(status == OK);
    status = pmm_init(0);
    CHECK(status == OK);
    /* Tests count to the last frame. */
    pmm_set_reserve(0);
}

DECIDED bool machine_interrupts_off(void)
{
    bool were_on = interrupts;

    interrupts = false;
    return were_on;
}

DECIDED void machine_interrupts_restore(bool were_on)
{
    if (were_on && !interrupts)
        __atomic_fetch_add(&fake_interrupts_opened, 1, __ATOMIC_RELAXED);
    interrupts = were_on;
}

DECIDED bool machine_interrupts_on(void)
{
    return interrupts;
}

DECIDED void machine_pause(void)
{
}

void fake_machine_be_cpu(unsigned number)
{
    CHECK(number < CPU_MAX);
    cpu = number;
}

unsigned machine_cpu(void)
{
    return cpu;
}

void *machine_space(void)
{
    return spaces[cpu];
}

/* Each processor's on a line of its own, as the kernel has them. */
static struct {
    uint64_t counts[MACHINE_COUNTS];
} __attribute__((aligned(128))) counted[CPU_MAX];

void machine_count(unsigned which)
{
    counted[cpu].counts[which]++;
}

uint64_t machine_counted(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < MACHINE_COUNTS; i++)
        sum += counted[cpu].counts[i];
    return sum;
}

const uint64_t *machine_counts_of(unsigned number)
{
    return counted[number].counts;
}

const void *machine_top(void)
{
    return tops[cpu] != NULL ? tops[cpu] : no_table;
}

void machine_set_space(void *to, const void *top)
{
    spaces[cpu] = to;
    tops[cpu] = top;
}

DECIDED void machine_clear_frame(void *frame)
{
    memset(frame, 0, PAGE_SIZE);
}

DECIDED void machine_fill_frame(void *frame, uint64_t word)
{
    uint64_t *words = frame;

    for (unsigned i = 0; i < PAGE_SIZE / sizeof(word); i++)
        words[i] = word;
}

DECIDED void machine_copy_frame(void *restrict to, const void *restrict from)
{
    memcpy(to, from, PAGE_SIZE);
}

/* A serializing instruction, as on a machine. */
void machine_flush_page(uint64_t address)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (fake_on_flush_page != NULL)
        fake_on_flush_page(address);
}

void machine_flush_space(void)
{
    if (fake_on_flush_space != NULL)
        fake_on_flush_space();
}

void machine_flush_all(void)
{
    if (fake_on_flush_all != NULL)
        fake_on_flush_all();
}

uint64_t machine_processors(void)
{
    return fake_processors;
}

void fake_machine_flush(const struct machine_flush *flush)
{
    if (flush->kind == MACHINE_FLUSH_PAGES) {
        for (unsigned i = 0; i < flush->count; i++)
            machine_flush_page(flush->pages[i]);
    } else if (flush->kind == MACHINE_FLUSH_SPACE) {
        machine_flush_space();
    } else {
        machine_flush_all();
    }
}

uint64_t fake_asked;

DECIDED void machine_shootdown(uint64_t where, uint64_t answers, const struct machine_flush *flush)
{
    unsigned self = cpu;

#ifdef LOCK_CHECKS
    lock_check_none();
#endif
    fake_asked |= (where | answers) & fake_processors & ~(UINT64_C(1) << self);
    for (uint64_t at = where & fake_processors; at != 0; at &= at - 1) {
        cpu = (unsigned)__builtin_ctzll(at);
        fake_machine_flush(flush);
    }
    cpu = self;
}

void (*fake_on_relax)(void);

DECIDED void machine_relax(void)
{
    if (fake_on_relax != NULL)
        fake_on_relax();
}

/* A thread for each processor. None runs while another waits, so a wait for a mutex that is held
 * would never end. */
static const uint8_t threads[CPU_MAX];

const void *machine_thread(void)
{
    return &threads[cpu];
}

uint64_t mutex_processors(const struct mutex *mutex)
{
    const uint8_t *owner = (const void *)mutex->owner;

    if (mutex->state == MUTEX_FREE)
        return 0;
    return owner == NULL ? UINT64_MAX : UINT64_C(1) << (owner - threads);
}

DECIDED void mutex_wait(struct mutex *mutex)
{
    PANIC("the mutex %p is held already", (void *)mutex);
}

void mutex_hand_over(struct mutex *mutex)
{
    PANIC("nobody waits for the mutex %p", (void *)mutex);
}

void idle_halt_ends(void)
{
}

bool fake_may_wait;
void (*fake_on_sleep)(void);

bool thread_may_wait(void)
{
    return fake_may_wait;
}

DECIDED void semaphore_up(struct semaphore *semaphore)
{
    semaphore->count++;
}

/* Takes from a semaphore. There is one thread, so fake_on_sleep must end a wait. */
DECIDED void semaphore_down(struct semaphore *semaphore)
{
    for (unsigned i = 0; semaphore->count == 0; i++) {
        if (fake_on_sleep == NULL || i == 1000000)
            PANIC("no thread ups the semaphore %p", (void *)semaphore);
        fake_on_sleep();
    }
    semaphore->count--;
}

void thread_on_switch(void (*enter_space)(void *space))
{
    (void)enter_space;
}

void thread_wake_idle(void)
{
    __atomic_fetch_add(&fake_wakes, 1, __ATOMIC_RELAXED);
}

void thread_set_space(void *space)
{
    (void)space;
}

void machine_load_root(struct phys new_root)
{
    roots[cpu] = new_root;
    machine_flush_space();
}

bool machine_has_contexts(void)
{
    return fake_contexts;
}

void machine_load_context(struct phys new_root, unsigned context, bool keep)
{
    CHECK(context < 4096 && (fake_contexts || (context == 0 && !keep)));
    contexts[cpu] = context;
    roots[cpu] = new_root;
    if (!keep)
        machine_flush_space();
}

unsigned fake_machine_context(void)
{
    return contexts[cpu];
}

struct phys machine_root(void)
{
    return roots[cpu];
}

uint64_t machine_now_ns(void)
{
    fake_clock_ns += fake_clock_step_ns;
    return fake_clock_ns;
}

/* Returns the ticks. Reading them advances no time, since checked locks read them at each step. */
uint64_t machine_ticks(void)
{
    return fake_clock_ns;
}

uint32_t machine_crc32c(uint32_t crc, const void *data, size_t size)
{
    const uint8_t *at = data;

    crc = ~crc;
    while (size-- > 0) {
        crc ^= *at++;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? UINT32_C(0x82f63b78) : 0);
    }
    return ~crc;
}
