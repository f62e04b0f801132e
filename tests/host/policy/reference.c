/* The policies as their papers describe them, in plain arrays. */
#include "tests/host/policy/reference.h"

#include <assert.h>
#include <string.h>

#include "lib/random.h"

struct row {
    unsigned size;
    unsigned pages[2 * REFERENCE_PAGES]; /* the oldest first */
};

static unsigned capacity;
static struct row rows[8];
static struct {
    bool used;
    bool dirty;
    bool resident;
    bool hot;
    bool test;
    unsigned promoted;
    unsigned value; /* age, count or time */
} state[REFERENCE_PAGES];
static unsigned target;
static unsigned clock_now;

static int row_find(const struct row *row, unsigned page)
{
    for (unsigned i = 0; i < row->size; i++) {
        if (row->pages[i] == page)
            return (int)i;
    }
    return -1;
}

static bool row_has(const struct row *row, unsigned page)
{
    return row_find(row, page) >= 0;
}

static void row_remove_at(struct row *row, unsigned place)
{
    assert(place < row->size);
    memmove(&row->pages[place], &row->pages[place + 1],
            (row->size - place - 1) * sizeof(row->pages[0]));
    row->size--;
}

static bool row_remove(struct row *row, unsigned page)
{
    int place = row_find(row, page);

    if (place >= 0)
        row_remove_at(row, (unsigned)place);
    return place >= 0;
}

static void row_insert(struct row *row, unsigned place, unsigned page)
{
    assert(row->size < sizeof(row->pages) / sizeof(row->pages[0]) && place <= row->size);
    memmove(&row->pages[place + 1], &row->pages[place],
            (row->size - place) * sizeof(row->pages[0]));
    row->pages[place] = page;
    row->size++;
}

static void row_add(struct row *row, unsigned page)
{
    row_insert(row, row->size, page);
}

static unsigned row_oldest(const struct row *row)
{
    assert(row->size > 0);
    return row->pages[0];
}

static unsigned larger(unsigned a, unsigned b)
{
    return a > b ? a : b;
}

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* ---- policies with one row ---- */

static unsigned oldest(void)
{
    return row_oldest(&rows[0]);
}

static void drop(unsigned page)
{
    assert(row_remove(&rows[0], page));
}

static void append(unsigned page)
{
    state[page].used = false;
    row_add(&rows[0], page);
}

static void set_used(unsigned page)
{
    state[page].used = true;
}

static void move_to_end(unsigned page)
{
    drop(page);
    append(page);
}

static unsigned clock_victim(void)
{
    while (state[row_oldest(&rows[0])].used)
        move_to_end(row_oldest(&rows[0]));
    return oldest();
}

/* ---- random: places that pages occupy ---- */

static struct random dice;
static unsigned places[REFERENCE_PAGES];
static unsigned place_count;
static unsigned place_free;

static void random_begin(void)
{
    dice = random_from(1);
    place_count = 0;
    place_free = UINT32_MAX;
}

static unsigned random_victim(void)
{
    return places[random_below(&dice, place_count)];
}

static void random_evict(unsigned page)
{
    for (unsigned i = 0; i < place_count; i++) {
        if (places[i] == page)
            place_free = i;
    }
}

static void random_insert(unsigned page)
{
    places[place_free != UINT32_MAX ? place_free : place_count++] = page;
    place_free = UINT32_MAX;
}

/* ---- NRU and ageing: a value, and the order in which it was set ---- */

static unsigned lowest_value(void)
{
    unsigned best = row_oldest(&rows[0]);

    for (unsigned i = 0; i < rows[0].size; i++) {
        if (state[rows[0].pages[i]].value < state[best].value)
            best = rows[0].pages[i];
    }
    return best;
}

static void set_value(unsigned page, unsigned value)
{
    state[page].value = value;
    row_remove(&rows[0], page);
    row_add(&rows[0], page);
}

static void nru_hit(unsigned page)
{
    set_value(page, 2 + state[page].dirty);
}

static void nru_insert(unsigned page)
{
    state[page].dirty = false;
    nru_hit(page);
}

