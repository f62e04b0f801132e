/* The table of policies, which the linker collects; the nodes of the running one, and their
 * lists. */
#include "vmm/policy/node.h"

#include "vmm/policy/array.h"

extern const struct policy *const __start_policies[];
extern const struct policy *const __stop_policies[];

struct policy_list {
    struct policy_node *oldest;
    struct policy_node *newest;
    uint64_t size;
};

static struct {
    const struct policy *policy;
    struct policy_list lists[POLICY_CHAINS][POLICY_LISTS];
    struct policy_node *free; /* linked by `next` of chain 0 */
    uint32_t peak;            /* most nodes ever in use at once */
    uint64_t resident;
    uint64_t ghosts;
    uint64_t capacity;
    uint64_t arrivals;
    void (*forget)(uint32_t page);
    struct paged_array array;
} nodes;

const struct policy *policy_at(unsigned place)
{
    const struct policy *const *entry = __start_policies + place;

    return entry < __stop_policies ? *entry : NULL;
}

/* ---- memory ---- */

struct policy_node *policy_node_at(uint32_t number)
{
    return array_at(&nodes.array, number);
}

enum status policy_start(const struct policy *policy, uint64_t count)
{
    enum status status;

    CHECK(nodes.policy == NULL && count > 0);
    memset(&nodes, 0, sizeof(nodes));
    nodes.capacity = count;
    status = array_open(&nodes.array, count, sizeof(struct policy_node));
    if (status != OK)
        return status;
    nodes.policy = policy;
    if (policy->start != NULL)
        policy->start();
    return OK;
}

void policy_stop(void)
{
    CHECK(nodes.policy != NULL && nodes.peak <= array_count(&nodes.array));
    array_close(&nodes.array);
    nodes.policy = NULL;
}

const struct policy *policy_running(void)
{
    return nodes.policy;
}

static struct policy_node *node_allocate(void)
{
    struct policy_node *node = nodes.free;

    if (node != NULL)
        nodes.free = node->links[0].next;
    else if (nodes.peak < array_count(&nodes.array))
        node = policy_node_at(nodes.peak++);
    if (node != NULL)
        *node = (struct policy_node){0};
    return node;
}

/* ---- lists ---- */

static struct policy_list *policy_list_at(unsigned chain, unsigned list)
{
    CHECK(chain < POLICY_CHAINS && list < POLICY_LISTS);
    return &nodes.lists[chain][list];
}

static void policy_unlink(struct policy_node *node, unsigned chain)
{
    struct policy_list *list = policy_list_at(chain, node->list[chain]);
    struct policy_link *link = &node->links[chain];

    if (node->list[chain] == 0)
        return;
    CHECK(list->size > 0);
    if (link->prev == NULL)
        list->oldest = link->next;
    else
        link->prev->links[chain].next = link->next;
    if (link->next == NULL)
        list->newest = link->prev;
    else
        link->next->links[chain].prev = link->prev;
    list->size--;
    node->list[chain] = 0;
}

void policy_put_in(struct policy_node *node, unsigned chain, unsigned number)
{
    struct policy_list *list = policy_list_at(chain, number);

    policy_unlink(node, chain);
    if (number == 0)
        return;
    node->links[chain] = (struct policy_link){.prev = list->newest};
    if (list->newest == NULL)
        list->oldest = node;
    else
        list->newest->links[chain].next = node;
    list->newest = node;
    list->size++;
    node->list[chain] = (uint16_t)number;
}

void policy_put_before(struct policy_node *node, struct policy_node *newer)
{
    struct policy_list *list = policy_list_at(0, newer->list[0]);
    struct policy_node *older = newer->links[0].prev;

    CHECK(node != newer && newer->list[0] != 0 && node->list[0] == 0);
    node->links[0] = (struct policy_link){.next = newer, .prev = older};
    newer->links[0].prev = node;
    if (older == NULL)
        list->oldest = node;
    else
        older->links[0].next = node;
    list->size++;
    node->list[0] = newer->list[0];
}

struct policy_node *policy_oldest_in(unsigned chain, unsigned list)
{
    return policy_list_at(chain, list)->oldest;
}

uint64_t policy_size_in(unsigned chain, unsigned list)
{
    return policy_list_at(chain, list)->size;
}

struct policy_node *policy_after(const struct policy_node *node)
{
    CHECK(node->list[0] != 0);
    return node->links[0].next != NULL ? node->links[0].next : policy_oldest(node->list[0]);
}

/* ---- lives ---- */

