/* The experiments of the image, as the linker has gathered them. */
#include "tests/runner/experiment.h"

#include <stdarg.h>
#include <stddef.h>

#include "efi/main.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "vmm/space/commit.h"

#define REASON_SIZE 160U

/* Bounds of the sorted section, from efi/image/faultline.lds. */
extern const struct experiment *const image_experiments_start[];
extern const struct experiment *const image_experiments_end[];

static const char *const theme_names[THEMES] = {
    [THEME_PAGES] = "from a fault to a page",
    [THEME_TABLES] = "page tables, descriptors and tickets",
    [THEME_PROCESSOR] = "MMU, TLB and other processors",
    [THEME_FRAMES] = "physical memory and its limits",
    [THEME_RANDOM] = "random operations, compared with a model",
    [THEME_COST] = "costs beside those of Linux",
    [THEME_CRASHES] = "crashes on purpose",
};

const struct experiment *experiment_at(unsigned place)
{
    const struct experiment *const *entry = image_experiments_start + place;

    return entry < image_experiments_end ? *entry : NULL;
}

const char *faultline_experiment(unsigned place, const char **question)
{
    const struct experiment *experiment = experiment_at(place);

    if (experiment == NULL)
        return NULL;
    *question = experiment->question;
    return experiment->name;
}

void experiments_audit(void)
{
    const struct experiment *one;
    const struct experiment *other;

    for (unsigned i = 0; (one = experiment_at(i)) != NULL; i++) {
        CHECK(one->run != NULL && one->theme < THEMES && one->checks > 0);
        CHECK_MSG(one->answer.text != NULL || one->answer.counted != NULL, "%s has no answer",
                  one->name);
        for (unsigned j = i + 1; (other = experiment_at(j)) != NULL; j++)
            CHECK_MSG(strcmp(one->name, other->name) != 0, "two experiments are named %s",
                      one->name);
    }
}

static void experiments_print_theme(enum theme theme)
{
    const struct experiment *experiment;

    for (unsigned i = 0; (experiment = experiment_at(i)) != NULL; i++) {
        if (experiment->theme == theme)
            ktap_note("  %s: %s%s", experiment->name, experiment->question,
                      experiment->only_by_name ? " (runs only by its full name)" : "");
    }
}

void experiments_print(void)
{
    for (unsigned theme = 0; theme < THEMES; theme++) {
        ktap_note("%s:", theme_names[theme]);
        experiments_print_theme((enum theme)theme);
    }
}

bool experiment_may_promise(uint64_t pages)
{
    uint64_t limit = commit_limit();
    uint64_t left = limit - min_u64(limit, commit_pages());

    if (commit_policy() != OVERCOMMIT_NEVER || pages <= left)
        return true;
    ktap_note("overcommit=never promises %lu pages more, of %lu that this needs", left, pages);
    return false;
}

void experiment_skip_rest(const char *format, ...)
{
    char reason[REASON_SIZE];
    va_list arguments;

    va_start(arguments, format);
    print_to_va(reason, sizeof(reason), format, arguments);
    va_end(arguments);
    while (ktap_checks_left() > 1)
        ktap_skip(reason, "not checked");
}
