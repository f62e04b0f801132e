/* Shared by the files of the background reclaimer. */
#ifndef VMM_RECLAIMER_INTERNAL_H
#define VMM_RECLAIMER_INTERNAL_H

#include "vmm/reclaimer/reclaimer.h"

extern struct reclaimer_counts reclaimer_counted;

#endif
