/*
 * Swap areas: writing pages to slots, with other slots for those that fail (rule D3).
 *
 * A page is written to every disk of its area that can be written. It is safe once one of them has
 * it. If another one fails it although that disk serves, the page gets another slot, so that it has
 * two copies again; if there is none, the one copy does.
 */
#include "cpu/machine.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/area/internal.h"

/* Slots that are tried for one page, besides its first. */
#define EXCHANGES 4U

/* The outcome of a write to all disks of an area. */
enum copies {
    COPIES_NONE, /* no disk has all pages */
    COPIES_SOME, /* one has, and another one that serves failed */
    COPIES_ALL   /* all that can be written have */
};

/* A run of consecutive slots that is being written: a request for each disk that is written. */
struct run {
    struct swap_area *area;
    struct slot first;
    const struct pfn *frames;
    unsigned pages;
    unsigned disks; /* a bit for each disk that has a request */
    struct disk_request *requests;
};

/* Starts a new generation of a slot, with the check value of the page to be written. */
static void slot_begin_generation(struct slot slot, struct pfn frame)
{
    struct slot_record *record = slots_record(slot);
    uint32_t generation = (record->generation + 1) & SLOT_GENERATION_MASK;

    /* Generation 0 means never written, and the largest that the slot is bad. */
    generation = generation == 0 || generation == SLOT_RETIRED ? 1 : generation;
    record->check = slots_check_value(slot, generation, frame_pointer(frame));
    record->generation = generation | (record->generation & (SLOT_BADS | SLOT_STALE));
}

/* Ends the write of slots that these disks have, a bit for each. They are stale once they are
 * free. */
static void finish_slots(struct slot first, unsigned pages, unsigned disks)
{
    CHECK(disks > 0 && disks < 1U << AREA_DISKS_MAX);
    for (unsigned i = 0; i < pages; i++)
        slots_record((struct slot){first.index + i})->generation |=
            SLOT_FULL | SLOT_STALE | disks * SLOT_COPY(0);
    area_add(&swap.counted.pages_written, pages);
}

/* Submits a run to the disks that can be written. Returns the number of requests. */
static unsigned run_submit(struct run *run)
{
    struct swap_area *area = run->area;
    unsigned used = 0;

    run->disks = area_mark(area, area_slot(area, run->first) + run->pages);
    for (unsigned i = 0; i < area->disk_count; i++) {
        struct area_disk *disk = &area->disks[i];

        if ((run->disks >> i & 1) == 0)
            continue;
        run->requests[used] = (struct disk_request){.operation = DISK_WRITE,
                                                    .lba = area_lba(area, disk, run->first),
                                                    .sectors = run->pages * SECTORS_PER_PAGE,
                                                    .frames = run->frames,
                                                    .grant = disk->disk.grant};
        block_submit(&disk->block, &run->requests[used++]);
    }
    return used;
}

/* Awaits the requests of a run. Sets *status to the last failure. */
static enum copies run_await(const struct run *run, enum status *status)
{
    struct swap_area *area = run->area;
    struct disk_request *request = run->requests;
    unsigned good = 0;
    unsigned bad = 0;

    *status = run->disks == 0 ? STATUS_IO : OK;
    for (unsigned i = 0; i < area->disk_count; i++) {
        struct area_disk *disk = &area->disks[i];
        enum status one;

        if ((run->disks >> i & 1) == 0)
            continue;
        one = block_wait(&disk->block, request++);
        area_note_write(area, disk, one != OK);
        if (one == OK) {
            area_add(&disk->counted.pages_written, run->pages);
            good |= 1U << i;
            continue;
        }
        *status = one;
        area_add(&disk->counted.failed, 1);
        bad += area_disk_writable(disk);
    }
    if (good == 0) {
        area_add(&swap.counted.errors, 1);
        return COPIES_NONE;
    }
    finish_slots(run->first, run->pages, good);
    return bad == 0 ? COPIES_ALL : COPIES_SOME;
}

