/*
 * The fast path of faults: what nearly every fault is, in one walk and under one lock.
 *
 * It takes the rows of the table in fault.c that need no new table, no disk and no reclaim: a
 * ticket that is read or written, the zero page written, a COW page written by one of several
 * owners or by the last. Whatever else it meets, or may not do, it leaves as it was: the slow path
 * decides and says why. Interrupts are off throughout, which makes it a walk by rule P4; the lock
 * is a try.
 *
 * The steps of fault.c are written out here once more with constants in place of loops and one
 * pass over each word, since each instruction is paid at every fault (`make bench`).
 */
#include "cpu/machine.h"
#include "cpu/points.h"
#include "cpu/spin.h"
#include "paging/tree.h"
#include "vmm/fault.h"
#include "vmm/page.h"

/* Own is class 1, COW 2, shared 3: this bit is clear along a path of own tables only. */
#define PTE_NOT_OWN (UINT64_C(1) << (PTE_CLASS_SHIFT + 1))

/* The leaf table on an address's path, and all upper entries together. */
struct fast_walk {
    struct pte *leaf;
    struct frame *record; /* of the leaf table */
    uint64_t classes;
};

static inline __attribute__((always_inline)) bool step(uint64_t *table, uint64_t address,
                                                       unsigned level, uint64_t *classes)
{
    const struct pte *entries = phys_pointer((struct phys){*table});
    uint64_t word = pte_read(&entries[pte_index(address, level)]).word;

    if (__builtin_expect((word & (PTE_P | PTE_PS)) != PTE_P, 0))
        return false;
    *classes |= word;
    *table = word & PTE_FRAME_MASK;
    return true;
}

static inline bool walk_to_leaf(const struct space *space, uint64_t address, struct fast_walk *walk)
{
    uint64_t table = phys_of(space->tree.root).address;

    walk->classes = 0;
    if (__builtin_expect(space->tree.levels == 5, 0) && !step(&table, address, 5, &walk->classes))
        return false;
    if (!step(&table, address, 4, &walk->classes) || !step(&table, address, 3, &walk->classes) ||
        !step(&table, address, 2, &walk->classes))
        return false;
    walk->record = frame_record((struct pfn){(uint32_t)(table >> PAGE_SHIFT)});
    walk->leaf = (struct pte *)phys_pointer((struct phys){table}) + pte_index(address, 1);
    return true;
}

static inline bool rights_allow(struct rights rights, struct fault_access access)
{
    return !rights.none && (!access.write || rights.write) && (!access.execute || rights.execute) &&
           (rights.user ? access.from_user || access.user_allowed : !access.from_user);
}

/* Lets a page take the place of an entry that is not counted: a ticket or the zero page. */
static inline void install(const struct fast_walk *walk, struct pfn page, uint64_t word)
{
    struct frame *record = frame_record(page);

    CODE_POINT(POINT_MAP);
    record->back_table = frame_pfn(walk->record).index;
    record->back_index = (uint16_t)((uintptr_t)walk->leaf / sizeof(*walk->leaf) % PTE_ENTRIES);
    __atomic_store_n(&walk->leaf->word, phys_of(page).address | word, __ATOMIC_RELEASE);
}

static bool resolve_ticket(struct space *space, const struct fast_walk *walk,
                           struct fault_access access, struct pte entry)
{
    const struct descriptor *descriptor = descriptor_of(entry, descriptor_limit);
    struct pfn page;

    if (descriptor == NULL || !rights_allow(descriptor->rights, access))
        return false;
    if (!access.write) {
        /* Neither the ticket nor the zero page is counted: live and held stay as they are. */
        CODE_POINT(POINT_MAP);
        __atomic_store_n(&walk->leaf->word, descriptor->zero_leaf.word, __ATOMIC_RELEASE);
        fault_count(&space->faults.zero_read);
        return true;
    }
    CODE_POINT(POINT_ALLOCATE);
    if ((walk->classes & PTE_NOT_OWN) != 0 || !page_try_alloc(FRAME_CLEARED, &page))
        return false;
    install(walk, page, descriptor->own_bits);
    walk->record->held++;
    page_publish(page);
    fault_count(&space->faults.first_write);
    return true;
}

