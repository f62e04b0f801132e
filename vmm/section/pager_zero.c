/* The pager of blank memory. */
#include "lib/hidden.h"
#include "vmm/section/pager.h"

const struct pager pager_zero = {.name = "zero"};
