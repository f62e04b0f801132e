/*
 * Payloads: the few pieces of code that tests run in ring 3.
 *
 * They are assembled into a section of the image of their own, know no address but those in their
 * registers, and are copied into the pages of a program. The kernel never executes the original.
 *
 * Units: bytes. Owns: nothing. Context: thread.
 */
#ifndef TESTS_RUNNER_USER_CODE_H
#define TESTS_RUNNER_USER_CODE_H

#include <stdint.h>

#include "lib/status.h"
#include "vmm/program/program.h"

/* Each entry is an address in the image; user_code_address returns the address for a program. */

/* Exits with RDI. */
extern const char user_code_exit[];

/* Measured: between two readings of the time-stamp counter, RSI times, with RDI growing by RDX. The
 * ticks go to the array of 64-bit words at RCX. Then exit 0. */
extern const char user_code_measure_read[];
extern const char user_code_measure_write[];
extern const char user_code_measure_nothing[];
extern const char user_code_measure_call[];      /* PROGRAM_NULL */
extern const char user_code_measure_map[];       /* PROGRAM_MAP of the page at RDI, PROGRAM_UNMAP */
extern const char user_code_measure_map_touch[]; /* with a store to the page in between */

/* The same at addresses from the array at RCX; each one's ticks replace its address. */
extern const char user_code_measure_listed_read[];
extern const char user_code_measure_listed_write[];

/* The same of system call R8 with RDI, and R9 and R10 as its other arguments; exits with the status
 * of the last. */
extern const char user_code_measure_range_call[];
extern const char user_code_measure_range_no_call[]; /* the loads alone */

/* Reads, writes or executes at RDI, then exits with the value read, or 0. */
extern const char user_code_read[];
extern const char user_code_write[];
extern const char user_code_jump[];

/* A handler of violations: steps over the store of user_code_measure_write or user_code_write. */
extern const char user_code_skip_handler[];

/* A handler that makes the page of the violation writable, so that the store is repeated. */
extern const char user_code_allow_handler[];

/* Names the handler at RSI, stores to RDI, and exits with the number of times that the handler ran,
 * which counts in RBX. */
extern const char user_code_counts[];
extern const char user_code_count_handler[];

/* Executes privileged or undefined instructions. */
extern const char user_code_hlt[];
extern const char user_code_ud2[];

/* Maps a page at RDI by system call, writes it, reads it back, unmaps it; exits with the value
 * read, or with the first status that was not OK. */
extern const char user_code_map[];

/* Makes the system call RSI with RDI and exits with its result. */
extern const char user_code_call[];

/* Puts patterns that follow from RDI into x87, SSE and, if RDX is not 0, AVX registers, makes
 * PROGRAM_NULL calls, and exits with the number of registers that have changed, over RSI rounds. */
extern const char user_code_vectors[];

/* Exits with the x87 and SSE registers that it finds: MXCSR, FCW from bit 32, FTW from bit 48; all
 * inverted if a vector register is not 0. */
extern const char user_code_vectors_initial[];

/* Bytes of the store that user_code_skip_handler steps over. */
#define USER_CODE_STORE_LENGTH 3U

/* Where programs have the pieces of user code, their stack, and a buffer that they may write. */
#define USER_CODE_CODE   UINT64_C(0x400000)
#define USER_CODE_STACK  UINT64_C(0x7ff000) /* its top; 16 KiB below it are mapped */
#define USER_CODE_BUFFER UINT64_C(0x800000)

#define USER_CODE_BUFFER_SIZE (64 * KIB)

/* Maps code, stack and buffer into the space that runs, and copies the pieces of user code
 * there. */
MUST_USE enum status user_code_install(struct space *space);

/* Returns a program that will run a user code. */
struct program user_code_program(struct space *space, const char *code, uint64_t argument);

/* Returns the address of a user code in a program. */
uint64_t user_code_address(const char *code);

#endif
