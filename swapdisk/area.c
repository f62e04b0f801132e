/* The swap area: pages to and from slots, on the disk of the grant or in RAM. */
#include "swapdisk/area.h"

#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "pmm/pmm.h"
#include "swapdisk/disks.h"
#include "swapdisk/slots.h"

/* Slots cost 16 bytes of memory each. A disk is used up to four times the machine's memory, which
 * costs 1.6 % of it, but this much in any case. */
#define SLOTS_LEAST     UINT32_C(65536)
#define SLOTS_PER_FRAME 4U

/* Pages zeroed by one command when the area is wiped. */
#define WIPE_PAGES 64U

/* Disk only: what the header says, and how far this run has changed it. */
enum mark { MARK_NONE, MARK_SET, MARK_FAILED };

static struct {
    bool open;
    bool wipe;
    enum swap_backing backing;
    struct disk_chosen disk;
    struct swap_header header; /* as last written, or found */
    struct pfn page;           /* the header's page, on its way to the disk */
    enum mark mark;
    uint8_t marking;        /* taken while the mark is written */
    struct mutex disk_lock; /* one command at a time; who waits for it sleeps */
    uint64_t pages_written;
    uint64_t pages_read;
    uint64_t corrupt;
    uint64_t errors;
} area;

static void area_count_all(uint64_t *counter, uint64_t by)
{
    __atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
}

/* Writes what changes of a header, its first sector, and makes it durable. */
static enum status write_header_at(uint64_t lba)
{
    enum status status;

    swap_header_encode(frame_pointer(area.page), &area.header);
    status = ahci_write(area.disk.port, area.disk.grant, lba, 1, &area.page);
    return status == OK ? ahci_flush(area.disk.port) : status;
}

/* Goes on to the next generation with this state: first copy, flush, second copy, flush. A power
 * cut anywhere between leaves headers that agree or differ by that one step. */
static enum status write_headers(enum swap_state state)
{
    const struct disk_finding *finding = &area.disk.finding;
    uint64_t second_lba = swap_second_header_lba(finding->first_lba, finding->last_lba);
    enum status status = OK;

    if (area.disk.finding.lagging)
        status = write_header_at(second_lba);
    if (status != OK)
        return status;
    area.disk.finding.lagging = false;
    CHECK(area.header.generation < UINT64_MAX);
    area.header.generation++;
    area.header.state = state;
    status = write_header_at(finding->first_lba);
    return status == OK ? write_header_at(second_lba) : status;
}

/* The in-use mark stands on the disk before the first page does. A mark that failed leaves the
 * headers in doubt: nothing more is written in this run. */
static enum status ensure_mark(void)
{
    enum status status;

    if (__atomic_load_n(&area.mark, __ATOMIC_ACQUIRE) == MARK_SET)
        return OK;
    while (__atomic_exchange_n(&area.marking, 1, __ATOMIC_ACQUIRE) != 0)
        machine_pause();
    status = area.mark == MARK_FAILED ? STATUS_IO : OK;
    if (area.mark == MARK_NONE) {
        status = write_headers(SWAP_STATE_IN_USE);
        __atomic_store_n(&area.mark, status == OK ? MARK_SET : MARK_FAILED, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&area.marking, 0, __ATOMIC_RELEASE);
    return status;
}

static uint64_t lba_of(struct slot slot)
{
    return area.disk.finding.first_lba + SWAP_HEADER_SECTORS +
           (uint64_t)slot.index * SECTORS_PER_PAGE;
}

static enum status store_disk(struct slot first, const struct pfn *frames, unsigned pages)
{
    enum status status;

    mutex_lock(&area.disk_lock);
    status = ensure_mark();
    if (status == OK)
        status = ahci_write(area.disk.port, area.disk.grant, lba_of(first),
                            pages * SECTORS_PER_PAGE, frames);
    mutex_unlock(&area.disk_lock);
    return status;
}

static enum status load_disk(struct slot first, const struct pfn *frames, unsigned pages)
{
    enum status status;

