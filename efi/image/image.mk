# From the linked image to the PE file that firmware starts.
# Included by the Makefile, which sets B and OBJCOPY; $(B)/faultline.so comes from cpu/crash/symbols.mk.

# .hash and .gnu.hash stand at address 0, where the PE headers are, and nobody needs them.
IMAGE_SECTIONS := .text .reloc .rodata .relro .data .dynamic .rela .dynsym .dynstr .symbols

$(B)/faultline.efi: $(B)/faultline.so efi/image/fix-pe efi/image/image.mk
	$(call say,PE,$@)
	$(OBJCOPY) $(IMAGE_SECTIONS:%=-j %) --target efi-app-x86_64 --subsystem 10 $< $@.part
	efi/image/fix-pe $@.part
	mv $@.part $@
