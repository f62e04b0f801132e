/* wild: is every access that must not succeed caught, decoded and survived? */
#include "cpu/cpu.h"
#include "cpu/features.h"
#include "cpu/registers.h"
#include "cpu/trap/probe.h"
#include "cpu/trap/trap.h"
#include "paging/kernel/layout.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/fault/fault.h"

#define READ_ONLY   UINT64_C(0x10000000)
#define READ_WRITE  UINT64_C(0x20000000)
#define GUARD       UINT64_C(0x30000000)
#define KERNEL_DATA UINT64_C(0x40000000) /* in the lower half, but not for ring 3 */
#define KERNEL_CODE UINT64_C(0x50000000)
#define UNMAPPED    UINT64_C(0x60000000)

#define NON_CANONICAL UINT64_C(0x0200000000000000)

#define RET_INSTRUCTION UINT64_C(0xc3)

/* Bad accesses, and those that ended in the right trap with the right address and error code. */
static struct {
    unsigned tried;
    unsigned caught;
} probes;

/* Returns whether the probe ended in this trap. */
static bool caught(bool succeeded, const struct trap_info *info, unsigned vector, uint64_t error,
                   uint64_t address)
{
    probes.tried++;
    if (!succeeded && info->vector == vector &&
        (vector != TRAP_PF || (info->error == error && info->address == address))) {
        probes.caught++;
        return true;
    }
    ktap_note("succeeded %u, vector %u, error %lx, address %lx; expected vector %u, error %lx",
              succeeded, info->vector, info->error, info->address, vector, error);
    return false;
}

static bool reason_is(enum status wanted)
{
    enum status reason = fault_last_reason();

    if (reason != wanted)
        ktap_note("the reason was '%s' instead of '%s'", status_name(reason), status_name(wanted));
    return reason == wanted;
}

static void try_unmapped(void)
{
    struct trap_info info = {0};
    uint64_t value;
    bool ok = probe_user_read64(UNMAPPED, &value, &info);

    ktap_check(caught(ok, &info, TRAP_PF, 0, UNMAPPED) && reason_is(STATUS_NOT_FOUND),
               "read of unmapped memory");
    ok = probe_user_write64(UNMAPPED + 8, 1, &info);
    ktap_check(caught(ok, &info, TRAP_PF, PF_WR, UNMAPPED + 8) && reason_is(STATUS_NOT_FOUND),
               "write to unmapped memory");
    ok = probe_read64(0, &value, &info);
    ktap_check(caught(ok, &info, TRAP_PF, 0, 0), "read through a null pointer");
    ok = probe_user_read64(GUARD, &value, &info);
    ktap_check(caught(ok, &info, TRAP_PF, 0, GUARD) && reason_is(STATUS_NOT_FOUND),
               "read of a guard");
    ok = probe_read64(STACK_WINDOW_BASE, &value, &info);
    ktap_check(caught(ok, &info, TRAP_PF, 0, STACK_WINDOW_BASE), "read of the page under a stack");
    ok = probe_user_read64(NON_CANONICAL, &value, &info);
    ktap_check(caught(ok, &info, TRAP_GP, 0, 0), "read of a non-canonical address");
}

static void try_read_only(void)
{
    struct trap_info info = {0};
    uint64_t value = 1;
    bool ok = probe_user_write64(READ_ONLY, 1, &info);

    ktap_check(caught(ok, &info, TRAP_PF, PF_WR, READ_ONLY) && reason_is(STATUS_DENIED),
               "write to read-only memory that was never touched");
    ok = probe_user_read64(READ_ONLY, &value, &info);
    ktap_check(ok && value == 0, "the same memory can be read");
    ok = probe_user_write64(READ_ONLY, 1, &info);
    ktap_check(caught(ok, &info, TRAP_PF, PF_P | PF_WR, READ_ONLY) && reason_is(STATUS_DENIED),
               "write to a read-only page that is there");
    ok = probe_write64((uint64_t)(uintptr_t)try_unmapped, 0, &info);
    ktap_check(caught(ok, &info, TRAP_PF, PF_P | PF_WR, (uint64_t)(uintptr_t)try_unmapped),
               "write to the kernel's text");
    ok = probe_write64(DIRECT_MAP_BASE + phys_of(tree_zero_page()).address, 1, &info);
    ktap_check(caught(ok, &info, TRAP_PF, PF_P | PF_WR,
                      DIRECT_MAP_BASE + phys_of(tree_zero_page()).address),
               "write to the zero page through the direct map");
}

