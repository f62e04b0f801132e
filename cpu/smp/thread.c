/* Kernel threads. */
#include "cpu/smp/thread.h"

#include "cpu/fpu.h"
#include "cpu/interrupts/idle_halt.h"
#include "cpu/interrupts/local_apic.h"
#include "cpu/percpu.h"
#include "cpu/smp/internal.h"
#include "cpu/smp/lock_check.h"
#include "cpu/smp/spin.h"
#include "cpu/trap/trap.h"
#include "lib/check.h"
#include "lib/units.h"

#define SECOND_NS UINT64_C(1000000000) /* period of every_second */

/* Initial stack of a thread: six registers of thread_switch, its return address, and a word. */
#define FIRST_WORDS  8U
#define FIRST_RETURN 6U

/* Stacks stay mapped and serve one thread after the other. Protector: the stacks' lock. */
struct stack {
    uint64_t top; /* 0: none yet */
    bool taken;   /* by thread_create, until joined */
};

/* One CPU's threads. Protectors: (p) its CPU, interrupts off; (r) its ready lock. */
struct scheduler {
    struct thread *idle;       /* constant after threads_start and thread_add_stack */
    struct thread *left;       /* (p) on the stack that a switch has just left */
    struct thread *sleepers;   /* (p) */
    uint64_t second_ns;        /* (p) when it runs every_second next */
    bool armed;                /* (p) the timer interrupts when one of those is due */
    struct thread_queue ready; /* (r) */
    struct thread_queue low;   /* (r) ready threads of low priority */
    uint8_t ready_lock;
    bool halted; /* (r) asleep in HLT, until an interrupt wakes it */
} __attribute__((aligned(64)));

static struct scheduler schedulers[CPU_MAX];

static void (*every_second)(void);
static bool (*idle_work)(void);

static struct stack stacks[CPU_MAX][THREADS_PER_CPU];
static uint8_t stacks_lock;
static const struct thread_memory *memory;
static struct thread idle_threads[CPU_MAX];
static struct thread main_thread;
static void (*enter)(void *space);
static unsigned taken_count;

void thread_switch(uint64_t *save, uint64_t load);

static struct scheduler *scheduler_self(void)
{
    return &schedulers[machine_cpu()];
}

static void thread_interrupt(unsigned cpu, uint32_t vector)
{
    if (!local_apic_send(cpu_table[cpu].apic_id, ICR_FIXED | vector))
        PANIC("cpu %u takes no interrupt", cpu);
}

void thread_make_ready(struct thread *thread)
{
    struct scheduler *of = &schedulers[thread->cpu];
    bool halted;

    spin_lock(&of->ready_lock);
    CHECK(thread->state != THREAD_READY && thread->state != THREAD_FREE);
    thread->state = THREAD_READY;
    thread_queue_push(thread->low ? &of->low : &of->ready, thread);
    halted = of->halted;
    of->halted = false;
    spin_unlock(&of->ready_lock);
    if (halted && thread->cpu != machine_cpu())
        thread_interrupt(thread->cpu, VECTOR_WAKE);
}

/* ---- time ---- */

/* Sets the timer for the first sleeper, or for the next second. */
static void arm_timer(struct scheduler *own)
{
    uint64_t now = machine_now_ns();
    uint64_t at = every_second != NULL ? own->second_ns : UINT64_MAX;

    for (const struct thread *thread = own->sleepers; thread != NULL; thread = thread->next)
        at = min_u64(at, thread->wake_ns);
    local_apic_timer_arm(at == UINT64_MAX ? UINT64_MAX : at > now ? at - now : 1);
    own->armed = local_apic_timer_hz() != 0;
}

/* Wakes each sleeper whose time has come. Interrupts are off. */
static void wake_sleepers(struct scheduler *own)
{
    uint64_t now = machine_now_ns();
    struct thread **at = &own->sleepers;

    while (*at != NULL) {
        struct thread *thread = *at;

        if (thread->wake_ns <= now) {
            *at = thread->next;
            thread_make_ready(thread);
        } else {
            at = &thread->next;
        }
    }
}

static void scheduler_tick(struct scheduler *own)
{
    wake_sleepers(own);
    if (every_second != NULL && machine_now_ns() >= own->second_ns) {
        own->second_ns = machine_now_ns() + SECOND_NS;
        every_second();
    }
    arm_timer(own);
}

static bool on_timer(struct trap_frame *frame)
{
    (void)frame;
    local_apic_end();
    scheduler_tick(scheduler_self());
    return true;
}

static bool on_wake(struct trap_frame *frame)
{
    (void)frame;
    local_apic_end();
    return true;
}

/* ---- switching ---- */

/* Called first on the new stack: the old thread may now run again, or be reused. */
static void finish_switch(void)
{
    struct scheduler *own = scheduler_self();
    struct thread *left = own->left;

    own->left = NULL;
    if (left != NULL && left->state == THREAD_ENDED)
        semaphore_up(&left->ended);
}

