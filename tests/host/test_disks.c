/* Finding disks: the PCI scan, the report on each device, and which disk may be written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pmm/pmm.h"
#include "swapdisk/block/grant.h"
#include "swapdisk/disks.h"
#include "tests/host/fake/hba.h"
#include "tests/host/fake/machine.h"

#define SECTORS 8192U

static struct fake_hba fakes[2];
static struct fake_disk disks[3];
static struct options options;

static int set_up(void **state)
{
    static const char *const serials[] = {"S1", "S2", "S3"};

    (void)state;
    fake_machine_start(32 * MIB);
    fake_clock_step_ns = 100000;
    fake_pci_clear();
    options = (struct options){.swap = SWAP_AUTO};
    for (unsigned i = 0; i < 2; i++)
        fake_hba_make(&fakes[i], 4);
    for (unsigned i = 0; i < 3; i++)
        fake_disk_make(&disks[i], SECTORS, "Fake", serials[i]);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    disks_stop();
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(disks[i].log_count, 0);
        fake_disk_free(&disks[i]);
    }
    assert_int_equal(pmm_usage().by_kind[FRAME_DEVICE], 0);
    for (unsigned i = 0; i < 2; i++) {
        if (fakes[i].complaints != 0)
            fail_msg("%u complaints, the first: %s", fakes[i].complaints, fakes[i].complaint);
    }
    fake_clock_step_ns = 1000;
    return 0;
}

static bool said(unsigned index, const char *words)
{
    return strstr(disks_report(index)->reason, words) != NULL;
}

static void empty_machine(void **state)
{
    struct disk_chosen chosen;

    (void)state;
    disks_scan(&options, true);
    assert_int_equal(disks_count(), 0);
    assert_int_equal(disks_open(0, &chosen), STATUS_NOT_FOUND);
}

static void scan_finds_functions_everywhere(void **state)
{
    static const struct pci_place places[] = {{0, 0, 0}, {0, 31, 0},  {0, 31, 7},
                                              {1, 0, 0}, {128, 5, 0}, {255, 31, 0}};
    struct pci_function function;
    struct pci_scan scan;
    unsigned found = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
        struct fake_function *added = fake_pci_add(places[i], 0x070000 + (uint32_t)i);

        added->registers[3] = places[i].bus == 0 && places[i].device == 31 ? 0x00800000 : 0;
    }
    /* Function 1 of a device without the multi-function bit is an echo of function 0. */
    fake_pci_add((struct pci_place){1, 0, 1}, 0x010601);
    pci_scan_begin(&scan, hardware_pci());
    while (pci_scan_next(&scan, &function)) {
        assert_true(found < ARRAY_COUNT(places));
        assert_int_equal(function.place.bus, places[found].bus);
        assert_int_equal(function.place.device, places[found].device);
        assert_int_equal(function.place.function, places[found].function);
        assert_int_equal(function.class_code, 7);
        assert_int_equal(function.interface, found);
        assert_int_equal(function.vendor, 0x8086);
        found++;
    }
    assert_int_equal(found, ARRAY_COUNT(places));
    assert_false(pci_scan_next(&scan, &function));
}

static void base_address_registers(void **state)
{
    struct pci_place place = {0, 3, 0};
    struct fake_function *function = fake_pci_add(place, 0x010601);
    struct pci_bar bar;

    (void)state;
    function->registers[1] = 7;
    function->registers[4] = 0xfebf1000;
    function->writable[4] = 0xfffff000;
    bar = pci_bar(hardware_pci(), place, 0);
    assert_true(bar.present && bar.memory);
    assert_int_equal(bar.base, 0xfebf1000);
    assert_int_equal(bar.size, 0x1000);
    assert_int_equal(function->registers[4], 0xfebf1000);
    assert_int_equal(function->registers[1], 7);

    function->registers[5] = 0xc041;
    function->writable[5] = 0xffe0;
    bar = pci_bar(hardware_pci(), place, 1);
    assert_true(bar.present && !bar.memory);
    assert_int_equal(bar.base, 0xc040);
    assert_int_equal(bar.size, 0x20);

    function->registers[6] = 0x0000000c;
    function->writable[6] = 0xffff0000;
    function->registers[7] = 0x00000080;
    function->writable[7] = 0xffffffff;
    bar = pci_bar(hardware_pci(), place, 2);
    assert_true(bar.present && bar.memory);
    assert_int_equal(bar.base, UINT64_C(0x8000000000));
    assert_int_equal(bar.size, 0x10000);
    assert_int_equal(function->registers[7], 0x80);

    /* Absent, unset, with holes, and one of 64 bits that would end outside. */
    assert_false(pci_bar(hardware_pci(), place, 4).present);
    function->writable[8] = 0xfffff000;
    assert_false(pci_bar(hardware_pci(), place, 4).present);
    function->registers[8] = 0x10000000;
    function->writable[8] = 0xf0fff000;
    assert_false(pci_bar(hardware_pci(), place, 4).present);
    function->registers[9] = 0x10000004;
    function->writable[9] = 0xfffff000;
    assert_false(pci_bar(hardware_pci(), place, 5).present);
}