/* Writes the pages of consecutive slots that one request takes. */
static enum copies area_write_once(struct slot first, const struct pfn *frames, unsigned pages,
                                   enum status *status)
{
    struct disk_request requests[AREA_DISKS_MAX];
    struct run run = {.area = swap_area_of(first),
                      .first = first,
                      .frames = frames,
                      .pages = pages,
                      .requests = requests};

    for (unsigned i = 0; i < pages; i++)
        slot_begin_generation((struct slot){first.index + i}, frames[i]);
    run_submit(&run);
    return run_await(&run, status);
}

/* Returns the pages that one request to each disk of an area takes. */
static unsigned request_pages(const struct swap_area *area)
{
    uint64_t most = UINT32_MAX;

    for (unsigned i = 0; i < area->disk_count; i++) {
        if (area_disk_there(&area->disks[i]))
            most = min_u64(most, area->disks[i].block.request_pages);
    }
    CHECK(most > 0 && most < UINT32_MAX);
    return (unsigned)most;
}

enum status swap_write_run(struct slot first, const struct pfn *frames, unsigned pages)
{
    unsigned most;

    area_check_run(first, frames, pages);
    most = request_pages(swap_area_of(first));
    for (unsigned done = 0; done < pages; done += most) {
        enum status status;

        if (area_write_once((struct slot){first.index + done}, frames + done,
                            (unsigned)min_u64(pages - done, most), &status) == COPIES_NONE)
            return status;
    }
    return OK;
}

enum status swap_write(struct slot slot, struct pfn frame)
{
    return swap_write_run(slot, &frame, 1);
}

/* ---- other slots for pages that fail ---- */

/* Returns the disks that serve and have failed the write of a slot, a bit for each. */
static unsigned failed_disks(const struct swap_area *area, struct slot slot)
{
    unsigned copies = slots_copies(slot);
    unsigned failed = 0;

    for (unsigned i = 0; i < area->disk_count; i++) {
        if (area_disk_writable(&area->disks[i]) && (copies >> i & 1) == 0)
            failed |= 1U << i;
    }
    return failed;
}

/* Keeps a page in a slot that one half of a mirror fails, since there is no other one. The slot is
 * retired once it is free, and nothing more is written to that place. */
static void keep_one_copy(struct slot slot)
{
    struct swap_area *area = swap_area_of(slot);
    unsigned failed = failed_disks(area, slot) & ~slots_bad_disks(slot);

    for (unsigned i = 0; i < area->disk_count; i++) {
        if ((failed >> i & 1) == 0)
            continue;
        slots_condemn(slot, i);
        area_add(&area->disks[i].counted.retired, 1);
        area_note_slot("slot %u of disk %s is bad, and retired once it is free",
                       area_slot(area, slot), area->disks[i].block.name);
    }
}

/* Ends the use of a slot whose write has failed: it is retired if a disk that failed it serves,
 * otherwise free, of an area that gives out no more. */
static void leave_slot(struct slot bad)
{
    struct swap_area *area = swap_area_of(bad);
    unsigned failed = failed_disks(area, bad);

    if (failed == 0) {
        swap_release(bad);
        return;
    }
    slots_give_up(bad, failed);
    for (unsigned i = 0; i < area->disk_count; i++)
        area_add(&area->disks[i].counted.retired, failed >> i & 1);
    area_note_slot("slot %u of disk %s is bad and not used any more", area_slot(area, bad),
                   swap_disk_serial(bad));
    CHECK(slots_is_retired(bad));
}

/* Returns whether a page whose write ended so is to get another slot: its place is bad, or its area
 * has died. */
static bool wants_exchange(struct slot slot, enum copies copies, enum status status)
{
    const struct swap_area *area = swap_area_of(slot);
    bool writable = false;

    if (copies != COPIES_NONE)
        return copies == COPIES_SOME;
    for (unsigned i = 0; i < area->disk_count; i++)
        writable = writable || area_disk_writable(&area->disks[i]);
    return swap.backing == SWAP_BACKING_DISK && (!writable || status == STATUS_IO);
}

/* Moves a page's write from a slot that failed to another one. Returns false if there is none, with
 * the slot as it was, or SLOT_NONE if it is bad and has no copy. */
