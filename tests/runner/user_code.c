/* Payloads: into the pages of a program. */
#include "tests/runner/user_code.h"

#include "cpu/trap/probe.h"
#include "tests/runner/user_pages.h"

#define STACK_SIZE (16 * KIB)

extern const char image_user_code_start[];
extern const char image_user_code_end[];

static uint64_t user_code_size(void)
{
    return (uint64_t)((uintptr_t)image_user_code_end - (uintptr_t)image_user_code_start);
}

uint64_t user_code_address(const char *code)
{
    CHECK(code >= image_user_code_start && code < image_user_code_end);
    return USER_CODE_CODE + (uint64_t)((uintptr_t)code - (uintptr_t)image_user_code_start);
}

/* Copies the code into pages of the space. They stay writable; the code is the program's own. */
enum status user_code_install(struct space *space)
{
    struct rights code = {.write = true, .execute = true, .user = true};
    enum status status = space_map(
        space, &SPACE_AT(USER_CODE_CODE, round_up(user_code_size(), PAGE_SIZE), code), NULL);

    if (status == OK)
        status = space_map(
            space, &SPACE_AT(USER_CODE_STACK - STACK_SIZE, STACK_SIZE, RIGHTS_READ_WRITE), NULL);
    if (status == OK)
        status = space_map(
            space, &SPACE_AT(USER_CODE_BUFFER, USER_CODE_BUFFER_SIZE, RIGHTS_READ_WRITE), NULL);
    if (status == OK &&
        !user_copy_out(USER_CODE_CODE, image_user_code_start, user_code_size(), NULL))
        status = STATUS_NO_MEMORY;
    return status;
}

struct program user_code_program(struct space *space, const char *code, uint64_t argument)
{
    return program_new(space, user_code_address(code), USER_CODE_STACK, argument);
}
