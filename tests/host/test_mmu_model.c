/*
 * The model of the MMU: exhaustively against a second, smaller oracle, and rule by rule against
 * cases that were read from the manual by hand.
 *
 * The oracle knows one access at a time and asks the manual's questions in another order: which
 * entries end the walk, then who may do this to whom. The two share no code and no names of bits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/units.h"
#include "tests/host/fake/machine.h"
#include "tests/model/mmu.h"

#define P  UINT64_C(0x1)
#define W  UINT64_C(0x2)
#define U  UINT64_C(0x4)
#define A  UINT64_C(0x20)
#define D  UINT64_C(0x40)
#define PS UINT64_C(0x80)
#define NX UINT64_C(0x8000000000000000)

/* Above 40 bits of physical address. */
#define HIGH UINT64_C(0x0008000000000000)

#define KEY3        UINT64_C(0x1800000000000000)
#define KEY3_ACCESS (UINT32_C(1) << 6)
#define KEY3_WRITE  (UINT32_C(2) << 6)

/* Entries that allow everything, A set: index level - 1. */
#define OPEN_WALK                                                                                  \
    {                                                                                              \
        0x5000 | P | W | U | A, 0x4000 | P | W | U | A, 0x3000 | P | W | U | A,                    \
            0x2000 | P | W | U | A                                                                 \
    }

static struct mmu_machine machine(void)
{
    return (struct mmu_machine){.levels = 4,
                                .physical_bits = 40,
                                .pages_1g = true,
                                .wp = true,
                                .smep = true,
                                .smap = true,
                                .nxe = true};
}

/* ---- the oracle ---- */

static int is_bad(const struct mmu_machine *m, unsigned level, uint64_t e)
{
    if (e >> m->physical_bits & ((UINT64_C(1) << (52 - m->physical_bits)) - 1))
        return 1;
    if ((e & NX) != 0 && !m->nxe)
        return 1;
    if ((e & PS) == 0 || level == 1)
        return 0;
    if (level == 4 || level == 5 || (level == 3 && !m->pages_1g))
        return 1;
    return (e & (level == 2 ? 0x1fe000ul : 0x3fffe000ul)) != 0;
}

/* The error code, or -1 for an access that is allowed; PK left open where open is set. */
static long oracle(const struct mmu_machine *m, const uint64_t *e, struct mmu_access a, int *open)
{
    long code =
        (a.kind == MMU_WRITE) * 2 + a.user * 4 + (a.kind == MMU_FETCH && (m->nxe || m->smep)) * 16;
    uint64_t all = ~UINT64_C(0);
    uint64_t any = 0;
    unsigned level = m->levels;
    uint32_t two;
    int refused = 0;
    int key = 0;

    *open = 0;
    for (;; level--) {
        uint64_t entry = e[level - 1];

        if ((entry & P) == 0)
            return code;
        if (is_bad(m, level, entry))
            return code | 9;
        all &= entry;
        any |= entry;
        if (level == 1 || (entry & PS) != 0)
            break;
    }
    if (a.user && (all & U) == 0)
        refused = 1;
    if (a.kind == MMU_WRITE && (all & W) == 0 && (a.user || m->wp))
        refused = 1;
    if (a.kind == MMU_FETCH && (any & NX) != 0 && m->nxe)
        refused = 1;
    if (!a.user && (all & U) != 0 && a.kind == MMU_FETCH && m->smep)
        refused = 1;
    if (!a.user && (all & U) != 0 && a.kind != MMU_FETCH && m->smap && !a.ac)
        refused = 1;
    two = ((all & U) != 0 ? (m->pke ? m->pkru : 0) : (m->pks ? m->pkrs : 0)) >>
          (2 * (e[level - 1] >> 59 & 15));
    if (a.kind != MMU_FETCH && (two & 1) != 0)
        key = 1;
    if (a.kind == MMU_WRITE && (two & 2) != 0 && (m->wp || a.user))
        key = 1;
    *open = a.user && (all & U) == 0;
    return refused || key ? code | 1 | (key ? 32 : 0) : -1;
}

