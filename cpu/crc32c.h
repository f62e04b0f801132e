/*
 * CRC-32C without the CRC32 instruction, the fallback of machine_crc32c.
 *
 * Units: bytes. Owns: a table of 256 words, made at the first call; making it twice at once is
 * harmless, since both write the same. Fails with: nothing. Context: any.
 * Spec: RFC 3720, appendix B.4 (test values); polynomial 0x1EDC6F41, reflected.
 */
#ifndef CPU_CRC32C_H
#define CPU_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Returns the CRC of size bytes, continued from crc (0 to begin), inversions included. */
uint32_t crc32c_by_table(uint32_t crc, const void *data, size_t size);

#endif
