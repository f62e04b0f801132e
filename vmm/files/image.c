/* The pager of images: the source's page, with the words that lie on it. */
#include "vmm/files/image.h"

#include "lib/check.h"
#include "pmm/frame.h"

#define WORD_SIZE sizeof(uint64_t)

/* Returns the first word that ends behind this byte. */
static uint64_t image_first_behind(const struct image *image, uint64_t from)
{
    uint64_t low = 0;
    uint64_t high = image->count;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        if (image->words[middle].at + WORD_SIZE > from)
            high = middle;
        else
            low = middle + 1;
    }
    CHECK(low == image->count || image->words[low].at + WORD_SIZE > from);
    return low;
}

/* Stores the bytes of a word that lie on the page that begins at `from`. */
static void image_store_word(uint8_t *page, uint64_t from, uint64_t at, uint64_t value)
{
    CHECK(at + WORD_SIZE > from && at < from + PAGE_SIZE);
    for (unsigned i = 0; i < WORD_SIZE; i++) {
        if (at + i >= from && at + i < from + PAGE_SIZE)
            page[at + i - from] = (uint8_t)(value >> 8 * i);
    }
}

static enum status image_get(const void *source, uint64_t page, struct pfn frame)
{
    const struct image *image = source;
    uint64_t from = page * PAGE_SIZE;
    enum status status = image->below->get(image->source, page, frame);

    CHECK(image->below->put == NULL && from < SECTION_SIZE_MAX);
    if (status != OK)
        return status;
    for (uint64_t i = image_first_behind(image, from);
         i < image->count && image->words[i].at < from + PAGE_SIZE; i++)
        image_store_word(frame_pointer(frame), from, image->words[i].at,
                         image->base + image->words[i].addend);
    return OK;
}

static void image_end(const void *source)
{
    const struct image *image = source;

    if (image->below->end != NULL)
        image->below->end(image->source);
}

const struct pager pager_image = {.name = "image", .get = image_get, .end = image_end};

static bool image_words_valid(const struct image *image, uint64_t size)
{
    uint64_t end = 0; /* of the word before */

    for (uint64_t i = 0; i < image->count; i++) {
        uint64_t at = image->words[i].at;

        if (at < end || size < WORD_SIZE || at > size - WORD_SIZE)
            return false;
        end = at + WORD_SIZE;
    }
    return true;
}

enum status image_open(const struct image *image, uint64_t size, struct rights most,
                       struct section **opened)
{
    CHECK(opened != NULL && (image->count == 0 || image->words != NULL));
    if (image->below->get == NULL || image->below->put != NULL)
        return STATUS_DENIED;
    if (size > SECTION_SIZE_MAX || !image_words_valid(image, size))
        return size > SECTION_SIZE_MAX ? STATUS_RANGE : STATUS_CORRUPT;
    return section_create(&pager_image, image, size, most, opened);
}
