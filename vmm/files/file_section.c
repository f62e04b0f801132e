/* The pager of files, and the list of open ones. */
#include "vmm/files/file_section.h"

#include "lib/ktap.h"
#include "pmm/pool.h"
#include "swapdisk/disks.h"
#include "swapdisk/fs/file.h"
#include "vmm/files/write_back.h"

struct file_section {
    LIST_ENTRY(file_section) link;
    struct disk_file *file;
    struct section *section; /* the list has it open, whatever `openers` is */
    uint32_t openers;
    uint64_t failures;        /* writes that failed so far (W3) */
    enum status last_failure; /* of the last of them */
};

static LIST_HEAD(file_list, file_section) file_sections = LIST_HEAD_INITIALIZER(file_sections);
static struct mutex file_sections_lock; /* of the list and its entries */
static struct pool file_section_pool = POOL("files", struct file_section);

static enum status file_get(const void *source, uint64_t page, struct pfn frame)
{
    CHECK_MSG(page < round_up(disk_file_size(source), PAGE_SIZE) / PAGE_SIZE,
              "page %lx of a file of %lx bytes", page, disk_file_size(source));
    return disk_file_read(source, page, frame);
}

static enum status file_put(const void *source, uint64_t page, struct pfn frame)
{
    return disk_file_write(source, page, frame);
}

static enum status file_flush(const void *source)
{
    return disk_file_flush(source);
}

/* The list has let go of the file before. */
static void file_end(const void *source)
{
    disk_file_close((struct disk_file *)(uintptr_t)source);
}

const struct pager pager_file = {
    .name = "file", .get = file_get, .put = file_put, .flush = file_flush, .end = file_end};

/* ---- the list; its lock is held ---- */

/* With neither openers nor mappings nothing finds the section again, but the list. */
static bool file_section_is_idle(const struct file_section *entry)
{
    return entry->openers == 0 && __atomic_load_n(&entry->section->count, __ATOMIC_ACQUIRE) == 1;
}

/* Writes what is dirty in a range, if the file may be written, and notes a failure. */
static enum status write_locked(struct file_section *entry, uint64_t from, uint64_t to)
{
    enum status status = OK;

    CHECK(entry->file == entry->section->source);
    if (disk_file_permitted(entry->file))
        status = section_write_back(entry->section, from, to);
    if (status != OK) {
        entry->failures++;
        entry->last_failure = status;
    }
    return status;
}

static unsigned reap_locked(void)
{
    struct file_section *entry = LIST_FIRST(&file_sections);
    unsigned left = 0;

    while (entry != NULL) {
        struct file_section *next = LIST_NEXT(entry, link);

        CHECK(entry->section->pager == &pager_file);
        CHECK(entry->section->opens == 1);
        CHECK_MSG(entry->section->count > 0, "a file's section has no count");
        if (file_section_is_idle(entry) && write_locked(entry, 0, UINT64_MAX) == OK) {
            LIST_REMOVE(entry, link);
            section_close(entry->section);
            pool_free(&file_section_pool, entry);
        } else {
            left++;
        }
        entry = next;
    }
    return left;
}

static struct file_section *find_file(const struct disk_file *file)
{
    struct file_section *entry;

    LIST_FOREACH (entry, &file_sections, link) {
        if (disk_file_same(entry->file, file))
            return entry;
    }
    return NULL;
}

/* Adds a file to the list, which owns it then, with a section of its own. */
static enum status add_file(struct disk_file *file, struct rights most, struct file_section **added)
{
    void *memory;
    struct file_section *entry;
    enum status status = pool_alloc(&file_section_pool, &memory);

    if (status != OK)
        return status;
    entry = memory;
    entry->file = file;
    status = section_create(&pager_file, file, disk_file_size(file), most, &entry->section);
    if (status != OK) {
        pool_free(&file_section_pool, entry);
        return status;
    }
    CHECK(section_size(entry->section) == disk_file_size(file) && entry->section->count == 1);
    LIST_INSERT_HEAD(&file_sections, entry, link);
    *added = entry;
    return OK;
}