static bool exchange_slot(struct slot *slot, enum copies copies, enum status *status)
{
    struct slot next;
    enum status taken = swap_alloc(&next);

    if (taken == OK) {
        leave_slot(*slot);
        *slot = next;
        return true;
    }
    if (copies == COPIES_NONE && taken == STATUS_NO_SPACE) {
        leave_slot(*slot);
        *slot = SLOT_NONE;
        *status = taken;
    }
    return false;
}

/* Writes one page; a slot that fails is exchanged, a few times, and once more for each area. */
static enum status write_page(struct slot *slot, struct pfn frame)
{
    enum status status;
    enum copies copies = area_write_once(*slot, &frame, 1, &status);

    for (unsigned i = 0; i < EXCHANGES + swap.count && wants_exchange(*slot, copies, status); i++) {
        if (!exchange_slot(slot, copies, &status))
            break;
        copies = area_write_once(*slot, &frame, 1, &status);
    }
    if (copies == COPIES_SOME)
        keep_one_copy(*slot);
    return copies == COPIES_NONE ? status : OK;
}

/* ---- batches ---- */

/* A batch of writes, of which as many runs are under way as there are requests. */
struct batch {
    struct slot *slots;
    const struct pfn *frames;
    unsigned count;
    bool *done;
    unsigned runs;
    unsigned used; /* requests */
    struct run run[SWAP_WRITE_OUT_MAX];
    struct disk_request requests[SWAP_WRITE_OUT_MAX];
};

/* Returns the end of the run of consecutive slots from `from` that one request takes. */
static unsigned run_end(const struct batch *batch, unsigned from)
{
    unsigned most = request_pages(swap_area_of(batch->slots[from]));
    unsigned to = from + 1;

    CHECK(from < batch->count);
    while (to < batch->count && to - from < most &&
           batch->slots[to].index == batch->slots[to - 1].index + 1)
        to++;
    return to;
}

/* Submits runs from `from` on while there are requests. Returns the first page that is left. */
static unsigned submit_runs(struct batch *batch, unsigned from)
{
    batch->runs = batch->used = 0;
    while (from < batch->count &&
           batch->used + swap_area_of(batch->slots[from])->disk_count <= SWAP_WRITE_OUT_MAX) {
        unsigned to = run_end(batch, from);
        struct run *run = &batch->run[batch->runs++];

        *run = (struct run){.area = swap_area_of(batch->slots[from]),
                            .first = batch->slots[from],
                            .frames = batch->frames + from,
                            .pages = to - from,
                            .requests = batch->requests + batch->used};
        area_check_run(run->first, run->frames, run->pages);
        for (unsigned i = from; i < to; i++)
            slot_begin_generation(batch->slots[i], batch->frames[i]);
        batch->used += run_submit(run);
        from = to;
    }
    return from;
}

/* Awaits the runs of the pages from `at` on; each page of one that failed is written alone. Returns
 * the last failure. */
static enum status finish_runs(struct batch *batch, unsigned at)
{
    enum status result = OK;

    for (unsigned number = 0; number < batch->runs; number++) {
        const struct run *run = &batch->run[number];
        unsigned end = at + run->pages;
        enum status status;
        enum copies copies = run_await(run, &status);

        for (; at < end; at++) {
            enum status one =
                copies == COPIES_ALL ? OK : write_page(&batch->slots[at], batch->frames[at]);

            batch->done[at] = one == OK;
            if (one != OK)
                result = one;
        }
    }
    return result;
}

enum status swap_write_out(struct slot *slots, const struct pfn *frames, unsigned count, bool *done)
{
    struct batch batch; /* runs and requests are set as they are used */
    enum status result = OK;
    unsigned next;

    CHECK(count > 0 && count <= SWAP_WRITE_OUT_MAX);
    batch.slots = slots;
    batch.frames = frames;
    batch.count = count;
    batch.done = done;
    for (unsigned at = 0; at < count; at = next) {
        enum status status;

        next = submit_runs(&batch, at);
        status = finish_runs(&batch, at);
        if (status != OK)
            result = status;
    }
    return result;
}
