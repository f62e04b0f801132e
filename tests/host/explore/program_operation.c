/* Operations of programs: the calls that are explored. */
#include <string.h>

#include "cpu/machine.h"
#include "cpu/registers.h"
#include "cpu/trap/trap.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "tests/host/explore/program.h"
#include "tests/host/explore/run.h"
#include "tests/host/fake/mmu.h"
#include "vmm/flex/flex.h"
#include "vmm/page/large.h"
#include "vmm/page/reclaim.h"
#include "vmm/page/shrinker.h"
#include "vmm/reclaimer/reclaimer.h"
#include "vmm/reclaimer/zero_merge.h"
#include "vmm/section/section.h"
#include "vmm/space/end.h"
#include "vmm/space/space.h"

/* This many faults in a row at one access are an error. */
#define FAULTS_MAX 40U

/* The address of the instruction that makes all accesses. */
#define PROGRAM_RIP UINT64_C(0x401000)

/* Pages that one call of the scan looks at, and that `evict` asks for. */
#define SCAN_PAGES    8U
#define EVICT_PAGES   4U
#define EVICT_AT_ONCE 16U

struct space *program_spaces[SPACES_OF_TEST];
struct section *program_section;
uint64_t program_window;

static const struct rights rights_of[] = {
    {.none = true}, {.user = true}, {.write = true, .user = true}};

/* ---- accesses ---- */

/* Returns the word behind a translation. Its frame must belong to a program. */
static uint64_t *word_at(struct phys physical, bool write, uint64_t address)
{
    const struct frame *record = frame_record(pfn_of(physical));

    /* Large pages have the record of their first frame. */
    if (record->kind == FRAME_FREE)
        record = frame_record((struct pfn){pfn_of(physical).index & ~(PTE_ENTRIES - 1)});
    CHECK_MSG(record->kind == FRAME_ANONYMOUS || (!write && record->kind == FRAME_ZERO),
              "an access to %lx reaches frame %lx of kind %u", address, physical.address >> 12,
              record->kind);
    return phys_pointer(physical);
}

/* Tries the instruction once. Returns true if it was executed; otherwise interrupts are off, as in
 * the handler. */
static bool try_instruction(uint64_t address, bool write, uint64_t *value, uint64_t *error)
{
    struct fake_access access = {.write = write, .user = true};
    struct phys physical;
    bool done;

    run_instruction_begin();
    done = fake_mmu_translate(address, access, &physical, error);
    if (done && write)
        *word_at(physical, true, address) = *value;
    else if (done)
        *value = *word_at(physical, false, address);
    else
        (void)machine_interrupts_off();
    run_instruction_end();
    return done;
}

bool program_touch(uint64_t address, bool write, uint64_t *value)
{
    for (unsigned i = 0; i < FAULTS_MAX; i++) {
        struct trap_frame frame = {.rip = PROGRAM_RIP, .cr2 = address, .rflags = RFLAGS_IF};
        bool resolved;

        if (try_instruction(address, write, value, &frame.error))
            return true;
        resolved = trap_page_fault(address, frame.error, &frame);
        machine_interrupts_restore(true);
        if (!resolved)
            return false;
    }
    PANIC("%u faults at %lx, and no end", FAULTS_MAX, address);
}

static struct result said(enum status status)
{
    return (struct result){(int)status, 0};
}

static struct result perform_read(const struct call *call)
{
    struct result result = {0, 0};

    if (!program_touch(call->operation->at, false, &result.value))
        result.status = STATUS_DENIED;
    return result;
}

static struct result perform_write(const struct call *call)
{
    uint64_t value = call->value;

    return said(program_touch(call->operation->at, true, &value) ? OK : STATUS_DENIED);
}

/* Writes a word of the page that no outcome has: the words that others write must not be lost. */
static struct result perform_beside(const struct call *call)
{
    uint64_t value = call->value;

    return said(program_touch(call->operation->at + PAGE_SIZE / 2, true, &value) ? OK
                                                                                 : STATUS_DENIED);
}

/* Merges pages of zeroes, as the scan does. */
static struct result perform_clear(const struct call *call)
{
    uint64_t zero = 0;

