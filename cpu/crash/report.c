/* The parts of a crash report. */
#include "cpu/crash/report.h"

#include "cpu/cpu.h"
#include "cpu/crash/crash.h"
#include "cpu/crash/symbols.h"
#include "cpu/features.h"
#include "cpu/registers.h"
#include "cpu/trap/entry.h"
#include "cpu/trap/probe.h"
#include "cpu/trap/trap.h"
#include "lib/bytes.h"
#include "lib/print.h"

#define NAME_SIZE      96U
#define WORDS_SIZE     128U
#define FRAMES_MAX     32U   /* lines of a backtrace */
#define CALLS_MAX      2048U /* calls that it follows */
#define CODE_BEFORE    8U
#define CODE_BYTES     24U
#define CODE_TEXT_SIZE (CODE_BYTES * 4 + 8)

/* Without traps of our own only the stack in use can be read: this much of it. */
#define NEAR_STACK (UINT64_C(8) * 1024)

extern const char image_base[];
extern const char image_text_start[];
extern const char image_text_end[];

static bool near_stack(uint64_t address)
{
    uint64_t here = (uint64_t)(uintptr_t)__builtin_frame_address(0);

    return address >= here && address - here < NEAR_STACK;
}

static bool read_word(uint64_t address, uint64_t *value)
{
    if (traps_ready())
        return probe_read64(address, value, NULL);
    if (!near_stack(address))
        return false;
    *value = *(const uint64_t *)(uintptr_t)address;
    return true;
}

/* Decodes the error code. */
static size_t detail_words(const struct trap_frame *frame, char *buffer, size_t size)
{
    switch (frame->vector) {
    case TRAP_PF: return trap_page_fault_words(frame->error, buffer, size);
    case TRAP_DF: return print_to(buffer, size, "the CPU could not deliver a fault");
    case TRAP_NMI: return print_to(buffer, size, "sent to find out where this processor is");
    case TRAP_SS:
    case TRAP_GP:
        if (frame->error == 0)
            return print_to(buffer, size, "a non-canonical address or a privileged operation");
        return trap_selector_words(frame->error, buffer, size);
    case TRAP_TS:
    case TRAP_NP: return trap_selector_words(frame->error, buffer, size);
    default: return print_to(buffer, size, "error code 0x%lx", frame->error);
    }
}

size_t crash_words(const struct trap_frame *frame, const char *guard, char *buffer, size_t size)
{
    unsigned vector = (unsigned)frame->vector;
    char detail[WORDS_SIZE];

    detail_words(frame, detail, sizeof(detail));
    if (guard != NULL)
        return print_to(buffer, size, "stack overflow: %s (%s %s, CR2 0x%lx)", guard,
                        trap_mnemonic(vector), trap_name(vector), frame->cr2);
    if (vector == TRAP_PF)
        return print_to(buffer, size, "%s %s at 0x%lx: %s", trap_mnemonic(vector),
                        trap_name(vector), frame->cr2, detail);
    if (vector == TRAP_NMI || trap_has_error(vector))
        return print_to(buffer, size, "%s %s: %s", trap_mnemonic(vector), trap_name(vector),
                        detail);
    return print_to(buffer, size, "%s %s", trap_mnemonic(vector), trap_name(vector));
}

void crash_print_registers(const struct trap_frame *frame)
{
    print("# rax %016lx  rbx %016lx  rcx %016lx  rdx %016lx\n", frame->rax, frame->rbx, frame->rcx,
          frame->rdx);
    print("# rsi %016lx  rdi %016lx  rbp %016lx  rsp %016lx\n", frame->rsi, frame->rdi, frame->rbp,
          frame->rsp);
    print("# r8  %016lx  r9  %016lx  r10 %016lx  r11 %016lx\n", frame->r8, frame->r9, frame->r10,
          frame->r11);
    print("# r12 %016lx  r13 %016lx  r14 %016lx  r15 %016lx\n", frame->r12, frame->r13, frame->r14,
          frame->r15);
    print("# rip %016lx  rflags %08lx  cs %02lx  ss %02lx  vector %lu  error 0x%lx\n", frame->rip,
          frame->rflags, frame->cs, frame->ss, frame->vector, frame->error);
    print("# cr0 %08lx  cr2 %016lx  cr3 %016lx  cr4 %08lx  efer %04lx\n", cpu_read_cr0(),
          frame->cr2, cpu_read_cr3(), cpu_read_cr4(), cpu_read_efer());
    print("# image at %016lx\n", (uint64_t)(uintptr_t)image_base);
}

/* Architectural machine-check registers: SDM volume 3, 15.3. */
#define IA32_MCG_CAP      UINT32_C(0x179)
#define MCG_CAP_COUNT     UINT64_C(0xff)
#define IA32_MCG_STATUS   UINT32_C(0x17a)
#define IA32_MC0_STATUS   UINT32_C(0x401) /* of bank i: + 4 i; then its address and misc */
#define MC_BANK_REGISTERS 4U
#define MC_STATUS_VALID   (UINT64_C(1) << 63)
#define MC_STATUS_MISCV   (UINT64_C(1) << 59)
#define MC_STATUS_ADDRV   (UINT64_C(1) << 58)

