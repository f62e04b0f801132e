/* The frame allocator: free frames in two stacks that run through their records. */
#include "pmm/pmm.h"

#include "cpu/machine.h"
#include "cpu/spin.h"
#include "pmm/memory_map.h"

/* Below this many free frames nothing useful runs: 4 MiB. */
#define FRAMES_LEAST 1024U

/* Frames below 4 GiB, for devices with 32-bit addresses. */
#define LOW_FRAMES (UINT32_C(1) << 20)

/* The first MiB is left alone: real-mode start-up code of other processors, firmware's habits. */
#define FIRST_FRAME 256U

enum stack_name { STACK_LOW, STACK_HIGH, STACK_COUNT };

static struct {
    uint32_t top[STACK_COUNT]; /* frame index; UINT32_MAX = empty */
    uint32_t frame_limit;
    struct pmm_usage usage;
    uint8_t lock;
} pmm = {.top = {UINT32_MAX, UINT32_MAX}};

static enum stack_name stack_of(struct pfn frame)
{
    return frame.index < LOW_FRAMES ? STACK_LOW : STACK_HIGH;
}

static void push(struct pfn frame)
{
    struct frame *record = frame_record(frame);
    enum stack_name stack = stack_of(frame);

    record->kind = FRAME_FREE;
    record->link_next = pmm.top[stack];
    pmm.top[stack] = frame.index;
    pmm.usage.by_kind[FRAME_FREE]++;
}

static struct pfn pop(enum stack_name stack)
{
    struct pfn frame = {pmm.top[stack]};

    CHECK_MSG(frame_record(frame)->kind == FRAME_FREE, "frame %x on the free stack has kind %u",
              frame.index, frame_record(frame)->kind);
    pmm.top[stack] = frame_record(frame)->link_next;
    pmm.usage.by_kind[FRAME_FREE]--;
    return frame;
}

/* Gives the frames of one range their first kind; budget is how many may still become free. */
static void adopt_range(const struct memory_range *range, uint64_t *budget)
{
    struct pfn end = pfn_of((struct phys){range->end});

    for (struct pfn at = pfn_of((struct phys){range->start}); at.index < end.index; at.index++) {
        struct frame *record = frame_record(at);

        pmm.usage.total++;
        if (range->kernel || !memory_is_free(range->kind) || at.index < FIRST_FRAME ||
            *budget == 0) {
            record->kind = range->kernel ? FRAME_KERNEL : FRAME_RESERVED;
            record->count = COUNT_SATURATED;
            pmm.usage.by_kind[record->kind]++;
        } else {
            push(at);
            (*budget)--;
        }
    }
    if (end.index > pmm.frame_limit)
        pmm.frame_limit = end.index;
}

enum status pmm_init(uint64_t limit)
{
    uint64_t budget = limit == 0 ? UINT64_MAX : limit / PAGE_SIZE;
    const struct memory_map *map = memory_map();

    pmm.usage = (struct pmm_usage){0};
    pmm.frame_limit = 0;
    pmm.top[STACK_LOW] = pmm.top[STACK_HIGH] = UINT32_MAX;
    for (uint32_t i = 0; i < map->count; i++) {
        if (memory_is_ram(map->ranges[i].kind))
            adopt_range(&map->ranges[i], &budget);
    }
    return pmm.usage.by_kind[FRAME_FREE] < FRAMES_LEAST ? STATUS_NO_MEMORY : OK;
}

/* Turns a popped frame into what its new owner expects. */
static void prepare(struct pfn frame, enum frame_kind kind, enum frame_clear clear)
{
    struct frame *record = frame_record(frame);

    *record = (struct frame){.count = 1,
                             .kind = (uint8_t)kind,
                             .slot_or_base = UINT32_MAX,
                             .back_table = UINT32_MAX,
                             .link_next = UINT32_MAX,
                             .link_prev = UINT32_MAX};
    if (clear == FRAME_CLEARED)
        machine_clear_frame(frame_pointer(frame));
}

static enum status alloc_from(enum stack_name first, enum stack_name last, enum frame_kind kind,
                              enum frame_clear clear, struct pfn *frame)
{
    bool were_on = machine_interrupts_off();
    enum status status = STATUS_NO_MEMORY;

