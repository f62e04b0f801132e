/* Scratch tables for mmu-truth, and single accesses through them. */
#include "tests/experiments/mmu_truth/scratch.h"

#include "cpu/features.h"
#include "cpu/machine.h"
#include "cpu/registers.h"
#include "cpu/trap/trap.h"
#include "cpu/trap/user.h"
#include "lib/bytes.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "paging/pte.h"
#include "pmm/pmm.h"

/* Both at a multiple of 512 GiB, in entries of the top table that nothing else uses. */
#define SCRATCH UINT64_C(0x100000000000)
/* Addresses of ring 3's code: under another top entry than the scratch addresses, with four levels
 * and with five. */
#define USER_CODE_4 UINT64_C(0x200000000000)
#define USER_CODE_5 UINT64_C(0x4000000000000)

#define TABLES_MAX MMU_LEVELS_MAX

/* Words that allow everything. */
#define OPEN (PTE_P | PTE_RW | PTE_US | PTE_A)

/* Offsets of instructions: in the user code, one for each kind of data access; in the code's frame,
 * one that ring 0 calls, and one that ring 3 jumps to and that ends by #UD. */
#define USER_CODE_READ  0U
#define USER_CODE_WRITE 16U
#define CODE_KERNEL     0U
#define CODE_USER       16U

static const uint8_t read_instructions[] = {0x48, 0x8b, 0x07, 0x0f,
                                            0x0b}; /* mov (%rdi), %rax; ud2 */
static const uint8_t write_instructions[] = {0x48, 0x89, 0x37, 0x0f,
                                             0x0b}; /* mov %rsi, (%rdi); ud2 */
static const uint8_t return_instruction[] = {0xc3};
static const uint8_t undefined_instruction[] = {0x0f, 0x0b};

/* Length of the two moves above: where the #UD of a success is. */
#define MOVE_LENGTH 3U

static struct {
    unsigned levels;
    struct phys root;             /* with the kernel's half */
    struct phys root_without_nx;  /* with a copy of it */
    struct phys path[TABLES_MAX]; /* index level - 1; the top one stands for both roots */
    struct phys user_code_path[TABLES_MAX];
    struct phys user_code;
    struct phys targets[SCRATCH_TARGETS];
    /* as it was before scratch_enter */
    struct phys kernel_root;
    uint64_t cr0, cr4, efer;
    bool interrupts;
    bool (*page_fault)(uint64_t, uint64_t, struct trap_frame *);
    bool keys, supervisor_keys;
} scratch;

/* The access of ring 0 in progress: where execution continues after a fault, with which stack, and
 * the fault. */
static struct {
    uint64_t resume;
    uint64_t stack;
    struct scratch_outcome *outcome;
} attempt;

/* ---- building ---- */

static uint64_t *words_at(struct phys table)
{
    return phys_pointer(table);
}

static enum status mmu_truth_scratch_take(struct phys *frame)
{
    struct pfn taken;
    enum status status = pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &taken);

    if (status == OK)
        *frame = phys_of(taken);
    return status;
}

static void mmu_truth_scratch_give_back(struct phys *frame)
{
    if (frame->address != 0)
        pmm_free(pfn_of(*frame));
    frame->address = 0;
}

static bool mmu_truth_scratch_is_table(uint64_t word, unsigned level)
{
    return level > 1 && (word & PTE_P) != 0 && (word & PTE_PS) == 0;
}

static uint64_t user_code_base(void)
{
    return scratch.levels == 5 ? USER_CODE_5 : USER_CODE_4;
}

/* Copies a table and all below it, without no-execute. The recursive slot is left out: it would
 * lead back to the original. */
static enum status copy_without_nx(struct phys from, unsigned level, unsigned first,
                                   struct phys *copy)
{
    enum status status = OK;

    if (copy->address == 0)
        status = mmu_truth_scratch_take(copy);
    for (unsigned i = first; i < PTE_ENTRIES && status == OK; i++) {
        uint64_t word = words_at(from)[i] & ~PTE_NX;
        struct phys below = {0};

        if (level == scratch.levels && i == recursive_index(level))
            continue;
        if (mmu_truth_scratch_is_table(word, level)) {
            status = copy_without_nx((struct phys){word & PTE_FRAME_MASK}, level - 1, 0, &below);
            word = below.address == 0 ? 0 : (word & ~PTE_FRAME_MASK) | below.address;
        }
        words_at(*copy)[i] = word;
    }
    return status;
}

