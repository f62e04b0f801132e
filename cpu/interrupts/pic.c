/* The 8259A interrupt controllers: moved away from the exceptions' vectors, and silenced. */
#include "cpu/interrupts/pic.h"

#include "cpu/port.h"
#include "lib/check.h"

/* Intel 8259A data sheet, 'Programming the 8259A'. */
#define PIC_MASTER  UINT16_C(0x20)
#define PIC_SLAVE   UINT16_C(0xa0)
#define PIC_DATA    UINT16_C(1)   /* from the command port */
#define ICW1_INIT   UINT8_C(0x11) /* edge-triggered, cascaded, ICW4 follows */
#define ICW3_MASTER UINT8_C(0x04) /* the slave is on line 2 */
#define ICW3_SLAVE  UINT8_C(0x02)
#define ICW4_8086   UINT8_C(0x01)
#define OCW2_EOI    UINT8_C(0x20)
#define OCW3_ISR    UINT8_C(0x0b) /* the next read gives the in-service register */

#define PORT_DELAY UINT16_C(0x80) /* the POST code port: a write takes about 1 us */

static void write_with_delay(uint16_t port, uint8_t value)
{
    port_out8(port, value);
    port_out8(PORT_DELAY, 0);
}

void pic_init(void)
{
    write_with_delay(PIC_MASTER, ICW1_INIT);
    write_with_delay(PIC_SLAVE, ICW1_INIT);
    write_with_delay(PIC_MASTER + PIC_DATA, PIC_VECTOR);
    write_with_delay(PIC_SLAVE + PIC_DATA, PIC_VECTOR + 8);
    write_with_delay(PIC_MASTER + PIC_DATA, ICW3_MASTER);
    write_with_delay(PIC_SLAVE + PIC_DATA, ICW3_SLAVE);
    write_with_delay(PIC_MASTER + PIC_DATA, ICW4_8086);
    write_with_delay(PIC_SLAVE + PIC_DATA, ICW4_8086);
    write_with_delay(PIC_MASTER + PIC_DATA, 0xff);
    write_with_delay(PIC_SLAVE + PIC_DATA, 0xff);
}

static bool in_service(uint16_t pic, unsigned line)
{
    port_out8(pic, OCW3_ISR);
    return (port_in8(pic) >> line & 1) != 0;
}

/* Ends a stray interrupt; returns false if it was spurious. A spurious request appears as line 7
 * with nothing in service, and must not be ended. If the slave's was spurious, the master still has
 * its own to end. */
bool pic_end_stray(unsigned vector)
{
    unsigned line = vector - PIC_VECTOR;

    CHECK(line < 16);
    if (line < 8) {
        if (!in_service(PIC_MASTER, line))
            return false;
        port_out8(PIC_MASTER, OCW2_EOI);
        return true;
    }
    if (in_service(PIC_SLAVE, line - 8)) {
        port_out8(PIC_SLAVE, OCW2_EOI);
        port_out8(PIC_MASTER, OCW2_EOI);
        return true;
    }
    if (in_service(PIC_MASTER, 2))
        port_out8(PIC_MASTER, OCW2_EOI);
    return false;
}
