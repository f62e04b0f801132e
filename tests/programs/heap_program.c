/* Programs of ring 3 that use the heap: the churn, its background program, and its notice. */
#include "tests/programs/heap_program.h"

#include "lib/random.h"

/* Microseconds that the background program sleeps when there is nothing to do. */
#define BACKGROUND_IDLE 1000U

/* Microseconds that a thread sleeps while another one has the heap's lock. */
#define LOCK_SLEEP 5U

/* Such sleeps after which the thread that has the lock counts as ended: half a second and more. */
#define LOCK_SLEEPS 100000U

static struct heap_job *program_job(void)
{
    return (struct heap_job *)(uintptr_t)HEAP_PROGRAM_JOB;
}

static uint64_t program_call(enum program_call call, uint64_t first, uint64_t second,
                             uint64_t third)
{
    uint64_t result = call;

    __asm__ volatile("syscall"
                     : "+a"(result)
                     : "D"(first), "S"(second), "d"(third)
                     : "rcx", "r11", "memory");
    return result;
}

static void program_exit(enum heap_program_exit code)
{
    (void)program_call(PROGRAM_EXIT, code, 0, 0);
}

static uint64_t program_ticks(void)
{
    uint32_t low;
    uint32_t high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

/* ---- the heap's source ---- */

static bool program_give_back(void *context, void *at, size_t size)
{
    struct heap_job *job = context;
    uint64_t ticks = program_ticks();
    uint64_t status = program_call(PROGRAM_ADVISE, (uint64_t)(uintptr_t)at, size, SPACE_DONT_NEED);

    job->giving_back += program_ticks() - ticks;
    job->stretch += size / HEAP_PAGE;
    if (job->stretch > job->longest_stretch)
        job->longest_stretch = job->stretch;
    return status == OK;
}

/* Sleeps instead of yielding: the holder may have a lower priority. */
static bool program_wait(void *context, uint64_t waits)
{
    (void)context;
    (void)program_call(PROGRAM_SLEEP, LOCK_SLEEP, 0, 0);
    return waits < LOCK_SLEEPS;
}

/* Handles a notice that memory becomes short, or is no longer short. */
void program_hear_notice(const struct upcall_frame *frame);

void program_hear_notice(const struct upcall_frame *frame)
{
    struct heap_job *job = program_job();

    uint64_t ticks = program_ticks();

    job->notices++;
    job->stretch = 0;
    heap_on_notice(job->heap, frame->address != PMM_NORMAL);
    job->aside += program_ticks() - ticks;
}

/* Entry of the handler. The frame has the registers that C may change; C preserves the others. */
__attribute__((naked)) static void program_on_notice(void)
{
    __asm__("pushq %%rdi\n\t"
            "call program_hear_notice\n\t"
            "popq %%rdi\n\t"
            "movl %0, %%eax\n\t"
            "syscall"
            :
            : "i"(PROGRAM_UPCALL_RETURN));
}

/* ---- the churn ---- */

/* Returns a random size: most blocks are small, a few have many pages. */
static size_t block_size(struct random *dice)
{
    uint64_t kind = random_below(dice, 100);

    if (kind < 70)
        return 16 + random_below(dice, 1009);
    return kind < 95 ? 1024 + random_below(dice, 15361) : 16384 + random_below(dice, 49153);
}

static void slot_fill(struct heap_job *job, struct heap_slot *slot, struct random *dice)
{
    size_t size = block_size(dice);

    slot->block = heap_alloc(job->heap, size, 16);
    slot->words = size / 8;
    slot->tag = random_next(dice);
    if (slot->block == NULL) {
        job->refused++;
        return;
    }
    for (uint64_t i = 0; i < slot->words; i++)
        slot->block[i] = slot->tag + i;
}

static void slot_empty(struct heap_job *job, struct heap_slot *slot)
{
    for (uint64_t i = 0; i < slot->words; i++)
        job->wrong_words += slot->block[i] != slot->tag + i;
    if (heap_free(job->heap, slot->block) != OK)
        program_exit(HEAP_PROGRAM_BROKEN);
    slot->block = NULL;
}

/* Takes a block if fewer than `target` are live, else frees one: the slots below the target are in
 * use in the end, those above it free. */
static void heap_request(struct heap_job *job, uint64_t target, struct random *dice)
{
    struct heap_slot *slot = &job->slots[random_below(dice, HEAP_PROGRAM_SLOTS)];

    if (slot->block != NULL)
        slot_empty(job, slot);
    else if (job->heap->live_blocks < target)
        slot_fill(job, slot, dice);
}

/* Sleeps until this time; returns at once if it has passed. */
static void sleep_until(const struct heap_job *job, uint64_t ticks)
{
    uint64_t now = program_ticks();

    if (now < ticks)
        (void)program_call(PROGRAM_SLEEP, (ticks - now) * 1000 / job->tick_khz, 0, 0);
}

/* Runs a phase. A request's latency counts from the time when it was due, so it includes every
 * delay. */
static void heap_phase(struct heap_job *job, uint64_t target, uint64_t due, struct random *dice)
{
    uint64_t period = job->period_us * job->tick_khz / 1000;

    for (uint64_t i = 0; i < job->requests; i++) {
        uint64_t start;

        if (period != 0) {
            due += period;
            sleep_until(job, due);
        }
        start = program_ticks();
        job->stretch = 0;
        heap_request(job, target, dice);
        job->busy += program_ticks() - start;
        if (period != 0 && job->time_count < HEAP_PROGRAM_TIMES)
            job->times[job->time_count++] = (uint32_t)(program_ticks() - due);
    }
}

_Noreturn void heap_program_churn(void)
{
    struct heap_job *job = program_job();
    struct random dice = random_from(job->seed);
    uint64_t due;
    const struct heap_source source = {
        .context = job, .give_back = program_give_back, .wait = program_wait};

    job->heap = heap_create((void *)(uintptr_t)HEAP_PROGRAM_ARENA, job->arena_size,
                            &heap_policies[job->kind], &source);
    if (job->heap == NULL ||
        program_call(PROGRAM_SET_NOTICE, (uint64_t)(uintptr_t)program_on_notice, 0, 0) != OK)
        program_exit(HEAP_PROGRAM_BROKEN);
    due = program_ticks();
    /* The time between two phases delays the first requests, and so does a notice then. */
    for (uint64_t phase = 0; phase < job->phases; phase++) {
        heap_phase(job, phase % 4 == 0 ? job->high : job->low, due, &dice);
        due = program_ticks();
        program_exit(HEAP_PROGRAM_PHASE);
    }
    for (unsigned i = 0; i < HEAP_PROGRAM_SLOTS; i++) {
        if (job->slots[i].block != NULL)
            slot_empty(job, &job->slots[i]);
    }
    if (heap_audit(job->heap) != NULL || job->heap->live_blocks != 0)
        program_exit(HEAP_PROGRAM_BROKEN);
    for (;;)
        program_exit(HEAP_PROGRAM_DONE);
}

/* Runs at low priority beside the churn, in the same space. */
_Noreturn void heap_program_background(void)
{
    struct heap_job *job = program_job();

    while (__atomic_load_n(&job->stop, __ATOMIC_RELAXED) == 0) {
        struct heap *heap = __atomic_load_n(&job->heap, __ATOMIC_RELAXED);
        uint64_t ticks = program_ticks();
        bool more;

        job->stretch = 0;
        more = heap != NULL && heap_step(heap);
        job->aside += program_ticks() - ticks;

        (void)program_call(PROGRAM_SLEEP, more ? 0 : BACKGROUND_IDLE, 0, 0);
    }
    for (;;)
        program_exit(HEAP_PROGRAM_DONE);
}
