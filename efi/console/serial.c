/* The serial console: one 16550. */
#include "efi/console/serial.h"

#include "cpu/machine.h"
#include "cpu/port.h"
#include "lib/print.h"
#include "paging/kernel/map.h"

/* Registers, by number. */
#define UART_THR 0U /* DLAB 0: transmit, and receive */
#define UART_DLL 0U /* DLAB 1: divisor, low */
#define UART_IER 1U
#define UART_DLM 1U
#define UART_IIR 2U /* read */
#define UART_FCR 2U /* write */
#define UART_LCR 3U
#define UART_MCR 4U
#define UART_LSR 5U
#define UART_MSR 6U
#define UART_SCR 7U

#define FCR_ENABLE   (UINT8_C(1) << 0)
#define FCR_RESET_RX (UINT8_C(1) << 1)
#define FCR_RESET_TX (UINT8_C(1) << 2)
#define IIR_FIFO     (UINT8_C(3) << 6) /* both set: a FIFO that works */
#define LCR_8N1      UINT8_C(3)
#define LCR_DLAB     (UINT8_C(1) << 7)
#define MCR_DTR      (UINT8_C(1) << 0)
#define MCR_RTS      (UINT8_C(1) << 1)
#define MCR_OUT2     (UINT8_C(1) << 3)
#define MCR_LOOP     (UINT8_C(1) << 4)
#define LSR_DATA     (UINT8_C(1) << 0) /* a character has arrived */
#define LSR_THRE     (UINT8_C(1) << 5) /* room for a character, or a FIFO of them */
#define LSR_TEMT     (UINT8_C(1) << 6) /* all sent */
#define MSR_CTS      (UINT8_C(1) << 4)
#define MSR_DCD      (UINT8_C(1) << 7)
#define MSR_LINES    UINT8_C(0xf0)

#define FIFO_SIZE 16U

/* Reads of the line status in one wait. A read takes about a microsecond on a PC, so a wait lasts
 * seconds, enough for an emulator with a slow reader. After three time-outs the port is dead. */
#define WAIT_LOOKS   4000000U
#define TIMEOUTS_MAX 3U

static struct {
    bool present;
    bool dead;
    unsigned timeouts; /* in a row */
    unsigned room;     /* characters that fit before the next read of the line status */
    unsigned fifo;     /* characters that fit after THRE */
    struct uart_place place;
    volatile uint8_t *memory; /* the registers, when they are in memory */
    char description[64];
} uart;

static uint8_t uart_read(unsigned number)
{
    volatile uint8_t *at = uart.memory + (size_t)number * uart.place.stride;

    if (!uart.place.memory)
        return port_in8((uint16_t)(uart.place.base + number));
    switch (uart.place.stride) {
    case 4: return (uint8_t) * (volatile uint32_t *)(volatile void *)at;
    case 2: return (uint8_t) * (volatile uint16_t *)(volatile void *)at;
    default: return *at;
    }
}

static void uart_write(unsigned number, uint8_t value)
{
    volatile uint8_t *at = uart.memory + (size_t)number * uart.place.stride;

    if (!uart.place.memory) {
        port_out8((uint16_t)(uart.place.base + number), value);
        return;
    }
    switch (uart.place.stride) {
    case 4: *(volatile uint32_t *)(volatile void *)at = value; break;
    case 2: *(volatile uint16_t *)(volatile void *)at = value; break;
    default: *at = value; break;
    }
}

static bool serial_wait_for(uint8_t line_status)
{
    for (unsigned look = 0; look < WAIT_LOOKS; look++) {
        if ((uart_read(UART_LSR) & line_status) != 0) {
            uart.timeouts = 0;
            return true;
        }
        machine_pause();
    }
    if (++uart.timeouts == TIMEOUTS_MAX)
        uart.dead = true;
    return false;
}

/* Returns whether the scratch register keeps values. */
static bool scratch_works(void)
{
    static const uint8_t patterns[] = {0x5a, 0xa5};
    uint8_t before = uart_read(UART_SCR);

    for (unsigned i = 0; i < sizeof(patterns); i++) {
        uart_write(UART_SCR, patterns[i]);
        if (uart_read(UART_SCR) != patterns[i])
            return false;
    }
    uart_write(UART_SCR, before);
    return true;
}

/* Returns whether in loopback mode CTS follows RTS, DCD follows OUT2, and the other two lines stay
 * off. */
static bool loopback_works(void)
{
    uint8_t before = uart_read(UART_MCR);
    uint8_t lines;

    uart_write(UART_MCR, MCR_LOOP | MCR_OUT2 | MCR_RTS);
    lines = uart_read(UART_MSR) & MSR_LINES;
    uart_write(UART_MCR, before);
    return lines == (MSR_DCD | MSR_CTS);
}

