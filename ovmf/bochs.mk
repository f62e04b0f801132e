# The loader that gives Bochs its ACPI tables. Included by the Makefile, which sets B, CC, OBJCOPY,
# WARNINGS and EFI_INCLUDES.

BOCHS_CFLAGS := -std=gnu11 -O2 -ffreestanding -fpic -fshort-wchar -mno-red-zone -fno-stack-protector \
	-maccumulate-outgoing-args -fno-asynchronous-unwind-tables -fvisibility=hidden \
	-DGNU_EFI_USE_MS_ABI $(WARNINGS)

$(B)/bochs-loader.efi: ovmf/bochs-loader.c ovmf/bochs.mk
	mkdir -p $(@D)
	$(call say,BOCHS,$@)
	$(CC) $(BOCHS_CFLAGS) $(EFI_INCLUDES) -c -o $(B)/bochs-loader.o $<
	ld -nostdlib -znocombreloc -znoexecstack -shared -Bsymbolic -T /usr/lib/elf_x86_64_efi.lds \
		-o $(B)/bochs-loader.so /usr/lib/crt0-efi-x86_64.o $(B)/bochs-loader.o -L/usr/lib -lgnuefi
	$(OBJCOPY) -j .text -j .sdata -j .data -j .rodata -j .dynamic -j .dynsym -j .rel -j .rela \
		-j '.rel.*' -j '.rela.*' -j .reloc --target efi-app-x86_64 --subsystem 10 \
		$(B)/bochs-loader.so $@.part
	mv $@.part $@