static void compare(const struct mmu_machine *m, const uint64_t *entries, struct mmu_access access)
{
    struct mmu_result result = mmu_model(m, entries, access);
    int open;
    long expected = oracle(m, entries, access, &open);

    assert_int_equal(result.allowed, expected == -1);
    if (expected != -1)
        assert_int_equal(result.error | (open ? 32u : 0), expected | (open ? 32 : 0));
    if (!open)
        assert_int_equal(result.error_may, 0);
    assert_int_equal(result.rule == MMU_RULE_ALLOWED, result.allowed);
    if (expected != -1) {
        assert_int_equal(result.rule == MMU_RULE_P, (expected & 1) == 0);
        assert_int_equal(result.rule == MMU_RULE_RESERVED, (expected & 8) != 0);
        if (result.rule == MMU_RULE_KEYS)
            assert_int_equal(expected & 32, 32);
    }
    for (unsigned i = 0; i < MMU_LEVELS_MAX; i++) {
        bool used = i < m->levels && i + 1 >= result.level &&
                    (i + 1 > result.level ||
                     (result.rule != MMU_RULE_P && result.rule != MMU_RULE_RESERVED));
        bool dirty = result.allowed && access.kind == MMU_WRITE && i == result.level - 1;

        assert_int_equal(result.must[i], (used && result.allowed ? A : 0) | (dirty ? D : 0));
        assert_int_equal(result.may[i], used && !result.allowed ? A : 0);
    }
}

static void each_access(const struct mmu_machine *m, const uint64_t *entries)
{
    for (unsigned n = 0; n < 12; n++)
        compare(m, entries,
                (struct mmu_access){(enum mmu_kind)(n % 3), (n / 3 & 1) != 0, (n / 6 & 1) != 0});
}

static struct mmu_machine machine_of(unsigned bits)
{
    struct mmu_machine m = machine();

    m.wp = bits & 1;
    m.smep = bits >> 1 & 1;
    m.smap = bits >> 2 & 1;
    m.nxe = bits >> 3 & 1;
    m.pages_1g = bits >> 4 & 1;
    m.pke = bits >> 5 & 1;
    m.pks = bits >> 6 & 1;
    m.pkru = (bits >> 7 & 3) << 6;
    m.pkrs = (bits >> 7 & 3) << 6;
    return m;
}

static const uint64_t varied[] = {P, W, U, A, D, NX, HIGH, KEY3, PS, 0x2000};

static uint64_t entry_of(unsigned bits, uint64_t frame)
{
    uint64_t entry = frame;

    for (unsigned i = 0; i < ARRAY_COUNT(varied); i++)
        entry |= (bits >> i & 1) != 0 ? varied[i] : 0;
    return entry;
}

/* Every machine, every leaf, and every upper entry at each level, the other one open. */
static void everything_against_the_oracle(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 512; bits++) {
        struct mmu_machine m = machine_of(bits);

        for (unsigned entry = 0; entry < 1024; entry++) {
            for (unsigned level = 1; level <= 4; level++) {
                uint64_t walk[] = OPEN_WALK;

                walk[level - 1] = entry_of(entry, 0x40000000);
                each_access(&m, walk);
            }
        }
    }
}

/* Two entries at once, over the machines in steps. */
static void pairs_against_the_oracle(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 512; bits += 37) {
        struct mmu_machine m = machine_of(bits);

        for (unsigned pair = 0; pair < 1 << 18; pair += 5) {
            uint64_t walk[] = OPEN_WALK;

            walk[0] = entry_of(pair & 511, 0x40000000);
            walk[1 + pair % 3] = entry_of(pair >> 9, 0x40000000);
            each_access(&m, walk);
        }
    }
}

/* ---- by hand ---- */

static void expect_fault(const struct mmu_machine *m, const uint64_t *walk, enum mmu_kind kind,
                         bool user, uint64_t error)
{
    struct mmu_result result = mmu_model(m, walk, (struct mmu_access){kind, user, false});

    assert_false(result.allowed);
    assert_int_equal(result.error, error);
}

static void expect_allowed(const struct mmu_machine *m, const uint64_t *walk, enum mmu_kind kind,
                           bool user)
{
    assert_true(mmu_model(m, walk, (struct mmu_access){kind, user, false}).allowed);
}

