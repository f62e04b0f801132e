/*
 * Statuses: results of calls that may fail without a mistake of the caller.
 *
 * Three kinds of no: a caller's mistake is a CHECK (lib/check.h), a resource or a device that
 * refuses is a status, corruption is a panic. Counts and results go through other parameters.
 */
#ifndef LIB_STATUS_H
#define LIB_STATUS_H

#define MUST_USE __attribute__((warn_unused_result))

enum status {
    OK = 0,
    STATUS_NO_MEMORY = -1,    /* no frame, table or pool object is left */
    STATUS_RANGE = -2,        /* an address, size or index that the call does not accept */
    STATUS_DENIED = -3,       /* rights forbid it */
    STATUS_AGAIN = -4,        /* retry: the state changed since it was read */
    STATUS_BUSY = -5,         /* in use */
    STATUS_EXISTS = -6,       /* the place is taken */
    STATUS_NOT_FOUND = -7,    /* nothing there */
    STATUS_LIMIT = -8,        /* a hard limit is reached */
    STATUS_NO_SPACE = -9,     /* the swap area is full */
    STATUS_TIMEOUT = -10,     /* hardware did not answer within its bound */
    STATUS_IO = -11,          /* a device reported an error */
    STATUS_CORRUPT = -12,     /* stored data failed its check */
    STATUS_REFUSED = -13,     /* a safety rule forbids it */
    STATUS_UNSUPPORTED = -14, /* this machine lacks a needed feature */
    STATUS_COMMIT = -15       /* more memory would be promised than the policy allows */
};

/* Returns the status in words, for the log; never NULL. */
const char *status_name(enum status status);

#endif
