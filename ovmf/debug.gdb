# Commands for gdb, started by ovmf/debug: the machine is stopped at its first instruction.
#
# The firmware loads the image, and the image later moves to the upper half. Symbols are loaded at
# both places, so a name means both; the debugger stops where the code runs.
#   $loaded  where the firmware loads the image, found by ovmf/debug in a first boot
#   $moved   where it moves to, IMAGE_BASE in paging/kernel/layout.h

set pagination off
set confirm off
set print pretty on
set disassemble-next-line auto
set architecture i386:x86-64

define faultline-symbols
  add-symbol-file build/faultline.so -o $loaded
  add-symbol-file build/faultline.so -o $moved
end
document faultline-symbols
Load the image's symbols at both of its places.
end

define faultline-start
  faultline-symbols
  hbreak efi_main
  hbreak faultline_main
  continue
end
document faultline-start
Load symbols and run to efi_main, on the firmware's page tables. A further `continue` goes to
faultline_main, on our own.
end
