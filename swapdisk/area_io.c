/* The swap area's transfers: pages to and from slots, with their check values. */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "pmm/pmm.h"
#include "swapdisk/area_internal.h"
#include "swapdisk/mark.h"
#include "swapdisk/slots.h"

/* Slots that are tried for one page, besides its first. */
#define EXCHANGES 4U

static void area_add(uint64_t *counter, uint64_t by)
{
    __atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
}

uint64_t area_lba(struct slot slot)
{
    return area.first_lba + (uint64_t)slot.index * SECTORS_PER_PAGE;
}

/* Marks the disk as in use before a write. Few writes find it unmarked. */
static enum status ensure_mark(uint32_t end_slot)
{
    enum status status;

    if (mark_covers(end_slot))
        return OK;
    mutex_lock(&area.mark_lock);
    status = mark_ensure(end_slot);
    mutex_unlock(&area.mark_lock);
    return status;
}

/* Transfers the pages of consecutive slots, by as few requests as possible. */
static enum status area_transfer(enum disk_operation operation, struct slot first,
                                 const struct pfn *frames, unsigned pages)
{
    enum status status = OK;

    while (status == OK && pages > 0) {
        unsigned now = (unsigned)min_u64(pages, area.block.request_pages);
        struct disk_request request = {.operation = operation,
                                       .lba = area_lba(first),
                                       .sectors = now * SECTORS_PER_PAGE,
                                       .frames = frames,
                                       .grant = area.disk.grant};

        block_submit(&area.block, &request);
        status = block_wait(&area.block, &request);
        first.index += now;
        frames += now;
        pages -= now;
    }
    return status;
}

enum status area_store(struct slot first, const struct pfn *frames, unsigned pages)
{
    enum status status = OK;

    if (area.backing == SWAP_BACKING_DISK)
        status = ensure_mark(first.index + pages);
    return status == OK ? area_transfer(DISK_WRITE, first, frames, pages) : status;
}

static enum status area_load(struct slot first, const struct pfn *frames, unsigned pages)
{
    return area_transfer(DISK_READ, first, frames, pages);
}

/* Checks that all slots of a transfer exist and are held. */
static void check_run(struct slot first, const struct pfn *frames, unsigned pages)
{
    CHECK(area.open && frames != NULL && pages > 0);
    CHECK_MSG(first.index < slots_total() && pages <= slots_total() - first.index,
              "slots %x + %x of %x", first.index, pages, slots_total());
    for (unsigned i = 0; i < pages; i++)
        CHECK_MSG(slots_record((struct slot){first.index + i})->count > 0, "slot %x is not held",
                  first.index + i);
}

/* Starts a new generation of a slot, with the check value of the page to be written. */
static void slot_begin_generation(struct slot slot, struct pfn frame)
{
    struct slot_record *record = slots_record(slot);
    uint32_t generation = (record->generation + 1) & SLOT_GENERATION_MASK;

    /* Generation 0 means never written, and the largest that the slot is bad. */
    generation = generation == 0 || generation == SLOT_RETIRED ? 1 : generation;
    record->generation = generation;
    record->check = slots_check_value(slot, generation, frame_pointer(frame));
}

static void finish_slots(struct slot first, unsigned pages)
{
    for (unsigned i = 0; i < pages; i++)
        slots_record((struct slot){first.index + i})->generation |= SLOT_FULL;
    area_add(&area.pages_written, pages);
}

enum status swap_write_run(struct slot first, const struct pfn *frames, unsigned pages)
{
    enum status status;

    check_run(first, frames, pages);
    for (unsigned i = 0; i < pages; i++)
        slot_begin_generation((struct slot){first.index + i}, frames[i]);
    status = area_store(first, frames, pages);
    if (status != OK) {
        area_add(&area.errors, 1);
        return status;
    }
    finish_slots(first, pages);
    return OK;
}

/* Returns whether a page that was read has the check value of its write. Zeroes it otherwise. */
static bool page_intact(struct slot slot, struct pfn frame)
{
    const struct slot_record *record = slots_record(slot);

    if (slots_check_value(slot, record->generation, frame_pointer(frame)) == record->check)
        return true;
    machine_clear_frame(frame_pointer(frame));
    area_add(&area.corrupt, 1);
    return false;
}

/* As check_run, for slots that are to be read. */
static void check_full(struct slot first, const struct pfn *frames, unsigned pages)
{
    check_run(first, frames, pages);
    for (unsigned i = 0; i < pages; i++)
        CHECK_MSG((slots_record((struct slot){first.index + i})->generation & SLOT_FULL) != 0,
                  "reading slot %x, which holds no page", first.index + i);
}

enum status swap_read_run(struct slot first, const struct pfn *frames, unsigned pages)
{
    enum status status;

