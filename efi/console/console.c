/* Both consoles, serial and screen, behind print(). */
#include "efi/console/console.h"

#include "cpu/machine.h"
#include "efi/console/framebuffer.h"
#include "efi/console/serial.h"
#include "lib/print.h"
#include "paging/kernel/map.h"

static void write_serial(struct print_sink *sink, const char *text, size_t size)
{
    (void)sink;
    serial_write(text, size);
}

static void write_screen(struct print_sink *sink, const char *text, size_t size)
{
    (void)sink;
    console_write(text, size);
}

static struct print_sink serial_sink = {.write = write_serial};
static struct print_sink screen_sink = {.write = write_screen};

/* Where the sinks were when they were attached: numbers, which do not move with the image. */
static uintptr_t attached_serial;
static uintptr_t attached_screen;

static void attach(void)
{
    print_attach(&serial_sink);
    print_attach(&screen_sink);
    attached_serial = (uintptr_t)&serial_sink;
    attached_screen = (uintptr_t)&screen_sink;
}

void consoles_start(const struct bootinfo *info, const struct acpi *acpi)
{
    serial_start(&info->options, acpi);
    console_start(&info->screen);
    attach();
}

/* The list of sinks still names the firmware's copy of the image. That is mapped in the firmware
 * root alone, and is walked there one last time. */
static void detach_old(void)
{
    struct phys root = machine_root();

    machine_load_root(kernel_map_firmware_root());
    print_detach((struct print_sink *)attached_serial);
    print_detach((struct print_sink *)attached_screen);
    machine_load_root(root);
}

void console_relocated(void)
{
    detach_old();
    serial_relocated();
    framebuffer_relocated();
    attach();
}
