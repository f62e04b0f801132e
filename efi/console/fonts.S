/*
 * The console's fonts, as the fonts-spleen package has them: efi/console/fonts.mk unpacks the files
 * and says where they are.
 */
    .macro font name, file
    .section .rodata.font_\name, "a", @progbits
    .balign 8
    .globl font_\name
    .hidden font_\name
    .globl font_\name\()_end
    .hidden font_\name\()_end
font_\name:
    .incbin "\file"
font_\name\()_end:
    .endm

    font 8x16, "spleen-8x16.psf"
    font 12x24, "spleen-12x24.psf"
    font 16x32, "spleen-16x32.psf"
    font 32x64, "spleen-32x64.psf"

    .section .note.GNU-stack, "", @progbits