void thread_schedule(void)
{
    struct scheduler *own = scheduler_self();
    struct cpu *cpu = cpu_self();
    struct thread *self = cpu->current;
    struct thread *next;

    CHECK(!machine_interrupts_on());
#ifdef LOCK_CHECKS
    lock_check_none();
#endif
    if (own->sleepers != NULL)
        wake_sleepers(own);
    spin_lock(&own->ready_lock);
    next = self->gives_way ? thread_queue_pop(&own->low) : NULL;
    if (next == NULL)
        next = thread_queue_pop(&own->ready);
    if (next == NULL)
        next = thread_queue_pop(&own->low);
    if (next == NULL)
        next = own->idle;
    CHECK(next != NULL);
    next->state = THREAD_RUNNING;
    spin_unlock(&own->ready_lock);
    if (next == self)
        return;
    self->rsp0 = cpu->tss.rsp[0];
    fpu_switch(&self->fpu, next->fpu);
    cpu->tss.rsp[0] = next->rsp0;
    cpu->kernel_stack = next->rsp0;
    self->program = thread_programs[cpu->number];
    thread_programs[cpu->number] = next->program;
    cpu->current = next;
    own->left = self;
    if (next->space != self->space && enter != NULL)
        enter(next->space);
    thread_switch(&self->rsp, next->rsp);
    finish_switch();
}

_Noreturn static void thread_begin(void)
{
    struct thread *self = cpu_self()->current;

    finish_switch();
    if (self == scheduler_self()->idle)
        thread_idle();
    machine_interrupts_restore(true);
    self->entry(self->argument);
    machine_interrupts_off();
    CHECK_MSG(self->space == NULL, "a thread of cpu %u ended in an address space", self->cpu);
    self->state = THREAD_ENDED;
    thread_schedule();
    PANIC("a thread that has ended goes on");
}

static void prepare_stack(struct thread *thread, uint64_t top)
{
    uint64_t *stack = (uint64_t *)(uintptr_t)top - FIRST_WORDS;

    for (unsigned i = 0; i < FIRST_WORDS; i++)
        stack[i] = 0;
    stack[FIRST_RETURN] = (uint64_t)(uintptr_t)thread_begin;
    thread->rsp = (uint64_t)(uintptr_t)stack;
    thread->rsp0 = top;
}

/* ---- public: start ---- */

size_t thread_size(void)
{
    return sizeof(struct thread);
}

void threads_come_from(const struct thread_memory *from)
{
    CHECK(memory == NULL);
    memory = from;
}

void threads_start(unsigned number)
{
    struct scheduler *own = scheduler_self();
    struct cpu *cpu = cpu_self();

    CHECK(cpu->current == NULL && number == cpu->number);
    trap_set_handler(VECTOR_TIMER, on_timer);
    trap_set_handler(VECTOR_WAKE, on_wake);
    own->second_ns = machine_now_ns() + SECOND_NS;
    if (number == 0) {
        main_thread.state = THREAD_RUNNING;
        main_thread.rsp0 = cpu->tss.rsp[0];
        cpu->current = &main_thread;
        return;
    }
    own->idle = &idle_threads[number];
    own->idle->cpu = number;
    own->idle->state = THREAD_RUNNING;
    own->idle->rsp0 = cpu->tss.rsp[0];
    cpu->current = own->idle;
}

void thread_add_stack(unsigned number, uint64_t top)
{
    CHECK(number < CPU_MAX && top % 16 == 0);
    if (number == 0 && schedulers[0].idle == NULL) {
        schedulers[0].idle = &idle_threads[0];
        prepare_stack(&idle_threads[0], top);
        return;
    }
    for (unsigned i = 0; i < THREADS_PER_CPU; i++) {
        if (stacks[number][i].top == 0) {
            stacks[number][i].top = top;
            return;
        }
    }
    PANIC("cpu %u has all its stacks", number);
}

/* Performs one step of the work for idle processors. Returns whether there may be more. Interrupts
 * are off before and after. */
static bool thread_idle_step(void)
{
    bool more;

    if (idle_work == NULL)
        return false;
    machine_interrupts_restore(true);
    more = idle_work();
    machine_interrupts_off();
    return more;
}

/* Runs the idle loop. Interrupts are off from the look at the queue to HLT, which follows STI. */
_Noreturn void thread_idle(void)
{
    struct scheduler *own = scheduler_self();

    machine_interrupts_off();
    for (;;) {
        while (thread_idle_step())
            thread_schedule();
        spin_lock(&own->ready_lock);
        own->halted = own->ready.first == NULL && own->low.first == NULL;
        spin_unlock(&own->ready_lock);
        if (own->halted && !own->armed)
            scheduler_tick(own);
        /* The tick may have made a sleeper ready: then there is nothing to halt for. */
        if (__atomic_load_n(&own->halted, __ATOMIC_RELAXED))
            idle_halt(local_apic_timer_hz() != 0);
        INTERRUPTS_CHECK(opened);
        own->halted = false;
        thread_schedule();
    }
}