static void nru_new_round(void)
{
    struct row before = rows[0];

    for (unsigned class = 2; class < 4; class ++) {
        for (unsigned i = 0; i < before.size; i++) {
            if (state[before.pages[i]].value == class)
                set_value(before.pages[i], state[before.pages[i]].dirty);
        }
    }
}

static void ageing_hit(unsigned page)
{
    set_value(page, state[page].value | 0x80);
}

static void ageing_insert(unsigned page)
{
    set_value(page, 0x80);
    random_insert(page);
}

static void ageing_evict(unsigned page)
{
    drop(page);
    random_evict(page);
}

/* Ages all pages, in the order of their places, as with counters in an array of frames. */
static void ageing_shift(void)
{
    for (unsigned i = 0; i < place_count; i++) {
        if (row_has(&rows[0], places[i]) && i != place_free)
            set_value(places[i], state[places[i]].value / 2);
    }
}

/* ---- WSClock ---- */

static void wsclock_insert(unsigned page)
{
    state[page].value = ++clock_now;
    append(page);
}

static unsigned wsclock_victim(void)
{
    unsigned best;

    for (unsigned looks = rows[0].size; looks > 0; looks--) {
        unsigned page = row_oldest(&rows[0]);

        if (state[page].used)
            state[page].value = clock_now;
        else if (clock_now - state[page].value > capacity / 4)
            return page;
        move_to_end(page);
    }
    best = row_oldest(&rows[0]);
    for (unsigned i = 0; i < rows[0].size; i++) {
        if (state[rows[0].pages[i]].value < state[best].value)
            best = rows[0].pages[i];
    }
    return best;
}

/* ---- SIEVE: the hand is a place ---- */

static unsigned sieve_victim(void)
{
    target = target < rows[0].size ? target : 0;
    while (state[rows[0].pages[target]].used) {
        state[rows[0].pages[target]].used = false;
        target = (target + 1) % rows[0].size;
    }
    return rows[0].pages[target];
}

/* Removes a page; the next one is then under the hand. A hand past the newest page begins again,
 * even if another page comes meanwhile. */
static void sieve_evict(unsigned page)
{
    drop(page);
    if (target == rows[0].size)
        target = 0;
}

/* ---- generations: rows 0 to 3 by number modulo 4; value is the number ---- */

static unsigned generation_first;

static void generations_begin(void)
{
    generation_first = 0;
    target = 0;
}

static void generations_insert(unsigned page)
{
    state[page].promoted = target;
    set_value(page, target);
}

static void generations_hit(unsigned page)
{
    state[page].promoted = target;
}

/* Returns the victim. A generation that was searched for a victim remains the oldest while it is
 * empty. */
static unsigned generations_victim(void)
{
    for (;;) {
        unsigned page = lowest_value();

        generation_first = state[page].value;
        if (state[page].promoted == generation_first)
            return page;
        set_value(page, state[page].promoted);
    }
}

static void generations_new(void)
{
    if (target - generation_first < 3)
        target++;
}

/* ---- S3-FIFO: rows small, main, ghosts ---- */

static void s3fifo_insert(unsigned page)
{
    state[page].value = 0;
    row_add(row_remove(&rows[2], page) ? &rows[1] : &rows[0], page);
}

static void s3fifo_hit(unsigned page)
{
    state[page].value = smaller(state[page].value + 1, 3);
}

static unsigned s3fifo_victim(void)
{
    for (;;) {
        if (rows[0].size >= larger(1, capacity / 10) || rows[1].size == 0) {
            unsigned tail = row_oldest(&rows[0]);

            if (state[tail].value <= 1)
                return tail;
            row_remove(&rows[0], tail);
            state[tail].value = 0;
            row_add(&rows[1], tail);
        } else {
            unsigned tail = row_oldest(&rows[1]);

            if (state[tail].value == 0)
                return tail;
            row_remove(&rows[1], tail);
            state[tail].value--;
            row_add(&rows[1], tail);
        }
    }
}

static void s3fifo_evict(unsigned page)
{
    if (row_remove(&rows[1], page))
        return;
    row_remove(&rows[0], page);
    row_add(&rows[2], page);
    if (rows[2].size > capacity * 9 / 10 + 1)
        row_remove_at(&rows[2], 0);
}

