/* Where the log of a run is kept beside the serial line. */
#include "tests/runner/keep_log.h"

#include <stdbool.h>
#include <stddef.h>

#include "cpu/crash/crash.h"
#include "efi/log/kept_log.h"
#include "lib/bytes.h"
#include "lib/ktap.h"
#include "lib/print.h"
#include "swapdisk/area.h"
#include "swapdisk/block/log_area.h"
#include "swapdisk/disks.h"
#include "swapdisk/log/crash_log.h"

/* Writes of the log: a command that fails and is healed adds a line to it, and one more write has
 * that line. */
#define WRITES_MOST 2U

/* The end of the log, before it is printed. */
static struct {
    struct print_sink sink; /* first, so that a sink is the whole */
    size_t size;
    char text[KTAP_END_SIZE];
} ending;

static bool wanted;

static void ending_write(struct print_sink *sink, const char *text, size_t size)
{
    (void)sink;
    size = min_u64(size, sizeof(ending.text) - ending.size);
    memcpy(ending.text + ending.size, text, size);
    ending.size += size;
}

/* Returns what the log keeper of crashes did, NULL for nothing. */
static const char *keep_crash_log(void)
{
    enum status status;
    const char *text;
    size_t size;

    text = kept_log_text(&size);
    status = crash_log_write(text, size);
    switch (status) {
    case OK: return "the log is in the log area of the swap disk";
    case STATUS_NOT_FOUND: return NULL;
    case STATUS_REFUSED:
        return "the log is not on the disk: the driver was in the middle of a step";
    case STATUS_CORRUPT: return "the log is not on the disk: its headers have changed";
    case STATUS_TIMEOUT: return "the log is not on the disk: it does not answer in time";
    default: return "the log is not on the disk: it reports an error";
    }
}

void keep_log_ready(const struct options *options)
{
    wanted = options->report != REPORT_NONE;
    if (!wanted)
        return;
    crash_log_ready();
    crash_set_log_keeper(keep_crash_log);
}

/* Writes the log once; sets whether it has grown meanwhile. */
static enum status write_once(bool *grew)
{
    struct log_text log;
    enum status status;
    size_t size;

    ending.sink.write = ending_write;
    ending.size = 0;
    ktap_rehearse_end(&ending.sink);
    log.text = kept_log_text(&log.size);
    log.end = ending.text;
    log.end_size = ending.size;
    status = swap_log_write(&log);
    (void)kept_log_text(&size);
    *grew = size > log.size;
    return status;
}

enum status keep_log(void)
{
    enum status status = STATUS_NOT_FOUND;
    bool grew = wanted;

    crash_set_log_keeper(NULL);
    crash_log_over();
    for (unsigned i = 0; i < WRITES_MOST && grew; i++) {
        status = write_once(&grew);
        if (grew)
            disks_log_totals();
        if (status != OK)
            break;
    }
    if (status != OK && status != STATUS_NOT_FOUND)
        ktap_fail("writing the log to the swap disk: %s", status_name(status));
    return status;
}
