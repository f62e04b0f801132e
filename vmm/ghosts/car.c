/* CAR: as ARC, but with two clocks instead of its LRU lists. S. Bansal and D. S. Modha, CAR: clock
 * with adaptive replacement, FAST 2004. The target is a whole number here. */
#include "vmm/policy/node.h"

enum { CAR_ONCE = 1, CAR_OFTEN, CAR_ONCE_GHOSTS, CAR_OFTEN_GHOSTS };

static uint64_t car_target; /* size wanted for the clock of pages used once */

static void car_start(void)
{
    car_target = 0;
}

static uint64_t car_step(unsigned of, unsigned beside)
{
    CHECK(policy_size(of) > 0);
    return max_u64(1, policy_size(beside) / policy_size(of));
}

static void car_came_back(struct policy_node *node)
{
    if (node->list[0] == CAR_OFTEN_GHOSTS)
        car_target -= min_u64(car_target, car_step(CAR_OFTEN_GHOSTS, CAR_ONCE_GHOSTS));
    else
        car_target =
            min_u64(policy_capacity(), car_target + car_step(CAR_ONCE_GHOSTS, CAR_OFTEN_GHOSTS));
    policy_unmark(node, POLICY_USED);
    policy_put(node, CAR_OFTEN);
}

/* Forgets the oldest ghosts of a list that is too long: one for a new page, more if memory has
 * become smaller. */
static void car_forget_ghosts(void)
{
    while (policy_size(CAR_ONCE) + policy_size(CAR_ONCE_GHOSTS) > policy_capacity() &&
           policy_size(CAR_ONCE_GHOSTS) > 0)
        policy_forget(policy_oldest(CAR_ONCE_GHOSTS));
    while (policy_resident() + policy_ghosts() > 2 * policy_capacity() &&
           policy_size(CAR_OFTEN_GHOSTS) > 0)
        policy_forget(policy_oldest(CAR_OFTEN_GHOSTS));
}

static void car_insert(struct policy_node *node)
{
    if (node->list[0] != 0)
        car_came_back(node);
    else
        policy_put(node, CAR_ONCE);
    car_forget_ghosts();
}

static struct policy_node *car_next(void)
{
    for (;;) {
        bool once = policy_size(CAR_ONCE) >= max_u64(1, car_target) || policy_size(CAR_OFTEN) == 0;
        struct policy_node *node = policy_oldest(once ? CAR_ONCE : CAR_OFTEN);

        if (!policy_is_marked(node, POLICY_USED))
            return node;
        policy_unmark(node, POLICY_USED);
        policy_put(node, CAR_OFTEN);
    }
}

static bool car_went(struct policy_node *node)
{
    policy_put(node, node->list[0] == CAR_ONCE ? CAR_ONCE_GHOSTS : CAR_OFTEN_GHOSTS);
    return true;
}

POLICY(car) = {.name = "car",
               .source = "Bansal and Modha 2004",
               .start = car_start,
               .insert = car_insert,
               .used = policy_mark_used,
               .next = car_next,
               .went = car_went};
