/* Compares address spaces with a plain model of their meaning: performs the operations. */
#include "tests/model/space.h"

#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "tests/model/space_internal.h"
#include "vmm/fault/fault.h"
#include "vmm/reclaimer/zero_merge.h"
#include "vmm/space/commit.h"

/* Pages of one scan for zeroes: few, so that other tests still find pages to evict. */
#define SCANNED_TOGETHER 8U

/* The accessed and dirty bits of a present entry. */
#define AD (UINT64_C(3) << 5)

bool model_may_fail;

static const char *const kind_names[] = {
    "access",     "resolve",    "look ahead", "map",       "map zeroes", "map found", "map shared",
    "guard",      "unmap",      "protect",    "will need", "don't need", "cold",      "collapse",
    "sequential", "one by one", "zero scan",  "query",     "wire",       "unwire",    "move",
    "remap",      "fork",       "create",     "destroy",   "switch"};
_Static_assert(ARRAY_COUNT(kind_names) == MODEL_KINDS, "one name for each kind");

void model_describe(char *buffer, size_t size)
{
    const struct model_op *op = &model()->op;

    print_to(buffer, size,
             "seed %lu, %u levels, operation %lu: %s, space %u, %lx to %lx, "
             "rights n%d w%d x%d u%d, %s%s%s page %u word %u",
             model()->seed, model()->levels, model()->done, kind_names[op->kind], op->space,
             model()->bounds[op->from], model()->bounds[op->to], op->rights.none, op->rights.write,
             op->rights.execute, op->rights.user, op->user ? "user " : "kernel ",
             op->ac ? "ac " : "",
             op->write     ? "write"
             : op->execute ? "fetch"
                           : "read",
             op->page, op->word);
}

/* ---- performing ---- */

bool model_is_failure(enum status status)
{
    return status == STATUS_NO_MEMORY || status == STATUS_NO_SPACE || status == STATUS_IO ||
           status == STATUS_TIMEOUT || status == STATUS_CORRUPT;
}

bool model_as_expected(enum status status, enum status expected)
{
    if (model_may_fail && model_is_failure(status))
        return false;
    CHECK_MSG(status == expected, "%s: %s, but the model says %s", kind_names[model()->op.kind],
              status_name(status), status_name(expected));
    return status == OK;
}

static void run_in(unsigned number)
{
    if (number == model()->running)
        return;
    space_switch(number < MODEL_SPACES ? model()->spaces[number].space : NULL);
    model()->running = number;
}

/* Returns the status that the cell and the access call for. */
static enum status expected_of(const struct model_op *op)
{
    const struct model_cell *cell = &model()->spaces[op->space].cells[op->from];
    bool kernel_may = model_machine_kernel_may(op);

    if (!cell_is_memory(cell))
        return STATUS_NOT_FOUND;
    if (cell->rights.none || (op->write && !cell->rights.write) ||
        (op->execute && !cell->rights.execute))
        return STATUS_DENIED;
    if (op->user)
        return cell->rights.user ? OK : STATUS_DENIED;
    return !cell->rights.user || kernel_may ? OK : STATUS_DENIED;
}

/* Checks that a violation changed nothing; the processor may set A and D. */
static void check_untouched(const struct model_op *op, const struct model_walk *before,
                            enum status status)
{
    struct model_walk after = model_machine_walk(op);

    if ((status == STATUS_DENIED || status == STATUS_NOT_FOUND) && model_machine_alone())
        CHECK_MSG(after.level == before->level && ((after.entry ^ before->entry) & ~AD) == 0,
                  "a violation: the entry at %lx was %lx, is %lx", model_address(op), before->entry,
                  after.entry);
}

static enum status access_memory(const struct model_op *op)
{
    uint64_t *known = cell_word(&model()->spaces[op->space], op->from, op->page, op->word);
    uint64_t written = chance(80) ? ++model()->last_tag : 0;
    struct model_walk before = model_machine_walk(op);
    enum status status;

