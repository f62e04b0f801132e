/*
 * Base relocations that relocate nothing: without the table a firmware takes the image for one
 * that runs at its linked address only. The image relocates itself (crt0).
 *
 * Spec: Microsoft, PE format, 'The .reloc Section'. Nothing refers to it, so it is retained by its
 * flag.
 */
    .section .reloc, "aR", @progbits
    .balign 4
    .long 0  /* page */
    .long 12 /* size of this block */
    .word 0  /* IMAGE_REL_BASED_ABSOLUTE: padding */
    .word 0

    .section .note.GNU-stack, "", @progbits
