/*
 * The options of one run, parsed by efi/options/options.c.
 *
 * Every key is documented in README.md. Plain data without pointers, so that it moves with the
 * image.
 */
#ifndef LIB_OPTIONS_H
#define LIB_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#define OPTION_RUN_SIZE   256
#define OPTION_UUID_SIZE  16
#define OPTION_TRACE_SIZE 64

/* Sets and groups that swap= may name, and the largest priority. */
#define OPTION_SETS_MAX     16U
#define OPTION_PRIORITY_MAX 32767U

/* Default values. No experiment is silent for OPTION_WATCHDOG seconds, even on a slow emulator. */
#define OPTION_WATCHDOG 300U
#define OPTION_SECONDS  60U
#define OPTION_SPACES   65536U
#define OPTION_TAGS     32U

/* Where the log is kept beside the serial line. */
enum report_place {
    REPORT_AUTO, /* in the log area of the disk that is written, if it has one */
    REPORT_BOOT, /* and in memory, for the next start to save on the boot volume */
    REPORT_NONE
};

enum exit_method { EXIT_AUTO, EXIT_POWEROFF, EXIT_REBOOT, EXIT_HALT, EXIT_DEBUG };
enum serial_kind { SERIAL_AUTO, SERIAL_NONE, SERIAL_SPCR, SERIAL_PCI, SERIAL_COM1, SERIAL_PORT };
enum la57_way { LA57_AUTO, LA57_OFF, LA57_ON };
enum swap_kind { SWAP_AUTO, SWAP_NONE, SWAP_SET };

/* One entry of swap=: a set, or a group of sets. */
struct swap_choice {
    uint8_t uuid[OPTION_UUID_SIZE]; /* in the byte order of its text */
    uint16_t priority;              /* areas of a higher one are filled first; 0 unless given */
};

/* When a call is refused because too much memory would be promised: see vmm/space/commit.h. */
enum overcommit_policy {
    OVERCOMMIT_HEURISTIC,
    OVERCOMMIT_NEVER,
    OVERCOMMIT_ALWAYS,
    OVERCOMMIT_POLICIES
};

/* How page tables are reached where there is a choice: see paging/tree/table_access.h. */
enum table_access { TABLES_DIRECT, TABLES_RECURSIVE, TABLES_WINDOW };

struct options {
    char run[OPTION_RUN_SIZE]; /* experiment names or globs, comma-separated; "" = all */
    uint64_t memory_limit;     /* bytes that may be used; 0 = all there are */
    uint64_t seed;             /* of every pseudo-random choice; 1 unless given */
    uint32_t cpus;             /* processors that may be used; 0 = all */
    enum swap_kind swap;       /* auto unless given */
    uint32_t swap_sets;        /* SWAP_SET: entries of swap_set; no UUID twice */
    struct swap_choice swap_set[OPTION_SETS_MAX];
    bool files;                           /* a set of files may be written */
    uint8_t files_uuid[OPTION_UUID_SIZE]; /* which one, in the byte order of its text */
    enum serial_kind serial;
    uint16_t serial_port; /* SERIAL_PORT: the I/O port of a 16550 */
    enum exit_method exit;
    enum la57_way la57; /* levels of page tables: as the firmware has them unless given */
    enum table_access tables;
    uint32_t pmm;                      /* frame_allocator(pmm); LLFree unless given */
    uint32_t policy;                   /* 0: the clocks; else policy_at(policy - 1) */
    enum overcommit_policy overcommit; /* heuristic unless given */
    uint32_t spaces;                   /* address spaces at once; 65,536 unless given */
    uint32_t regions;                  /* of one address space; 0, as unless given: any number */
    uint32_t watchdog;                 /* seconds without progress that end the run; 0 = never */
    uint32_t deadline;                 /* seconds that the whole run may take; 0 = no limit */
    uint32_t tags;    /* commands in flight on the swap disk; 0 = as many as it takes */
    uint32_t seconds; /* that `stress`, `model-long` and `frame-stress-minute` take */
    enum report_place report;
    char trace
        [OPTION_TRACE_SIZE]; /* file on the boot volume, without the first backslash; "": none */
    bool menu;               /* open the menu at the start */
    bool prompt;             /* take commands on the serial line after the run */
    bool wipe;               /* zero the used slots of the swap disk at the end */
};

#endif
