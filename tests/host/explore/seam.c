/*
 * cpu/machine.h on simulated processors: the calls that a schedule decides about. They take the
 * place of the weak ones in tests/host/fake/machine.c, where the others are.
 *
 * A flush that others must answer is a request: each answer comes when the asker runs and the other
 * can answer, and not before. So code can go on for long beside a processor that has stale
 * translations, as on a machine.
 */
#include "tests/host/explore/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/check.h"
#include "tests/host/fake/machine.h"

/* ---- interrupts ---- */

static bool *interrupts(void)
{
    return explorer_runs() ? &explorer_self()->interrupts : &explorer->interrupts;
}

/* Always a point: the last moment at which an answer can arrive. */
bool machine_interrupts_off(void)
{
    bool were_on = *interrupts();

    if (were_on && explorer_may_switch()) {
        explorer_count(CALLER);
        explorer_point(CALLER);
    }
    *interrupts() = false;
    return were_on;
}

static bool is_asked(void)
{
    for (unsigned i = 0; i < explorer->run->processors; i++) {
        const struct processor *other = &explorer->processors[i];

        if (other->state == FLUSHING && (other->pending >> explorer->self & 1) != 0)
            return true;
    }
    return false;
}

void machine_interrupts_restore(bool were_on)
{
    bool turns_on = were_on && !*interrupts();

    *interrupts() = were_on;
    if (turns_on && explorer_may_switch() && is_asked()) {
        explorer_count(CALLER);
        explorer_point(CALLER);
    }
}

bool machine_interrupts_on(void)
{
    return *interrupts();
}

/* ---- waiting ---- */

void machine_pause(void)
{
    explorer_pause(false, CALLER);
}

void machine_relax(void)
{
    explorer_pause(true, CALLER);
}

void mutex_wait(struct mutex *mutex)
{
    if (!explorer_runs())
        PANIC("the mutex %p is held outside of a run", (void *)mutex);
    while (!mutex_try(mutex)) {
        explorer_self()->state = SLEEPING;
        explorer_self()->mutex = mutex;
        explorer_wait(CALLER);
        explorer_self()->state = READY;
    }
}

/* ---- frames ---- */

void machine_clear_frame(void *frame)
{
    explorer_access(frame, PAGE_SIZE, ACCESS_STORE, CALLER);
    memset(frame, 0, PAGE_SIZE);
}

void machine_fill_frame(void *frame, uint64_t word)
{
    uint64_t *words = frame;

    explorer_access(frame, PAGE_SIZE, ACCESS_STORE, CALLER);
    for (unsigned i = 0; i < PAGE_SIZE / sizeof(word); i++)
        words[i] = word;
}

void machine_copy_frame(void *restrict to, const void *restrict from)
{
    explorer_access(to, PAGE_SIZE, ACCESS_STORE, CALLER);
    explorer_access(from, PAGE_SIZE, ACCESS_READ, CALLER);
    memcpy(to, from, PAGE_SIZE);
}

/* ---- flushes ---- */

/* Flushes as a processor: one instruction, which reads tables and records. */
static void flush_as(unsigned number, const struct machine_flush *flush)
{
    explorer_deepen(1);
    fake_machine_be_cpu(number);
    fake_machine_flush(flush);
    fake_machine_be_cpu(explorer_runs() ? explorer->self : 0);
    explorer_deepen(-1);
}

/* Waits until all have answered; the schedule decides when each does. */
static void await_answers(uint64_t where, uint64_t others, const struct machine_flush *flush,
                          const void *code)
{
    struct processor *self = explorer_self();

    explorer_drain(self);
    explorer_note(EVENT_ASKS, (int64_t)others, code);
    self->pending = others;
    self->state = FLUSHING;
    while (self->pending != 0) {
        uint64_t ready;
        unsigned number;

        explorer_count(code);
        explorer_point(code);
        ready = explorer_answering(self);
        if (ready == 0) {
            explorer_wait(code);
            continue;
        }
        number = (unsigned)__builtin_ctzll(ready);
        explorer_note(EVENT_ANSWERS, number, code);
        explorer_drain(&explorer->processors[number]);
        if ((where >> number & 1) != 0)
            flush_as(number, flush);
        self->pending &= ~(UINT64_C(1) << number);
    }
    self->state = READY;
}

void machine_shootdown(uint64_t where, uint64_t answers, const struct machine_flush *flush)
{
    uint64_t own = UINT64_C(1) << machine_cpu();
    uint64_t others = (where | answers) & fake_processors & ~own;

    fake_asked |= others;
    if (!explorer_runs()) {
        unsigned self = machine_cpu();

        for (uint64_t left = where & fake_processors; left != 0; left &= left - 1) {
            fake_machine_be_cpu((unsigned)__builtin_ctzll(left));
            fake_machine_flush(flush);
        }
        fake_machine_be_cpu(self);
        return;
    }
    if ((where & own) != 0)
        flush_as(explorer->self, flush);
    if (others != 0)
        await_answers(where, others, flush, CALLER);
}

/* ---- panics ---- */

_Noreturn void panic_at(const char *file, int line, const char *format, ...)
{
    char words[300];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(words, sizeof(words), format, arguments);
    va_end(arguments);
    if (explorer_runs()) {
        snprintf(explorer->run->why, sizeof(explorer->run->why), "%s:%d: %s", file, line, words);
        explorer_end(RUN_PANIC);
    }
    if (explorer == NULL || !explorer->guarded) {
        fprintf(stderr, "panic at %s:%d: %s\n", file, line, words);
        abort();
    }
    snprintf(explorer->why, explorer->why_size, "%s:%d: %s", file, line, words);
    explorer_end(RUN_PANIC);
}
