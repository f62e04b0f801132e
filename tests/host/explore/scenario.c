/* Scenarios: set-ups and the machine that they are made on. */
#include "tests/host/explore/scenario.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/check.h"
#include "lib/options.h"
#include "paging/kernel/map.h"
#include "swapdisk/area.h"
#include "tests/host/explore/oracle.h"
#include "tests/host/fake/kernel_map.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/mmu.h"
#include "vmm/fault/fault.h"
#include "vmm/space/commit.h"
#include "vmm/space/space.h"

#define LEVELS      4U
#define SWAP_FRAMES 128U

/* A region, and another one that makes tables at the target of `move`. */
#define PAGES "map+512,map@523776+16,write,write@1"

/* Own copies of the second page on both sides of a fork. */
#define FORKED PAGES ",child,write@1,write/1@1"

const struct set_up scenario_set_ups[] = {
    {"none", "map@523776"},
    {"blank", "map+512"},
    {"blank8", "map+2048"},
    {"zeroread", "map+512,read"},
    {"many", "map-apart,write,write@2"}, /* regions of two leaves of their tree */
    {"manyfork", "map-apart,write,write@2,child"},
    {"manythree", "map-apart,write,write@2,child,child"},
    {"zeroes", "map-zeroes+2048"},
    {"around", "map+512,sequential+512,write@64"},
    {"own", PAGES},
    {"cleared", "map+512,map@523776+16,clear,clear@1"},
    {"wired", PAGES ",wire+2"},
    {"withheld", PAGES ",none"},
    {"cow", PAGES ",child"},
    {"cowleaf", "map+1024,map@523776+16,write,write@1,write@600,child,write@600,write/1@600"},
    {"cowown", FORKED},
    {"coweach", "map+512,write,write@1,write@40,child,write@1,write/1@1"},
    {"three", PAGES ",child,child,write@1,write/1@1,write/2@1"},
    {"swapped", PAGES ",out"},
    {"swapshared", FORKED ",out"},
    {"swapsharedown", FORKED ",write@523776,out"},
    {"cached", PAGES ",out,read"},
    {"cachedshared", FORKED ",out,read/1"},
    {"large", "map-large,write,write@1"},
    {"largeshared", "map-large,write,write@1,child"},
    {"largethree", "map-large+1024,write,write@512,child,child,unmap@512+512,unmap/1@512+512,"
                   "unmap/2@512+512"},
    {"section", "map-shared+8"},
    {"sectionpresent", "map-shared+8,write,write@1"},
    {"sectionfork", "map-shared+8,write,write@1,child,read/1"},
    {"sectionswap", "map-shared+8,write,write@1,child,read/1,out"},
    {"object", "map-object,write,write@1"},
    {"objectpresent", "map-object,write,write@1,write@5"},
    {"objectready", "map-object,write,write@1,write@5,dont+8,read"},
    {"objectaround", "map-object,write,write@1,write@5,dont+8,sequential+8"},
    {"objectreadyfork", "map-object,write,write@1,write@5,dont+8,read,child"},
    {"objectdeep", "map-object+1024,write,write@5,write@600"},
    {"objectdeepready", "map-object+1024,write,write@5,write@600,write@601,dont+1024,read@5"},
    {"objectfork", "map-object,write,write@1,write@5,child,read/1@5"},
    {"objectcopy", "map-object@64,write@69,map-private,read@5,write@1"},
    {"objectcopyfork", "map-object@64,write@69,map-private,read@5,write@1,child"},
    {"objectswap", "map-object,write,write@1,write@5,child,read/1@5,out"},
    {"lent", "map-shared+8,write,write@1,new,new,lend,read/1@1"},
    {"chain", "map-shared+8,write,write@1,write@5,new,new,lend,lend/1,read/1@5,read/2@5"},
    {"chainfork", "map-shared+8,write,write@5,new,new,lend,lend/1,read/1@5,child/1,read/2@5"},
    {"full", "map+512,fill"},
    {"fullcow", "map+512,fill,child"},
    {"fullown", "map+512,fill,child,write@500"},
    {"fullthree", "map+512,fill,child,child,write/1@500,write/2@500"},
    {"blankfork", "map+512,write@64,child"},
    {"blank8fork", "map+2048,write@64,child"},
    {"zeroreadfork", "map+512,write@64,read,child"},
    {"zeroesfork", "map-zeroes+2048,write@64,child"},
    {"aroundfork", "map+512,sequential+512,write@64,child"},
    {"withheldfork", PAGES ",child,none"},
    {NULL, NULL},
};

struct scenario scenario;

/* ---- text ---- */

/* Takes the next word of the text, up to a blank. Returns false if there is none. */
static bool next_word(const char **text, char *word, size_t size)
{
    size_t length;

    *text += strspn(*text, " \t|");
    length = strcspn(*text, " \t|\n");
    snprintf(word, size, "%.*s", (int)length, *text);
    *text += length;
    return length > 0;
}

