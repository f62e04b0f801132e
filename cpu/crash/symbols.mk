# The image with its symbol table: linked once without it, and again with what the first link says.
# Included by the Makefile, which sets B, CC, LINK and KERNEL_OBJECTS.

CRT0 := /usr/lib/crt0-efi-x86_64.o
LIBEFI := -L/usr/lib -lgnuefi

$(B)/faultline.pass1.so: $(KERNEL_OBJECTS) efi/image/faultline.lds cpu/crash/symbols.mk
	$(call say,LINK,$@)
	$(LINK) -o $@.part $(CRT0) $(KERNEL_OBJECTS) $(LIBEFI)
	mv $@.part $@

$(B)/symbols.S: $(B)/faultline.pass1.so cpu/crash/make-symbols
	$(call say,SYMBOLS,$@)
	cpu/crash/make-symbols table $< > $@.part
	mv $@.part $@

$(B)/symbols.o: $(B)/symbols.S
	$(CC) -c -o $@ $<

$(B)/faultline.so: $(B)/symbols.o
	$(call say,LINK,$@)
	$(LINK) -o $@.part $(CRT0) $(KERNEL_OBJECTS) $(B)/symbols.o $(LIBEFI)
	cpu/crash/make-symbols compare $(B)/faultline.pass1.so $@.part
	mv $@.part $@