static void rules_by_hand(void **state)
{
    struct mmu_machine m = machine();
    uint64_t walk[] = OPEN_WALK;

    (void)state;
    expect_allowed(&m, walk, MMU_READ, true);
    expect_allowed(&m, walk, MMU_FETCH, true);
    expect_fault(&m, walk, MMU_READ, false, 0x01);  /* SMAP */
    expect_fault(&m, walk, MMU_FETCH, false, 0x11); /* SMEP */
    m.smap = m.smep = false;
    expect_allowed(&m, walk, MMU_READ, false);
    expect_allowed(&m, walk, MMU_FETCH, false);
    walk[2] &= ~W;
    expect_fault(&m, walk, MMU_WRITE, true, 0x07);
    expect_fault(&m, walk, MMU_WRITE, false, 0x03);
    m.wp = false;
    expect_allowed(&m, walk, MMU_WRITE, false);
    expect_fault(&m, walk, MMU_WRITE, true, 0x07);
    walk[1] |= NX;
    expect_fault(&m, walk, MMU_FETCH, false, 0x11);
    m.nxe = false;
    expect_fault(&m, walk, MMU_FETCH, false, 0x09); /* reserved; I/D is not used */
    walk[3] = 0;
    expect_fault(&m, walk, MMU_WRITE, true, 0x06);
}

static void keys_by_hand(void **state)
{
    struct mmu_machine m = machine();
    uint64_t walk[] = OPEN_WALK;

    (void)state;
    walk[0] |= KEY3;
    m.smap = false;
    m.pkru = KEY3_ACCESS;
    expect_allowed(&m, walk, MMU_READ, true); /* CR4.PKE is off */
    m.pke = true;
    expect_fault(&m, walk, MMU_READ, true, 0x25);
    expect_fault(&m, walk, MMU_READ, false, 0x21);
    expect_allowed(&m, walk, MMU_FETCH, true);
    m.pkru = KEY3_WRITE;
    expect_allowed(&m, walk, MMU_READ, true);
    expect_fault(&m, walk, MMU_WRITE, true, 0x27);
    m.wp = false;
    expect_allowed(&m, walk, MMU_WRITE, false);
    walk[0] &= ~U;
    m.pks = true;
    m.pkrs = KEY3_ACCESS;
    expect_fault(&m, walk, MMU_WRITE, false, 0x23);
}

static void accessed_and_dirty(void **state)
{
    struct mmu_machine m = machine();
    uint64_t walk[] = OPEN_WALK;
    struct mmu_result result = mmu_model(&m, walk, (struct mmu_access){MMU_WRITE, true, false});

    (void)state;
    assert_int_equal(result.must[0], A | D);
    assert_int_equal(result.must[1], A);
    assert_int_equal(result.must[3], A);
    assert_int_equal(result.must[4], 0);
    assert_int_equal(result.physical_base, 0x5000);
    walk[1] = 0x40200000 | P | W | U | PS;
    result = mmu_model(&m, walk, (struct mmu_access){MMU_WRITE, true, false});
    assert_int_equal(result.level, 2);
    assert_int_equal(result.must[1], A | D);
    assert_int_equal(result.must[0], 0);
    assert_int_equal(result.physical_base, 0x40200000);
    walk[1] &= ~W; /* refused: the processor may mark each entry that it used */
    result = mmu_model(&m, walk, (struct mmu_access){MMU_WRITE, true, false});
    assert_int_equal(result.must[2], 0);
    assert_int_equal(result.may[2], A);
    assert_int_equal(result.may[1], A);
    assert_int_equal(result.may[0], 0);
}

static void five_levels(void **state)
{
    struct mmu_machine m = machine();
    uint64_t walk[5] = OPEN_WALK;

    (void)state;
    m.levels = 5;
    walk[4] = 0x6000 | P | W | U;
    assert_int_equal(mmu_model(&m, walk, (struct mmu_access){MMU_READ, true, false}).must[4], A);
    walk[4] |= PS;
    expect_fault(&m, walk, MMU_READ, true, 0x0d);
    walk[4] = 0;
    expect_fault(&m, walk, MMU_READ, true, 0x04);
    m.levels = 3;
    assert_true(PANICS((void)mmu_model(&m, walk, (struct mmu_access){MMU_READ, true, false})));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_by_hand),
        cmocka_unit_test(keys_by_hand),
        cmocka_unit_test(accessed_and_dirty),
        cmocka_unit_test(five_levels),
        cmocka_unit_test(everything_against_the_oracle),
        cmocka_unit_test(pairs_against_the_oracle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
