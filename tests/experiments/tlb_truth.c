/*
 * tlb-truth: is each flush needed, and is each enough?
 *
 * At every site the entry is changed by hand, and the access is repeated before the flush and
 * after it, some times. After the flush the processor must obey the entry. Before the flush it may
 * use the cached translation: if it does once, the site proves that a missing flush would be
 * noticed. That is a passed check on any machine. QEMU's TCG caches every translation of a user
 * page, so there it must be seen.
 */
#include "cpu/features.h"
#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "cpu/trap/probe.h"
#include "cpu/trap/trap.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "paging/kernel/map.h"
#include "pmm/frame.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"

#define START UINT64_C(0x10000000)
#define OTHER (START + PAGE_SIZE)
#define OLD   UINT64_C(0x1111)
#define NEW   UINT64_C(0x2222)

#define SITES 7U
#define TRIES 16U /* of each site */

/* Processor 1, as a bit. */
#define OTHER_PROCESSOR UINT64_C(2)

static struct {
    struct space *space;
    struct pte *entry; /* of START */
    struct pte sound;  /* as it should be */
    bool remembers;    /* the machine is known to cache every translation until a flush */
} scene;

static void tlb_truth_put(struct pte entry)
{
    __atomic_store_n(&scene.entry->word, entry.word, __ATOMIC_SEQ_CST);
}

static uint64_t value_at_start(void)
{
    uint64_t value = 0;

    return probe_user_read64(START, &value, NULL) ? value : 0;
}

/* Flushes: all, those before which a stale translation was used, and those that left one. */
static struct {
    unsigned tried;
    unsigned needed;
    unsigned stale_after;
} flushes;

/* Accesses of one site that used the old translation, of TRIES before its flush and TRIES after. */
struct stale_hits {
    unsigned before;
    unsigned after;
};

static void tlb_truth_metric(const char *key, const char *when, unsigned hits)
{
    char name[40];

    print_to(name, sizeof(name), "stale_%s.%s", when, key);
    ktap_metric(name, hits, "accesses");
}

static void check_site(const char *name, const char *key, struct stale_hits hits, bool must_see)
{
    flushes.tried++;
    flushes.needed += hits.before > 0;
    flushes.stale_after += hits.after > 0;
    tlb_truth_metric(key, "before", hits.before);
    tlb_truth_metric(key, "after", hits.after);
    ktap_check(hits.after == 0, "%s: after the flush the entry is obeyed", name);
    if (hits.before > 0 || must_see)
        ktap_check(hits.before > 0, "%s: without it the old translation is used", name);
    else
        ktap_skip("the processor did not cache it", "%s: without it", name);
}

/* Changes the entry once, and makes the access as `stale`, which returns whether the old one was
 * used. */
static void try_site(struct stale_hits *hits, struct pte changed, bool (*stale)(void),
                     void (*flush)(void))
{
    tlb_truth_put(scene.sound);
    machine_flush_all();
    stale();
    (void)probe_user_write64(START, OLD, NULL);
    (void)stale();
    tlb_truth_put(changed);
    hits->before += stale();
    flush();
    hits->after += stale();
    tlb_truth_put(scene.sound);
    machine_flush_all();
}

static void site(const char *name, const char *key, struct pte changed, bool (*stale)(void),
                 void (*flush)(void))
{
    struct stale_hits hits = {0};

    for (unsigned i = 0; i < TRIES; i++)
        try_site(&hits, changed, stale, flush);
    check_site(name, key, hits, scene.remembers);
}

/* Returns whether a read succeeds. The processor runs no space, so the handler resolves none of
 * these faults. */
static bool reads(void)
{
    return value_at_start() == OLD;
}

static bool writes(void)
{
    return probe_user_write64(START, OLD, NULL);
}

/* Commits a batch while no processor runs the space, so none is asked. A processor that comes back
 * drops its translations: by the load of the root or, with PCIDs, by the generation. */
