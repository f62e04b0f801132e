/* Programs of ring 3 that dip into their stack. */
#include "tests/programs/stack_program.h"

#define FRAME_WORDS (PAGE_SIZE / sizeof(uint64_t))
#define RED_WORDS   16U

static struct stack_job *stack_job_here(void)
{
    return (struct stack_job *)(uintptr_t)STACK_PROGRAM_JOB;
}

static int64_t stack_program_call(enum program_call call, uint64_t argument)
{
    int64_t result = call;

    __asm__ volatile("syscall" : "+a"(result) : "D"(argument) : "rcx", "r11", "memory");
    return result;
}

static void stack_bottom(struct stack_job *job)
{
    if (job->bottom == STACK_BOTTOM_TRIM)
        job->trimmed = stack_program_call(PROGRAM_TRIM, 0);
    else if (job->bottom == STACK_BOTTOM_STOP)
        (void)stack_program_call(PROGRAM_EXIT, 0);
}

/* Uses a page of stack for each level; returns the number of its words that are wrong at the
 * end. */
__attribute__((noinline)) static uint64_t stack_dip(uint64_t depth)
{
    volatile uint64_t frame[FRAME_WORDS];
    uint64_t wrong = 0;

    frame[0] = depth;
    frame[FRAME_WORDS - 1] = ~depth;
    if (depth > 1)
        wrong = stack_dip(depth - 1);
    else
        stack_bottom(stack_job_here());
    return wrong + (frame[0] != depth) + (frame[FRAME_WORDS - 1] != ~depth);
}

_Noreturn void stack_program_dip(void)
{
    (void)stack_program_call(PROGRAM_EXIT, 0);
    for (;;)
        (void)stack_program_call(PROGRAM_EXIT, stack_dip(stack_job_here()->pages));
}

/* The stack pointer is 64 bytes above the start of a page during the call: a half of the red zone
 * is in the page below. */
_Noreturn void stack_program_red_zone(void)
{
    struct stack_job *job = stack_job_here();
    int64_t result = PROGRAM_TRIM;
    uint64_t wrong = 0;

    __asm__ volatile("movq %%rsp, %%rbx\n\t"
                     "andq $-4096, %%rsp\n\t"
                     "subq $4032, %%rsp\n\t"
                     "movl $%c[words], %%r8d\n"
                     "1:\tnegq %%r8\n\t"
                     "movq %%r8, (%%rsp, %%r8, 8)\n\t"
                     "negq %%r8\n\t"
                     "decq %%r8\n\t"
                     "jnz 1b\n\t"
                     "syscall\n\t"
                     "movl $%c[words], %%r8d\n"
                     "2:\tnegq %%r8\n\t"
                     "xorl %%r9d, %%r9d\n\t"
                     "cmpq %%r8, (%%rsp, %%r8, 8)\n\t"
                     "setne %%r9b\n\t"
                     "addq %%r9, %[wrong]\n\t"
                     "negq %%r8\n\t"
                     "decq %%r8\n\t"
                     "jnz 2b\n\t"
                     "movq %%rbx, %%rsp"
                     : "+a"(result), [wrong] "+r"(wrong)
                     : [words] "i"(RED_WORDS)
                     : "rbx", "rcx", "r8", "r9", "r11", "memory");
    job->trimmed = result;
    job->red_wrong = wrong;
    for (;;)
        (void)stack_program_call(PROGRAM_EXIT, wrong);
}