    CHECK(kind != FRAME_ABSENT && kind != FRAME_FREE && kind < FRAME_KINDS);
    spin_lock(&pmm.lock);
    if (pmm.top[first] == UINT32_MAX)
        first = last;
    if (pmm.top[first] != UINT32_MAX) {
        *frame = pop(first);
        pmm.usage.by_kind[kind]++;
        status = OK;
    }
    spin_unlock(&pmm.lock);
    machine_interrupts_restore(were_on);
    if (status == OK)
        prepare(*frame, kind, clear);
    return status;
}

enum status pmm_alloc(enum frame_kind kind, enum frame_clear clear, struct pfn *frame)
{
    return alloc_from(STACK_HIGH, STACK_LOW, kind, clear, frame);
}

enum status pmm_alloc_low(enum frame_kind kind, enum frame_clear clear, struct pfn *frame)
{
    return alloc_from(STACK_LOW, STACK_LOW, kind, clear, frame);
}

void pmm_free(struct pfn frame)
{
    struct frame *record = frame_record(frame);
    bool were_on = machine_interrupts_off();

    CHECK_MSG(frame.index < pmm.frame_limit, "freeing frame %x past the last", frame.index);
    spin_lock(&pmm.lock);
    CHECK_MSG(record->kind > FRAME_RESERVED && record->kind < FRAME_KINDS &&
                  record->kind != FRAME_ZERO && record->count <= 1 && record->lock == 0,
              "freeing frame %x of kind %u with count %u", frame.index, record->kind,
              record->count);
    pmm.usage.by_kind[record->kind]--;
    record->count = 0;
    record->flags = 0;
    push(frame);
    spin_unlock(&pmm.lock);
    machine_interrupts_restore(were_on);
}

void pmm_retype(struct pfn frame, enum frame_kind kind)
{
    struct frame *record = frame_record(frame);
    bool were_on = machine_interrupts_off();

    spin_lock(&pmm.lock);
    CHECK(record->kind > FRAME_FREE && kind > FRAME_FREE && kind < FRAME_KINDS);
    pmm.usage.by_kind[record->kind]--;
    pmm.usage.by_kind[kind]++;
    record->kind = (uint8_t)kind;
    spin_unlock(&pmm.lock);
    machine_interrupts_restore(were_on);
}

struct pmm_usage pmm_usage(void)
{
    bool were_on = machine_interrupts_off();
    struct pmm_usage usage;

    spin_lock(&pmm.lock);
    usage = pmm.usage;
    spin_unlock(&pmm.lock);
    machine_interrupts_restore(were_on);
    return usage;
}

uint32_t pmm_frame_limit(void)
{
    return pmm.frame_limit;
}

void pmm_audit(void)
{
    uint64_t counted[FRAME_KINDS] = {0};
    uint64_t listed = 0;
    const struct memory_map *map = memory_map();

    for (uint32_t i = 0; i < map->count; i++) {
        const struct memory_range *range = &map->ranges[i];

        if (!memory_is_ram(range->kind))
            continue;
        for (uint64_t at = range->start; at < range->end; at += PAGE_SIZE) {
            const struct frame *record = frame_record(pfn_of((struct phys){at}));

            CHECK_MSG(record->kind > FRAME_ABSENT && record->kind < FRAME_KINDS,
                      "frame %lx has kind %u", at >> PAGE_SHIFT, record->kind);
            counted[record->kind]++;
        }
    }
    for (unsigned kind = 0; kind < FRAME_KINDS; kind++)
        CHECK_MSG(counted[kind] == pmm.usage.by_kind[kind], "%lu frames of kind %u, ledger %lu",
                  counted[kind], kind, pmm.usage.by_kind[kind]);
    for (unsigned stack = 0; stack < STACK_COUNT; stack++) {
        for (uint32_t at = pmm.top[stack]; at != UINT32_MAX && listed <= counted[FRAME_FREE];
             at = frame_record((struct pfn){at})->link_next)
            listed++;
    }
    CHECK_MSG(listed == counted[FRAME_FREE], "%lu frames on the free stacks, %lu free", listed,
              counted[FRAME_FREE]);
}
