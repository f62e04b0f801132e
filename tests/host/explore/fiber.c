/*
 * Processors as fibers, and the choice of the next one.
 *
 * A processor runs until its schedule preempts it, it waits, or it ends. A pause lets the next one
 * run, without counting as a preemption. So does a very long loop, after slices of changing length,
 * since two loops of the same length could miss each other for ever.
 */
#include "tests/host/explore/internal.h"

#include "tests/host/fake/machine.h"

/* This many tries of a held lock in a row, without a pause in between, are an error. */
#define TRIES_MAX 64U

/* ---- who can run ---- */

/* Returns whether a processor can answer a flush: with interrupts on, or while it waits in a loop
 * that answers (machine_relax, its own flush, a mutex). */
static bool can_answer(unsigned number)
{
    const struct processor *other = &explorer->processors[number];

    switch (other->state) {
    case FLUSHING:
    case SLEEPING:
    case DONE: return true;
    case PAUSED:
        if (other->relaxes)
            return true;
        break;
    case READY: break;
    }
    return other->interrupts && other->instruction == 0;
}

uint64_t explorer_answering(const struct processor *processor)
{
    uint64_t answering = 0;

    for (uint64_t left = processor->pending; left != 0; left &= left - 1) {
        unsigned number = (unsigned)__builtin_ctzll(left);

        if (can_answer(number))
            answering |= UINT64_C(1) << number;
    }
    return answering;
}

static bool can_run(unsigned number)
{
    const struct processor *processor = &explorer->processors[number];

    switch (processor->state) {
    case READY:
    case PAUSED: return true;
    case FLUSHING: return processor->pending == 0 || explorer_answering(processor) != 0;
    case SLEEPING: return processor->mutex->state == MUTEX_FREE;
    case DONE: break;
    }
    return false;
}

/* Returns the next processor after the running one that can run; a paused one only if there is no
 * other. Returns the running one's number if there is none. */
static unsigned next_in_turn(void)
{
    unsigned count = explorer->run->processors;

    for (int paused = 0; paused < 2; paused++) {
        for (unsigned k = 1; k < count; k++) {
            unsigned number = (explorer->self + k) % count;
            bool pauses = explorer->processors[number].state == PAUSED;

            if (pauses == (paused == 1) && can_run(number))
                return number;
        }
    }
    return explorer->self;
}

/* Returns the processor of highest priority that can run. Returns the running one's number if none
 * can. */
static unsigned next_by_priority(void)
{
    unsigned best = explorer->self;
    bool found = can_run(best);

    for (unsigned i = 0; i < explorer->run->processors; i++) {
        if (can_run(i) &&
            (!found || explorer->processors[i].priority > explorer->processors[best].priority)) {
            best = i;
            found = true;
        }
    }
    return best;
}

/* ---- switching ---- */

void explorer_note(enum run_event_kind kind, int64_t value, const void *code)
{
    struct run *run = explorer->run;

    if (run->event_count < RUN_EVENTS_MAX)
        run->events[run->event_count] =
            (struct run_event){run->accesses, (uint8_t)explorer->self, kind, value, code};
    run->event_count++;
}

void explorer_switch(unsigned to)
{
    unsigned from = explorer->self;

    if (to == from)
        return;
    explorer->self = to;
    explorer->processors[to].since = explorer->run->accesses;
    fake_machine_be_cpu(to);
    swapcontext(&explorer->processors[from].context, &explorer->processors[to].context);
}

_Noreturn void explorer_end(enum run_end end)
{
    if (explorer->running)
        explorer->run->end = end;
    explorer->running = false;
    siglongjmp(explorer->landing, (int)end + 1);
}

/* Records a switch of a random run, so that the run can be replayed. */
static void keep_switch(unsigned to, unsigned holds)
{
    struct run_schedule *schedule = &explorer->run->schedule;

    if (schedule->count < RUN_SWITCHES_MAX)
        schedule->switches[schedule->count++] =
            (struct run_switch){explorer->run->accesses, (uint8_t)to, (uint8_t)holds};
}

/* Takes the schedule's next switch if it is due at this access. */
static bool is_due(unsigned *to, unsigned *holds)
{
    const struct run *run = explorer->run;

    if (run->random || explorer->next >= run->schedule.count ||
        run->accesses < run->schedule.switches[explorer->next].at)
        return false;
    *holds = run->schedule.switches[explorer->next].holds;
    *to = run->schedule.switches[explorer->next++].to;
    if (run->processors == 2)
        *to = 1 - explorer->self;
    return true;
}

unsigned explorer_successor(void)
{
    unsigned in_turn = next_in_turn();
    unsigned to = in_turn;
    unsigned holds;

    if (explorer->run->random) {
        to = next_by_priority();
        if (to != in_turn)
            keep_switch(to, 0);
    } else if (explorer->next < explorer->run->schedule.count &&
               explorer->run->schedule.switches[explorer->next].at == explorer->run->accesses) {
        (void)is_due(&to, &holds);
    }
    return to;
}