uint64_t policy_capacity(void)
{
    return nodes.capacity;
}

void policy_set_capacity(uint64_t pages)
{
    CHECK(pages > 0);
    nodes.capacity = pages;
}

uint64_t policy_arrivals(void)
{
    return nodes.arrivals;
}

struct policy_node *policy_insert(struct policy_node *node, uint32_t page)
{
    CHECK(nodes.policy != NULL);
    if (node != NULL) {
        CHECK(!policy_is_marked(node, POLICY_RESIDENT) && nodes.ghosts > 0);
        nodes.ghosts--;
    } else {
        node = node_allocate();
    }
    if (node == NULL)
        return NULL;
    node->page = page;
    nodes.resident++;
    nodes.arrivals++;
    policy_mark(node, POLICY_RESIDENT);
    nodes.policy->insert(node);
    return node;
}

static void node_end(struct policy_node *node)
{
    CHECK(node != nodes.free);
    for (unsigned chain = 0; chain < POLICY_CHAINS; chain++)
        policy_unlink(node, chain);
    *node = (struct policy_node){.links = {{.next = nodes.free}}};
    nodes.free = node;
}

struct policy_node *policy_goes(struct policy_node *node)
{
    CHECK(policy_is_marked(node, POLICY_RESIDENT) && nodes.resident > 0);
    nodes.resident--;
    policy_unmark(node, POLICY_RESIDENT | POLICY_DIRTY);
    if (nodes.policy->went != NULL && nodes.policy->went(node)) {
        nodes.ghosts++;
        return node;
    }
    if (nodes.policy->left != NULL)
        nodes.policy->left(node);
    node_end(node);
    return NULL;
}

void policy_left(struct policy_node *node)
{
    bool resident = policy_is_marked(node, POLICY_RESIDENT);

    CHECK((resident ? nodes.resident : nodes.ghosts) > 0);
    if (resident)
        nodes.resident--;
    else
        nodes.ghosts--;
    if (nodes.policy->left != NULL)
        nodes.policy->left(node);
    node_end(node);
}

void policy_forget(struct policy_node *ghost)
{
    uint32_t page = ghost->page;

    CHECK(ghost != NULL && !policy_is_marked(ghost, POLICY_RESIDENT));
    policy_left(ghost);
    if (nodes.forget != NULL)
        nodes.forget(page);
}

void policy_on_forget(void (*forget)(uint32_t page))
{
    nodes.forget = forget;
}

void policy_dirty(struct policy_node *node)
{
    policy_mark(node, POLICY_DIRTY);
}

void policy_mark_used(struct policy_node *node)
{
    policy_mark(node, POLICY_USED);
}

uint32_t policy_page(const struct policy_node *node)
{
    return node->page;
}

void policy_set_page(struct policy_node *node, uint32_t page)
{
    node->page = page;
}

uint32_t policy_node_peak(void)
{
    return nodes.peak;
}

uint64_t policy_resident(void)
{
    return nodes.resident;
}

uint64_t policy_ghosts(void)
{
    return nodes.ghosts;
}

/* Panics unless each list is linked both ways and has as many nodes as its size says, and every
 * resident node is in a list. */
void policy_audit(void)
{
    uint64_t listed = 0;
    uint64_t resident = 0;
    uint64_t in_lists = 0;

    for (unsigned chain = 0; chain < POLICY_CHAINS; chain++) {
        for (unsigned number = 1; number < POLICY_LISTS; number++) {
            const struct policy_list *list = policy_list_at(chain, number);
            const struct policy_node *before = NULL;
            uint64_t size = 0;

            for (const struct policy_node *at = list->oldest; at != NULL && size <= list->size;
                 before = at, at = at->links[chain].next, size++)
                CHECK(at->list[chain] == number && at->links[chain].prev == before);
            CHECK_MSG(size == list->size && list->newest == before, "list %u has %lu nodes of %lu",
                      number, size, list->size);
            in_lists += size;
        }
    }
    for (uint32_t i = 0; i < nodes.peak; i++) {
        const struct policy_node *node = policy_node_at(i);

        listed += (uint64_t)(node->list[0] != 0) + (node->list[1] != 0);
        resident += policy_is_marked(node, POLICY_RESIDENT);
        CHECK(!policy_is_marked(node, POLICY_RESIDENT) || node->list[0] + node->list[1] != 0);
    }
    CHECK_MSG(listed == in_lists && resident == nodes.resident,
              "%lu places in lists of %lu, %lu resident nodes of %lu", listed, in_lists, resident,
              nodes.resident);
}