/* ---- public: threads ---- */

static struct stack *stack_alloc(unsigned cpu)
{
    bool were_on = machine_interrupts_off();
    struct stack *taken = NULL;

    spin_lock(&stacks_lock);
    for (unsigned i = 0; i < THREADS_PER_CPU && taken == NULL; i++) {
        if (!stacks[cpu][i].taken && stacks[cpu][i].top != 0)
            taken = &stacks[cpu][i];
    }
    if (taken != NULL) {
        taken->taken = true;
        taken_count++;
    }
    spin_unlock(&stacks_lock);
    machine_interrupts_restore(were_on);
    return taken;
}

static void stack_free(struct stack *stack)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&stacks_lock);
    CHECK(stack->taken);
    stack->taken = false;
    taken_count--;
    spin_unlock(&stacks_lock);
    machine_interrupts_restore(were_on);
}

/* Allocates a thread with a stack; its other fields are zero. */
static enum status thread_take(unsigned cpu, struct thread **thread)
{
    struct stack *stack = stack_alloc(cpu);
    enum status status;
    void *object;

    if (stack == NULL)
        return STATUS_LIMIT;
    status = memory->take(&object);
    if (status != OK) {
        stack_free(stack);
        return status;
    }
    *thread = object;
    (*thread)->stack = stack;
    (*thread)->cpu = cpu;
    return OK;
}

enum status thread_create(unsigned cpu, void (*entry)(void *argument), void *argument,
                          struct thread **thread)
{
    struct thread *made;
    enum status status;
    bool were_on;

    CHECK(cpu < CPU_MAX && (machine_processors() >> cpu & 1) != 0 && memory != NULL);
    status = thread_take(cpu, &made);
    if (status != OK)
        return status;
    made->entry = entry;
    made->argument = argument;
    made->state = THREAD_WAITING;
    prepare_stack(made, made->stack->top);
    *thread = made;
    were_on = machine_interrupts_off();
    thread_make_ready(made);
    machine_interrupts_restore(were_on);
    return OK;
}

/* Waits for a thread's end and frees it. The thread's processor leaves its stack before it signals
 * the end, and does not access the thread after it unlocks the semaphore. */
void thread_join(struct thread *thread)
{
    CHECK(thread->stack != NULL && thread->stack->taken);
    semaphore_down(&thread->ended);
    CHECK(thread->state == THREAD_ENDED);
    stack_free(thread->stack);
    thread->state = THREAD_FREE;
    memory->give(thread);
}

bool thread_may_wait(void)
{
    const struct thread *current = machine_thread();
    const struct thread *idle = scheduler_self()->idle;

    return current != NULL && current != idle && idle != NULL;
}

void thread_yield(void)
{
    bool were_on = machine_interrupts_off();

    if (thread_may_wait()) {
        thread_make_ready(cpu_self()->current);
        thread_schedule();
    }
    machine_interrupts_restore(were_on);
}

void thread_sleep_us(uint64_t microseconds)
{
    bool were_on = machine_interrupts_off();
    struct scheduler *own = scheduler_self();
    struct thread *self = cpu_self()->current;

    CHECK(thread_may_wait());
    self->wake_ns = machine_now_ns() + microseconds * 1000;
    self->state = THREAD_WAITING;
    self->next = own->sleepers;
    own->sleepers = self;
    arm_timer(own);
    thread_schedule();
    machine_interrupts_restore(were_on);
}

unsigned thread_count(void)
{
    return __atomic_load_n(&taken_count, __ATOMIC_RELAXED);
}

/* A new function interrupts all other processors: each then sets its timer. */
void thread_set_every_second(void (*look)(void))
{
    bool were_on = machine_interrupts_off();
    uint64_t others =
        every_second == look ? 0 : machine_processors() & ~(UINT64_C(1) << machine_cpu());
    struct scheduler *own = scheduler_self();

    every_second = look;
    own->second_ns = machine_now_ns() + SECOND_NS;
    arm_timer(own);
    for (; others != 0; others &= others - 1)
        thread_interrupt((unsigned)__builtin_ctzll(others), VECTOR_TIMER);
    machine_interrupts_restore(were_on);
}

void thread_set_idle_work(bool (*step)(void))
{
    idle_work = step;
    thread_wake_idle();
}

void thread_wake_idle(void)
{
    for (uint64_t at = machine_processors(); at != 0; at &= at - 1) {
        unsigned cpu = (unsigned)__builtin_ctzll(at);

        if (cpu != machine_cpu() && __atomic_load_n(&schedulers[cpu].halted, __ATOMIC_RELAXED)) {
            thread_interrupt(cpu, VECTOR_WAKE);
            return;
        }
    }
}

void thread_on_switch(void (*enter_space)(void *space))
{
    enter = enter_space;
}