    return said(program_touch(call->operation->at, true, &zero) ? OK : STATUS_DENIED);
}

static struct result perform_fill(const struct call *call)
{
    uint64_t value = call->value;

    for (uint64_t at = 0; at < call->operation->size; at += PAGE_SIZE, value++)
        CHECK(program_touch(call->operation->at + at, true, &value));
    return (struct result){0, 0};
}

/* ---- ranges ---- */

static struct result perform_map(const struct call *call)
{
    return said(space_map(call->space,
                          &SPACE_AT(call->operation->at, call->operation->size,
                                    rights_of[call->operation->kind->argument]),
                          NULL));
}

/* Maps every second page of the range: regions that do not merge. */
static struct result perform_map_apart(const struct call *call)
{
    struct result result = {0, 0};

    for (uint64_t at = 0; at < call->operation->size && result.status == OK; at += 2 * PAGE_SIZE)
        result = said(space_map(
            call->space, &SPACE_AT(call->operation->at + at, PAGE_SIZE, rights_of[2]), NULL));
    return result;
}

static struct result perform_map_large(const struct call *call)
{
    return said(space_map(
        call->space,
        &SPACE_AT(call->operation->at, call->operation->size, rights_of[2], .page_level = 2),
        NULL));
}

static struct result perform_map_zeroes(const struct call *call)
{
    return said(space_map(
        call->space,
        &SPACE_AT(call->operation->at, call->operation->size, rights_of[2], .flags = SPACE_ZEROES),
        NULL));
}

static struct result perform_map_shared(const struct call *call)
{
    return said(space_map(
        call->space,
        &SPACE_AT(call->operation->at, call->operation->size, rights_of[2], .flags = SPACE_SHARED),
        NULL));
}

static struct result map_object(const struct call *call, uint32_t flags)
{
    uint64_t size = call->operation->size;

    if (program_section == NULL)
        CHECK(section_create(&pager_zero, NULL, size, rights_of[2], &program_section) == OK);
    program_window = max_u64(program_window, call->operation->at == PROGRAM_BASE ? size : 0);
    return said(space_map(call->space,
                          &SPACE_AT(call->operation->at, size, rights_of[2], .flags = flags,
                                    .section = program_section),
                          NULL));
}

static struct result perform_map_object(const struct call *call)
{
    return map_object(call, SPACE_SHARED);
}

static struct result perform_map_private(const struct call *call)
{
    return map_object(call, 0);
}

static struct result perform_resize(const struct call *call)
{
    return said(section_resize(program_section, call->operation->at - PROGRAM_BASE));
}

static uint64_t word_of(struct section *section, uint64_t offset, enum status *status)
{
    uint64_t word = 0;
    uint64_t done;

    *status = section_read(section, offset, &word, sizeof(word), &done);
    return word;
}

/* Looks at a page of the snapshot twice: others write to the section meanwhile. */
static struct result perform_snapshot(const struct call *call)
{
    uint64_t offset = call->operation->at - PROGRAM_BASE;
    struct section *snapshot;
    enum status status = section_snapshot(program_section, rights_of[1], &snapshot);
    uint64_t word;
    uint64_t again;

    if (status != OK)
        return said(status);
    word = word_of(snapshot, offset, &status);
    machine_relax();
    again = word_of(snapshot, offset, &status);
    CHECK_MSG(word == again, "a snapshot has %lx, then %lx", word, again);
    section_close(snapshot);
    return (struct result){status, word};
}

static struct result perform_unmap(const struct call *call)
{
    return said(space_unmap(call->space, call->operation->at, call->operation->size));
}

static struct result perform_protect(const struct call *call)
{
    return said(space_protect(call->space, call->operation->at, call->operation->size,
                              rights_of[call->operation->kind->argument]));
}

/* Performs an advice. The number of pages that collapse depends on the schedule. */
static struct result perform_advise(const struct call *call)
{
    enum space_advice advice = (enum space_advice)call->operation->kind->argument;
    enum status status =
        space_advise(call->space, call->operation->at, call->operation->size, advice);

    return said(advice == SPACE_COLLAPSE ? OK : status);
}

static struct result perform_move(const struct call *call)
{
    return said(
        space_move(call->space, call->operation->at, call->operation->size, PROGRAM_MOVE_TO));
}

