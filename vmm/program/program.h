/*
 * Programs: ring 3 in an address space, its system calls, and the upcall of a violation.
 *
 * A program runs until it exits, or until a violation or trap that nothing handles. It never sees
 * page faults that are no violations. A violation goes to the program's own handler if it has named
 * one: the kernel puts struct upcall_frame on the program's stack and goes on at the handler with
 * its address in RDI; the handler changes it as it likes and returns by PROGRAM_UPCALL_RETURN.
 *
 *     running --exit--> ended          running --violation, no handler or no stack--> ended
 *     running --violation--> in the handler --PROGRAM_UPCALL_RETURN--> running
 *
 * The low-memory notice (vmm/program/notice.h) is an upcall too: a change of the level interrupts
 * the program in ring 3, or reaches it at the end of its next slow page fault or sleep. A program
 * is told one change at a time: the next one waits until the handler has returned.
 *
 * System calls: number in RAX, arguments in RDI, RSI, RDX; the result, an enum status or 0, in
 * RAX. RCX and R11 are lost, as SYSCALL does.
 *
 * Units: bytes. Owns: nothing; the caller has the space and the struct.
 * Fails with: what enum program_end says. Context: thread; one program at a time on a processor.
 * Spec: Intel SDM volume 2, SYSCALL and SYSRET; System V AMD64 ABI, 3.2.2 (red zone).
 * Rules: A5 (user memory only between STAC and CLAC).
 */
#ifndef VMM_PROGRAM_PROGRAM_H
#define VMM_PROGRAM_PROGRAM_H

#include "cpu/trap/user.h"
#include "vmm/program/notice.h"
#include "vmm/space/space.h"

enum program_call {
    PROGRAM_NULL,          /* nothing; result 0 */
    PROGRAM_EXIT,          /* RDI: exit code; does not return */
    PROGRAM_UPCALL_RETURN, /* RDI: the struct upcall_frame to go on from */
    PROGRAM_SET_HANDLER,   /* RDI: the handler's address, 0: none */
    PROGRAM_MAP,           /* RDI: address, RSI: size, RDX: 1 = writable, 2 = executable */
    PROGRAM_UNMAP,         /* RDI: address, RSI: size */
    PROGRAM_PROTECT,       /* RDI: address, RSI: size, RDX: as PROGRAM_MAP, or 4 = no access */
    PROGRAM_ADVISE,        /* RDI: address, RSI: size, RDX: enum space_advice */
    PROGRAM_SLEEP,         /* RDI: microseconds, at most PROGRAM_SLEEP_MOST; others may run */
    PROGRAM_PRESSURE,      /* nothing; result enum pmm_pressure: how short memory is */
    PROGRAM_SET_NOTICE,    /* RDI: the handler of low-memory notices, 0: none */
    PROGRAM_TRIM,          /* nothing; result: pages that were freed below its space's stacks */
    PROGRAM_LEND,          /* RDI: address of a struct program_lend */
    PROGRAM_GIVE,          /* the same */
    /* RDI: address, RSI: size, RDX: as PROGRAM_PROTECT, what all keep to whom it was lent;
     * PROGRAM_REVOKE_OWN: the program, too. Result: PROGRAM_ACCESSED, PROGRAM_WRITTEN, or-ed. */
    PROGRAM_REVOKE,
    PROGRAM_CALLS
};

#define PROGRAM_MAP_WRITE   1U
#define PROGRAM_MAP_EXECUTE 2U
#define PROGRAM_MAP_NONE    4U

#define PROGRAM_REVOKE_OWN 8U

#define PROGRAM_ACCESSED 1
#define PROGRAM_WRITTEN  2

/* What a program lends or gives (vmm/flex/flex.h), to one of its peers. */
struct program_lend {
    uint64_t start;
    uint64_t size;
    uint64_t peer;   /* number */
    uint64_t at;     /* in the peer's space */
    uint64_t rights; /* as of PROGRAM_MAP */
};

