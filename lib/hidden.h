/*
 * Forced into every kernel source by the compiler's command line, ahead of all else.
 *
 * The image is position-independent. A variable declared in a shared header would be reached
 * through the global offset table unless its declaration is hidden, and the table's addresses
 * would still name the firmware's copy after the image has moved to the upper half.
 */
#pragma GCC visibility push(hidden)
