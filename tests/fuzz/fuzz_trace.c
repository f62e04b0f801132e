/*
 * Traces of any content, fed in pieces: each page of a trace that is given has a request before any
 * page with a higher number, and the counts fit.
 *
 * The first byte chooses the format and the size of the pieces.
 */
#include <stddef.h>
#include <stdint.h>

#include "efi/trace/trace.h"
#include "lib/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_at(const struct trace *trace)
{
    unsigned pages = 0;

    CHECK(trace->requests > 0 && trace->requests <= TRACE_REQUESTS_MAX);
    CHECK(trace->pages > 0 && trace->pages <= TRACE_PAGES_MAX);
    for (unsigned i = 0; i < trace->requests; i++) {
        CHECK(trace->page[i] <= pages);
        pages += trace->page[i] == pages;
    }
    CHECK(pages == trace->pages);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t step;
    const char *problem;

    if (size == 0)
        return 0;
    step = 1U + (data[0] >> 1);
    trace_begin((data[0] & 1) != 0 ? TRACE_CSV : TRACE_ORACLE);
    for (size_t at = 1; at < size; at += step) {
        if (!trace_feed(data + at, size - at < step ? size - at : step))
            break;
    }
    problem = trace_end();
    CHECK((problem == NULL) == (trace_given() != NULL));
    if (problem == NULL)
        look_at(trace_given());
    return 0;
}
