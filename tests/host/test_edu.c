/* The device edu: a transfer that does not end, and what the device may still reach. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pmm/pmm.h"
#include "tests/experiments/edu.h"
#include "tests/host/fake/machine.h"

#define REG_FROM  0x80U
#define REG_TO    0x88U
#define REG_COUNT 0x90U
#define REG_ORDER 0x98U

static struct {
    uint64_t registers[0xa0 / 8];
    uint8_t buffer[PAGE_SIZE];
    uint32_t command; /* of configuration space */
    bool hangs;       /* a transfer that begins does not end by itself */
    bool stays_master;
} device;

static struct edu edu;

/* Carries out the transfer, if the device may reach memory. */
static void carry_out(void)
{
    uint64_t order = device.registers[REG_ORDER / 8];
    uint64_t memory = device.registers[((order & 2) != 0 ? REG_TO : REG_FROM) / 8];
    uint8_t *at = phys_pointer((struct phys){memory});

    device.registers[REG_ORDER / 8] &= ~UINT64_C(1);
    if ((device.command & PCI_COMMAND_MASTER) == 0)
        return;
    if ((order & 2) != 0)
        memcpy(at, device.buffer, device.registers[REG_COUNT / 8]);
    else
        memcpy(device.buffer, at, device.registers[REG_COUNT / 8]);
}

static uint64_t read_register(void *context, unsigned reg)
{
    (void)context;
    return reg == 0 ? 0x010000ed : device.registers[reg / 8];
}

static void write_register(void *context, unsigned reg, uint64_t value)
{
    (void)context;
    device.registers[reg / 8] = value;
    if (reg == REG_ORDER && (value & 1) != 0 && !device.hangs)
        carry_out();
}

static uint32_t read_configuration(void *context, struct pci_place place, unsigned offset)
{
    (void)context;
    (void)place;
    return offset == PCI_COMMAND ? device.command : 0;
}

static void write_configuration(void *context, struct pci_place place, unsigned offset,
                                uint32_t value)
{
    (void)context;
    (void)place;
    if (offset == PCI_COMMAND)
        device.command = device.stays_master ? value | PCI_COMMAND_MASTER : value;
}

static int set_up(void **state)
{
    static const struct pci_access pci = {.read = read_configuration, .write = write_configuration};

    (void)state;
    fake_machine_start(16 * MIB);
    fake_clock_step_ns = 100000;
    memset(&device, 0, sizeof(device));
    edu = (struct edu){.access = {.read = read_register, .write = write_register}, .pci = &pci};
    assert_null(edu_start(&edu));
    return 0;
}

static struct pfn take_frame(uint8_t content)
{
    struct pfn frame;

    assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &frame), OK);
    memset(frame_pointer(frame), content, PAGE_SIZE);
    return frame;
}

static void a_page_goes_and_comes(void **state)
{
    struct pfn request = take_frame(0x11);
    struct pfn answer = take_frame(0x22);

    (void)state;
    assert_int_equal(edu_transfer(&edu, request, EDU_CHUNK, false), OK);
    assert_int_equal(edu_transfer(&edu, answer, 0, true), OK);
    assert_int_equal(((uint8_t *)frame_pointer(answer))[EDU_CHUNK - 1], 0x11);
    assert_int_equal(((uint8_t *)frame_pointer(answer))[EDU_CHUNK], 0x22);
    assert_int_equal(edu.transfers, 2);
    assert_int_equal(edu.to_memory, EDU_CHUNK);
    assert_true(edu_stop(&edu));
    assert_int_equal(edu_transfer(&edu, answer, 0, true), STATUS_IO);
    pmm_free(request);
    pmm_free(answer);
}

/* The frame has a new owner when the device ends the transfer: it must not be written. */
static void a_late_transfer_reaches_no_new_owner(void **state)
{
    struct pfn frame = take_frame(0x33);

    (void)state;
    device.hangs = true;
    memset(device.buffer, 0xee, sizeof(device.buffer));
    assert_int_equal(edu_transfer(&edu, frame, 0, true), STATUS_TIMEOUT);
    assert_int_equal(edu.held, 0);
    assert_int_equal(edu_transfer(&edu, frame, 0, true), STATUS_IO);
    assert_non_null(edu_start(&edu)); /* it runs still */
    assert_int_equal(device.command & PCI_COMMAND_MASTER, 0);
    pmm_free(frame);
    carry_out();
    assert_int_not_equal(*(uint8_t *)frame_pointer(frame), 0xee);
    device.hangs = false;
    assert_null(edu_start(&edu));
    frame = take_frame(0x44);
    assert_int_equal(edu_transfer(&edu, frame, 0, true), OK);
    assert_int_equal(*(uint8_t *)frame_pointer(frame), 0xee);
    pmm_free(frame);
}

/* A device that cannot be stopped: the frame never has another owner. */
static void a_frame_is_held_from_a_device_that_stays_master(void **state)
{
    struct pfn frame = take_frame(0x55);

    (void)state;
    device.hangs = true;
    device.stays_master = true;
    assert_int_equal(edu_transfer(&edu, frame, 0, true), STATUS_TIMEOUT);
    assert_int_equal(edu.held, 1);
    assert_int_equal(frame_record(frame)->count, 2); /* its owner's, and the device's */
    assert_false(edu_stop(&edu));
    assert_int_equal(edu_transfer(&edu, frame, 0, true), STATUS_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_page_goes_and_comes, set_up),
        cmocka_unit_test_setup(a_late_transfer_reaches_no_new_owner, set_up),
        cmocka_unit_test_setup(a_frame_is_held_from_a_device_that_stays_master, set_up),
    };

    return cmocka_run_group_tests_name("edu", tests, NULL, NULL);
}