static void free_copy(struct phys *table, unsigned level, unsigned first)
{
    for (unsigned i = first; i < PTE_ENTRIES && table->address != 0; i++) {
        uint64_t word = words_at(*table)[i];
        struct phys below = {word & PTE_FRAME_MASK};

        if (mmu_truth_scratch_is_table(word, level))
            free_copy(&below, level - 1, 0);
    }
    mmu_truth_scratch_give_back(table);
}

/* Makes the tables from level 1 to the one below the top; every entry on the address's path allows
 * everything. */
static enum status mmu_truth_scratch_make_path(struct phys *path, uint64_t address,
                                               struct phys page)
{
    enum status status = OK;

    for (unsigned level = 1; level < scratch.levels && status == OK; level++) {
        status = mmu_truth_scratch_take(&path[level - 1]);
        if (status == OK)
            words_at(path[level - 1])[pte_index(address, level)] =
                (level == 1 ? page.address : path[level - 2].address) | OPEN;
    }
    return status;
}

static void link_root(struct phys root, uint64_t address, const struct phys *path)
{
    words_at(root)[pte_index(address, scratch.levels)] = path[scratch.levels - 2].address | OPEN;
}

static enum status make_roots(void)
{
    enum status status = mmu_truth_scratch_take(&scratch.root);

    if (status == OK)
        status = copy_without_nx(kernel_map_root(), scratch.levels, PTE_ENTRIES / 2,
                                 &scratch.root_without_nx);
    if (status != OK)
        return status;
    kernel_map_share_half(pfn_of(scratch.root));
    link_root(scratch.root, SCRATCH, scratch.path);
    link_root(scratch.root_without_nx, SCRATCH, scratch.path);
    link_root(scratch.root, user_code_base(), scratch.user_code_path);
    link_root(scratch.root_without_nx, user_code_base(), scratch.user_code_path);
    return OK;
}

static void put_code(struct phys frame, unsigned offset, const uint8_t *code, size_t size)
{
    memcpy((uint8_t *)phys_pointer(frame) + offset, code, size);
}

static void write_code(void)
{
    struct phys code = scratch.targets[SCRATCH_CODE];

    put_code(scratch.user_code, USER_CODE_READ, read_instructions, sizeof(read_instructions));
    put_code(scratch.user_code, USER_CODE_WRITE, write_instructions, sizeof(write_instructions));
    put_code(code, CODE_KERNEL, return_instruction, sizeof(return_instruction));
    put_code(code, CODE_USER, undefined_instruction, sizeof(undefined_instruction));
}

enum status scratch_start(void)
{
    enum status status;

    memset(&scratch, 0, sizeof(scratch));
    scratch.levels = kernel_map_levels();
    status = mmu_truth_scratch_take(&scratch.user_code);
    for (unsigned i = 0; i < SCRATCH_TARGETS && status == OK; i++)
        status = mmu_truth_scratch_take(&scratch.targets[i]);
    if (status == OK)
        status = mmu_truth_scratch_make_path(scratch.path, SCRATCH, (struct phys){0});
    if (status == OK)
        status = mmu_truth_scratch_make_path(scratch.user_code_path, user_code_base(),
                                             scratch.user_code);
    if (status == OK)
        status = make_roots();
    if (status != OK) {
        scratch_end();
        return status;
    }
    write_code();
    return OK;
}

void scratch_end(void)
{
    for (unsigned i = 0; i + 1 < TABLES_MAX; i++) {
        /* The top table serves as a root. */
        if (i + 1 < scratch.levels)
            mmu_truth_scratch_give_back(&scratch.path[i]);
        mmu_truth_scratch_give_back(&scratch.user_code_path[i]);
    }
    for (unsigned i = 0; i < SCRATCH_TARGETS; i++)
        mmu_truth_scratch_give_back(&scratch.targets[i]);
    mmu_truth_scratch_give_back(&scratch.user_code);
    mmu_truth_scratch_give_back(&scratch.root);
    /* The lower half refers to the paths, which are freed already: frees only the copy below. */
    free_copy(&scratch.root_without_nx, scratch.levels, PTE_ENTRIES / 2);
}

