/* Accesses that may fault: the exception table, and the copies to and from programs. */
#include "cpu/trap/probe.h"

#include "cpu/cpu.h"
#include "cpu/percpu.h"
#include "cpu/trap/trap.h"

struct extable_entry {
    int32_t instruction; /* from this field's own address */
    int32_t landing;     /* likewise */
};

_Static_assert(sizeof(struct extable_entry) == 8, "MAY_FAULT in cpu/trap/probe.S writes it");

extern const struct extable_entry image_extable_start[];
extern const struct extable_entry image_extable_end[];
extern const char probe_fetch_return[];
extern const char probe_fetch_landing[];

bool probe_user_copy(void *to, const void *from, size_t size, struct trap_info *info);

static uint64_t relative_target(const int32_t *offset)
{
    return (uint64_t)(uintptr_t)offset + (uint64_t)(int64_t)*offset;
}

static void go_to_landing(struct trap_frame *frame, uint64_t landing)
{
    frame->r8 = frame->vector;
    frame->r9 = frame->error;
    frame->r10 = frame->vector == TRAP_PF ? frame->cr2 : 0;
    frame->rip = landing;
}

/* Returns whether the trap is at the first instruction that probe_fetch called. The trap's frame is
 * then right below probe_fetch's stack, with at most 8 bytes of alignment between, so no wild stack
 * pointer is read. */
static bool is_probed_fetch(const struct trap_frame *frame)
{
    uint64_t end = (uint64_t)(uintptr_t)(frame + 1);
    const uint64_t *stack = (const uint64_t *)(uintptr_t)frame->rsp;

    if (frame->rsp - end >= 16 || frame->rsp % 8 != 0)
        return false;
    return stack[0] == (uint64_t)(uintptr_t)probe_fetch_return && stack[1] == frame->rip;
}

bool probe_fix_up(struct trap_frame *frame)
{
    if (frame->cs != SELECTOR_KERNEL_CODE)
        return false;
    for (const struct extable_entry *at = image_extable_start; at < image_extable_end; at++) {
        if (relative_target(&at->instruction) == frame->rip) {
            go_to_landing(frame, relative_target(&at->landing));
            return true;
        }
    }
    if (!is_probed_fetch(frame))
        return false;
    frame->rsp += sizeof(uint64_t); /* drops the return address of the call */
    go_to_landing(frame, (uint64_t)(uintptr_t)probe_fetch_landing);
    return true;
}

static inline bool is_user_range(uint64_t user, size_t size, struct trap_info *info)
{
    if (__builtin_expect(size <= trap_user_end && user <= trap_user_end - size, 1))
        return true;
    if (info != NULL)
        *info = (struct trap_info){.vector = PROBE_REFUSED, .address = user};
    return false;
}

bool user_copy_in(void *to, uint64_t user, size_t size, struct trap_info *info)
{
    return is_user_range(user, size, info) &&
           probe_user_copy(to, (const void *)(uintptr_t)user, size, info);
}

bool user_copy_out(uint64_t user, const void *from, size_t size, struct trap_info *info)
{
    return is_user_range(user, size, info) &&
           probe_user_copy((void *)(uintptr_t)user, from, size, info);
}
