/* CLOCK-Pro: one ring of hot pages, cold pages and ghosts, with a hand for each; a cold page that
 * is used during its test period becomes hot. S. Jiang, F. Chen and X. Zhang, CLOCK-Pro: an
 * effective improvement of the CLOCK replacement, USENIX ATC 2005. A page without POLICY_HOT is
 * cold; POLICY_TEST marks the test period. */
#include "vmm/policy/node.h"

enum { HAND_HOT, HAND_COLD, HAND_TEST, HANDS };

static struct policy_node *clock_pro_hands[HANDS];
static uint64_t clock_pro_hot, clock_pro_cold_target;

static void clock_pro_start(void)
{
    for (unsigned i = 0; i < HANDS; i++)
        clock_pro_hands[i] = NULL;
    clock_pro_hot = 0;
    clock_pro_cold_target = 1;
}

static void clock_pro_left(const struct policy_node *node)
{
    struct policy_node *after = policy_after(node);

    clock_pro_hot -= policy_is_marked(node, POLICY_HOT);
    for (unsigned i = 0; i < HANDS; i++) {
        if (clock_pro_hands[i] == node)
            clock_pro_hands[i] = after == node ? NULL : after;
    }
}

/* Inserts a node at the ring's head, which is right behind the hand of the hot pages. */
static void clock_pro_put_at_head(struct policy_node *node)
{
    if (clock_pro_hands[HAND_HOT] != NULL) {
        policy_put_before(node, clock_pro_hands[HAND_HOT]);
        return;
    }
    policy_put(node, 1);
    clock_pro_hands[HAND_HOT] = clock_pro_hands[HAND_COLD] = clock_pro_hands[HAND_TEST] = node;
}

/* Advances a hand, and returns the node that it has passed. The hot and the test hand end the test
 * period of a node that they pass; a ghost is then forgotten. */
static struct policy_node *clock_pro_step(unsigned hand)
{
    struct policy_node *node = clock_pro_hands[hand];

    CHECK(node != NULL && clock_pro_cold_target > 0);
    clock_pro_hands[hand] = policy_after(node);
    if (hand != HAND_COLD && policy_is_marked(node, POLICY_TEST)) {
        policy_unmark(node, POLICY_TEST);
        clock_pro_cold_target = max_u64(1, clock_pro_cold_target - 1);
        if (!policy_is_marked(node, POLICY_RESIDENT))
            policy_forget(node);
    }
    return node;
}

static void clock_pro_cool(uint64_t most)
{
    while (clock_pro_hot > most) {
        struct policy_node *node = clock_pro_hands[HAND_HOT];

        if (policy_is_marked(node, POLICY_HOT) && !policy_is_marked(node, POLICY_USED)) {
            policy_unmark(node, POLICY_HOT);
            clock_pro_hot--;
        } else if (policy_is_marked(node, POLICY_HOT)) {
            policy_unmark(node, POLICY_USED);
        }
        (void)clock_pro_step(HAND_HOT);
    }
}

/* Puts a page that came or was used at the head: hot if its test period had not ended, otherwise
 * cold with a new test period. */
static void clock_pro_insert(struct policy_node *node)
{
    bool test = policy_is_marked(node, POLICY_TEST);

    if (node->list[0] != 0) {
        clock_pro_left(node);
        policy_put(node, 0);
    }
    policy_unmark(node, POLICY_USED | POLICY_TEST);
    clock_pro_put_at_head(node);
    policy_mark(node, test ? POLICY_HOT : POLICY_TEST);
    if (!test)
        return;
    clock_pro_hot++;
    clock_pro_cold_target = min_u64(policy_capacity(), clock_pro_cold_target + 1);
    clock_pro_cool(policy_capacity() - clock_pro_cold_target);
}

static struct policy_node *clock_pro_next(void)
{
    clock_pro_cool(policy_resident() - 1);
    for (;;) {
        struct policy_node *node = clock_pro_hands[HAND_COLD];

        if (policy_is_marked(node, POLICY_HOT) || !policy_is_marked(node, POLICY_RESIDENT))
            (void)clock_pro_step(HAND_COLD);
        else if (policy_is_marked(node, POLICY_USED))
            clock_pro_insert(node);
        else
            return node;
    }
}

/* Keeps the page as a ghost if it is in its test period. If there are too many ghosts, the test
 * hand first ends some, and may end this one's period too. */
static bool clock_pro_went(struct policy_node *node)
{
    if (!policy_is_marked(node, POLICY_TEST))
        return false;
    if (clock_pro_hands[HAND_COLD] == node)
        (void)clock_pro_step(HAND_COLD);
    policy_mark(node, POLICY_RESIDENT);
    while (policy_is_marked(node, POLICY_TEST) && policy_ghosts() >= policy_capacity())
        (void)clock_pro_step(HAND_TEST);
    policy_unmark(node, POLICY_RESIDENT);
    return policy_is_marked(node, POLICY_TEST);
}

POLICY(clock_pro) = {.name = "clockpro",
                     .source = "Jiang, Chen and Zhang 2005",
                     .start = clock_pro_start,
                     .insert = clock_pro_insert,
                     .used = policy_mark_used,
                     .next = clock_pro_next,
                     .went = clock_pro_went,
                     .left = clock_pro_left};