static void flush_while_away(void)
{
    struct tlb_batch batch;

    space_switch(NULL);
    tlb_begin(&batch, &scene.space->tree);
    tlb_add_page(&batch, START);
    tlb_commit(&batch);
    space_switch(scene.space);
}

static void flush_page(void)
{
    machine_flush_page(START);
}

static bool no_handler(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    (void)address;
    (void)error;
    (void)frame;
    return false;
}

/* ---- another processor ---- */

/* It never sleeps, so that it forgets nothing by a change of spaces. */
static struct {
    unsigned asked;
    unsigned answered;
    bool over;
    bool stale;
} reader;

static void read_when_asked(void *argument)
{
    unsigned answered = 0;

    space_switch(argument);
    while (!__atomic_load_n(&reader.over, __ATOMIC_ACQUIRE)) {
        if (__atomic_load_n(&reader.asked, __ATOMIC_ACQUIRE) == answered) {
            machine_pause();
            continue;
        }
        reader.stale = reads();
        __atomic_store_n(&reader.answered, ++answered, __ATOMIC_RELEASE);
    }
    space_switch(NULL);
}

static bool other_reads(void)
{
    unsigned asked = __atomic_add_fetch(&reader.asked, 1, __ATOMIC_RELEASE);

    while (__atomic_load_n(&reader.answered, __ATOMIC_ACQUIRE) != asked)
        machine_relax();
    return reader.stale;
}

static void flush_other(void)
{
    uint64_t page = START;

    machine_shootdown(
        OTHER_PROCESSOR, 0,
        &(struct machine_flush){.kind = MACHINE_FLUSH_PAGES, .count = 1, .pages = &page});
}

static void another_processor(void)
{
    struct thread *thread;

    if ((machine_processors() & OTHER_PROCESSOR) == 0 ||
        thread_create(1, read_when_asked, scene.space, &thread) != OK) {
        ktap_skip("there is one processor", "another processor, INVLPG there");
        ktap_skip("there is one processor", "another processor, without it");
        return;
    }
    tlb_truth_put(scene.sound);
    other_reads();
    site("another processor, INVLPG there", "other", pte_empty(), other_reads, flush_other);
    __atomic_store_n(&reader.over, true, __ATOMIC_RELEASE);
    thread_join(thread);
}

/* ---- a global page ---- */

/* Two pages of the image's data with global entries, for this experiment only. */
static volatile uint64_t global_pages[2][PAGE_SIZE / sizeof(uint64_t)]
    __attribute__((aligned(PAGE_SIZE)));

/* Returns the 4 KiB entry of a kernel address; NULL if a larger page maps it. */
static struct pte *kernel_leaf(uint64_t address)
{
    struct phys table = machine_root();

    for (unsigned level = kernel_map_levels(); level > 1; level--) {
        struct pte entry = ((const struct pte *)phys_pointer(table))[pte_index(address, level)];

        if (pte_state(entry, level) == PTE_LEAF)
            return NULL;
        table = phys_of(pte_frame(entry));
    }
    return (struct pte *)phys_pointer(table) + pte_index(address, 1);
}

/* Changes a global entry: a load of CR3 keeps its translation, a full flush drops it. */
static void global_page(void)
{
    static const char name[] = "global page after a load of CR3, full flush";
    struct pte *entry = kernel_leaf((uint64_t)(uintptr_t)global_pages[0]);
    struct pte *other = kernel_leaf((uint64_t)(uintptr_t)global_pages[1]);
    struct stale_hits hits = {0};
    struct pte sound;

    if (entry == NULL || other == NULL || (entry->word & PTE_G) == 0 || !cpu_features()->pge) {
        ktap_skip("no global entry", "%s: after the flush", name);
        ktap_skip("no global entry", "%s: without it", name);
        return;
    }
    global_pages[0][0] = OLD;
    global_pages[1][0] = NEW;
    sound = *entry;
    for (unsigned i = 0; i < TRIES; i++) {
        (void)global_pages[0][0];
        __atomic_store_n(&entry->word, other->word, __ATOMIC_SEQ_CST);
        machine_flush_space();
        hits.before += global_pages[0][0] == OLD;
        machine_flush_all();
        hits.after += global_pages[0][0] == OLD;
        __atomic_store_n(&entry->word, sound.word, __ATOMIC_SEQ_CST);
        machine_flush_all();
    }
    check_site(name, "global", hits, false);
}

