/* The pictures of a run on the machine's screen. */
#include "tests/runner/display.h"

#include "cpu/crash/crash.h"
#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "efi/console/framebuffer.h"
#include "efi/console/keys.h"
#include "efi/console/serial.h"
#include "efi/end_run.h"
#include "efi/log/kept_log.h"
#include "lib/bytes.h"
#include "lib/ktap.h"
#include "lib/print.h"
#include "lib/units.h"
#include "tests/runner/sample.h"
#include "tests/screen/screen.h"

/* Time between two looks at the machine; texts are drawn after every check. */
#define SAMPLE_NS UINT64_C(250000000)

/* Time between two looks at the keys while the run is paused. */
#define PAUSE_LOOK_US 20000U

static struct {
    bool on;
    uint8_t busy; /* atomic: a thread adds to the story */
    uint64_t began_ns;
    uint64_t sampled_ns;
} display;

static struct story story;
static struct screen display_screen;
static struct screen_facts facts;

/* Adds text of the log to the story. Of two processors that print at once, one is left out; and so
 * is a crash report, which must not depend on this. */
static void display_write(struct print_sink *sink, const char *text, size_t size)
{
    (void)sink;
    if (crash_begun() || __atomic_exchange_n(&display.busy, 1, __ATOMIC_ACQUIRE) != 0)
        return;
    story_add(&story, text, size);
    __atomic_store_n(&display.busy, 0, __ATOMIC_RELEASE);
}

static struct print_sink display_sink = {.write = display_write};

void display_listen(void)
{
    display.began_ns = machine_now_ns();
    print_attach(&display_sink);
}

static void draw_run(void)
{
    uint64_t now = machine_now_ns();

    facts.seconds = (now - display.began_ns) / UINT64_C(1000000000);
    if (display.sampled_ns == 0 || now - display.sampled_ns >= SAMPLE_NS) {
        sample_machine(&facts);
        display.sampled_ns = now;
    }
    screen_draw_run(&display_screen, &story, &facts);
}

/* Waits while the run is paused. The watchdog counts the wait as progress. */
static void pause_run(void)
{
    int key = keys_read();

    if (key != 'p' && !facts.paused)
        return;
    facts.paused = true;
    draw_run();
    for (key = KEY_NONE; key != 'p' && key != ' '; key = keys_read()) {
        thread_sleep_us(PAUSE_LOOK_US);
        progress_note();
    }
    facts.paused = key == ' ';
    draw_run();
}

/* Draws the picture's changes. The log calls it after a check and between experiments. */
static void display_follow(void)
{
    if (!display.on || crash_begun())
        return;
    draw_run();
    if (facts.keys != NULL)
        pause_run();
}

void display_start(void)
{
    struct console_loan loan;
    struct screen_pixels pixels;

    if (!console_lend(&loan))
        return;
    pixels = (struct screen_pixels){.at = loan.pixels,
                                    .width = loan.screen->width,
                                    .height = loan.height,
                                    .pitch = loan.screen->pitch,
                                    .red_first = loan.screen->red_first};
    display.on = screen_open(&display_screen, &pixels, loan.font);
    if (!display.on) {
        console_take_back();
        return;
    }
    facts.keys = keys_present() ? "p pause" : NULL;
    ktap_watch(display_follow);
    draw_run();
}

void display_experiment(const char *name, const char *next)
{
    story_begin(&story, name);
    print_to(facts.next, sizeof(facts.next), "%s", next);
}

/* Describes where the log is, in one or two sentences. */
static void describe_log(enum status kept, char *text, size_t size)
{
    bool serial = serial_present();
    size_t length =
        print_to(text, size, serial ? "went over the serial line; %lu lines." : "has %lu lines.",
                 (unsigned long)story.lines);

    if (kept == OK)
        length += print_to(text + length, size - min_u64(length, size),
                           " It is in the log area of the swap disk: build/read-log prints it.");
    else if (kept != STATUS_NOT_FOUND)
        length += print_to(text + length, size - min_u64(length, size),
                           " It could not be written to the swap disk: %s.", status_name(kept));
    if (kept_log_survives())
        print_to(text + length, size - min_u64(length, size),
                 " It is kept in memory: after a warm reset the next start saves it as "
                 "\\faultline.log on the boot volume.");
    else if (!serial && kept != OK)
        print_to(text + length, size - min_u64(length, size),
                 " It is in memory only: report=boot saves it.");
}

void display_end(enum status kept)
{
    static char log[STORY_LINE];

    ktap_watch(NULL);
    if (!display.on)
        return;
    facts.seconds = (machine_now_ns() - display.began_ns) / UINT64_C(1000000000);
    describe_log(kept, log, sizeof(log));
    facts.log = log;
    facts.keys = finish_halts() && keys_present()
                     ? "l look through the log   a answers   r run again   q power off"
                     : NULL;
    screen_draw_end(&display_screen, &story, &facts);
}

void display_end_again(void)
{
    if (display.on)
        screen_draw_end(&display_screen, &story, &facts);
}

size_t display_page(const char *title, const char *text, size_t size, size_t from)
{
    if (!display.on)
        return size;
    return screen_draw_page(&display_screen, title, "space forward   b back   q to the result",
                            text, size, from);
}

bool display_on(void)
{
    return display.on;
}