static void waking_a_function(void **state)
{
    struct pci_place place = {0, 3, 0};
    struct fake_function *function = fake_pci_add(place, 0x010601);

    (void)state;
    function->registers[1] = 1 << 20;
    function->registers[13] = 0x40;
    function->registers[16] = 0x00015001; /* power management, next at 50 */
    function->registers[17] = 0x00008003; /* D3, with an event noted */
    function->writable[17] = 0x00008003;
    function->registers[20] = 0x00816005; /* MSI, on, next at 60 */
    function->writable[20] = 0x00710000;
    function->registers[24] = 0x80004011; /* MSI-X, on, next at 40: a circle */
    function->writable[24] = 0xc0000000;
    pci_wake(hardware_pci(), place);
    assert_int_equal(function->registers[17] & 3, 0);
    assert_int_equal(function->registers[20] & 1 << 16, 0);
    assert_int_equal(function->registers[24] >> 31, 0);
    /* A list in a circle that has none of them ends, too. */
    function->registers[16] = 0x00014009;
    pci_wake(hardware_pci(), place);
}

/* The message goes to the registers of a capability with 32 or with 64 bits of address. */
static void messages_are_set_up(void **state)
{
    static const struct pci_place place = {0, 3, 0};
    struct fake_function *function = fake_pci_add(place, 0x010601);
    const uint32_t *registers = function->registers;

    (void)state;
    assert_false(pci_msi_on(hardware_pci(), place, 0xfee01000, 0xef));
    function->registers[1] = 1 << 20;
    function->registers[13] = 0x80;
    function->registers[32] = 0x00f80005; /* MSI with 64 bits, 16 vectors asked for */
    for (unsigned i = 32; i < 36; i++)
        function->writable[i] = i == 32 ? 0x00710000 : UINT32_MAX;
    assert_true(pci_msi_on(hardware_pci(), place, 0x1fee01000, 0xef));
    assert_int_equal(registers[33], 0xfee01000);
    assert_int_equal(registers[34], 1);
    assert_int_equal(registers[35], 0xef);
    assert_int_equal(registers[32] >> 16 & 0x71, 1);
    pci_msi_off(hardware_pci(), place);
    assert_int_equal(registers[32] >> 16 & 1, 0);
    function->registers[32] = 0x00000005;
    assert_false(pci_msi_on(hardware_pci(), place, 0x1fee01000, 0xef));
    assert_true(pci_msi_on(hardware_pci(), place, 0xfee01000, 0xef));
    assert_int_equal(registers[34], 0xef);
}

static void controllers_that_are_left_alone(void **state)
{
    static const uint32_t classes[] = {0x010400, 0x010802, 0x01018a, 0x010600, 0x010700, 0x010000};
    static const char *const words[] = {"RAID",         "NVMe",    "IDE",
                                        "without AHCI", "another", "another"};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(classes); i++)
        fake_pci_add((struct pci_place){0, (uint8_t)i, 0}, classes[i]);
    fake_pci_add((struct pci_place){0, 20, 0}, 0x020000);
    disks_scan(&options, true);
    assert_int_equal(disks_count(), ARRAY_COUNT(classes));
    for (unsigned i = 0; i < ARRAY_COUNT(classes); i++) {
        assert_true(said(i, words[i]));
        assert_true(said(i, "left alone"));
        assert_int_equal(disks_report(i)->bytes, 0);
    }
    assert_string_equal(disks_report(1)->place, "00:01.0");
}