static void all_sites(void)
{
    struct pte other = leaf_entry(scene.space, OTHER);
    struct pte read_only = {scene.sound.word & ~PTE_RW};

    site("unmap, INVLPG", "unmap_page", pte_empty(), reads, flush_page);
    site("unmap, CR3", "unmap_cr3", pte_empty(), reads, machine_flush_space);
    site("lower rights, INVLPG", "rights", read_only, writes, flush_page);
    site("another frame, CR4.PGE", "frame", other, reads, machine_flush_all);
    site("unmap, committed while away", "away", pte_empty(), reads, flush_while_away);
    another_processor();
    global_page();
}

/* Names the sites whose flush no run under TCG can prove. TCG has no PCIDs, drops global pages at
 * every load of CR3, and walks from the root at every miss. */
static void name_unseen_sites(void)
{
    static const char *const sites[] = {
        "global pages: the kernel's half, when a table of the window goes (vmm/space/space.c)",
        "global pages: the handover to the image's own place (paging/kernel/handover.c)",
        "process-context identifiers: the generation of a space (paging/tlb/pcid.c)",
        "process-context identifiers: the generation of everything (paging/tlb/pcid.c)",
        "process-context identifiers: a space that others ran too (paging/tlb/pcid.c)",
        "process-context identifiers: one that is given to another space (paging/tlb/pcid.c)",
        "paging-structure caches: a table that is copied on the way to a page (paging/tree/walk.c)",
        "paging-structure caches: a table that an unmap lets go (paging/tree/range.c)",
        "paging-structure caches: the tables of a parent, after a fork (paging/tree/share.c)",
    };

    for (unsigned i = 0; i < ARRAY_COUNT(sites); i++)
        ktap_note("QEMU's TCG cannot show: %s", sites[i]);
}

static void tlb_truth_run(const struct options *options)
{
    bool (*handler)(uint64_t, uint64_t, struct trap_frame *) = trap_page_fault;
    struct pfn table;

    (void)options;
    memset(&reader, 0, sizeof(reader));
    memset(&flushes, 0, sizeof(flushes));
    if (!start_space(&scene.space))
        return;
    ktap_check(space_map(scene.space, &SPACE_AT(START, 2 * PAGE_SIZE, RIGHTS_READ_WRITE), NULL) ==
                       OK &&
                   word_write(START, OLD) && word_write(OTHER, NEW),
               "two pages");
    table = leaf_table(scene.space, START);
    scene.entry = (struct pte *)frame_pointer(table) + pte_index(START, 1);
    scene.sound = *scene.entry;
    scene.remembers = strcmp(cpu_features()->hypervisor_name, "TCGTCGTCGTCG") == 0;
    trap_page_fault = no_handler;
    all_sites();
    trap_page_fault = handler;
    ktap_metric("tries", TRIES, "accesses");
    ktap_metric("tried", flushes.tried, "flushes");
    ktap_metric("needed", flushes.needed, "flushes");
    ktap_metric("stale_after", flushes.stale_after, "flushes");
    if (scene.remembers)
        name_unseen_sites();
    end_space(scene.space);
}

EXPERIMENT(tlb_truth, 230) = {
    .theme = THEME_PROCESSOR,
    .name = "tlb-truth",
    .question = "Is each flush needed, and is each enough?",
    .checks = 2 * SITES + 1,
    .run = tlb_truth_run,
    .answer =
        {
            .text = "{needed} of {tried} flushes are seen to be needed; {stale_after} left a stale "
                    "translation",
            .limit =
                "flushes of global pages, PCIDs and paging-structure caches, which TCG cannot show",
        },
};