/* Opens the section of a file that was opened just now; takes it over or closes it. */
static enum status open_locked(struct disk_file *file, struct rights most, struct section **opened)
{
    struct file_section *entry;
    enum status status = OK;

    (void)reap_locked();
    entry = find_file(file);
    if (entry == NULL)
        status = add_file(file, most, &entry);
    else if (!section_allows(entry->section, most, false))
        status = STATUS_DENIED;
    if (status != OK || entry->file != file)
        disk_file_close(file);
    if (status != OK)
        return status;
    entry->openers++;
    CHECK(entry->openers > 0);
    *opened = entry->section;
    return OK;
}

/* ---- calls ---- */

enum status file_section_open_on(const struct block_device *block, const char *path,
                                 struct rights most, struct section **opened)
{
    struct disk_file *file;
    enum status status = disk_file_open(block, path, &file);

    if (status != OK)
        return status;
    mutex_lock(&file_sections_lock);
    status = open_locked(file, most, opened);
    mutex_unlock(&file_sections_lock);
    return status;
}

enum status file_section_open(const char *path, struct rights most, struct section **opened)
{
    enum status trouble = STATUS_NOT_FOUND;

    for (unsigned i = 0; i < disks_count(); i++) {
        const struct block_device *block = disks_block(i);
        enum status status = STATUS_NOT_FOUND;

        if (block != NULL && block_serves(block))
            status = file_section_open_on(block, path, most, opened);
        if (status == OK || status == STATUS_NO_MEMORY || status == STATUS_DENIED)
            return status;
        if (trouble == STATUS_NOT_FOUND)
            trouble = status;
    }
    return trouble;
}

/* Returns the entry of an open section; the lock is held. */
static struct file_section *file_entry_of(const struct section *section)
{
    struct file_section *entry;

    LIST_FOREACH (entry, &file_sections, link) {
        if (entry->section == section)
            break;
    }
    CHECK(entry != NULL && entry->openers > 0);
    return entry;
}

void file_section_close(struct section *section)
{
    mutex_lock(&file_sections_lock);
    file_entry_of(section)->openers--;
    (void)reap_locked();
    mutex_unlock(&file_sections_lock);
}

enum status file_section_open_to_write(const struct block_device *block, const char *path,
                                       const struct swap_grant *grant, struct file_writer *writer,
                                       const char **reason)
{
    const struct rights most = {.write = true, .user = true};
    struct section *section;
    enum status status = file_section_open_on(block, path, most, &section);
    struct file_section *entry;

    *reason = "it is not found, or open for less";
    if (status != OK)
        return status;
    mutex_lock(&file_sections_lock);
    entry = file_entry_of(section);
    status = disk_file_permit(entry->file, grant, reason);
    *writer = (struct file_writer){.section = section, .told = entry->failures};
    if (status != OK)
        entry->openers--;
    mutex_unlock(&file_sections_lock);
    if (status != OK)
        ktap_note("files: %s is not written: %s", path, *reason);
    return status;
}

/* Writes a range; the lock is held. */
static enum status sync_locked(struct file_writer *writer, uint64_t from, uint64_t to)
{
    struct file_section *entry = file_entry_of(writer->section);
    bool was_told = writer->told == entry->failures;
    enum status status = write_locked(entry, from, to);

    CHECK(writer->told <= entry->failures);
    if (status == OK && !was_told)
        status = entry->last_failure;
    writer->told = entry->failures;
    return status;
}

enum status file_section_sync(struct file_writer *writer, uint64_t from, uint64_t to)
{
    enum status status;

    mutex_lock(&file_sections_lock);
    status = sync_locked(writer, from, to);
    mutex_unlock(&file_sections_lock);
    return status;
}

enum status file_section_close_writer(struct file_writer *writer)
{
    enum status status;

    mutex_lock(&file_sections_lock);
    status = sync_locked(writer, 0, UINT64_MAX);
    file_entry_of(writer->section)->openers--;
    (void)reap_locked();
    mutex_unlock(&file_sections_lock);
    return status;
}

unsigned file_sections_reap(void)
{
    unsigned left;

    mutex_lock(&file_sections_lock);
    left = reap_locked();
    mutex_unlock(&file_sections_lock);
    return left;
}
