/* Process-context identifiers: which translations survive a load of CR3. */
#include "paging/tlb/pcid.h"

#include "cpu/cpu.h"
#include "lib/check.h"
#include "paging/tlb/root.h"

/* PCID 0 belongs to the kernel's own root. */
#define KERNEL_PCID 0U
#define PCIDS       (PCID_TREES + 1U)

/* The tree, and its state, that the translations of a PCID belong to. */
struct tag {
    uint64_t id; /* 0: of no tree */
    uint64_t generation;
    uint64_t everything;
};

/* Protector: its processor's, interrupts off. */
struct processor {
    struct tag tags[PCIDS];
    unsigned loaded;
    unsigned oldest; /* the next PCID to reuse, less 1 */
    struct pcid_counts counts;
};

static struct processor processors[CPU_MAX];
static uint64_t last_id;

/* Flushes of everything so far. */
static uint64_t everything;

static uint64_t pcid_read(const uint64_t *generation)
{
    return __atomic_load_n(generation, __ATOMIC_SEQ_CST);
}

void pcid_start(struct pcid_context *context)
{
    *context = (struct pcid_context){.id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED)};
}

/* Returns the PCID of the tree on this processor, or PCIDS. */
static unsigned pcid_find(const struct processor *self, uint64_t id)
{
    unsigned pcid = KERNEL_PCID + 1;

    while (pcid < PCIDS && self->tags[pcid].id != id)
        pcid++;
    return pcid;
}

static unsigned take_oldest(struct processor *self)
{
    unsigned pcid = KERNEL_PCID + 1 + self->oldest;

    self->oldest = (self->oldest + 1) % PCID_TREES;
    return pcid;
}

static void pcid_load(struct processor *self, struct phys root, unsigned pcid, bool keep)
{
    self->loaded = pcid;
    if (keep)
        self->counts.kept++;
    else
        self->counts.flushed++;
    machine_load_context(root, pcid, keep);
}

/* Loads a space's root. The generations must be read here, after this processor has entered the
 * mask: a flush that raises one later sees the processor in the mask, or asks all, and is answered
 * after the load of CR3. */
static void pcid_enter_space(struct processor *self, const struct tree *tree, bool undisturbed)
{
    const struct pcid_context *context = &tree->context;
    struct tag now = {context->id, pcid_read(&context->generation), pcid_read(&everything)};
    unsigned pcid = pcid_find(self, context->id);
    bool keep = undisturbed && pcid < PCIDS && self->tags[pcid].generation == now.generation &&
                self->tags[pcid].everything == now.everything;

    if (pcid == PCIDS)
        pcid = take_oldest(self);
    self->tags[pcid] = now;
    pcid_load(self, phys_of(tree->root), pcid, keep);
}

void pcid_enter(struct tree *tree, uint64_t others)
{
    uint32_t own = machine_cpu() + 1;
    uint32_t last;

    if (!machine_has_contexts()) {
        machine_load_root(phys_of(tree->root));
        return;
    }
    CHECK(!machine_interrupts_on() && tree->context.id != 0);
    last = __atomic_exchange_n(&tree->context.last, own, __ATOMIC_SEQ_CST);
    pcid_enter_space(&processors[machine_cpu()], tree, others == 0 && last == own);
}

void pcid_enter_kernel(struct phys root)
{
    struct processor *self = &processors[machine_cpu()];
    struct tag *tag = &self->tags[KERNEL_PCID];
    uint64_t now;
    bool keep;

    if (!machine_has_contexts()) {
        machine_load_root(root);
        return;
    }
    CHECK(!machine_interrupts_on());
    now = pcid_read(&everything);
    keep = tag->everything == now;
    tag->everything = now;
    pcid_load(self, root, KERNEL_PCID, keep);
}

/* Returns a tree's generation, writable: a flush does not change the meaning of a tree, so callers
 * may have it as constant. */
static uint64_t *generation_of(const struct tree *tree)
{
    return (uint64_t *)(uintptr_t)&tree->context.generation;
}

uint64_t pcid_raise(const struct tree *tree)
{
    if (!machine_has_contexts())
        return 0;
    return __atomic_add_fetch(generation_of(tree), 1, __ATOMIC_SEQ_CST);
}

uint64_t pcid_raise_everything(void)
{
    if (!machine_has_contexts())
        return 0;
    return __atomic_add_fetch(&everything, 1, __ATOMIC_SEQ_CST);
}

/* Advances a processor's generation after a flush. A flush of single pages covers only its own
 * generation, so the processor must have the preceding one. A whole flush covers all earlier
 * ones. */
static void pcid_follow(uint64_t *generation, uint64_t to, bool whole)
{
    if (*generation + 1 == to || (whole && *generation < to))
        *generation = to;
}

void pcid_flushed(const struct tree *tree, uint64_t generation, bool whole)
{
    struct processor *self = &processors[machine_cpu()];
    bool were_on;

    if (!machine_has_contexts())
        return;
    were_on = machine_interrupts_off();
    if (self->loaded != KERNEL_PCID && self->tags[self->loaded].id == tree->context.id)
        pcid_follow(&self->tags[self->loaded].generation, generation, whole);
    machine_interrupts_restore(were_on);
}

void pcid_flushed_everything(uint64_t generation)
{
    struct processor *self = &processors[machine_cpu()];
    bool were_on;

    if (!machine_has_contexts())
        return;
    were_on = machine_interrupts_off();
    pcid_follow(&self->tags[self->loaded].everything, generation, true);
    machine_interrupts_restore(were_on);
}

struct pcid_counts pcid_counts(void)
{
    struct pcid_counts all = {0, 0};

    for (unsigned cpu = 0; cpu < CPU_MAX; cpu++) {
        all.kept += processors[cpu].counts.kept;
        all.flushed += processors[cpu].counts.flushed;
    }
    return all;
}
