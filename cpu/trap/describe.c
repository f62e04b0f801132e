/* Vectors and error codes in words; pure, so that the host tests can ask for every one. */
#include "cpu/trap/trap.h"

#include "lib/print.h"
#include "lib/units.h"

/* Error code of a vector that names a selector: SDM volume 3, 6.13. */
#define SELECTOR_EXT (UINT64_C(1) << 0)
#define SELECTOR_IDT (UINT64_C(1) << 1)
#define SELECTOR_TI  (UINT64_C(1) << 2)

struct vector_name {
    const char *mnemonic;
    const char *name;
    bool error;
};

/* SDM volume 3, table 6-1; 28 to 30 from the AMD APM volume 2, 8.2. */
static const struct vector_name vectors[TRAP_EXCEPTIONS] = {
    [0] = {"#DE", "divide error", false},
    [1] = {"#DB", "debug exception", false},
    [2] = {"NMI", "non-maskable interrupt", false},
    [3] = {"#BP", "breakpoint", false},
    [4] = {"#OF", "overflow", false},
    [5] = {"#BR", "bound range exceeded", false},
    [6] = {"#UD", "invalid opcode", false},
    [7] = {"#NM", "x87 or vector unit not available", false},
    [8] = {"#DF", "double fault", true},
    [10] = {"#TS", "invalid TSS", true},
    [11] = {"#NP", "segment not present", true},
    [12] = {"#SS", "stack fault", true},
    [13] = {"#GP", "general protection", true},
    [14] = {"#PF", "page fault", true},
    [16] = {"#MF", "x87 error", false},
    [17] = {"#AC", "alignment check", true},
    [18] = {"#MC", "machine check", false},
    [19] = {"#XM", "vector unit error", false},
    [20] = {"#VE", "virtualization exception", false},
    [21] = {"#CP", "control protection", true},
    [28] = {"#HV", "hypervisor injection", false},
    [29] = {"#VC", "VMM communication", true},
    [30] = {"#SX", "security exception", true},
};

const char *trap_mnemonic(unsigned vector)
{
    if (vector >= TRAP_EXCEPTIONS)
        return "interrupt";
    return vectors[vector].mnemonic != NULL ? vectors[vector].mnemonic : "reserved";
}

const char *trap_name(unsigned vector)
{
    if (vector >= TRAP_EXCEPTIONS)
        return "interrupt";
    return vectors[vector].name != NULL ? vectors[vector].name : "a vector without a meaning";
}

bool trap_has_error(unsigned vector)
{
    return vector < TRAP_EXCEPTIONS && vectors[vector].error;
}

bool trap_page_fault_valid(uint64_t error)
{
    if ((error & ~PF_KNOWN) != 0)
        return false;
    /* A fetch is no write, and no protection key watches it. A key or an enclave's rule is asked
     * only once the entry has proved to be present. */
    if ((error & PF_ID) != 0 && (error & (PF_WR | PF_PK)) != 0)
        return false;
    return (error & (PF_PK | PF_SGX)) == 0 || (error & PF_P) != 0;
}

static const char *access_word(uint64_t error)
{
    if ((error & PF_ID) != 0)
        return "instruction fetch";
    if ((error & PF_SS) != 0)
        return (error & PF_WR) != 0 ? "shadow-stack write" : "shadow-stack read";
    return (error & PF_WR) != 0 ? "write" : "read";
}

/* Returns the reason in words. Tests the reserved bit before P, since TCG reports that fault as not
 * present. */
static const char *reason_words(uint64_t error)
{
    if ((error & PF_RSVD) != 0)
        return "a reserved bit is set in an entry";
    if ((error & PF_P) == 0)
        return "not present";
    if ((error & PF_SGX) != 0)
        return "refused by an enclave's rules";
    if ((error & PF_PK) != 0)
        return "refused by a protection key";
    if ((error & PF_HLAT) != 0)
        return "refused by the hypervisor-managed walk";
    if ((error & PF_ID) != 0)
        return (error & PF_US) != 0 ? "the page is not executable, or not the user's"
                                    : "the page is not executable, or the user's";
    if ((error & PF_US) != 0)
        return (error & PF_WR) != 0 ? "the page is read-only, or not the user's"
                                    : "the page is not the user's";
    return (error & PF_WR) != 0 ? "the page is read-only, or the user's" : "the page is the user's";
}

size_t trap_page_fault_words(uint64_t error, char *buffer, size_t size)
{
    const char *who = (error & PF_US) != 0 ? "a program" : "the kernel";

    if ((error & ~PF_KNOWN) != 0)
        return print_to(buffer, size, "%s by %s: unknown bits 0x%lx in the error code 0x%lx",
                        access_word(error), who, error & ~PF_KNOWN, error);
    if (!trap_page_fault_valid(error))
        return print_to(buffer, size, "an impossible error code 0x%lx", error);
    return print_to(buffer, size, "%s by %s: %s", access_word(error), who, reason_words(error));
}

size_t trap_selector_words(uint64_t error, char *buffer, size_t size)
{
    const char *when = (error & SELECTOR_EXT) != 0 ? ", while an event was delivered" : "";
    uint64_t index = error >> 3;

    if ((error & ~UINT64_C(0xffff)) != 0)
        return print_to(buffer, size, "unknown bits in the error code 0x%lx", error);
    if ((error & SELECTOR_IDT) != 0)
        return print_to(buffer, size, "vector %lu of the IDT%s", index, when);
    if (index == 0 && (error & SELECTOR_TI) == 0)
        return print_to(buffer, size, "no selector%s", when);
    return print_to(buffer, size, "selector 0x%lx of the %s%s", error & ~UINT64_C(7),
                    (error & SELECTOR_TI) != 0 ? "LDT" : "GDT", when);
}