    run_in(op->space);
    status = model_machine_access(op, *known, written);
    check_untouched(op, &before, status);
    if (!model_as_expected(status, expected_of(op)))
        return status;
    if (op->write)
        *known = written;
    return OK;
}

static enum status resolve(const struct model_op *op)
{
    struct fault_access access = {.write = op->write,
                                  .execute = op->execute,
                                  .from_user = op->user,
                                  .user_allowed = model_machine_kernel_may(op)};
    struct model_walk before = model_machine_walk(op);
    enum status status = fault_resolve(model()->spaces[op->space].space, model_address(op), access);

    check_untouched(op, &before, status);
    (void)model_as_expected(status, expected_of(op));
    return status;
}

static enum status look_ahead(void)
{
    for (unsigned i = 0; i < 8 && model()->running < MODEL_SPACES; i++) {
        struct model_op some = {.from = (unsigned)any(model()->cell_count),
                                .page = (unsigned)any(2)};

        model_machine_look(model_address(&some));
    }
    return OK;
}

uint64_t model_committed(const struct model_space *space)
{
    uint64_t pages = 0;

    for (unsigned i = 0; space->space != NULL && i < model()->cell_count; i++)
        pages += space->cells[i].committed
                     ? (model()->bounds[i + 1] - model()->bounds[i]) / PAGE_SIZE
                     : 0;
    return pages;
}

enum status model_commitment(uint64_t pages)
{
    uint64_t promised = pages + model_shared_pages();

    if (model()->overcommit == OVERCOMMIT_ALWAYS)
        return OK;
    if (model()->overcommit == OVERCOMMIT_HEURISTIC)
        return pages > commit_total() ? STATUS_COMMIT : OK;
    for (unsigned i = 0; i < MODEL_SPACES; i++)
        promised += model_committed(&model()->spaces[i]);
    return promised > commit_limit() ? STATUS_COMMIT : OK;
}

bool model_cells_free(const struct model_space *space, uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < model()->cell_count; i++) {
        if (space->cells[i].kind != CELL_NONE && model()->bounds[i] < end &&
            model()->bounds[i + 1] > start)
            return false;
    }
    return true;
}

/* Returns the level of the pages that a map asks for: 1 (4 KiB) by default. */
static unsigned hint_of(const struct model_op *op)
{
    if (op->kind != MODEL_MAP || op->alignment == PAGE_SIZE)
        return 1;
    return op->alignment == 2 * MIB ? 2 : 3;
}

static void set_cells(struct model_space *space, const struct model_op *op, enum cell_kind kind)
{
    unsigned group = 0;

    for (unsigned i = op->from; i < op->to; i++) {
        model_drop_cell(&space->cells[i]);
        space->cells[i] = (struct model_cell){.kind = kind,
                                              .committed = kind == CELL_BLANK && op->rights.write,
                                              .rights = op->rights,
                                              .level = hint_of(op)};
    }
    if (kind == CELL_SHARED)
        group = model_new_group((model()->bounds[op->to] - model()->bounds[op->from]) / PAGE_SIZE);
    for (unsigned i = op->from; i < op->to && kind == CELL_SHARED; i++)
        model_share(&space->cells[i], group);
}

/* Returns the status of charging a fresh mapping of this size to the commit account. */
static enum status commitment_of(const struct model_op *op, enum cell_kind kind, uint64_t size)
{
    bool promised = kind == CELL_SHARED || (kind == CELL_BLANK && op->rights.write);

    return promised ? model_commitment(size / PAGE_SIZE) : OK;
}

/* Returns how a map populates its pages: only small maps are populated. */
static unsigned populate_of(const struct model_op *op, uint64_t pages)
{
    if (op->kind != MODEL_MAP || op->populate == 0 || pages > MODEL_POPULATED_MAX)
        return 0;
    if (op->populate == SPACE_WIRED && (op->rights.none || pages > model_wired_room()))
        return 0;
    return op->populate;
}

