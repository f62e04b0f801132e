/*
 * The two cyclic checksums of the on-disk formats, computed without the processor's help.
 *
 * Formats that decide whether a disk may be written do not depend on an instruction that a
 * processor may lack; page contents use machine_crc32c() instead, which is faster.
 *
 * Units: bytes. Owns: nothing; pure. Cannot fail. Context: any.
 * Spec: UEFI 2.10, 5.3.2 (CRC-32, polynomial 0x04C11DB7); RFC 3720, B.4 (CRC-32C, 0x1EDC6F41).
 */
#ifndef SWAPDISK_FORMAT_CHECKSUM_H
#define SWAPDISK_FORMAT_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Returns the checksum continued from crc, 0 at the start. Includes the initial and final
 * inversion. */
uint32_t checksum_crc32(uint32_t crc, const void *data, size_t size);
uint32_t checksum_crc32c(uint32_t crc, const void *data, size_t size);

#endif