/* ---- places ---- */

uint64_t scratch_address(enum scratch_target target)
{
    return SCRATCH + scratch.targets[target].address % GIB;
}

struct phys scratch_frame(enum scratch_target target)
{
    return scratch.targets[target];
}

uint64_t scratch_base(enum scratch_target target, unsigned level, bool large)
{
    CHECK(level >= 1 && level <= scratch.levels);
    if (large || level == 1)
        return round_down(scratch.targets[target].address, pte_span(level));
    return scratch.path[level - 2].address;
}

volatile uint64_t *scratch_entry(enum scratch_target target, unsigned level)
{
    CHECK(level >= 1 && level <= scratch.levels);
    return words_at(scratch.path[level - 1]) + pte_index(scratch_address(target), level);
}

void scratch_open_path(enum scratch_target target)
{
    for (unsigned level = 1; level <= scratch.levels; level++)
        *scratch_entry(target, level) = scratch_base(target, level, false) | OPEN;
}

volatile uint64_t *scratch_data(void)
{
    return words_at(scratch.targets[SCRATCH_DATA]);
}

/* ---- modes ---- */

struct mmu_machine scratch_machine(void)
{
    return (struct mmu_machine){.levels = (uint8_t)scratch.levels,
                                .physical_bits = cpu_features()->physical_bits,
                                .pages_1g = cpu_features()->pages_1g};
}

/* Handles a fault: in ring 0 execution continues after the access; in ring 3 it ends user_run. */
static bool on_page_fault(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    if (trap_from_user(frame))
        return false;
    CHECK_MSG(attempt.outcome != NULL, "page fault %lx at %lx from %lx in mmu-truth", error,
              address, frame->rip);
    *attempt.outcome =
        (struct scratch_outcome){.vector = TRAP_PF, .error = error, .address = address};
    frame->rip = attempt.resume;
    frame->rsp = attempt.stack;
    return true;
}

static uint64_t with_bit(uint64_t word, uint64_t mask, bool on)
{
    return on ? word | mask : word & ~mask;
}

static uint64_t cr4_of(const struct mmu_machine *mode)
{
    uint64_t cr4 = with_bit(scratch.cr4, CR4_SMEP, mode->smep);

    cr4 = with_bit(cr4, CR4_SMAP, mode->smap);
    cr4 = with_bit(cr4, CR4_PKE, mode->pke);
    return with_bit(cr4, CR4_PKS, mode->pks);
}

/* Sets the protection keys, if their feature is on; otherwise the register stays 0. */
static void set_keys(uint32_t pkru, uint32_t pkrs)
{
    if (scratch.keys)
        pkru_write(pkru);
    if (scratch.supervisor_keys)
        msr_write(IA32_PKRS, pkrs);
}

void scratch_enter(const struct mmu_machine *mode)
{
    struct phys root = mode->nxe ? scratch.root : scratch.root_without_nx;

    scratch.interrupts = machine_interrupts_off();
    scratch.kernel_root = machine_root();
    scratch.cr0 = cr0_read();
    scratch.cr4 = cr4_read();
    scratch.efer = msr_read(IA32_EFER);
    scratch.page_fault = trap_page_fault;
    scratch.keys = mode->pke;
    scratch.supervisor_keys = mode->pks;
    scratch.path[scratch.levels - 1] = root;
    trap_page_fault = on_page_fault;
    machine_load_root(root);
    machine_flush_all();
    if (cpu_features()->nx)
        msr_write(IA32_EFER, with_bit(scratch.efer, EFER_NXE, mode->nxe));
    cr0_write(with_bit(scratch.cr0, CR0_WP, mode->wp));
    cr4_write(cr4_of(mode));
    set_keys(mode->pkru, mode->pkrs);
    machine_flush_all();
}

void scratch_leave(void)
{
    set_keys(0, 0);
    cr4_write(scratch.cr4);
    cr0_write(scratch.cr0);
    if (cpu_features()->nx)
        msr_write(IA32_EFER, scratch.efer);
    machine_load_root(scratch.kernel_root);
    machine_flush_all();
    trap_page_fault = scratch.page_fault;
    machine_interrupts_restore(scratch.interrupts);
}

