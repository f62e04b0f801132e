# The console's fonts: unpacked from the fonts-spleen package and put into the image by efi/console/fonts.S.
# Included by the Makefile, which sets B and CC.

FONT_SOURCE := /usr/share/consolefonts
FONT_SIZES := 8x16 12x24 16x32 32x64
FONT_FILES := $(FONT_SIZES:%=$(B)/fonts/spleen-%.psf)

$(B)/fonts/spleen-%.psf: $(FONT_SOURCE)/spleen-%.psfu.gz
	mkdir -p $(@D)
	gzip -dc $< > $@.part
	mv $@.part $@

$(B)/kernel/efi/console/fonts.S.o: efi/console/fonts.S $(FONT_FILES) Makefile efi/console/fonts.mk
	mkdir -p $(@D)
	$(call say,AS,$<)
	$(CC) -g -I. -Wa,-I$(B)/fonts -MMD -MP -c -o $@ $<
