/* ARC: an LRU list of pages used once and one of pages used more often; a page that returns as a
 * ghost of one list makes that list's share of memory larger. N. Megiddo and D. S. Modha, ARC: a
 * self-tuning, low overhead replacement cache, FAST 2003. The target is a whole number here. */
#include "vmm/policy/node.h"

enum { ARC_ONCE = 1, ARC_OFTEN, ARC_ONCE_GHOSTS, ARC_OFTEN_GHOSTS };

static uint64_t arc_target; /* size wanted for the list of pages used once */
static bool arc_often_comes;

static void arc_start(void)
{
    arc_target = 0;
    arc_often_comes = false;
}

static uint64_t arc_step(unsigned of, unsigned beside)
{
    CHECK(policy_size(of) > 0);
    return max_u64(1, policy_size(beside) / policy_size(of));
}

/* Adapts the target before room is made for the page, so that the new target chooses the victim. */
static void arc_ghost_hit(struct policy_node *ghost)
{
    arc_often_comes = ghost->list[0] == ARC_OFTEN_GHOSTS;
    if (arc_often_comes)
        arc_target -= min_u64(arc_target, arc_step(ARC_OFTEN_GHOSTS, ARC_ONCE_GHOSTS));
    else
        arc_target =
            min_u64(policy_capacity(), arc_target + arc_step(ARC_ONCE_GHOSTS, ARC_OFTEN_GHOSTS));
}

static void arc_used(struct policy_node *node)
{
    policy_put(node, ARC_OFTEN);
}

/* Forgets the oldest ghosts of a list that is too long: one for a new page, more if memory has
 * become smaller. The paper does so before it makes room for the page; it is the same ghost. */
static void arc_forget_ghosts(void)
{
    while (policy_size(ARC_ONCE) + policy_size(ARC_ONCE_GHOSTS) > policy_capacity() &&
           policy_size(ARC_ONCE_GHOSTS) > 0)
        policy_forget(policy_oldest(ARC_ONCE_GHOSTS));
    while (policy_resident() + policy_ghosts() > 2 * policy_capacity() &&
           policy_size(ARC_OFTEN_GHOSTS) > 0)
        policy_forget(policy_oldest(ARC_OFTEN_GHOSTS));
}

static void arc_insert(struct policy_node *node)
{
    arc_often_comes = false;
    policy_put(node, node->list[0] == 0 ? ARC_ONCE : ARC_OFTEN);
    arc_forget_ghosts();
}

static struct policy_node *arc_next(void)
{
    uint64_t once = policy_size(ARC_ONCE);

    if (once > 0 && (once > arc_target || (once == arc_target && arc_often_comes) ||
                     policy_size(ARC_OFTEN) == 0))
        return policy_oldest(ARC_ONCE);
    return policy_oldest(ARC_OFTEN);
}

static bool arc_went(struct policy_node *node)
{
    policy_put(node, node->list[0] == ARC_ONCE ? ARC_ONCE_GHOSTS : ARC_OFTEN_GHOSTS);
    return true;
}

POLICY(arc) = {.name = "arc",
               .source = "Megiddo and Modha 2003",
               .harvests = true,
               .start = arc_start,
               .ghost_hit = arc_ghost_hit,
               .insert = arc_insert,
               .used = arc_used,
               .next = arc_next,
               .went = arc_went};
