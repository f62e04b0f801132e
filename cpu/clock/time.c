/* The clock: the time-stamp counter, calibrated against a clock of known rate. */
#include "cpu/clock/time.h"

#include <stddef.h>

#include "cpu/features.h"
#include "cpu/machine.h"
#include "cpu/port.h"
#include "lib/units.h"

/* ACPI 6.4, 4.8.3.3. */
#define PM_TIMER_HZ UINT64_C(3579545)

/* Intel 8254, and the port that gates its channel 2 and shows its output. */
#define PIT_HZ             UINT64_C(1193182)
#define PIT_CHANNEL_2      UINT16_C(0x42)
#define PIT_COMMAND        UINT16_C(0x43)
#define PIT_CHANNEL_2_ONCE UINT8_C(0xb0) /* channel 2, low then high byte, mode 0, binary */
#define PORT_B             UINT16_C(0x61)
#define PORT_B_GATE        UINT8_C(0x01)
#define PORT_B_SPEAKER     UINT8_C(0x02)
#define PORT_B_OUT         UINT8_C(0x20)

/* SDM volume 2, CPUID. */
#define LEAF_TSC       UINT32_C(0x15)
#define LEAF_FREQUENCY UINT32_C(0x16)

/* A window of 10 ms measures to some 100 ppm by a port that takes 1 us; five show the spread. */
#define WINDOW_MS    UINT64_C(10)
#define MEASUREMENTS 5U

/* Bounds of the waits, in reads of the port and in ticks, since there is no clock yet. A read takes
 * from some 40 ns (an emulator that counts instructions) to 2 us, so that a PM timer that is there
 * moves within 1000 of them. No processor has more than 10 GHz: 10^9 ticks are at least 100 ms. */
#define STILL_READS  1000U
#define WINDOW_READS 20000000U
#define WINDOW_TICKS UINT64_C(1000000000)

#define GUESSED_HZ UINT64_C(1000000000)

/* Bounds of a believable rate. An emulator's counter may be far slower than any processor; below
 * 1 MHz a tick is too long to time hardware by. */
#define LEAST_HZ UINT64_C(1000000)
#define MOST_HZ  UINT64_C(20000000000)

/* HPET: IA-PC HPET specification 1.0a, 2.3. The low words of 64-bit registers. */
#define HPET_PERIOD     0x004U /* femtoseconds of a tick */
#define HPET_CONFIGURE  0x010U
#define HPET_COUNTER    0x0f0U
#define HPET_ENABLE     (UINT32_C(1) << 0)
#define HPET_PERIOD_MAX UINT32_C(100000000)
#define FS_PER_SECOND   UINT64_C(1000000000000000)

/* A counter of known rate that wraps at its mask: the PM timer at a port, or the HPET in memory. */
struct counter {
    uint16_t port;
    volatile uint32_t *hpet; /* NULL: the PM timer */
    uint32_t mask;
    uint64_t hz;
};

/* A reading of both clocks: the counter lies in the middle of the port's access. */
struct reading {
    uint64_t ticks;
    uint32_t count;
};

/* The time was base_ns at base_ticks, and continues at scale. */
static struct {
    struct time_source source;
    struct time_scale scale;
    uint64_t base_ticks;
    uint64_t base_ns;
} clock = {
    .source = {.kind = TIME_GUESS, .hz = GUESSED_HZ},
    .scale = {1, 0},
};

static struct reading read_counter(const struct counter *counter)
{
    struct reading reading;
    uint64_t before = machine_ticks();
    uint32_t count = counter->hpet != NULL ? counter->hpet[HPET_COUNTER / sizeof(uint32_t)]
                                           : port_in32(counter->port);

    reading.count = count & counter->mask;
    reading.ticks = before + (machine_ticks() - before) / 2;
    return reading;
}

static bool moves(const struct counter *counter)
{
    uint32_t first = read_counter(counter).count;

    for (unsigned i = 0; i < STILL_READS; i++) {
        if (read_counter(counter).count != first)
            return true;
        machine_pause();
    }
    return false;
}

/* Returns the ticks per second by one window of the counter; 0 if the window does not end. */
static uint64_t measure_with_counter(const struct counter *counter)
{
    struct reading start = read_counter(counter);

    for (unsigned i = 0; i < WINDOW_READS; i++) {
        struct reading now = read_counter(counter);
        uint32_t passed = (now.count - start.count) & counter->mask;

        if (passed >= counter->hz * WINDOW_MS / 1000)
            return (now.ticks - start.ticks) * counter->hz / passed;
        if (now.ticks - start.ticks > WINDOW_TICKS)
            return 0;
        machine_pause();
    }
    return 0;
}

static bool pit_out(void)
{
    return (port_in8(PORT_B) & PORT_B_OUT) != 0;
}

/* Measures the ticks of a second by one count-down of the PIT; returns 0 if there is none. In mode
 * 0 the output falls when the count is written and rises at its end. An absent port reads as risen
 * at once. */
