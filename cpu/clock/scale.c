/* Ticks to nanoseconds by a multiplication; pure. */
#include "cpu/clock/time.h"

#include "lib/check.h"

#define NS_PER_SECOND UINT64_C(1000000000)

__extension__ typedef unsigned __int128 uint128;

struct time_scale time_scale_of(uint64_t hz)
{
    struct time_scale scale = {.shift = 32};
    uint64_t rest;

    CHECK(hz > 0);
    CHECK(hz < UINT64_C(1) << 62);
    scale.multiplier = (NS_PER_SECOND << 32) / hz;
    rest = (NS_PER_SECOND << 32) % hz;
    /* The quotient's further bits, one a round: a 128-bit division would need libgcc. */
    while (scale.multiplier < UINT64_C(1) << 62 && scale.shift < 96) {
        rest <<= 1;
        scale.multiplier <<= 1;
        scale.shift++;
        if (rest >= hz) {
            rest -= hz;
            scale.multiplier |= 1;
        }
    }
    return scale;
}

uint64_t time_scale_ns(struct time_scale scale, uint64_t ticks)
{
    return (uint64_t)((uint128)ticks * scale.multiplier >> scale.shift);
}