    check_full(first, frames, pages);
    status = area_load(first, frames, pages);
    if (status != OK) {
        area_add(&area.errors, 1);
        return status;
    }
    area_add(&area.pages_read, pages);
    for (unsigned i = 0; i < pages; i++) {
        if (!page_intact((struct slot){first.index + i}, frames[i]))
            status = STATUS_CORRUPT;
    }
    return status;
}

void swap_read_in(struct slot first, const struct pfn *frames, unsigned count, unsigned needed,
                  enum status *read)
{
    enum status status = OK;

    CHECK(needed < count);
    if (count > 1) {
        check_full(first, frames, count);
        status = area_load(first, frames, count);
        if (status != OK)
            area_add(&area.errors, 1);
    }
    if (count == 1 || status != OK) {
        for (unsigned i = 0; i < count; i++)
            read[i] = status;
        read[needed] = swap_read((struct slot){first.index + needed}, frames[needed]);
        return;
    }
    area_add(&area.pages_read, count);
    for (unsigned i = 0; i < count; i++)
        read[i] = page_intact((struct slot){first.index + i}, frames[i]) ? OK : STATUS_CORRUPT;
}

enum status swap_write(struct slot slot, struct pfn frame)
{
    return swap_write_run(slot, &frame, 1);
}

enum status swap_read(struct slot slot, struct pfn frame)
{
    return swap_read_run(slot, &frame, 1);
}

/* ---- writing out, with other slots for those that fail (rule D3) ---- */

/* Retires a slot whose writes fail, and takes another one for its page. Returns false if there is
 * none. */
static bool exchange_slot(struct slot *slot)
{
    struct slot bad = *slot;
    unsigned got;

    slots_give_up(bad);
    area_add(&area.retired, 1);
    ktap_note("swap: slot %u is bad and not used any more", bad.index);
    CHECK(slots_is_retired(bad));
    *slot = SLOT_NONE;
    return slots_take(1, slot, &got) == OK;
}

/* Writes one page; a slot that fails while the disk serves is exchanged, a few times. */
static enum status write_page(struct slot *slot, struct pfn frame)
{
    enum status status = swap_write_run(*slot, &frame, 1);

    for (unsigned i = 0; i < EXCHANGES && status == STATUS_IO && block_serves(&area.block); i++) {
        if (!exchange_slot(slot))
            return STATUS_NO_SPACE;
        status = swap_write_run(*slot, &frame, 1);
    }
    return status;
}

/* Returns the end of the run of consecutive slots from `from` that one request takes. */
static unsigned run_end(const struct slot *slots, unsigned from, unsigned count)
{
    unsigned to = from + 1;

    CHECK(from < count);
    while (to < count && to - from < area.block.request_pages &&
           slots[to].index == slots[to - 1].index + 1)
        to++;
    return to;
}

/* Submits the requests of all runs. Returns their number. */
static unsigned submit_runs(const struct slot *slots, const struct pfn *frames, unsigned count,
                            struct disk_request *requests)
{
    unsigned runs = 0;
    unsigned to;

    for (unsigned from = 0; from < count; from = to) {
        to = run_end(slots, from, count);
        check_run(slots[from], frames + from, to - from);
        for (unsigned i = from; i < to; i++)
            slot_begin_generation(slots[i], frames[i]);
        requests[runs] = (struct disk_request){.operation = DISK_WRITE,
                                               .lba = area_lba(slots[from]),
                                               .sectors = (to - from) * SECTORS_PER_PAGE,
                                               .frames = frames + from,
                                               .grant = area.disk.grant};
        block_submit(&area.block, &requests[runs++]);
    }
    return runs;
}

static enum status mark_all(const struct slot *slots, unsigned count)
{
    enum status status = OK;

    for (unsigned i = 0; i < count && status == OK && area.backing == SWAP_BACKING_DISK; i++)
        status = ensure_mark(slots[i].index + 1);
    return status;
}

enum status swap_write_out(struct slot *slots, const struct pfn *frames, unsigned count, bool *done)
{
    struct disk_request requests[SWAP_WRITE_OUT_MAX];
    enum status result = mark_all(slots, count);
    unsigned at = 0;
    unsigned runs;

    CHECK(count > 0 && count <= SWAP_WRITE_OUT_MAX);
    if (result != OK)
        return result;
    runs = submit_runs(slots, frames, count, requests);
    for (unsigned run = 0; run < runs; run++) {
        enum status status = block_wait(&area.block, &requests[run]);
        unsigned end = at + requests[run].sectors / SECTORS_PER_PAGE;

        if (status == OK)
            finish_slots(slots[at], end - at);
        else
            area_add(&area.errors, 1);
        for (; at < end; at++) {
            enum status one = status == OK ? OK : write_page(&slots[at], frames[at]);

            done[at] = one == OK;
            if (one != OK)
                result = one;
        }
    }
    return result;
}