static void set_baud(void)
{
    uint64_t baud = uart.place.baud;
    uint64_t divisor = (uart.place.clock + 8 * baud) / (16 * baud);

    divisor = min_u64(max_u64(divisor, 1), UINT16_MAX);
    uart_write(UART_LCR, LCR_DLAB | LCR_8N1);
    uart_write(UART_DLL, (uint8_t)divisor);
    uart_write(UART_DLM, (uint8_t)(divisor >> 8));
    uart_write(UART_LCR, LCR_8N1);
}

/* Probes a place and takes the port over. Interrupts are off, since the firmware's timer may run
 * its driver of the port. */
static bool serial_take(const struct uart_place *place)
{
    bool interrupts = machine_interrupts_off();

    uart.place = *place;
    uart.memory = (volatile uint8_t *)(uintptr_t)(place->memory ? place->base : 0);
    uart.present = uart_read(UART_LSR) != 0xff && scratch_works() && loopback_works();
    if (uart.present) {
        /* Lets the firmware's output leave first. */
        serial_wait_for(LSR_TEMT);
        uart_write(UART_IER, 0);
        if (place->baud != 0) {
            set_baud();
            uart_write(UART_FCR, FCR_ENABLE | FCR_RESET_RX | FCR_RESET_TX);
        } else {
            uart_write(UART_LCR, uart_read(UART_LCR) & (uint8_t)~LCR_DLAB);
            uart_write(UART_FCR, FCR_ENABLE);
        }
        uart_write(UART_MCR, MCR_DTR | MCR_RTS);
        uart.fifo = (uart_read(UART_IIR) & IIR_FIFO) == IIR_FIFO ? FIFO_SIZE : 1;
        uart.room = 0;
    }
    machine_interrupts_restore(interrupts);
    return uart.present;
}

static void serial_describe(enum uart_origin origin)
{
    static const char names[UART_ORIGINS][12] = {"ACPI SPCR", "PCI", "COM1", "serial="};
    char baud[24] = "baud as it was";

    if (uart.place.baud != 0)
        print_to(baud, sizeof(baud), "%u baud", uart.place.baud);
    print_to(uart.description, sizeof(uart.description), "%s %#lx (%s), %s",
             uart.place.memory ? "memory at" : "I/O port", uart.place.base, names[origin], baud);
}

static bool try_origin(enum uart_origin origin, const struct reachable *reachable,
                       const struct acpi *acpi)
{
    struct uart_place place;

    for (unsigned number = 0; serial_find(origin, number, reachable, acpi, &place); number++) {
        if (serial_take(&place)) {
            serial_describe(origin);
            return true;
        }
    }
    return false;
}

void serial_start(const struct reachable *reachable, const struct acpi *acpi)
{
    const struct options *options = &reachable->info->options;

    /* A refused serial=PORT is an option error; a port that is found by itself shows the
     * refusal. */
    switch (options->serial == SERIAL_PORT && !serial_owns_port(options->serial_port)
                ? SERIAL_AUTO
                : options->serial) {
    case SERIAL_AUTO:
        for (unsigned origin = UART_SPCR; origin <= UART_COM1; origin++) {
            if (try_origin((enum uart_origin)origin, reachable, acpi))
                return;
        }
        break;
    case SERIAL_SPCR: try_origin(UART_SPCR, reachable, acpi); break;
    case SERIAL_PCI: try_origin(UART_PCI, reachable, acpi); break;
    case SERIAL_COM1: try_origin(UART_COM1, reachable, acpi); break;
    case SERIAL_PORT: try_origin(UART_NAMED, reachable, acpi); break;
    case SERIAL_NONE: break;
    }
}

void serial_relocated(void)
{
    if (!uart.present || !uart.place.memory)
        return;
    uart.memory = kernel_map_device((struct phys){uart.place.base},
                                    (uint64_t)UART_REGISTERS * uart.place.stride, DEVICE_UNCACHED);
    uart.present = uart.memory != NULL;
}

bool serial_present(void)
{
    return uart.present && !uart.dead;
}

int serial_read(void)
{
    uint8_t status = serial_present() ? uart_read(UART_LSR) : 0;

    /* A port that was taken out reads as all ones. */
    if (status == UINT8_MAX || (status & LSR_DATA) == 0)
        return -1;
    return uart_read(UART_THR);
}

/* The room is read once: another processor that prints at the same time, in a crash, may take the
 * last of it in between, and less than none would be room for ever. */
static void serial_put(char letter)
{
    unsigned room = uart.room;

    if (uart.dead)
        return;
    if (room == 0) {
        if (!serial_wait_for(LSR_THRE))
            return;
        room = uart.fifo;
    }
    uart_write(UART_THR, (uint8_t)letter);
    uart.room = room - 1;
}

void serial_write(const char *text, size_t size)
{
    if (!uart.present)
        return;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\n')
            serial_put('\r');
        serial_put(text[i]);
    }
}

void serial_drain(void)
{
    if (uart.present && !uart.dead)
        serial_wait_for(LSR_TEMT);
}

const char *serial_description(void)
{
    return uart.present ? uart.description : "none";
}
