/* Payloads: into the pages of a program. */
#include "tests/runner/payload.h"

#include "cpu/trap/probe.h"
#include "tests/runner/user_pages.h"

#define STACK_SIZE (16 * KIB)

extern const char image_payload_start[];
extern const char image_payload_end[];

static uint64_t payload_size(void)
{
    return (uint64_t)((uintptr_t)image_payload_end - (uintptr_t)image_payload_start);
}

uint64_t payload_address(const char *payload)
{
    CHECK(payload >= image_payload_start && payload < image_payload_end);
    return PAYLOAD_CODE + (uint64_t)((uintptr_t)payload - (uintptr_t)image_payload_start);
}

/* The code stays writable, as there is no call yet that takes a right away: it is the program's
 * own. */
enum status payload_install(struct space *space)
{
    struct rights code = {.write = true, .execute = true, .user = true};
    enum status status =
        space_map_at(space, PAYLOAD_CODE, round_up(payload_size(), PAGE_SIZE), code);

    if (status == OK)
        status = space_map_at(space, PAYLOAD_STACK - STACK_SIZE, STACK_SIZE, RIGHTS_READ_WRITE);
    if (status == OK)
        status = space_map_at(space, PAYLOAD_BUFFER, PAYLOAD_BUFFER_SIZE, RIGHTS_READ_WRITE);
    if (status == OK && !user_copy_out(PAYLOAD_CODE, image_payload_start, payload_size(), NULL))
        status = STATUS_NO_MEMORY;
    return status;
}

struct program payload_program(struct space *space, const char *payload, uint64_t argument)
{
    return program_new(space, payload_address(payload), PAYLOAD_STACK, argument);
}
