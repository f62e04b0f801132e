/* The pictures of a run on the machine's screen. */
#include "tests/runner/display.h"

#include "cpu/crash/crash.h"
#include "cpu/machine.h"
#include "efi/console/framebuffer.h"
#include "efi/console/serial.h"
#include "lib/bytes.h"
#include "lib/ktap.h"
#include "lib/print.h"
#include "tests/runner/sample.h"
#include "tests/screen/screen.h"

/* Time between two looks at the machine; texts are drawn after every check. */
#define SAMPLE_NS UINT64_C(250000000)

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

static void display_draw(void)
{
    uint64_t now = machine_now_ns();

    if (!display.on || crash_begun())
        return;
    facts.seconds = (now - display.began_ns) / UINT64_C(1000000000);
    if (display.sampled_ns == 0 || now - display.sampled_ns >= SAMPLE_NS) {
        sample_machine(&facts);
        display.sampled_ns = now;
    }
    screen_draw_run(&display_screen, &story, &facts);
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
    ktap_watch(display_draw);
    display_draw();
}

void display_experiment(const char *name, const char *next)
{
    story_begin(&story, name);
    print_to(facts.next, sizeof(facts.next), "%s", next);
}

void display_end(void)
{
    ktap_watch(NULL);
    if (!display.on)
        return;
    facts.seconds = (machine_now_ns() - display.began_ns) / UINT64_C(1000000000);
    facts.log = strcmp(serial_description(), "none") != 0 ? "went over the serial line"
                                                          : "is lost: there is no serial port";
    screen_draw_end(&display_screen, &story, &facts);
}
