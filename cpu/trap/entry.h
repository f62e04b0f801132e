/*
 * Labels of cpu/trap/trap.S, and the data that C shares with it; for cpu/ only.
 *
 * Owns: nothing. Fails with: nothing. Context: any.
 */
#ifndef CPU_TRAP_ENTRY_H
#define CPU_TRAP_ENTRY_H

#include <stdint.h>

extern const char trap_stubs[]; /* TRAP_VECTORS entries, TRAP_STUB_SIZE bytes apart */
#define TRAP_STUB_SIZE 16U

/* Entries that replace those of trap_stubs. */
extern const char trap_page_fault_stub[];
extern const char trap_page_fault_stub_smap[];
extern const char trap_nmi_stub[];

extern const char trap_return_stub[]; /* nothing but IRETQ */

/* Bounds of the entry code, for the backtrace. */
extern const char trap_entry_start[];
extern const char trap_entry_end[];

/* Below the top of the NMI stack: the word that trap_nmi_stub sets while it runs. */
#define NMI_MARK 48U

/* NMIs that arrived while one was handled, on all processors. */
extern uint64_t trap_nmis_nested;

#endif
