/* Both consoles, serial and screen, and the log in memory, behind print(). */
#include "efi/console/console.h"

#include "cpu/machine.h"
#include "efi/console/framebuffer.h"
#include "efi/console/serial.h"
#include "efi/log/kept_log.h"
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

static void write_kept(struct print_sink *sink, const char *text, size_t size)
{
    (void)sink;
    kept_log_write(text, size);
}

static struct print_sink kept_sink = {.write = write_kept};
static struct print_sink serial_sink = {.write = write_serial};
static struct print_sink screen_sink = {.write = write_screen};

/* Addresses of the sinks when they were attached. Kept as numbers: pointers would be relocated. */
static uintptr_t attached_kept;
static uintptr_t attached_serial;
static uintptr_t attached_screen;

static void attach(void)
{
    print_attach(&kept_sink);
    print_attach(&serial_sink);
    print_attach(&screen_sink);
    attached_kept = (uintptr_t)&kept_sink;
    attached_serial = (uintptr_t)&serial_sink;
    attached_screen = (uintptr_t)&screen_sink;
}

void consoles_start(const struct reachable *reachable, const struct acpi *acpi)
{
    serial_start(reachable, acpi);
    console_start(reachable);
    attach();
}

/* Detaches the sinks of the image's first copy, which only the firmware root maps. */
static void detach_old(void)
{
    struct phys root = machine_root();

    machine_load_root(kernel_map_firmware_root());
    print_detach((struct print_sink *)attached_kept);
    print_detach((struct print_sink *)attached_serial);
    print_detach((struct print_sink *)attached_screen);
    machine_load_root(root);
}

void console_relocated(void)
{
    detach_old();
    kept_log_relocated();
    serial_relocated();
    framebuffer_relocated();
    attach();
}