static struct fake_function *add_hba(unsigned index)
{
    return fake_pci_add_hba((struct pci_place){(uint8_t)index, 31, 0}, &fakes[index]);
}

static void one_prepared_among_others(void **state)
{
    struct disk_chosen chosen;
    struct fake_function *function = add_hba(0);

    (void)state;
    add_hba(1);
    fake_disk_prepare(&disks[1], 0x22);
    fake_hba_attach(&fakes[0], 1, FAKE_DISK, &disks[0]);
    fake_hba_attach(&fakes[0], 2, FAKE_ATAPI, NULL);
    fake_hba_attach(&fakes[1], 0, FAKE_DISK, &disks[1]);
    disks_scan(&options, true);
    assert_int_equal(disks_count(), 3);
    assert_string_equal(disks_report(0)->place, "00:1f.0 port 1");
    assert_string_equal(disks_report(0)->serial, "S1");
    assert_int_equal(disks_report(0)->bytes, SECTORS * SECTOR_SIZE);
    assert_true(said(0, "no GUID partition table"));
    assert_true(said(1, "optical"));
    assert_false(disks_report(0)->chosen || disks_report(1)->chosen);
    assert_true(disks_report(2)->chosen);
    assert_true(said(2, "22222222-2222-2222-2222-222222222222"));
    assert_int_equal(disks_open(0, &chosen), OK);
    assert_true(swap_grant_covers(chosen.grant, chosen.block.device, 2048, 8));
    assert_string_equal(chosen.identity->serial, "S2");
    assert_int_equal(function->registers[1] & 0x406, 0x406);
    disks_stop();
    assert_int_equal(function->registers[1] & 4, 0);
    assert_false(swap_grant_covers(chosen.grant, chosen.block.device, 2048, 8));
    disks_scan(&options, true);
}

static void two_that_match(void **state)
{
    struct disk_chosen chosen;

    (void)state;
    add_hba(0);
    fake_disk_prepare(&disks[0], 0x11);
    fake_disk_prepare(&disks[2], 0x33);
    fake_hba_attach(&fakes[0], 0, FAKE_DISK, &disks[0]);
    fake_hba_attach(&fakes[0], 1, FAKE_DISK, &disks[2]);
    disks_scan(&options, true);
    assert_true(said(0, "S3 matches as well"));
    assert_true(said(1, "S1 matches as well"));
    assert_int_equal(disks_open(0, &chosen), STATUS_NOT_FOUND);
    disks_stop();
    options.swap = SWAP_SET;
    memset(options.swap_set[0].uuid, 0x33, 16);
    options.swap_sets = 1;
    disks_scan(&options, false);
    assert_int_equal(disks_open(0, &chosen), OK);
    assert_string_equal(chosen.identity->serial, "S3");
}

static void real_machine_needs_the_name(void **state)
{
    struct disk_chosen chosen;

    (void)state;
    add_hba(0);
    fake_disk_prepare(&disks[0], 0x11);
    fake_hba_attach(&fakes[0], 0, FAKE_DISK, &disks[0]);
    disks_scan(&options, false);
    assert_true(said(0, "real machine"));
    assert_int_equal(disks_open(0, &chosen), STATUS_NOT_FOUND);
}

static void cloned_disk(void **state)
{
    struct disk_chosen chosen;

    (void)state;
    add_hba(0);
    fake_disk_prepare(&disks[0], 0x11);
    memcpy(disks[1].bytes, disks[0].bytes, SECTORS * SECTOR_SIZE);
    fake_hba_attach(&fakes[0], 0, FAKE_DISK, &disks[0]);
    fake_hba_attach(&fakes[0], 1, FAKE_DISK, &disks[1]);
    disks_scan(&options, true);
    assert_true(said(1, "another serial number"));
    assert_int_equal(disks_open(0, &chosen), OK);
    assert_string_equal(chosen.identity->serial, "S1");
}

