/* Statuses in words. */
#include "lib/status.h"

const char *status_name(enum status status)
{
    switch (status) {
    case OK: return "ok";
    case STATUS_NO_MEMORY: return "out of memory";
    case STATUS_RANGE: return "out of range";
    case STATUS_DENIED: return "denied";
    case STATUS_AGAIN: return "try again";
    case STATUS_BUSY: return "busy";
    case STATUS_EXISTS: return "already there";
    case STATUS_NOT_FOUND: return "not found";
    case STATUS_LIMIT: return "limit reached";
    case STATUS_NO_SPACE: return "swap area full";
    case STATUS_TIMEOUT: return "timed out";
    case STATUS_IO: return "device error";
    case STATUS_CORRUPT: return "corrupt";
    case STATUS_REFUSED: return "refused";
    case STATUS_UNSUPPORTED: return "not supported here";
    case STATUS_COMMIT: return "too much promised";
    }
    return "unknown status";
}