static struct result perform_remap(const struct call *call)
{
    uint64_t size = call->operation->size;

    return said(space_remap(call->space, call->operation->at, size, 2 * size));
}

static struct result perform_wire(const struct call *call)
{
    return said(space_wire(call->space, call->operation->at, call->operation->size));
}

static struct result perform_unwire(const struct call *call)
{
    return said(space_unwire(call->space, call->operation->at, call->operation->size));
}

/* ---- spaces ---- */

/* Performs a fork. In a set-up the child gets the first free number after the parent, since no
 * program has a fork yet. */
static struct result perform_fork(const struct call *call)
{
    unsigned number = call->operation->kind->argument + call->processor;

    while (number < SPACES_OF_TEST - 1 && program_spaces[number] != NULL)
        number++;
    CHECK(program_spaces[number] == NULL);
    return said(space_fork(call->space, &program_spaces[number]));
}

static struct result perform_end(const struct call *call)
{
    program_spaces[call->operation->space] = NULL;
    space_destroy(call->space);
    return (struct result){0, 0};
}

static struct result end_with_work(const struct call *call, unsigned entries)
{
    struct result result;

    space_set_end_work(entries);
    result = perform_end(call);
    space_set_end_work(SPACE_END_WORK);
    return result;
}

/* Ends a space, of which all is left for later. */
static struct result perform_later(const struct call *call)
{
    return end_with_work(call, 0);
}

/* Ends a space as far as the first leaf table, which dies only if it has one page. */
static struct result perform_part(const struct call *call)
{
    return end_with_work(call, 5);
}

/* Ends a space and leaves nothing for later, even if its leaf tables are full. */
static struct result perform_whole(const struct call *call)
{
    return end_with_work(call, 8 * PTE_ENTRIES);
}

/* Frees a part of what ended spaces have, as an idle processor does. */
static struct result perform_step(const struct call *call)
{
    (void)call;
    (void)space_ends_step();
    return (struct result){0, 0};
}

static struct result perform_enter(const struct call *call)
{
    space_switch(call->space);
    return (struct result){0, 0};
}

static struct result perform_leave(const struct call *call)
{
    (void)call;
    space_switch(NULL);
    return (struct result){0, 0};
}

/* ---- flexpages ---- */

/* Creates a space, with the first free number from 1 on. */
static struct result perform_new(const struct call *call)
{
    unsigned number = 1;

    (void)call;
    while (number < SPACES_OF_TEST - 1 && program_spaces[number] != NULL)
        number++;
    CHECK(program_spaces[number] == NULL);
    return said(space_create(&program_spaces[number]));
}

/* Lends or gives the range to the same place of the space with the next number. */
static struct result perform_lend(const struct call *call)
{
    struct space *to = program_spaces[call->operation->space + 1];

    return said(flex_lend(call->space, call->operation->at, call->operation->size, to,
                          call->operation->at, rights_of[call->operation->kind->argument]));
}

static struct result perform_give(const struct call *call)
{
    struct space *to = program_spaces[call->operation->space + 1];

    return said(flex_give(call->space, call->operation->at, call->operation->size, to,
                          call->operation->at, rights_of[call->operation->kind->argument]));
}

/* The number of mappings tells which calls came before. */
static struct result perform_revoke(const struct call *call)
{
    struct flex_taken taken = {0};
    enum status status = flex_revoke(call->space, call->operation->at, call->operation->size,
                                     rights_of[call->operation->kind->argument % 3],
                                     call->operation->kind->argument >= 3, &taken);

    CHECK_MSG(taken.flushes == (taken.mappings > 0), "%u mappings are revoked by %u flushes",
              taken.mappings, taken.flushes);
    return (struct result){(int)status, taken.mappings};
}

/* Returns the sum of the space's faults on the fast path, which others must not change that count
 * none there. */
static struct result perform_counts(const struct call *call)
{
    struct fault_counts counts = space_faults(call->space);
    struct result result = {0, 0};

    for (unsigned i = 0; i < FAULT_FAST_COUNTS; i++)
        result.value += counts.fast[i];
    return result;
}

/* ---- memory ---- */

