/*
 * The pictures of a run on the machine's screen.
 *
 * Drawing happens after a check and between experiments, never while a figure is taken: an
 * experiment takes its figures before it reports the check or the figure.
 *
 * Owns: the screen from display_start on; a crash report takes it back. State: off -> (start) ->
 * running -> (end) -> ended. Without a screen it stays off. Fails with: nothing.
 * Context: thread.
 */
#ifndef TESTS_RUNNER_DISPLAY_H
#define TESTS_RUNNER_DISPLAY_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/status.h"

/* Begins to read the log, for the story of the run. Before the first line that a picture shows. */
void display_listen(void);

/* Takes the screen and draws the first picture. */
void display_start(void);

/* Names the experiment that begins, and those that follow, between commas. */
void display_experiment(const char *name, const char *next);

/* Draws the end of the run. `kept` says whether the log is in the log area of a disk: OK,
 * STATUS_NOT_FOUND (there is none), or the status of the failure. */
void display_end(enum status kept);

/* Draws the end of the run again, after pages of the log. */
void display_end_again(void);

/* Draws a page of text, as screen_draw_page; returns `size` without a screen. */
size_t display_page(const char *title, const char *text, size_t size, size_t from);

bool display_on(void);

#endif
