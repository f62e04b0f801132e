/*
 * Layout of the trampoline's page: offsets for C and for assembly.
 */
#ifndef CPU_SMP_START_LAYOUT_H
#define CPU_SMP_START_LAYOUT_H

#define START_GDT         0x800 /* four descriptors of 8 bytes */
#define START_GDT_POINTER 0x820 /* limit, 32-bit base */
#define START_FAR_32      0x828 /* offset in the page, selector */
#define START_FAR_64      0x830 /* linear address, selector */
#define START_CR3         0x838
#define START_CR4         0x840
#define START_EFER        0x848
#define START_CR0         0x850
#define START_STACK       0x858
#define START_ARGUMENT    0x860
#define START_ENTRY       0x868

#define START_CODE_32 8
#define START_DATA_32 16
#define START_CODE_64 24

#endif
