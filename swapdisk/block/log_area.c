/* The log area of a prepared partition: a ring of pages behind the slots. */
#include "swapdisk/block/log_area.h"

#include <stdbool.h>

#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/format/log_page.h"

_Static_assert(LOG_PAGE_SIZE == PAGE_SIZE, "a frame holds a page of the log");

/* Pages of one command. */
#define LOG_BATCH 16U

/* The area while it is read and written. */
struct log_writer {
    const struct block_device *block;
    const struct swap_grant *grant;
    const struct swap_header *header;
    const struct pfn *frame;
    unsigned frames;
    uint64_t pages;    /* of the area */
    uint64_t run;      /* the newest run in it, 0 without one */
    uint64_t sequence; /* of that run's newest page */
    uint64_t next;     /* the page after that one */
};

static uint64_t log_lba(const struct log_writer *writer, uint64_t page)
{
    return writer->header->log_first_lba + page * SECTORS_PER_PAGE;
}

/* Returns how many pages the next command has, up to a limit. */
static unsigned batch_length(const struct log_writer *writer, uint64_t limit)
{
    return (unsigned)min_u64(min_u64(writer->frames, writer->block->request_pages), limit);
}

static void log_look_at(struct log_writer *writer, uint64_t place, const uint8_t *page)
{
    struct log_page log;

    if (!log_page_decode(page, &log) ||
        memcmp(log.set_uuid, writer->header->set_uuid, sizeof(log.set_uuid)) != 0 ||
        log.run < writer->run || (log.run == writer->run && log.sequence < writer->sequence))
        return;
    writer->run = log.run;
    writer->sequence = log.sequence;
    CHECK(place < writer->pages);
    writer->next = (place + 1) % writer->pages;
}

/* Finds the newest page of the newest run. */
static enum status log_find_end(struct log_writer *writer)
{
    for (uint64_t at = 0; at < writer->pages;) {
        unsigned pages = batch_length(writer, writer->pages - at);
        enum status status =
            block_read(writer->block, log_lba(writer, at), pages * SECTORS_PER_PAGE, writer->frame);

        if (status != OK)
            return status;
        for (unsigned i = 0; i < pages; i++)
            log_look_at(writer, at + i, frame_pointer(writer->frame[i]));
        at += pages;
    }
    return OK;
}

/* Copies a part of a log, which is inside it. */
static void log_text_copy(const struct log_text *log, uint64_t from, char *to, uint64_t size)
{
    uint64_t first = from < log->size ? min_u64(size, log->size - from) : 0;

    CHECK(from + size <= log->size + log->end_size);
    memcpy(to, log->text + from, first);
    if (size > first)
        memcpy(to + first, log->end + (from + first - log->size), size - first);
}

/* Puts a page of a log into a frame. */
static void log_put_page(const struct log_writer *writer, const struct log_text *text,
                         uint64_t sequence, struct pfn frame)
{
    uint64_t from = sequence * LOG_PAGE_TEXT;
    static char piece[LOG_PAGE_TEXT]; /* a crash may have little stack left */
    struct log_page log = {.run = writer->run + 1,
                           .sequence = sequence,
                           .length =
                               (uint32_t)min_u64(text->size + text->end_size - from, LOG_PAGE_TEXT),
                           .text = piece};

    CHECK(from < text->size + text->end_size && log.length > 0);
    log_text_copy(text, from, piece, log.length);
    memcpy(log.set_uuid, writer->header->set_uuid, sizeof(log.set_uuid));
    log_page_encode(frame_pointer(frame), &log);
}

/* Writes the pages of a log behind the newest page. If the log is longer than the area, leaves out
 * its beginning. */
static enum status log_write_pages(struct log_writer *writer, const struct log_text *log)
{
    uint64_t total = (log->size + log->end_size + LOG_PAGE_TEXT - 1) / LOG_PAGE_TEXT;
    uint64_t sequence = total > writer->pages ? total - writer->pages : 0;
    enum status status = OK;

    CHECK(writer->next < writer->pages);
    while (status == OK && sequence < total) {
        unsigned pages =
            batch_length(writer, min_u64(total - sequence, writer->pages - writer->next));

        for (unsigned i = 0; i < pages; i++)
            log_put_page(writer, log, sequence + i, writer->frame[i]);
        status = block_write(writer->block, writer->grant, log_lba(writer, writer->next),
                             pages * SECTORS_PER_PAGE, writer->frame);
        sequence += pages;
        writer->next = (writer->next + pages) % writer->pages;
    }
    return status == OK ? block_flush(writer->block) : status;
}

enum status log_area_store(const struct block_device *block, const struct swap_grant *grant,
                           const struct swap_header *header, const struct log_text *log,
                           const struct pfn *frames, unsigned count)
{
    struct log_writer writer = {.block = block,
                                .grant = grant,
                                .header = header,
                                .frame = frames,
                                .frames = count,
                                .pages = header->log_sectors / SECTORS_PER_PAGE};
    enum status status;

    CHECK(count > 0 && writer.pages > 0 && log->size > 0);
    status = log_find_end(&writer);
    return status == OK ? log_write_pages(&writer, log) : status;
}

enum status log_area_write(const struct block_device *block, const struct swap_grant *grant,
                           const struct swap_header *header, const struct log_text *log)
{
    struct pfn frames[LOG_BATCH];
    unsigned count = 0;
    enum status status = STATUS_NO_MEMORY;

    while (count < LOG_BATCH && pmm_alloc(FRAME_DEVICE, FRAME_CLEARED, &frames[count]) == OK)
        count++;
    if (count > 0)
        status = log_area_store(block, grant, header, log, frames, count);
    /* After an error the device may still reach the frames: they are not used again. */
    while (status == OK && count > 0)
        pmm_free(frames[--count]);
    return status;
}