/* ---- 2Q: rows A1in, Am, A1out ---- */

static bool two_q_returns;

static void two_q_ghost_hit(unsigned page)
{
    two_q_returns = row_remove(&rows[2], page);
}

static unsigned two_q_victim(void)
{
    return row_oldest(rows[0].size > capacity / 4 || rows[1].size == 0 ? &rows[0] : &rows[1]);
}

static void two_q_evict(unsigned page)
{
    if (row_remove(&rows[1], page))
        return;
    row_remove(&rows[0], page);
    row_add(&rows[2], page);
    if (rows[2].size > capacity / 2 + 1)
        row_remove_at(&rows[2], 0);
}

static void two_q_insert(unsigned page)
{
    row_add(two_q_returns ? &rows[1] : &rows[0], page);
}

static void two_q_hit(unsigned page)
{
    if (row_remove(&rows[1], page))
        row_add(&rows[1], page);
}

/* ---- ARC: rows T1, T2, B1, B2; the cases of the paper's figure 4 ---- */

static unsigned arc_case; /* 2: in B1, 3: in B2, 4: in neither */

/* With A bits a page may change its list while room is made, after the paper has discarded: then
 * the discard is made when the page comes. */
static bool arc_is_late;

static void arc_begin_late(void)
{
    arc_is_late = true;
}

static void arc_begin(void)
{
    arc_is_late = false;
}

static void arc_discard(void)
{
    unsigned l1 = rows[0].size + rows[2].size;
    unsigned l2 = rows[1].size + rows[3].size;

    if (l1 == capacity) {
        if (rows[0].size < capacity)
            row_remove_at(&rows[2], 0);
    } else if (l1 + l2 >= capacity && l1 + l2 == 2 * capacity) {
        row_remove_at(&rows[3], 0);
    }
}

static void arc_ghost_hit(unsigned page)
{
    unsigned b1 = rows[2].size;
    unsigned b2 = rows[3].size;

    arc_case = row_has(&rows[2], page) ? 2 : row_has(&rows[3], page) ? 3 : 4;
    if (arc_case == 2)
        target = smaller(capacity, target + (b1 >= b2 ? 1 : b2 / b1));
    else if (arc_case == 3)
        target -= smaller(target, b2 >= b1 ? 1 : b1 / b2);
    else if (!arc_is_late)
        arc_discard();
}

static unsigned arc_victim(void)
{
    if (rows[0].size > 0 && (rows[0].size > target || (arc_case == 3 && rows[0].size == target)))
        return row_oldest(&rows[0]);
    return row_oldest(rows[1].size > 0 ? &rows[1] : &rows[0]);
}

/* Evicts a page. In the last part of case IV A a page of T1 leaves the cache without becoming a
 * ghost. */
static void arc_evict(unsigned page)
{
    if (row_remove(&rows[0], page)) {
        if (arc_is_late || arc_case != 4 || rows[0].size + 1 < capacity)
            row_add(&rows[2], page);
    } else {
        row_remove(&rows[1], page);
        row_add(&rows[3], page);
    }
}

static void arc_insert(unsigned page)
{
    bool again = row_remove(&rows[2], page) || row_remove(&rows[3], page);

    if (!again && arc_is_late)
        arc_discard();
    row_add(again ? &rows[1] : &rows[0], page);
}

static void arc_hit(unsigned page)
{
    if (!row_remove(&rows[0], page))
        row_remove(&rows[1], page);
    row_add(&rows[1], page);
}

/* ---- CAR: rows T1, T2, B1, B2 ---- */

static unsigned car_victim(void)
{
    for (;;) {
        struct row *from =
            rows[0].size >= larger(1, target) || rows[1].size == 0 ? &rows[0] : &rows[1];
        unsigned head = row_oldest(from);

        if (!state[head].used)
            return head;
        state[head].used = false;
        row_remove_at(from, 0);
        row_add(&rows[1], head);
    }
}