static uint64_t pit_measure(void)
{
    uint64_t counts = PIT_HZ * WINDOW_MS / 1000;
    uint8_t port_b = (uint8_t)(port_in8(PORT_B) & ~PORT_B_SPEAKER);
    uint64_t start;

    port_out8(PORT_B, port_b | PORT_B_GATE);
    port_out8(PIT_COMMAND, PIT_CHANNEL_2_ONCE);
    port_out8(PIT_CHANNEL_2, (uint8_t)(counts & 0xff));
    port_out8(PIT_CHANNEL_2, (uint8_t)(counts >> 8));
    start = machine_ticks();
    if (pit_out())
        return 0;
    for (unsigned i = 0; i < WINDOW_READS; i++) {
        bool done = pit_out();
        uint64_t passed = machine_ticks() - start;

        if (done)
            return passed * PIT_HZ / counts;
        if (passed > WINDOW_TICKS)
            return 0;
        machine_pause();
    }
    return 0;
}

static void time_sort(uint64_t *values, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        for (unsigned j = i; j > 0 && values[j - 1] > values[j]; j--) {
            uint64_t swapped = values[j];

            values[j] = values[j - 1];
            values[j - 1] = swapped;
        }
    }
}

/* Returns true if a source's rate is plausible. Records the first that is not, for the log. */
static bool is_plausible_hz(enum time_source_kind kind, uint64_t hz, struct time_source *source)
{
    if (hz >= LEAST_HZ && hz <= MOST_HZ)
        return true;
    if (hz != 0 && source->refused_hz == 0) {
        source->refused = kind;
        source->refused_hz = hz;
    }
    return false;
}

/* Stores the median of several measurements and their spread. Returns false if one is
 * implausible. */
static bool measure_median(enum time_source_kind kind, const struct counter *counter,
                           struct time_source *source)
{
    uint64_t hz[MEASUREMENTS];

    for (unsigned i = 0; i < MEASUREMENTS; i++) {
        hz[i] = counter != NULL ? measure_with_counter(counter) : pit_measure();
        if (!is_plausible_hz(kind, hz[i], source))
            return false;
    }
    time_sort(hz, MEASUREMENTS);
    source->kind = kind;
    source->hz = hz[MEASUREMENTS / 2];
    source->spread_ppm = (hz[MEASUREMENTS - 1] - hz[0]) * 1000000 / source->hz;
    source->measurements = MEASUREMENTS;
    return true;
}

/* Reads the TSC's rate from CPUID. Checks that the leaves exist: beyond the last leaf CPUID returns
 * the data of another. */
static bool hz_from_cpuid(struct time_source *source)
{
    uint32_t max = cpu_features()->max_leaf;
    struct cpuid_leaf leaf;
    uint64_t hz = 0;

    if (max >= LEAF_TSC) {
        leaf = cpu_cpuid(LEAF_TSC);
        if (leaf.a != 0)
            hz = (uint64_t)leaf.c * leaf.b / leaf.a;
    }
    if (hz == 0 && max >= LEAF_FREQUENCY)
        hz = (uint64_t)(cpu_cpuid(LEAF_FREQUENCY).a & 0xffff) * 1000000;
    if (!is_plausible_hz(TIME_CPUID, hz, source))
        return false;
    source->kind = TIME_CPUID;
    source->hz = hz;
    return true;
}

/* Starts the HPET. Returns false if there is none, or if its rate is impossible. */
static bool start_hpet(volatile void *registers, struct counter *counter)
{
    uint32_t period;

    counter->hpet = registers;
    if (registers == NULL)
        return false;
    period = counter->hpet[HPET_PERIOD / sizeof(uint32_t)];
    if (period == 0 || period > HPET_PERIOD_MAX)
        return false;
    counter->hz = FS_PER_SECOND / period;
    counter->mask = UINT32_MAX;
    counter->hpet[HPET_CONFIGURE / sizeof(uint32_t)] |= HPET_ENABLE;
    return true;
}

static struct time_source choose_time_source(const struct time_clocks *clocks)
{
    struct time_source source = {.kind = TIME_GUESS, .hz = GUESSED_HZ};
    struct counter pm_timer = {.port = clocks->pm_timer_port,
                               .mask = clocks->pm_timer_32bit ? UINT32_MAX : UINT32_C(0xffffff),
                               .hz = PM_TIMER_HZ};
    struct counter hpet = {0};

    if (pm_timer.port != 0 && moves(&pm_timer) && measure_median(TIME_PM_TIMER, &pm_timer, &source))
        return source;
    if (start_hpet(clocks->hpet, &hpet) && moves(&hpet) &&
        measure_median(TIME_HPET, &hpet, &source))
        return source;
    if (measure_median(TIME_PIT, NULL, &source) || hz_from_cpuid(&source))
        return source;
    return source;
}

void time_init(const struct time_clocks *clocks)
{
    struct time_source source = choose_time_source(clocks);
    uint64_t ticks = machine_ticks();

    clock.base_ns += time_scale_ns(clock.scale, ticks - clock.base_ticks);
    clock.base_ticks = ticks;
    clock.source = source;
    clock.scale = time_scale_of(source.hz);
}

uint64_t machine_now_ns(void)
{
    return clock.base_ns + time_scale_ns(clock.scale, machine_ticks() - clock.base_ticks);
}

const struct time_source *time_source(void)
{
    return &clock.source;
}

const char *time_source_name(enum time_source_kind kind)
{
    switch (kind) {
    case TIME_PM_TIMER: return "ACPI PM timer";
    case TIME_HPET: return "HPET";
    case TIME_PIT: return "PIT";
    case TIME_CPUID: return "CPUID";
    case TIME_GUESS: return "a guess";
    }
    return "unknown";
}