static enum status model_map(const struct model_op *op)
{
    struct model_space *space = &model()->spaces[op->space];
    uint64_t start = model()->bounds[op->from];
    uint64_t size = model()->bounds[op->to] - start;
    enum cell_kind kind = op->kind == MODEL_GUARD        ? CELL_GUARD
                          : op->kind == MODEL_MAP_SHARED ? CELL_SHARED
                                                         : CELL_BLANK;
    enum status expected = model_cells_free(space, start, start + size) ? OK : STATUS_EXISTS;
    unsigned populate = populate_of(op, size / PAGE_SIZE);
    uint32_t other = kind == CELL_SHARED            ? SPACE_SHARED
                     : kind == CELL_GUARD           ? SPACE_GUARD
                     : op->kind == MODEL_MAP_ZEROES ? SPACE_ZEROES
                                                    : 0;
    bool plain = other == 0;
    enum status status;

    if (expected == OK && populate == SPACE_WIRED)
        expected = model_commitment(size / PAGE_SIZE);
    else if (expected == OK)
        expected = commitment_of(op, kind, size);
    status = space_map(space->space,
                       &(struct space_request){.at = start,
                                               .size = size,
                                               .rights = op->rights,
                                               .page_level = plain ? (uint8_t)hint_of(op) : 1,
                                               .flags = plain ? populate : other},
                       NULL);
    if (model_as_expected(status, expected))
        set_cells(space, op, kind);
    if (status == OK && populate == SPACE_WIRED)
        model_note_wired(op->space, op->from, op->to);
    return status;
}

/* Returns the lowest free address for a mapping: the end of each mapped range is a candidate. */
static uint64_t lowest_gap(const struct model_space *space, uint64_t size, uint64_t alignment)
{
    uint64_t limit = UINT64_C(1) << (model()->levels == 4 ? 47 : 56);
    uint64_t lowest = UINT64_MAX;

    for (unsigned i = 0; i <= model()->cell_count; i++) {
        uint64_t at = i == model()->cell_count ? SPACE_FIRST_ADDRESS : model()->bounds[i + 1];

        if (at < SPACE_FIRST_ADDRESS)
            continue;
        at = round_up(at, alignment);
        if (at < lowest && at < limit && size <= limit - at &&
            model_cells_free(space, at, at + size))
            lowest = at;
    }
    return lowest;
}

static bool find_bound(uint64_t address, unsigned *number)
{
    for (*number = 0; *number <= model()->cell_count; (*number)++) {
        if (model()->bounds[*number] == address)
            return true;
    }
    return false;
}

static enum status map_found(const struct model_op *op)
{
    struct model_space *space = &model()->spaces[op->space];
    uint64_t size = model()->bounds[op->to] - model()->bounds[op->from];
    uint64_t expected = lowest_gap(space, size, op->alignment);
    struct model_op found = *op;
    uint64_t start = 0;
    enum cell_kind kind = op->shared ? CELL_SHARED : CELL_BLANK;
    enum status refusal = commitment_of(op, kind, size);
    enum status status = space_map(space->space,
                                   &(struct space_request){.size = size,
                                                           .alignment = op->alignment,
                                                           .rights = op->rights,
                                                           .flags = op->shared ? SPACE_SHARED : 0},
                                   &start);

    if (!model_as_expected(status, expected == UINT64_MAX ? STATUS_NOT_FOUND : refusal))
        return status;
    CHECK_MSG(start == expected, "mapped at %lx, the lowest gap is at %lx", start, expected);
    if (find_bound(start, &found.from) && find_bound(start + size, &found.to)) {
        set_cells(space, &found, kind);
        return OK;
    }
    /* The model has no cells at this address: the mapping is removed again, which needs memory. */
    while ((status = space_unmap(space->space, start, size)) != OK)
        CHECK_MSG(model_may_fail && status == STATUS_NO_MEMORY && model_relieve(),
                  "unmap of %lx: %s", start, status_name(status));
    return OK;
}

static enum status model_unmap(const struct model_op *op)
{
    struct model_space *space = &model()->spaces[op->space];
    uint64_t start = model()->bounds[op->from];
    uint64_t end = model()->bounds[op->to];
    bool is_free = model_cells_free(space, start, end);
    enum status status = space_unmap(space->space, start, end - start);