static void car_evict(unsigned page)
{
    if (row_remove(&rows[0], page)) {
        row_add(&rows[2], page);
    } else {
        row_remove(&rows[1], page);
        row_add(&rows[3], page);
    }
}

static void car_insert(unsigned page)
{
    unsigned b1 = rows[2].size;
    unsigned b2 = rows[3].size;

    state[page].used = false;
    if (row_remove(&rows[2], page)) {
        target = smaller(capacity, target + larger(1, b2 / b1));
        row_add(&rows[1], page);
    } else if (row_remove(&rows[3], page)) {
        target -= smaller(target, larger(1, b1 / b2));
        row_add(&rows[1], page);
    } else {
        if (rows[0].size + rows[2].size == capacity)
            row_remove_at(&rows[2], 0);
        else if (rows[0].size + rows[1].size + rows[2].size + rows[3].size == 2 * capacity)
            row_remove_at(&rows[3], 0);
        row_add(&rows[0], page);
    }
}

/* ---- LIRS: rows stack S, queue Q, pages that are gone but in S ---- */

static unsigned lir_most(void)
{
    return capacity - larger(2, capacity / 100);
}

static unsigned lir_count(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < rows[0].size; i++)
        count += state[rows[0].pages[i]].hot;
    return count;
}

static void lirs_prune(void)
{
    while (rows[0].size > 0 && !state[row_oldest(&rows[0])].hot) {
        row_remove(&rows[2], row_oldest(&rows[0]));
        row_remove_at(&rows[0], 0);
    }
}

static void lirs_to_queue(void)
{
    unsigned bottom = row_oldest(&rows[0]);

    row_remove_at(&rows[0], 0);
    state[bottom].hot = false;
    row_add(&rows[1], bottom);
    lirs_prune();
}

static void lirs_access(unsigned page)
{
    bool in_stack = row_remove(&rows[0], page);

    row_add(&rows[0], page);
    if (state[page].hot) {
        lirs_prune();
        return;
    }
    row_remove(&rows[1], page);
    row_remove(&rows[2], page);
    if (in_stack || lir_count() < lir_most()) {
        state[page].hot = true;
        if (lir_count() > lir_most())
            lirs_to_queue();
    } else {
        row_add(&rows[1], page);
    }
}

static unsigned lirs_victim(void)
{
    if (rows[1].size == 0)
        lirs_to_queue();
    return row_oldest(&rows[1]);
}

static void lirs_evict(unsigned page)
{
    row_remove(&rows[1], page);
    if (!row_has(&rows[0], page))
        return;
    row_add(&rows[2], page);
    if (rows[2].size > capacity) {
        row_remove(&rows[0], row_oldest(&rows[2]));
        row_remove_at(&rows[2], 0);
    }
}

/* ---- CLOCK-Pro: row 0 is the ring; the hands are places in it ---- */

enum { HOT, COLD, TEST, HANDS };

static unsigned hands[HANDS];

static unsigned pro_at(unsigned hand)
{
    return rows[0].pages[hands[hand]];
}

static void pro_advance(unsigned hand)
{
    hands[hand] = (hands[hand] + 1) % rows[0].size;
}

/* Removes a page; hands on it go to the next one. */
static void pro_remove(unsigned page)
{
    unsigned place = (unsigned)row_find(&rows[0], page);

    row_remove_at(&rows[0], place);
    for (unsigned i = 0; i < HANDS; i++) {
        if (hands[i] > place)
            hands[i]--;
        if (hands[i] >= rows[0].size)
            hands[i] = 0;
    }
}

static void pro_insert_at_head(unsigned page)
{
    unsigned place = hands[HOT];

    row_insert(&rows[0], place, page);
    for (unsigned i = 0; i < HANDS && rows[0].size > 1; i++)
        hands[i] += hands[i] >= place;
}

static unsigned pro_count(bool hot, bool resident)
{
    unsigned count = 0;

    for (unsigned i = 0; i < rows[0].size; i++)
        count += state[rows[0].pages[i]].hot == hot && state[rows[0].pages[i]].resident == resident;
    return count;
}