    mutex_lock(&area.disk_lock);
    status = ahci_read(area.disk.port, lba_of(first), pages * SECTORS_PER_PAGE, frames);
    mutex_unlock(&area.disk_lock);
    return status;
}

static enum status store_ram(struct slot first, const struct pfn *frames, unsigned pages)
{
    for (unsigned i = 0; i < pages; i++) {
        struct slot_record *record = slots_record((struct slot){first.index + i});

        if (pfn_is_none(record->frame) &&
            pmm_alloc(FRAME_SWAP, FRAME_UNCLEARED, &record->frame) != OK) {
            record->frame = PFN_NONE;
            return STATUS_NO_MEMORY;
        }
        machine_copy_frame(frame_pointer(record->frame), frame_pointer(frames[i]));
    }
    return OK;
}

static enum status load_ram(struct slot first, const struct pfn *frames, unsigned pages)
{
    for (unsigned i = 0; i < pages; i++) {
        const struct slot_record *record = slots_record((struct slot){first.index + i});

        CHECK(!pfn_is_none(record->frame));
        machine_copy_frame(frame_pointer(frames[i]), frame_pointer(record->frame));
    }
    return OK;
}

/* The slots exist and somebody holds each. */
static void check_run(struct slot first, const struct pfn *frames, unsigned pages)
{
    CHECK(area.open && frames != NULL && pages > 0);
    CHECK_MSG(first.index < slots_total() && pages <= slots_total() - first.index,
              "slots %x + %x of %x", first.index, pages, slots_total());
    for (unsigned i = 0; i < pages; i++)
        CHECK_MSG(slots_record((struct slot){first.index + i})->count > 0, "slot %x is not held",
                  first.index + i);
}

/* A new generation of a slot, with the check value of the page about to go there. */
static void stamp(struct slot slot, struct pfn frame)
{
    struct slot_record *record = slots_record(slot);
    uint32_t generation = (record->generation + 1) & SLOT_GENERATION_MASK;

    /* Generation 0 is 'never written'. */
    generation = generation == 0 ? 1 : generation;
    record->generation = generation;
    record->check = slots_check_value(slot, generation, frame_pointer(frame));
}

enum status swap_write_run(struct slot first, const struct pfn *frames, unsigned pages)
{
    enum status status;

    check_run(first, frames, pages);
    for (unsigned i = 0; i < pages; i++)
        stamp((struct slot){first.index + i}, frames[i]);
    status = area.backing == SWAP_BACKING_DISK ? store_disk(first, frames, pages)
                                               : store_ram(first, frames, pages);
    if (status != OK) {
        area_count_all(&area.errors, 1);
        return status;
    }
    for (unsigned i = 0; i < pages; i++)
        slots_record((struct slot){first.index + i})->generation |= SLOT_FULL;
    area_count_all(&area.pages_written, pages);
    return OK;
}

/* Whether a page that was read is the one that was written; one that is not is wiped out. */
static bool page_intact(struct slot slot, struct pfn frame)
{
    const struct slot_record *record = slots_record(slot);

    if (slots_check_value(slot, record->generation, frame_pointer(frame)) == record->check)
        return true;
    machine_clear_frame(frame_pointer(frame));
    area_count_all(&area.corrupt, 1);
    return false;
}

enum status swap_read_run(struct slot first, const struct pfn *frames, unsigned pages)
{
    enum status status;

    check_run(first, frames, pages);
    for (unsigned i = 0; i < pages; i++)
        CHECK_MSG((slots_record((struct slot){first.index + i})->generation & SLOT_FULL) != 0,
                  "reading slot %x, which holds no page", first.index + i);
    status = area.backing == SWAP_BACKING_DISK ? load_disk(first, frames, pages)
                                               : load_ram(first, frames, pages);
    if (status != OK) {
        area_count_all(&area.errors, 1);
        return status;
    }
    area_count_all(&area.pages_read, pages);
    for (unsigned i = 0; i < pages; i++) {
        if (!page_intact((struct slot){first.index + i}, frames[i]))
            status = STATUS_CORRUPT;
    }
    return status;
}

enum status swap_write(struct slot slot, struct pfn frame)
{
    return swap_write_run(slot, &frame, 1);
}

enum status swap_read(struct slot slot, struct pfn frame)
{
    return swap_read_run(slot, &frame, 1);
}

enum status swap_alloc_run(unsigned wanted, struct slot *first, unsigned *got)
{
    CHECK(area.open);
    return slots_take(wanted, first, got);
}

enum status swap_alloc(struct slot *slot)
{
    unsigned got;