static void broken_controllers_are_named(void **state)
{
    struct fake_function *without;

    (void)state;
    fakes[0].gone = true;
    add_hba(0);
    without = fake_pci_add((struct pci_place){2, 0, 0}, 0x010601);
    without->registers[9] = 0;
    fake_pci_add((struct pci_place){3, 0, 0}, 0x010601)->registers[9] = 0xd0000001;
    disks_scan(&options, true);
    assert_int_equal(disks_count(), 3);
    assert_true(said(0, "does not answer"));
    assert_true(said(1, "registers have no address"));
    assert_true(said(2, "registers have no address"));
}

/* Fills ports of the first controller with blank disks, so that the twin of the first is the n-th
 * disk; both are refused wherever it is. */
static void twin_anywhere(void **state)
{
    static const unsigned places[] = {1, 15, 16, 17, 30, 31, 32, 40, 63};
    static struct fake_disk blank[64];
    struct disk_chosen chosen;

    (void)state;
    fake_disk_prepare(&disks[0], 0x11);
    fake_disk_free(&disks[2]);
    fake_disk_make(&disks[2], SECTORS, "Fake", "S1");
    memcpy(disks[2].bytes, disks[0].bytes, SECTORS * SECTOR_SIZE);
    for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
        fake_pci_clear();
        fake_hba_make(&fakes[0], 32);
        fake_hba_make(&fakes[1], 32);
        add_hba(0);
        add_hba(1);
        for (unsigned j = 0; j <= places[i]; j++) {
            struct fake_disk *disk = j == 0 ? &disks[0] : j == places[i] ? &disks[2] : &blank[j];

            if (disk == &blank[j])
                fake_disk_make(disk, 128, "Blank", "B");
            fake_hba_attach(&fakes[j / 32], j % 32, FAKE_DISK, disk);
        }
        disks_scan(&options, true);
        assert_int_equal(disks_count(), places[i] + 1);
        assert_true(said(0, "S1 matches as well"));
        assert_true(said(places[i], "S1 matches as well"));
        assert_int_equal(disks_open(0, &chosen), STATUS_NOT_FOUND);
        disks_stop();
        for (unsigned j = 1; j < places[i]; j++) {
            assert_int_equal(blank[j].log_count, 0);
            fake_disk_free(&blank[j]);
        }
    }
}

static void many_devices_are_all_reported(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 60; i++)
        fake_pci_add((struct pci_place){(uint8_t)(1 + i), 0, 0}, 0x010802);
    disks_scan(&options, true);
    assert_int_equal(disks_count(), 60);
    for (unsigned i = 0; i < 60; i++)
        assert_true(said(i, "NVMe"));
    assert_true(PANICS((void)disks_report(60)));
}

/* A disk that cannot be examined for lack of memory may be a twin: then none is written. */
static void no_memory_refuses_all(void **state)
{
    uint64_t allocations;
    unsigned served = 0;

    (void)state;
    add_hba(0);
    fake_disk_prepare(&disks[0], 0x11);
    for (unsigned i = 0; i < 3; i++)
        fake_hba_attach(&fakes[0], i, FAKE_DISK, &disks[i]);
    pmm_fail_from(0, 0);
    disks_scan(&options, true);
    assert_true(disks_report(0)->chosen);
    disks_stop();
    allocations = pmm_fail_from(0, 0);
    for (uint64_t i = 1; i <= allocations; i++) {
        struct disk_chosen chosen;
        enum status status;

        pmm_fail_from(i, UINT64_MAX);
        disks_scan(&options, true);
        pmm_fail_from(0, 0);
        status = disks_open(0, &chosen);
        assert_int_equal(status, STATUS_NOT_FOUND);
        served += disks_count() > 0;
        disks_stop();
    }
    assert_int_equal(served, allocations);
    disks_scan(&options, true);
    assert_true(disks_report(0)->chosen);
}

#define CASE(name_) cmocka_unit_test_setup_teardown(name_, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(empty_machine),
        CASE(scan_finds_functions_everywhere),
        CASE(base_address_registers),
        CASE(waking_a_function),
        CASE(messages_are_set_up),
        CASE(controllers_that_are_left_alone),
        CASE(one_prepared_among_others),
        CASE(two_that_match),
        CASE(real_machine_needs_the_name),
        CASE(cloned_disk),
        CASE(broken_controllers_are_named),
        CASE(twin_anywhere),
        CASE(many_devices_are_all_reported),
        CASE(no_memory_refuses_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