/* Ends the test period of the page under a hand; a page that is not resident is forgotten. */
static void pro_end_test(unsigned hand)
{
    unsigned page = pro_at(hand);

    pro_advance(hand);
    if (!state[page].test)
        return;
    state[page].test = false;
    target = larger(1, target - 1);
    if (!state[page].resident)
        pro_remove(page);
}

static void pro_run_hot(unsigned most)
{
    while (pro_count(true, true) > most) {
        unsigned page = pro_at(HOT);

        if (state[page].hot && !state[page].used)
            state[page].hot = false;
        else if (state[page].hot)
            state[page].used = false;
        pro_end_test(HOT);
    }
}

static void pro_insert(unsigned page)
{
    bool promoted = state[page].test;

    if (row_has(&rows[0], page))
        pro_remove(page);
    state[page].used = false;
    state[page].test = !promoted;
    state[page].hot = promoted;
    state[page].resident = true;
    pro_insert_at_head(page);
    if (!promoted)
        return;
    target = smaller(capacity, target + 1);
    pro_run_hot(capacity - target);
}

static unsigned pro_victim(void)
{
    pro_run_hot(pro_count(true, true) + pro_count(false, true) - 1);
    for (;;) {
        unsigned page = pro_at(COLD);

        if (state[page].hot || !state[page].resident)
            pro_advance(COLD);
        else if (state[page].used)
            pro_insert(page);
        else
            return page;
    }
}

static void pro_evict(unsigned page)
{
    state[page].resident = false;
    if (!state[page].test) {
        pro_remove(page);
        return;
    }
    pro_advance(COLD);
    while (pro_count(false, false) > capacity)
        pro_end_test(TEST);
}

static void pro_begin(void)
{
    target = 1;
    memset(hands, 0, sizeof(hands));
}

void reference_dirty(unsigned page)
{
    state[page].dirty = true;
}

static const struct reference references[] = {
    {"fifo", NULL, NULL, oldest, drop, append, NULL, NULL},
    {"random", random_begin, NULL, random_victim, random_evict, random_insert, NULL, NULL},
    {"clock", NULL, NULL, clock_victim, drop, append, set_used, NULL},
    {"nru", NULL, NULL, lowest_value, drop, nru_insert, nru_hit, nru_new_round},
    {"ageing", random_begin, NULL, lowest_value, ageing_evict, ageing_insert, ageing_hit,
     ageing_shift},
    {"wsclock", NULL, NULL, wsclock_victim, drop, wsclock_insert, set_used, NULL},
    {"lru", NULL, NULL, oldest, drop, append, move_to_end, NULL},
    {"sieve", NULL, NULL, sieve_victim, sieve_evict, append, set_used, NULL},
    {"generations", generations_begin, NULL, generations_victim, drop, generations_insert,
     generations_hit, generations_new},
    {"s3fifo", NULL, NULL, s3fifo_victim, s3fifo_evict, s3fifo_insert, s3fifo_hit, NULL},
    {"2q", NULL, two_q_ghost_hit, two_q_victim, two_q_evict, two_q_insert, two_q_hit, NULL},
    {"arc", arc_begin, arc_ghost_hit, arc_victim, arc_evict, arc_insert, arc_hit, NULL},
    {"arc by bits", arc_begin_late, arc_ghost_hit, arc_victim, arc_evict, arc_insert, arc_hit,
     NULL},
    {"car", NULL, NULL, car_victim, car_evict, car_insert, set_used, NULL},
    {"lirs", NULL, NULL, lirs_victim, lirs_evict, lirs_access, lirs_access, NULL},
    {"clockpro", pro_begin, NULL, pro_victim, pro_evict, pro_insert, set_used, NULL},
};

const struct reference *reference_start(const char *name, unsigned pages)
{
    for (unsigned i = 0; i < sizeof(references) / sizeof(references[0]); i++) {
        if (strcmp(references[i].name, name) != 0)
            continue;
        memset(rows, 0, sizeof(rows));
        memset(state, 0, sizeof(state));
        capacity = pages;
        target = clock_now = 0;
        if (references[i].start != NULL)
            references[i].start();
        return &references[i];
    }
    return NULL;
}