    return swap_alloc_run(1, slot, &got);
}

void swap_hold(struct slot slot)
{
    CHECK(area.open);
    slots_hold(slot);
}

void swap_release(struct slot slot)
{
    struct pfn frame = PFN_NONE;

    CHECK(area.open);
    if (slots_release(slot, &frame) && !pfn_is_none(frame))
        pmm_free(frame);
}

uint32_t swap_count(struct slot slot)
{
    CHECK(area.open);
    return slots_count(slot);
}

uint64_t swap_references(void)
{
    return slots_references();
}

struct swap_usage swap_usage(void)
{
    return (struct swap_usage){.backing = area.backing,
                               .slots = slots_total(),
                               .used = slots_used(),
                               .pages_written = area.pages_written,
                               .pages_read = area.pages_read,
                               .corrupt = area.corrupt,
                               .errors = area.errors};
}

uint64_t swap_disk_offset(void)
{
    if (area.backing != SWAP_BACKING_DISK)
        return 0;
    return lba_of((struct slot){0}) * SECTOR_SIZE;
}

void swap_audit(void)
{
    slots_audit();
}

/* Takes the chosen disk, if there is one and it passes its second look. */
static bool open_disk(void)
{
    return disks_open(&area.disk) == OK;
}

static uint32_t disk_slots(void)
{
    const struct disk_finding *finding = &area.disk.finding;
    uint64_t there = swap_slot_count(finding->first_lba, finding->last_lba);
    uint64_t worth = max_u64(SLOTS_LEAST, SLOTS_PER_FRAME * pmm_usage().total);

    return (uint32_t)min_u64(min_u64(there, worth), SLOTS_MAX);
}

static void say(void)
{
    const struct disk_identity *identity;

    if (area.backing == SWAP_BACKING_RAM) {
        ktap_note("swap: in RAM, %u slots, since no disk may be written", slots_total());
        return;
    }
    identity = &area.disk.port->identity;
    ktap_note("swap: on disk %s serial %s, sectors %lu to %lu, %u slots from byte %lu",
              identity->model, identity->serial, area.disk.finding.first_lba,
              area.disk.finding.last_lba, slots_total(), swap_disk_offset());
    if (area.header.state == SWAP_STATE_IN_USE)
        ktap_note("swap: an earlier run did not end in order; its pages are not used");
}

enum status swap_open(const struct options *options, uint32_t ram_slots)
{
    enum status status = OK;

    CHECK(!area.open && ram_slots > 0);
    memset(&area, 0, sizeof(area));
    area.wipe = options->wipe;
    area.backing = open_disk() ? SWAP_BACKING_DISK : SWAP_BACKING_RAM;
    if (area.backing == SWAP_BACKING_DISK) {
        area.header = area.disk.finding.header;
        status = pmm_alloc(FRAME_DEVICE, FRAME_CLEARED, &area.page);
    }
    if (status == OK) {
        status =
            slots_open(area.backing == SWAP_BACKING_DISK ? disk_slots()
                                                         : (uint32_t)min_u64(ram_slots, SLOTS_MAX));
        if (status != OK && area.backing == SWAP_BACKING_DISK)
            pmm_free(area.page);
    }
    if (status != OK) {
        validate_revoke();
        return status;
    }
    area.open = true;
    say();
    return OK;
}

static bool ever_written(uint32_t index)
{
    return (slots_record((struct slot){index})->generation & SLOT_GENERATION_MASK) != 0;
}

/* Zeroes every slot of the disk that this run has written. */
static enum status wipe_disk(struct pfn zeroes)
{
    struct pfn frames[WIPE_PAGES];
    enum status status = OK;

    for (unsigned i = 0; i < WIPE_PAGES; i++)
        frames[i] = zeroes;
    for (uint32_t at = 0; status == OK && at < slots_total();) {
        unsigned pages = 0;

        while (pages < WIPE_PAGES && at + pages < slots_total() && ever_written(at + pages))
            pages++;
        if (pages > 0)
            status = store_disk((struct slot){at}, frames, pages);
        at += pages > 0 ? pages : 1;
    }
    return status == OK ? ahci_flush(area.disk.port) : status;
}

/* Takes the mark off again. A disk that was never marked was never written. */
static enum status close_disk(void)
{
    enum status status = OK;

    if (area.mark == MARK_FAILED)
        return STATUS_IO;
    if (area.mark == MARK_SET) {
        if (area.wipe) {
            machine_clear_frame(frame_pointer(area.page));
            status = wipe_disk(area.page);
        }
        if (status == OK)
            status = write_headers(SWAP_STATE_CLEAN);
    }
    return status;
}

static void close_ram(void)
{
    for (uint32_t i = 0; i < slots_total(); i++) {
        struct slot_record *record = slots_record((struct slot){i});

        if (!pfn_is_none(record->frame))
            pmm_free(record->frame);
        record->frame = PFN_NONE;
    }
}

enum status swap_close(void)
{
    enum status status = OK;

    CHECK(area.open && area.marking == 0);
    if (area.backing == SWAP_BACKING_DISK) {
        status = close_disk();
        pmm_free(area.page);
    } else {
        close_ram();
    }
    validate_revoke();
    slots_close();
    area.open = false;
    return status;
}
