/* The background reclaimer's thread. */
#include "cpu/smp/thread.h"
#include "vmm/page/page.h"
#include "vmm/reclaimer/internal.h"

static struct thread *thread;
static struct semaphore work;
static bool asleep; /* nobody has woken it since it found nothing to do */
static bool ends;

/* Wakes the thread, once for each time that it sleeps. Called by faults that leave little room. */
static void reclaimer_wake(void)
{
    if (__atomic_exchange_n(&asleep, false, __ATOMIC_ACQ_REL))
        semaphore_up(&work);
}

/* Works until nothing is left to do, then sleeps. It looks once more after it has said that it
 * sleeps, so that no wake-up is lost in between. */
static void reclaimer_main(void *argument)
{
    (void)argument;
    thread_set_low();
    while (!__atomic_load_n(&ends, __ATOMIC_ACQUIRE)) {
        if (reclaimer_step()) {
            thread_yield();
            continue;
        }
        __atomic_store_n(&asleep, true, __ATOMIC_SEQ_CST);
        if (reclaimer_step() || __atomic_load_n(&ends, __ATOMIC_ACQUIRE))
            reclaimer_wake();
        semaphore_down(&work);
    }
}

enum status reclaimer_start(unsigned cpu, struct reclaimer_marks marks)
{
    enum status status;

    CHECK(thread == NULL);
    reclaimer_set_marks(marks);
    ends = asleep = false;
    work = (struct semaphore){0};
    status = thread_create(cpu, reclaimer_main, NULL, &thread);
    if (status == OK)
        page_on_low(reclaimer_wake, marks.low);
    else
        thread = NULL;
    return status;
}

void reclaimer_stop(void)
{
    CHECK(thread != NULL);
    page_on_low(NULL, 0);
    __atomic_store_n(&ends, true, __ATOMIC_RELEASE);
    __atomic_store_n(&asleep, false, __ATOMIC_RELEASE);
    semaphore_up(&work);
    thread_join(thread);
    thread = NULL;
    reclaimer_set_marks((struct reclaimer_marks){0});
}
