/*
 * The two 8259A interrupt controllers, which Faultline does not use.
 *
 * Units: vectors. Owns: the controllers' ports. State: firmware's -> pic_init -> masked.
 * Fails with: nothing. Context: any, interrupts off.
 * Spec: Intel 8259A data sheet.
 */
#ifndef CPU_INTERRUPTS_PIC_H
#define CPU_INTERRUPTS_PIC_H

#include <stdbool.h>

/* Moves the controllers' interrupts to PIC_VECTOR, away from the exceptions, and masks them. */
#define PIC_VECTOR 0x20U
void pic_init(void);

/* Acknowledges a stray interrupt, vector PIC_VECTOR to PIC_VECTOR + 15. Returns false if it was
 * spurious. */
bool pic_end_stray(unsigned vector);

#endif