void crash_print_machine_check(void)
{
    unsigned valid = 0;
    uint64_t banks;

    if (!cpu_features()->mca)
        return;
    banks = msr_read(IA32_MCG_CAP) & MCG_CAP_COUNT;
    print("# machine check: mcg_status %016lx, %lu banks\n", msr_read(IA32_MCG_STATUS), banks);
    for (uint32_t i = 0; i < banks; i++) {
        uint32_t at = IA32_MC0_STATUS + i * MC_BANK_REGISTERS;
        uint64_t status = msr_read(at);

        if ((status & MC_STATUS_VALID) == 0)
            continue;
        valid++;
        print("# bank %u: status %016lx", i, status);
        if ((status & MC_STATUS_ADDRV) != 0)
            print("  address %016lx", msr_read(at + 1));
        if ((status & MC_STATUS_MISCV) != 0)
            print("  misc %016lx", msr_read(at + 2));
        print("\n");
    }
    if (valid == 0)
        print("# no bank has a valid error\n");
}

void crash_print_where(uint64_t address)
{
    print("# for file and line: addr2line -e build/faultline.so 0x%lx (the address less 0x%lx), or "
          "ovmf/resolve.py LOG\n",
          address - (uint64_t)(uintptr_t)image_base, (uint64_t)(uintptr_t)image_base);
}

/* Prints the code around RIP. Bytes that cannot be read show as '??'; the one at RIP is in
 * brackets. */
void crash_print_code(uint64_t rip)
{
    char text[CODE_TEXT_SIZE];
    size_t length = 0;

    if (!traps_ready())
        return;
    for (unsigned i = 0; i < CODE_BYTES; i++) {
        bool at_rip = i == CODE_BEFORE;
        uint8_t byte;
        const char *close = at_rip ? ">" : "";
        const char *open = at_rip ? "<" : "";

        if (probe_read8(rip - CODE_BEFORE + i, &byte, NULL))
            length +=
                print_to(text + length, sizeof(text) - length, " %s%02x%s", open, byte, close);
        else
            length += print_to(text + length, sizeof(text) - length, " %s??%s", open, close);
    }
    print("# code%s\n", text);
}

static bool is_address_within(uint64_t address, const char *start, const char *end)
{
    return address >= (uint64_t)(uintptr_t)start && address < (uint64_t)(uintptr_t)end;
}

/* Finds the interrupted address behind a call of a trap's entry code. */
static bool interrupted_address(uint64_t address, uint64_t stack, uint64_t *interrupted)
{
    return is_address_within(address, trap_entry_start, trap_entry_end) &&
           read_word(stack + offsetof(struct trap_frame, rip), interrupted);
}

/* Prints the call that returns to an address. If a trap's entry code made the call, the trap's
 * frame is at that call's stack pointer, and the interrupted address is printed too. */
static void print_call(unsigned number, uint64_t address, uint64_t stack)
{
    char name[NAME_SIZE];

    symbols_print_return_to(name, sizeof(name), address);
    print("# %3u: %016lx %s\n", number, address, name);
    if (interrupted_address(address, stack, &address)) {
        symbols_print_to(name, sizeof(name), address);
        print("# trap: %016lx %s\n", address, name);
    }
}

static void print_repeats(unsigned *repeats)
{
    if (*repeats > 0)
        print("#      and %u more calls from there\n", *repeats);
    *repeats = 0;
}

/* Follows the frame pointers: each points to the caller's, with the return address above. Frames
 * lie upwards on a stack; only a trap may have changed to another one. Equal return addresses, of
 * a recursion, become one line with a count. */
static void print_chain(unsigned number, uint64_t rbp)
{
    uint64_t last = 0;
    unsigned repeats = 0;
    unsigned lines = number;

    for (; lines < FRAMES_MAX && number < CALLS_MAX && rbp % sizeof(uint64_t) == 0; number++) {
        uint64_t caller;
        uint64_t address;

        if (!read_word(rbp, &caller) || !read_word(rbp + 8, &address) || address == 0)
            break;
        if (address == last) {
            repeats++;
        } else {
            print_repeats(&repeats);
            print_call(number, address, rbp + 16);
            lines++;
        }
        last = address;
        if (caller <= rbp && !is_address_within(address, trap_entry_start, trap_entry_end))
            break;
        rbp = caller;
    }
    print_repeats(&repeats);
}

/* Prints the calls that led to a trap. A function without its own frame, or a wild jump, is not in
 * the chain of frames; its caller's address is then the word on top of the stack. That word may
 * also be stale. */
void crash_print_trap_calls(const struct trap_frame *frame)
{
    uint64_t top;
    char name[NAME_SIZE];

    symbols_print_to(name, sizeof(name), frame->rip);
    print("# backtrace:\n#   0: %016lx %s\n", frame->rip, name);
    if (read_word(frame->rsp, &top) && is_address_within(top, image_text_start, image_text_end)) {
        print("# on top of the stack:\n");
        print_call(1, top, frame->rsp + 8);
        print("# along the frame pointers:\n");
    }
    print_chain(1, frame->rbp);
}

void crash_print_backtrace(void)
{
    print("# backtrace:\n");
    print_chain(0, (uint64_t)(uintptr_t)__builtin_frame_address(0));
}

bool crash_calls_meet(const struct crash_calls *calls, const char *start, const char *end)
{
    uint64_t rbp = calls->rbp;
    uint64_t address;

    if (is_address_within(calls->rip, start, end))
        return true;
    if (calls->rsp != 0 && read_word(calls->rsp, &address) &&
        is_address_within(address, start, end))
        return true;
    for (unsigned i = 0; i < CALLS_MAX && rbp % sizeof(uint64_t) == 0; i++) {
        uint64_t interrupted;
        uint64_t caller;

        if (!read_word(rbp, &caller) || !read_word(rbp + 8, &address) || address == 0)
            break;
        if (is_address_within(address, start, end) ||
            (interrupted_address(address, rbp + 16, &interrupted) &&
             is_address_within(interrupted, start, end)))
            return true;
        if (caller <= rbp && !is_address_within(address, trap_entry_start, trap_entry_end))
            break;
        rbp = caller;
    }
    return false;
}
