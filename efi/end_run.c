/* The end of a run: exit, power off, reset or halt. */
#include "efi/end_run.h"

#include <efi.h>

#include "cpu/cpu.h"
#include "cpu/crash/crash.h"
#include "cpu/features.h"
#include "cpu/machine.h"
#include "cpu/port.h"
#include "efi/console/framebuffer.h"
#include "efi/console/serial.h"
#include "lib/bytes.h"
#include "paging/kernel/map.h"

/* QEMU's isa-debug-exit, at the port of the boot tests. It reads as 0, an absent device as 0xff. */
#define DEBUG_EXIT_PORT 0xf4U

/* QEMU's fw_cfg: a selector and a byte stream; item 0 is the signature. */
#define FW_CFG_SELECTOR  0x510U
#define FW_CFG_DATA      0x511U
#define FW_CFG_SIGNATURE 0x0000U

/* The chipset's reset control: bit 1 selects a hard reset, bit 2 triggers it. */
#define RESET_CONTROL_PORT 0xcf9U
#define RESET_CONTROL_HARD 0x02U
#define RESET_CONTROL_DO   0x04U

/* Pauses after a reset was triggered. A crash may end here, so no clock is trusted. */
#define RESET_PAUSES 100000000U

static struct {
    enum exit_method way;
    bool debug_exit;
    bool warm; /* a reset keeps the contents of memory */
    bool relocated;
    bool asked_firmware; /* a fault inside its reset must not lead back into it */
    struct phys runtime_services;
} finish;

static bool qemu_present(void)
{
    char signature[4];

    /* Another hypervisor may have another device at these ports. */
    if (strcmp(cpu_features()->hypervisor_name, "TCGTCGTCGTCG") != 0 &&
        strcmp(cpu_features()->hypervisor_name, "KVMKVMKVM") != 0)
        return false;
    port_out16(FW_CFG_SELECTOR, FW_CFG_SIGNATURE);
    for (unsigned i = 0; i < sizeof(signature); i++)
        signature[i] = (char)port_in8(FW_CFG_DATA);
    return memcmp(signature, "QEMU", sizeof(signature)) == 0;
}

void finish_start(const struct bootinfo *info)
{
    finish.way = info->options.exit;
    finish.warm = info->options.report == REPORT_BOOT;
    finish.runtime_services = info->runtime_services;
    finish.debug_exit = qemu_present() && port_in8(DEBUG_EXIT_PORT) != 0xff;
    crash_set_finisher(finish_crash);
}

void end_run_relocated(void)
{
    finish.relocated = true;
    crash_set_finisher(finish_crash);
}

/* Returns the method that the options mean on this machine. */
static enum exit_method chosen_method(void)
{
    if (finish.way != EXIT_AUTO && finish.way != EXIT_DEBUG)
        return finish.way;
    if (finish.debug_exit)
        return EXIT_DEBUG;
    /* On a real machine a person reads the log on the screen. */
    return !cpu_features()->hypervisor && console_on() ? EXIT_HALT : EXIT_POWEROFF;
}

const char *finish_description(void)
{
    bool missed = finish.way == EXIT_DEBUG && !finish.debug_exit;

    switch (chosen_method()) {
    case EXIT_DEBUG: return "QEMU's debug-exit port";
    case EXIT_REBOOT: return "reboot";
    case EXIT_HALT: return missed ? "halt; no debug-exit port was found" : "halt";
    default: return missed ? "power off; no debug-exit port was found" : "power off";
    }
}

bool finish_halts(void)
{
    return chosen_method() == EXIT_HALT;
}

void finish_choose(enum exit_method way)
{
    finish.way = way;
    finish.warm = true;
}

static uint8_t exit_code(enum verdict verdict)
{
    switch (verdict) {
    case VERDICT_PASS: return EXIT_CODE_PASS;
    case VERDICT_FAIL: return EXIT_CODE_FAIL;
    case VERDICT_SKIPPED: return EXIT_CODE_SKIPPED;
    case VERDICT_CRASH: break;
    }
    return EXIT_CODE_CRASH;
}

/* Calls the firmware's reset, once; returns only if that fails. After the handover, only the
 * firmware's root maps its code and data. */
static void firmware_reset(EFI_RESET_TYPE type)
{
    const EFI_RUNTIME_SERVICES *services =
        (const EFI_RUNTIME_SERVICES *)(uintptr_t)finish.runtime_services.address;

    if (finish.asked_firmware || services == NULL)
        return;
    finish.asked_firmware = true;
    if (finish.relocated)
        kernel_map_enter_firmware();
    services->ResetSystem(type, EFI_SUCCESS, 0, NULL);
}

static void chipset_reset(void)
{
    port_out8(RESET_CONTROL_PORT, RESET_CONTROL_HARD);
    port_out8(RESET_CONTROL_PORT, RESET_CONTROL_HARD | RESET_CONTROL_DO);
    for (unsigned i = 0; i < RESET_PAUSES; i++)
        machine_pause();
}

/* Writes to the screen only, since the verdict line is the last of the log. */
static _Noreturn void halt(void)
{
    static const char words[] = "\nThe run is over and the machine is halted. It can be switched "
                                "off.\n";

    console_write(words, sizeof(words) - 1);
    cpu_halt();
}

void finish_run(enum verdict verdict)
{
    enum exit_method way = chosen_method();

    machine_interrupts_off();
    serial_drain();
    if (way == EXIT_DEBUG) {
        port_out8(DEBUG_EXIT_PORT, exit_code(verdict));
        way = EXIT_POWEROFF;
    }
    if (way == EXIT_REBOOT) {
        firmware_reset(finish.warm ? EfiResetWarm : EfiResetCold);
        chipset_reset();
    }
    /* No reset if power off fails: it would start the run again. */
    if (way == EXIT_POWEROFF)
        firmware_reset(EfiResetShutdown);
    halt();
}

void finish_crash(void)
{
    finish_run(VERDICT_CRASH);
}