    if (model_as_expected(status, is_free ? STATUS_NOT_FOUND : OK))
        set_cells(space, op, CELL_NONE);
    return status;
}

static void model_destroy(unsigned number)
{
    if (model()->running == number)
        run_in(MODEL_SPACES);
    space_destroy(model()->spaces[number].space);
    for (unsigned i = 0; i < model()->cell_count; i++)
        model_drop_cell(&model()->spaces[number].cells[i]);
    model()->spaces[number].space = NULL;
}

/* Makes a space, a fork of `parent` or blank (MODEL_SPACES). If all are used, ends one first. */
static enum status model_make_space(unsigned parent)
{
    unsigned number = 0;
    struct space *fresh = NULL;
    enum status expected = OK;
    enum status status;

    while (number < MODEL_SPACES && model()->spaces[number].space != NULL)
        number++;
    if (number == MODEL_SPACES) {
        number = (parent + 1 + (unsigned)any(MODEL_SPACES - 1)) % MODEL_SPACES;
        model_destroy(number);
    }
    if (parent < MODEL_SPACES)
        expected = model_commitment(model_committed(&model()->spaces[parent]));
    status = parent < MODEL_SPACES ? space_fork(model()->spaces[parent].space, &fresh)
                                   : space_create(&fresh);
    if (!model_as_expected(status, expected))
        return status;
    if (parent < MODEL_SPACES)
        model_copy_cells(&model()->spaces[number], &model()->spaces[parent]);
    if (parent < MODEL_SPACES)
        model_hold_cells(&model()->spaces[parent]);
    else
        memset(&model()->spaces[number], 0, sizeof(model()->spaces[number]));
    model()->spaces[number].space = fresh;
    if (chance(50))
        space_set_zero_levels(fresh, 1 + (unsigned)any(ZERO_LADDER_FRAMES));
    return OK;
}

enum status model_perform(const struct model_op *op)
{
    enum status status = OK;

    model()->op = *op;
    model()->done++;
    switch (op->kind) {
    case MODEL_ACCESS: status = access_memory(op); break;
    case MODEL_RESOLVE: status = resolve(op); break;
    case MODEL_LOOK: status = look_ahead(); break;
    case MODEL_MAP:
    case MODEL_MAP_ZEROES:
    case MODEL_MAP_SHARED:
    case MODEL_GUARD: status = model_map(op); break;
    case MODEL_MAP_FOUND: status = map_found(op); break;
    case MODEL_UNMAP: status = model_unmap(op); break;
    case MODEL_PROTECT: status = model_protect(op); break;
    case MODEL_WILL_NEED:
    case MODEL_DONT_NEED:
    case MODEL_COLD:
    case MODEL_SEQUENTIAL:
    case MODEL_ONE_BY_ONE: status = model_advise(op); break;
    case MODEL_ZERO_SCAN: (void)zero_merge(SCANNED_TOGETHER); break;
    case MODEL_COLLAPSE: status = model_collapse(op); break;
    case MODEL_MOVE: status = model_move(op); break;
    case MODEL_QUERY: status = model_query(op); break;
    case MODEL_WIRE: status = model_wire(op); break;
    case MODEL_UNWIRE: status = model_unwire(op); break;
    case MODEL_REMAP: status = model_remap(op); break;
    case MODEL_FORK: status = model_make_space(op->space); break;
    case MODEL_CREATE: status = model_make_space(MODEL_SPACES); break;
    case MODEL_DESTROY: model_destroy(op->space); break;
    case MODEL_SWITCH: run_in((unsigned)any(4) == 0 ? MODEL_SPACES : op->space); break;
    case MODEL_KINDS: PANIC("no operation");
    }
    if (op->space < MODEL_SPACES && model()->spaces[op->space].space != NULL)
        model_check_wired(op->space, op->from);
    model_machine_check();
    CHECK(machine_interrupts_on());
    return status;
}