bool scenario_parse(const char *text, char *wrong, size_t size)
{
    snprintf(wrong, size, "%s", "a set-up and two or three programs");
    memset(&scenario, 0, sizeof(scenario));
    if (!next_word(&text, scenario.set_up, sizeof(scenario.set_up)))
        return false;
    while (scenario.processors < RUN_PROCESSORS_MAX &&
           next_word(&text, scenario.text[scenario.processors], sizeof(scenario.text[0]))) {
        if (!program_parse(scenario.text[scenario.processors],
                           &scenario.programs[scenario.processors], wrong, size))
            return false;
        scenario.processors++;
    }
    return scenario.processors >= 2;
}

/* ---- the machine ---- */

/* A flush is one instruction, on any processor. */
static void (*flush_page)(uint64_t address);
static void (*flush_space)(void);
static void (*flush_all)(void);

static void flush_page_at_once(uint64_t address)
{
    run_instruction_begin();
    flush_page(address);
    run_instruction_end();
}

static void flush_space_at_once(void)
{
    run_instruction_begin();
    flush_space();
    run_instruction_end();
}

static void flush_all_at_once(void)
{
    run_instruction_begin();
    flush_all();
    run_instruction_end();
}

static void start_mmu(void)
{
    fake_mmu_start(LEVELS);
    flush_page = fake_on_flush_page;
    flush_space = fake_on_flush_space;
    flush_all = fake_on_flush_all;
    fake_on_flush_page = flush_page_at_once;
    fake_on_flush_space = flush_space_at_once;
    fake_on_flush_all = flush_all_at_once;
}

static void start_machine(void)
{
    static struct options options;
    enum status status;

    run_init(SCENARIO_MEMORY);
    fake_processors = (UINT64_C(1) << scenario.processors) - 1;
    fake_machine_start(SCENARIO_MEMORY);
    /* Nothing owns the first MiB, and on a real machine it is not zero. A wrong address often
     * points there, so it is filled. */
    memset(phys_pointer((struct phys){0}), 0x5a, MIB);
    fake_kernel_map_start();
    status = vmm_init();
    CHECK(status == OK);
    status = swap_open(&options, SWAP_FRAMES);
    CHECK(status == OK);
    fake_kernel_map_set_levels(LEVELS);
    fault_start();
    commit_choose(OVERCOMMIT_ALWAYS);
    start_mmu();
}

/* ---- the set-up ---- */

static const char *set_up_program(void)
{
    for (const struct set_up *at = scenario_set_ups; at->name != NULL; at++) {
        if (strcmp(at->name, scenario.set_up) == 0)
            return at->program;
    }
    return scenario.set_up;
}

/* Performs one operation of the set-up, on the processor of its space. */
static void set_up_one(const struct program *program, unsigned i)
{
    unsigned space = program->operations[i].space;
    unsigned processor = space < scenario.processors ? space : 0;
    struct result result;

    fake_machine_be_cpu(processor);
    if (space_current() != program_spaces[space])
        space_switch(program_spaces[space]);
    result = program_perform(program, i, 0, i + 1);
    CHECK_MSG(result.status == OK, "operation %u of the set-up ends with %d", i, result.status);
    fake_machine_be_cpu(0);
}

/* Returns a new value for each write. */
static void perform(unsigned processor, unsigned i)
{
    const struct program *program = &scenario.programs[processor];

    run_operation(i);
    scenario.results[processor][i] =
        program_perform(program, i, processor, 100 + 30 * processor + i);
    run_result(scenario.results[processor][i].status);
}

static void make_set_up(void)
{
    static struct program program;
    char wrong[80];
    enum status status = space_create(&program_spaces[0]);

    CHECK(status == OK);
    if (!program_parse(set_up_program(), &program, wrong, sizeof(wrong))) {
        fprintf(stderr, "no set-up, and no operation of one: %s\n", wrong);
        _exit(2);
    }
    for (unsigned i = 0; i < program.count; i++)
        set_up_one(&program, i);
    for (unsigned i = 0; i < scenario.processors; i++) {
        unsigned runs_in = scenario.programs[i].runs_in;

        fake_machine_be_cpu(i);
        space_switch(runs_in == NO_SPACE ? NULL : program_spaces[runs_in]);
        for (unsigned k = 0; k < scenario.programs[i].prepared; k++)
            perform(i, k);
    }
    fake_machine_be_cpu(0);
}

void scenario_start(void)
{
    start_machine();
    oracle_start();
    make_set_up();
    run_keep_memory();
}

/* ---- programs ---- */

void scenario_program(unsigned number)
{
    for (unsigned i = scenario.programs[number].prepared; i < scenario.programs[number].count; i++)
        perform(number, i);
}

void scenario_serial(const uint8_t *order, unsigned count)
{
    unsigned next[RUN_PROCESSORS_MAX];

    for (unsigned i = 0; i < scenario.processors; i++)
        next[i] = scenario.programs[i].prepared;
    for (unsigned i = 0; i < count; i++) {
        fake_machine_be_cpu(order[i]);
        perform(order[i], next[order[i]]++);
    }
    fake_machine_be_cpu(0);
}

void scenario_check(char *outcome)
{
    oracle_judge(outcome);
}