static void try_execute(void)
{
    static const char *const what[] = {"execute a ticket without the right",
                                       "execute a page without the right",
                                       "execute the direct map"};
    struct trap_info info = {0};
    uint64_t direct = DIRECT_MAP_BASE + phys_of(tree_zero_page()).address;
    bool ok;

    ok = probe_write8(KERNEL_CODE, RET_INSTRUCTION, &info) && probe_fetch(KERNEL_CODE, &info);
    ktap_check(ok, "code in a page with the right runs");
    if (!cpu_features()->nx) {
        for (unsigned i = 0; i < ARRAY_COUNT(what); i++)
            ktap_skip("the processor has no NX", "%s", what[i]);
        return;
    }
    ok = probe_fetch(KERNEL_DATA, &info);
    ktap_check(caught(ok, &info, TRAP_PF, PF_ID, KERNEL_DATA) && reason_is(STATUS_DENIED), "%s",
               what[0]);
    ok = probe_write8(KERNEL_DATA, RET_INSTRUCTION, &info) && probe_fetch(KERNEL_DATA, &info);
    ktap_check(caught(ok, &info, TRAP_PF, PF_P | PF_ID, KERNEL_DATA) && reason_is(STATUS_DENIED),
               "%s", what[1]);
    ok = probe_fetch(direct, &info);
    ktap_check(caught(ok, &info, TRAP_PF, PF_P | PF_ID, direct), "%s", what[2]);
}

static void try_user_pages(void)
{
    struct trap_info info = {0};
    uint64_t value;
    bool ok;

    if (!cpu_smap_on()) {
        ktap_skip("the processor has no SMAP", "kernel read of a user page without AC");
        ktap_skip("the processor has no SMAP", "kernel read of a user ticket without AC");
    } else {
        ok = word_write(READ_WRITE, 1) && probe_read64(READ_WRITE, &value, &info);
        ktap_check(caught(ok, &info, TRAP_PF, PF_P, READ_WRITE) && reason_is(STATUS_DENIED),
                   "kernel read of a user page without AC");
        ok = probe_read64(READ_WRITE + PAGE_SIZE, &value, &info);
        ktap_check(caught(ok, &info, TRAP_PF, 0, READ_WRITE + PAGE_SIZE) &&
                       reason_is(STATUS_DENIED),
                   "kernel read of a user ticket without AC");
    }
    if ((cpu_read_cr4() & CR4_SMEP) == 0) {
        ktap_skip("the processor has no SMEP", "kernel fetch from a user page");
        return;
    }
    ok = probe_fetch(READ_WRITE, &info);
    ktap_check(caught(ok, &info, TRAP_PF, (info.error & PF_P) | PF_ID, READ_WRITE) &&
                   reason_is(STATUS_DENIED),
               "kernel fetch from a user page");
}

static bool wild_map_all(struct space *space)
{
    struct rights kernel_data = {.write = true};
    struct rights kernel_code = {.write = true, .execute = true};

    return SUCCEEDS(space_map(space, &SPACE_AT(READ_ONLY, MIB, RIGHTS_READ), NULL)) &&
           SUCCEEDS(space_map(space, &SPACE_AT(READ_WRITE, MIB, RIGHTS_READ_WRITE), NULL)) &&
           SUCCEEDS(space_map(space, &SPACE_AT(KERNEL_DATA, MIB, kernel_data), NULL)) &&
           SUCCEEDS(space_map(space, &SPACE_AT(KERNEL_CODE, MIB, kernel_code), NULL)) &&
           SUCCEEDS(space_map(
               space, &(struct space_request){.at = GUARD, .size = PAGE_SIZE, .flags = SPACE_GUARD},
               NULL));
}

static void wild_run(const struct options *options)
{
    struct space *space;
    uint64_t violations;

    (void)options;
    probes.tried = probes.caught = 0;
    if (!start_space(&space))
        return;
    if (wild_map_all(space)) {
        try_unmapped();
        try_read_only();
        try_execute();
        try_user_pages();
        ktap_check(page_fill(READ_WRITE, 7) && page_holds(READ_WRITE, 7),
                   "after all that, memory works");
    }
    violations = space_faults(space).violations;
    ktap_metric("violations", violations, "faults");
    ktap_metric("tried", probes.tried, "accesses");
    ktap_metric("caught", probes.caught, "accesses");
    space_audit();
    end_space(space);
}

EXPERIMENT(wild, 070) = {
    .theme = THEME_PAGES,
    .name = "wild",
    .question = "Is every access that must not succeed caught, decoded and survived?",
    .checks = 19,
    .run = wild_run,
    .answer =
        {
            .text = "Yes: {caught} of {tried} bad accesses are caught; each had its reason",
        },
};