/* What the entry of a page of one's own has besides its frame, from a COW entry. */
static inline uint64_t own_word(struct pte cow)
{
    return (cow.word & (PTE_US | PTE_NX | PTE_MAY_WRITE)) | PTE_P | PTE_A | PTE_RW |
           (uint64_t)PTE_OWN << PTE_CLASS_SHIFT;
}

/* Whether this processor, which runs the space, is not the only one that does: a translation that
 * others may have is not for the fast path to change. One that joins waits for us (space.c). */
static inline bool others_run(const struct space *space)
{
    uint64_t processors = __atomic_load_n(&space->tree.processors, __ATOMIC_RELAXED);

    return (processors & (processors - 1)) != 0;
}

static bool write_zero_page(struct space *space, const struct fast_walk *walk, uint64_t address,
                            struct pte entry)
{
    struct pfn page;

    CODE_POINT(POINT_ALLOCATE);
    if (others_run(space) || !page_try_alloc(FRAME_CLEARED, &page))
        return false;
    install(walk, page, own_word(entry));
    walk->record->held++;
    page_publish(page);
    CODE_POINT(POINT_FLUSH);
    machine_flush_page(address);
    fault_count(&space->faults.zero_to_private);
    return true;
}

/* Several entries name the page: this one gets a copy, and lets go of the old one after the flush.
 */
static bool copy_page(struct space *space, const struct fast_walk *walk, uint64_t address,
                      struct pte entry)
{
    struct pfn shared = pte_frame(entry);
    struct pfn page;

    CODE_POINT(POINT_ALLOCATE);
    if (others_run(space) || !page_try_alloc(FRAME_UNCLEARED, &page))
        return false;
    if ((entry.word & PTE_D) != 0)
        __atomic_or_fetch(&frame_record(shared)->flags, FRAME_DIRTY, __ATOMIC_RELAXED);
    machine_copy_frame(frame_pointer(page), frame_pointer(shared));
    install(walk, page, own_word(entry));
    tree_repoint(shared, frame_pfn(walk->record),
                 (unsigned)((uintptr_t)walk->leaf / sizeof(*walk->leaf) % PTE_ENTRIES));
    page_publish(page);
    CODE_POINT(POINT_FLUSH);
    machine_flush_page(address);
    tree_forget_page(shared);
    fault_count(&space->faults.cow_copy);
    return true;
}

static bool write_leaf(struct space *space, const struct fast_walk *walk, uint64_t address,
                       struct fault_access access, struct pte entry)
{
    struct pfn shared = pte_frame(entry);

    if (!access.write || (walk->classes & PTE_NOT_OWN) != 0 || pte_class(entry) != PTE_COW ||
        !rights_allow(pte_rights(entry), access))
        return false;
    if (pfn_equal(shared, tree_zero_page()))
        return write_zero_page(space, walk, address, entry);
    if (__atomic_load_n(&frame_record(shared)->count, __ATOMIC_ACQUIRE) != 1)
        return copy_page(space, walk, address, entry);
    if ((frame_record(shared)->flags & FRAME_TIED) != 0)
        return false;
    CODE_POINT(POINT_MAP);
    pte_make_own(walk->leaf);
    fault_count(&space->faults.cow_reuse);
    return true;
}

bool fault_fast(struct space *space, uint64_t address, struct fault_access access)
{
    struct fast_walk walk;
    struct pte entry;
    bool resolved = false;

    CODE_POINT(POINT_FIND);
    if (!walk_to_leaf(space, address, &walk) || !spin_try(&walk.record->lock))
        return false;
    entry = pte_read(walk.leaf);
    if ((walk.record->flags & FRAME_DEAD) != 0)
        resolved = false;
    else if (!pte_present(entry))
        resolved = resolve_ticket(space, &walk, access, entry);
    else
        resolved = write_leaf(space, &walk, address, access, entry);
    spin_unlock_fast(&walk.record->lock);
    return resolved;
}