/* Evicts pages. Any status is right, since it depends on the schedule. */
static struct result perform_evict(const struct call *call)
{
    unsigned evicted;
    enum status status = reclaim_pages(EVICT_PAGES, &evicted);

    (void)call;
    (void)status;
    return (struct result){0, 0};
}

static struct result perform_out(const struct call *call)
{
    (void)call;
    for (unsigned idle = 0; idle < 3;) {
        unsigned evicted;

        CHECK(reclaim_pages(EVICT_AT_ONCE, &evicted) == OK);
        idle = evicted > 0 ? 0 : idle + 1;
    }
    return (struct result){0, 0};
}

static struct result perform_behind(const struct call *call)
{
    (void)call;
    (void)write_behind(EVICT_PAGES);
    return (struct result){0, 0};
}

static struct result perform_uncache(const struct call *call)
{
    (void)call;
    (void)reclaim_free_cached_slots(EVICT_PAGES);
    return (struct result){0, 0};
}

static struct result perform_scan(const struct call *call)
{
    (void)call;
    (void)zero_merge(SCAN_PAGES);
    return (struct result){0, 0};
}

static struct result perform_split(const struct call *call)
{
    (void)call;
    (void)large_split_one();
    return (struct result){0, 0};
}

static struct result perform_spare(const struct call *call)
{
    (void)call;
    (void)shrinkers_free(UINT64_MAX, false);
    return (struct result){0, 0};
}

static const struct operation_kind kinds[] = {
    {"read", perform_read, 0, 1},
    {"write", perform_write, 0, 1},
    {"beside", perform_beside, 0, 1},
    {"clear", perform_clear, 0, 1},
    {"fill", perform_fill, 0, 512},
    {"map", perform_map, 2, 1},
    {"map-apart", perform_map_apart, 0, 80},
    {"map-large", perform_map_large, 0, 512},
    {"map-zeroes", perform_map_zeroes, 0, 1},
    {"map-shared", perform_map_shared, 0, 1},
    {"map-object", perform_map_object, 0, 8},
    {"map-private", perform_map_private, 0, 8},
    {"resize", perform_resize, 0, 0},
    {"snapshot", perform_snapshot, 0, 0},
    {"unmap", perform_unmap, 0, 1},
    {"none", perform_protect, 0, 1},
    {"ro", perform_protect, 1, 1},
    {"rw", perform_protect, 2, 1},
    {"need", perform_advise, SPACE_WILL_NEED, 1},
    {"dont", perform_advise, SPACE_DONT_NEED, 1},
    {"cold", perform_advise, SPACE_COLD, 1},
    {"collapse", perform_advise, SPACE_COLLAPSE, 512},
    {"sequential", perform_advise, SPACE_SEQUENTIAL, 1},
    {"move", perform_move, 0, 512},
    {"remap", perform_remap, 0, 1},
    {"wire", perform_wire, 0, 1},
    {"unwire", perform_unwire, 0, 1},
    {"fork", perform_fork, SPACE_OF_FORK, 0},
    {"child", perform_fork, 1, 0}, /* set-ups: the next number from 1 on */
    {"end", perform_end, 0, 0},
    {"later", perform_later, 0, 0},
    {"part", perform_part, 0, 0},
    {"whole", perform_whole, 0, 0},
    {"step", perform_step, 0, 0},
    {"new", perform_new, 0, 0},
    {"lend", perform_lend, 2, 8},
    {"lend-ro", perform_lend, 1, 8},
    {"give", perform_give, 2, 8},
    {"revoke", perform_revoke, 0, 8},
    {"narrow", perform_revoke, 1, 8},
    {"take", perform_revoke, 3, 8},
    {"enter", perform_enter, 0, 0},
    {"leave", perform_leave, 0, 0},
    {"counts", perform_counts, 0, 0},
    {"evict", perform_evict, 0, 0},
    {"out", perform_out, 0, 0},
    {"scan", perform_scan, 0, 0},
    {"uncache", perform_uncache, 0, 0},
    {"behind", perform_behind, 0, 0},
    {"split", perform_split, 0, 0},
    {"spare", perform_spare, 0, 0},
};

const struct operation_kind *operation_find(const char *name)
{
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    }
    return NULL;
}