/* ---- accesses ---- */

/* Sets EFLAGS.AC by POPF, which every processor has; STAC is not on all of them. */
static void set_ac(bool on)
{
    uint64_t flags;

    __asm__ volatile("pushfq\n\tpopq %0" : "=r"(flags));
    flags = with_bit(flags, RFLAGS_AC, on);
    __asm__ volatile("pushq %0\n\tpopfq" : : "r"(flags) : "memory", "cc");
}

/* Surrounds one instruction: sets where execution continues, and the stack, if it faults. */
#define ATTEMPT(instruction)                                                                       \
    "leaq 9f(%%rip), %%rax\n\t"                                                                    \
    "movq %%rax, %[resume]\n\t"                                                                    \
    "movq %%rsp, %[stack]\n\t" instruction "\n"                                                    \
    "9:"

#define ATTEMPT_OUTPUTS [resume] "=m"(attempt.resume), [stack] "=m"(attempt.stack)

static void kernel_read(uint64_t address, struct scratch_outcome *outcome)
{
    uint64_t value = 0;

    __asm__ volatile(ATTEMPT("movq (%[address]), %[value]")
                     : ATTEMPT_OUTPUTS, [value] "+r"(value)
                     : [address] "r"(address)
                     : "rax", "memory");
    outcome->value = value;
}

static void kernel_write(uint64_t address, uint64_t value)
{
    __asm__ volatile(ATTEMPT("movq %[value], (%[address])")
                     : ATTEMPT_OUTPUTS
                     : [address] "r"(address), [value] "r"(value)
                     : "rax", "memory");
}

/* Executes the scratch code, which is one RET. */
static void kernel_fetch(uint64_t address)
{
    __asm__ volatile(ATTEMPT("call *%[address]")
                     : ATTEMPT_OUTPUTS
                     : [address] "r"(address)
                     : "rax", "memory");
}

static struct scratch_outcome access_from_kernel(struct mmu_access access, uint64_t address,
                                                 uint64_t value)
{
    struct scratch_outcome outcome = {.allowed = true};

    attempt.outcome = &outcome;
    set_ac(access.ac);
    if (access.kind == MMU_READ)
        kernel_read(address, &outcome);
    else if (access.kind == MMU_WRITE)
        kernel_write(address, value);
    else
        kernel_fetch(address);
    set_ac(false);
    attempt.outcome = NULL;
    return outcome;
}

/* Makes an access from ring 3, which starts at the accessing instruction, or at the target for a
 * fetch. The access's fault ends it, or the #UD after it. */
static struct scratch_outcome access_from_user(struct mmu_access access, uint64_t address,
                                               uint64_t value)
{
    struct trap_frame frame = user_frame(user_code_base() + USER_CODE_READ, 0, address);
    uint64_t end = user_code_base() + USER_CODE_READ + MOVE_LENGTH;
    struct scratch_outcome outcome;

    frame.rsi = value;
    frame.rflags = RFLAGS_FIXED | (access.ac ? RFLAGS_AC : 0);
    if (access.kind == MMU_WRITE) {
        frame.rip = user_code_base() + USER_CODE_WRITE;
        end = frame.rip + MOVE_LENGTH;
    } else if (access.kind == MMU_FETCH) {
        frame.rip = end = address;
    }
    user_run(&frame);
    outcome = (struct scratch_outcome){.vector = (uint8_t)frame.vector, .error = frame.error};
    outcome.allowed = frame.vector == TRAP_UD && frame.rip == end;
    outcome.address = frame.vector == TRAP_PF ? frame.cr2 : 0;
    outcome.value = frame.rax;
    return outcome;
}

uint64_t scratch_accessed(struct mmu_access access)
{
    if (access.kind != MMU_FETCH)
        return scratch_address(SCRATCH_DATA);
    return scratch_address(SCRATCH_CODE) + (access.user ? CODE_USER : CODE_KERNEL);
}

struct scratch_outcome scratch_access(struct mmu_access access, uint64_t value)
{
    uint64_t address = scratch_accessed(access);

    machine_flush_page(address);
    return access.user ? access_from_user(access, address, value)
                       : access_from_kernel(access, address, value);
}
