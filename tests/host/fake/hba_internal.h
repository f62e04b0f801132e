/*
 * Shared by the files of the fake controller: hba.c has its registers, hba_command.c carries out
 * commands. Context: host tests.
 */
#ifndef TESTS_HOST_FAKE_HBA_INTERNAL_H
#define TESTS_HOST_FAKE_HBA_INTERNAL_H

#include "lib/check.h"
#include "swapdisk/ahci/internal.h"
#include "tests/host/fake/hba.h"

#define TFD_READY UINT32_C(0x50)
#define TFD_ERROR UINT32_C(0x451)

/* Counts a complaint, and keeps the first one's text. */
void fake_complain(struct fake_hba *hba, const char *format, ...) PRINTF_LIKE(2, 3);

/* Writes to PxSACT and PxCI. */
void fake_hba_set_active(struct fake_hba *hba, unsigned port, uint32_t tags);
void fake_hba_issue(struct fake_hba *hba, unsigned port, uint32_t slots);

/* Lets time pass by one register read. */
void fake_hba_tick(struct fake_hba *hba);

/* Ends queued commands, if they are to end in any order; one of them at once, if there is one. */
void fake_hba_shuffle(struct fake_hba *hba);
void fake_hba_end_one(struct fake_hba *hba);

/* Updates IS from the ports' interrupts; a new bit in it is an edge, for which a message is
 * sent. */
void fake_hba_signal(struct fake_hba *hba);

/* Forgets all commands of a disk, as COMRESET does. */
void fake_hba_abandon(struct fake_port *port);

#endif