void explorer_wait(const void *code)
{
    unsigned to;

    explorer_count(code);
    explorer_drain(explorer_self());
    to = explorer_successor();
    if (to == explorer->self) {
        if (!can_run(to))
            explorer_end(RUN_DEADLOCK);
        return;
    }
    explorer_note(EVENT_WAITS, to, code);
    explorer_switch(to);
}

void explorer_pause(bool relaxes, const void *code)
{
    struct processor *self;

    if (!explorer_may_switch())
        return;
    self = explorer_self();
    self->tries = 0;
    self->state = PAUSED;
    self->relaxes = relaxes;
    if (explorer->run->random)
        self->priority = --explorer->lowest;
    explorer_wait(code);
    self->state = READY;
    self->relaxes = false;
}

/* ---- points ---- */

/* Returns true if this instruction has been a point often enough in this run. */
static bool is_thinned(const void *code)
{
    unsigned hash = (unsigned)((uintptr_t)code * UINT64_C(0x9e3779b97f4a7c15) >> 52);
    uint32_t *count = &explorer->code_count[explorer->self][hash];
    uint32_t *run = &explorer->code_run[explorer->self][hash];

    if (explorer->settings.thin == 0)
        return false;
    if (*run != explorer->run_number)
        *count = 0;
    *run = explorer->run_number;
    ++*count;
    return *count > explorer->settings.thin && (*count & (*count - 1)) != 0;
}

/* Gives the running processor the lowest priority at a point where priorities change. */
static unsigned draw(void)
{
    for (unsigned i = 0; i < explorer->changes; i++) {
        if (explorer->change_at[i] == explorer->run->points)
            explorer_self()->priority = --explorer->lowest;
    }
    return next_by_priority();
}

static void note_point(struct run *run)
{
    bool holds = run->point_at != NULL && explorer_has_stores();

    run->points++;
    run->holding += holds;
    if (run->point_at != NULL && run->points <= run->point_max)
        run->point_at[run->points - 1] = run->accesses | (holds ? RUN_POINT_HOLDS : 0);
}

void explorer_point(const void *code)
{
    struct run *run = explorer->run;
    unsigned to = explorer->self;
    unsigned holds = 0;

    if (is_thinned(code))
        return;
    note_point(run);
    if (run->random)
        to = draw();
    else
        (void)is_due(&to, &holds);
    if (to == explorer->self || !can_run(to))
        return;
    if (run->random) {
        holds = (unsigned)(explorer_random() % (explorer_self()->store_count + 1));
        keep_switch(to, holds);
    }
    explorer_note(holds > 0 ? EVENT_PREEMPTED_HOLDING : EVENT_PREEMPTED, to, code);
    explorer_hide(holds);
    explorer_switch(to);
    explorer_show();
}

/* Returns true if a processor other than the running one can run. */
static bool others_can_run(void)
{
    for (unsigned i = 0; i < explorer->run->processors; i++) {
        if (i != explorer->self && can_run(i))
            return true;
    }
    return false;
}

void explorer_count(const void *code)
{
    struct run *run = explorer->run;
    struct processor *self = explorer_self();

    run->where = code;
    if (++run->accesses > RUN_ACCESSES_MAX)
        explorer_end(RUN_HANG);
    if (self->state != READY || self->instruction > 0 || run->accesses - self->since <= self->slice)
        return;
    self->since = run->accesses;
    if (!others_can_run())
        return;
    self->slice = 200 + (run->accesses * UINT32_C(2654435761) >> 20) % 1801;
    explorer_pause(true, code);
}

void explorer_failed_try(const volatile void *lock, const void *code)
{
    struct processor *self;

    if (!explorer_may_switch())
        return;
    self = explorer_self();
    if (self->tried != lock)
        self->tries = 0;
    self->tried = lock;
    if (++self->tries < TRIES_MAX)
        return;
    explorer->run->where = code;
    explorer_end(RUN_NO_HINT);
}

/* ---- programs ---- */

void run_operation(unsigned number)
{
    if (!explorer_runs())
        return;
    explorer_note(EVENT_OPERATION, number, CALLER);
    explorer_count(CALLER);
    explorer_point(CALLER);
}

void run_result(int64_t status)
{
    if (explorer_runs())
        explorer_note(EVENT_RESULT, status, CALLER);
}

void explorer_deepen(int by)
{
    if (explorer_runs())
        explorer_self()->instruction = (unsigned)((int)explorer_self()->instruction + by);
}

void run_instruction_begin(void)
{
    if (!explorer_runs())
        return;
    if (explorer_self()->instruction == 0) {
        explorer_count(CALLER);
        explorer_point(CALLER);
        explorer_drain(explorer_self());
    }
    explorer_deepen(1);
}

void run_instruction_end(void)
{
    explorer_deepen(-1);
}
