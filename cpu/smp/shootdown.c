/*
 * TLB shootdown: flushes on other processors, acknowledged.
 *
 * Each processor has one request of its own at a time, and a word in which others ask for an
 * answer, a bit each. A processor that waits for answers gives them too, so that two that ask each
 * other, or one that has interrupts off, make progress. A lost answer ends the run with the
 * processor's number.
 */
#include "cpu/smp/shootdown.h"
#include "cpu/interrupts/local_apic.h"
#include "cpu/machine.h"
#include "cpu/percpu.h"
#include "cpu/smp/internal.h"
#include "cpu/smp/lock_check.h"
#include "cpu/smp/thread.h"
#include "cpu/trap/trap.h"
#include "lib/check.h"

/* An emulator's processor may not run at all for seconds on a busy host. */
#define BOUND_MS 20000U

/* One CPU's request to others, and the set of CPUs that wait for its answer. */
struct shoot {
    uint64_t from;    /* CPUs that await this one's answer, a bit each */
    uint64_t pending; /* CPUs that have not answered this one's request */
    uint64_t where;   /* CPUs that flush; the others only answer */
    struct machine_flush flush;
    uint64_t sent;
    uint64_t served;
} __attribute__((aligned(64)));

static struct shoot shoots[CPU_MAX];
static unsigned bound_ms = BOUND_MS;

void shootdown_set_bound_ms(unsigned milliseconds)
{
    bound_ms = milliseconds;
}

static void shootdown_perform(const struct machine_flush *flush)
{
    switch (flush->kind) {
    case MACHINE_FLUSH_PAGES:
        for (unsigned i = 0; i < flush->count; i++)
            machine_flush_page(flush->pages[i]);
        return;
    case MACHINE_FLUSH_SPACE: machine_flush_space(); return;
    case MACHINE_FLUSH_ALL: machine_flush_all(); return;
    }
    PANIC("flush of kind %u", flush->kind);
}

/* Performs and acknowledges the requests of other processors. */
static void perform_requests(struct shoot *self)
{
    uint64_t from = __atomic_exchange_n(&self->from, 0, __ATOMIC_ACQ_REL);
    uint64_t own = UINT64_C(1) << machine_cpu();

    for (; from != 0; from &= from - 1) {
        struct shoot *request = &shoots[__builtin_ctzll(from)];

        CHECK((request->pending & own) != 0);
        if ((request->where & own) != 0)
            shootdown_perform(&request->flush);
        __atomic_and_fetch(&request->pending, ~own, __ATOMIC_ACQ_REL);
        self->served++;
    }
}

static bool shootdown_interrupt(struct trap_frame *frame)
{
    (void)frame;
    local_apic_end();
    perform_requests(&shoots[machine_cpu()]);
    return true;
}

void shootdown_start(void)
{
    trap_set_handler(VECTOR_SHOOT, shootdown_interrupt);
}

static void send_requests(uint64_t own, uint64_t others)
{
    for (; others != 0; others &= others - 1) {
        unsigned other = (unsigned)__builtin_ctzll(others);
        uint64_t before = __atomic_fetch_or(&shoots[other].from, own, __ATOMIC_ACQ_REL);

        /* If another request is pending, an interrupt is on its way. */
        if (before == 0 && !local_apic_send(cpu_table[other].apic_id, ICR_FIXED | VECTOR_SHOOT))
            PANIC("cpu %u takes no interrupt", other);
    }
}

static void await_replies(struct shoot *self)
{
    struct deadline end = deadline_after_ms(bound_ms);
    uint64_t pending;

    while ((pending = __atomic_load_n(&self->pending, __ATOMIC_ACQUIRE)) != 0) {
        if (__atomic_load_n(&self->from, __ATOMIC_RELAXED) != 0)
            perform_requests(self);
        if (deadline_passed(end))
            PANIC("TLB shootdown lost: cpu %u has not answered cpu %u for %u ms",
                  (unsigned)__builtin_ctzll(pending), machine_cpu(), bound_ms);
    }
}

void machine_shootdown(uint64_t where, uint64_t answers, const struct machine_flush *flush)
{
    struct shoot *self = &shoots[machine_cpu()];
    uint64_t own = UINT64_C(1) << machine_cpu();
    uint64_t others = (where | answers) & machine_processors() & ~own;

    if ((where & own) != 0)
        shootdown_perform(flush);
    if (others == 0)
        return;
#ifdef LOCK_CHECKS
    lock_check_none();
#endif
    CHECK_MSG(self->pending == 0, "cpu %u asks while it awaits answers", machine_cpu());
    self->flush = *flush;
    self->where = where;
    self->sent++;
    __atomic_store_n(&self->pending, others, __ATOMIC_SEQ_CST);
    send_requests(own, others);
    await_replies(self);
}

void machine_relax(void)
{
    struct shoot *self = &shoots[machine_cpu()];

    if (__atomic_load_n(&self->from, __ATOMIC_RELAXED) != 0)
        perform_requests(self);
    if (machine_interrupts_on())
        thread_give_way();
    machine_pause();
}

struct shootdown_counts shootdown_counts(void)
{
    struct shootdown_counts counts = {0, 0};

    for (unsigned cpu = 0; cpu < CPU_MAX; cpu++) {
        counts.sent += shoots[cpu].sent;
        counts.served += shoots[cpu].served;
    }
    return counts;
}