/* A space that a program may lend to, at free places of [start, end). */
struct program_peer {
    struct space *space;
    uint64_t start;
    uint64_t end;
};

#define PROGRAM_SLEEP_MOST 1000000U

/* The frame of a violation's handler: the registers that C may change, and the cause. It is the
 * upper part of the kernel's own frame, and is copied as a whole. The kernel ignores changes of cs,
 * ss, address and error. */
struct upcall_frame {
    uint64_t r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint64_t address; /* CR2; of a notice: enum pmm_pressure */
    uint64_t error;   /* page-fault error code; of a notice: 0 */
    uint64_t rip, cs, rflags, rsp, ss;
};

_Static_assert(sizeof(struct upcall_frame) ==
                   sizeof(struct trap_frame) - offsetof(struct trap_frame, r11),
               "the upper part of a trap's frame");
_Static_assert(offsetof(struct upcall_frame, address) == 72 &&
                   offsetof(struct upcall_frame, rip) == 88,
               "tests/runner/user_code.S knows it");

enum program_end {
    PROGRAM_EXITED,    /* by its own system call */
    PROGRAM_VIOLATION, /* a page fault that nothing resolves, and no handler took */
    PROGRAM_TRAPPED    /* another exception */
};

struct program {
    struct space *space;
    struct trap_frame frame; /* its registers, while it does not run */
    uint64_t handler;        /* of violations; 0: none */
    uint64_t notice_handler; /* of low-memory notices; 0: none */
    uint64_t notice_frame;   /* address of the frame of the notice that it handles; 0: none */
    uint64_t upcall_frame;   /* address of the frame of the violation that it handles; 0: none */
    struct program *next;    /* in the list of programs whose stack counts */
    const struct program_peer *peers; /* by number; the caller keeps them and their spaces */
    unsigned peer_count;
    unsigned users; /* why it is in the list: it runs, program_keep_stack */
    bool runs;
    struct notice_member notice;
    uint64_t exit_code; /* PROGRAM_EXITED: RDI of its system call */
    enum status reason; /* PROGRAM_VIOLATION: why it, or the stack of its handler, was refused */
    uint64_t upcalls;   /* of violations */
    uint64_t notices;   /* upcalls of low-memory notices */
};

/* Returns a program that starts at rip, with `argument` in RDI. */
struct program program_new(struct space *space, uint64_t rip, uint64_t rsp, uint64_t argument);

/* Runs it to its end, in its space; the space that ran before runs again afterwards. */
enum program_end program_run(struct program *program);

/* The stack of a program counts while it runs, and from program_keep_stack to program_forget_stack,
 * each call for itself: what lies above its pointer is kept when the space's stacks are trimmed. */
void program_keep_stack(struct program *program);
void program_forget_stack(struct program *program);

/* Trims the stacks of a space below the pointers of all programs whose stack counts
 * (vmm/space/stack.h). `caller` is in a system call with the given pointer; NULL: none. Adds the
 * pages that were freed. STATUS_BUSY: another program runs in the space, so that its pointer is not
 * known; STATUS_LIMIT: there are more than 32. */
MUST_USE enum status program_trim_stacks(struct space *space, const struct program *caller,
                                         uint64_t callers, uint64_t *pages);

/* ---- between the files of programs ---- */

/* Performs PROGRAM_LEND, PROGRAM_GIVE and PROGRAM_REVOKE for a program, with interrupts as it has
 * them. Return the result. */
enum status program_lend(const struct program *program, const struct trap_frame *frame);
enum status program_revoke(const struct program *program, const struct trap_frame *frame);

void program_starts(struct program *program);
void program_stops(struct program *program);

/* Describes how it ended: "read by a program: not present, at 0x10 from 0x1000: nothing is there".
 * Returns the full length of the text, as snprintf does. */
size_t program_end_words(const struct program *program, enum program_end end, char *buffer,
                         size_t size);

#endif
