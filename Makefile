# Faultline: build, run, test. `make help` lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
# A linker that is killed leaves a part of its file, which looks newer than the sources. So programs
# are made under the name FILE.part, and renamed when they are whole.
.SUFFIXES:
.SECONDARY:

# Here B is the second of two logs.
ifeq ($(MAKECMDGOALS),compare)
NEW_LOG := $(B)
override B := build
endif
B := build
CC := gcc
CLANG := clang
OBJCOPY := objcopy
JOBS := $(shell nproc)
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(JOBS)
endif
ifndef V
.SILENT:
endif
say = $(if $(findstring s,$(firstword -$(MAKEFLAGS))),:,printf '  %-8s %s\n' $(1) $(2))

# ---- what the system must have -------------------------------------------------------------------

# Included files are made before anything else, so the packages are there before the first rule.
GOALS := $(or $(MAKECMDGOALS),all)
ifneq ($(filter-out clean help core-objects compare picture,$(GOALS)),)
include $(B)/setup-build.mk
ifneq ($(filter test check fuzz mutants tidy everything sweep bench $(B)/scaling $(B)/host% $(B)/fuzz% explore $(B)/explore%,$(GOALS)),)
include $(B)/setup-test.mk
endif
ifneq ($(filter soak,$(GOALS)),)
include $(B)/setup-soak.mk
endif
ifneq ($(filter debug,$(GOALS)),)
include $(B)/setup-debug.mk
endif
endif

$(B)/setup-%.mk: ovmf/setup
	ovmf/setup $* $@

# ---- the kernel's objects ------------------------------------------------------------------------

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
	-Wundef -Wvla -Wpointer-arith -Wwrite-strings

KERNEL_CFLAGS := -std=gnu11 -O2 -g -ffreestanding -fpic -fshort-wchar -mno-red-zone \
	-mgeneral-regs-only -maccumulate-outgoing-args -fno-stack-protector -fno-strict-aliasing \
	-fno-asynchronous-unwind-tables -fno-omit-frame-pointer -fno-common -ffunction-sections \
	-fdata-sections -DGNU_EFI_USE_MS_ABI -I. -include lib/hidden.h \
	-include cpu/machine_inline.h $(WARNINGS)
# CHECKS=1 checks spin locks (cpu/smp/lock_check.h); in a folder of its own: make B=build/checked CHECKS=1
ifdef CHECKS
KERNEL_CFLAGS += -DLOCK_CHECKS
endif
EFI_INCLUDES := -isystem /usr/include/efi -isystem /usr/include/efi/x86_64

# What is built into the image: every source of these folders, but what runs on the host.
KERNEL_SOURCES := $(shell find lib cpu pmm paging vmm swapdisk efi tests/screen tests/programs tests/runner \
	tests/experiments tests/model -name '*.[cS]' | LC_ALL=C sort)
KERNEL_OBJECTS := $(patsubst %,$(B)/kernel/%.o,$(KERNEL_SOURCES))

LINK := ld -nostdlib -znocombreloc -shared -Bsymbolic -znoexecstack --gc-sections --no-undefined \
	-T efi/image/faultline.lds --build-id=none

$(B)/kernel/%.c.o: %.c Makefile | $(B)/version.h
	mkdir -p $(@D)
	$(call say,CC,$<)
	$(CC) $(KERNEL_CFLAGS) $(if $(filter efi/%,$<),$(EFI_INCLUDES)) -MMD -MP -c -o $@ $<

$(B)/kernel/%.S.o: %.S Makefile
	mkdir -p $(@D)
	$(call say,AS,$<)
	$(CC) -g -I. -MMD -MP -c -o $@ $<

# Changes only with the version, so that only the file that prints it is compiled again.
VERSION := $(shell git describe --always --dirty --tags 2>/dev/null || echo unknown)
VERSION_LINE := \#define FAULTLINE_VERSION "$(VERSION)"
ifneq ($(file <$(B)/version.h),$(VERSION_LINE))
.PHONY: $(B)/version.h
endif
$(B)/version.h:
	mkdir -p $(@D)
	echo '$(VERSION_LINE)' > $@.part && mv $@.part $@

# ---- the image, the stick and the swap disk ------------------------------------------------------

-include efi/console/fonts.mk cpu/crash/symbols.mk efi/image/image.mk ovmf/bochs.mk

$(B)/faultline.img: $(B)/faultline.efi ovmf/make-image
	$(call say,IMAGE,$@)
	ovmf/make-image $< $@

PREPARE := $(addprefix ovmf/prepare-,swap.c plan.c disk.c probe.c end.c)
READ_LOG := ovmf/read-log.c ovmf/prepare-disk.c ovmf/prepare-probe.c ovmf/prepare-end.c

$(B)/prepare-swap: $(PREPARE:%=$(B)/host-gcc/%.o) $(B)/host-gcc/libfaultline.a
	$(call say,LINK,$@)
	$(CC) -o $@.part $^ -lblkid -lfdisk
	mv $@.part $@

PREPARE_FILES := ovmf/prepare-files.c $(filter-out ovmf/read-log.c,$(READ_LOG))
$(B)/prepare-files: $(PREPARE_FILES:%=$(B)/host-gcc/%.o) $(B)/host-gcc/libfaultline.a
	$(call say,LINK,$@)
	$(CC) -o $@.part $^ -lblkid -lfdisk
	mv $@.part $@

$(B)/read-log: $(READ_LOG:%=$(B)/host-gcc/%.o) $(B)/host-gcc/libfaultline.a
	$(call say,LINK,$@)
	$(CC) -o $@.part $^ -lblkid -lfdisk
	mv $@.part $@

# Fonts by size for pictures of sizes that no virtual machine has.
$(B)/draw-screen: $(B)/host-gcc/ovmf/draw-screen.c.o $(B)/host-gcc/libfaultline.a
	$(call say,LINK,$@)
	$(CC) -o $@.part $^
	mv $@.part $@

# Bound to the serial number that ovmf/qemu.py gives to swap disks; made anew with the format only.
$(B)/swap.img: $(PREPARE) $(wildcard $(addprefix swapdisk/format/,header.[ch] gpt.[ch] bad_slots.c \
	checksum.[ch])) | $(B)/prepare-swap
	$(call say,DISK,$@)
	rm -f $@.part
	$(B)/prepare-swap --yes --serial FAULTLINE-SWAP $@.part > $@.log
	mv $@.part $@

# ---- host tests and fuzzers ----------------------------------------------------------------------

# Logic without device registers: the same sources as in the kernel, tests/host/fake/ under them.
MACHINE_FACING := lib/bytes.c swapdisk/ahci/hardware.c %_machine.c \
	$(wildcard paging/kernel/*.c)
PORTABLE_SOURCES := $(filter-out $(MACHINE_FACING),$(filter lib/%.c pmm/%.c paging/%.c vmm/%.c \
	swapdisk/%.c efi/options/%.c efi/trace/%.c efi/acpi/%.c efi/console/font.c efi/log/memory_log.c efi/firmware/memory_map.c \
	efi/firmware/reachable.c \
	cpu/trap/describe.c cpu/crash/symbols.c cpu/clock/scale.c cpu/crc32c.c cpu/smp/lock_check.c \
	tests/screen/%.c tests/model/%.c tests/experiments/edu.c,$(KERNEL_SOURCES)))
ALLOCATOR_SOURCES := $(filter pmm/alloc/%.c,$(PORTABLE_SOURCES))
POLICY_SOURCES := $(filter vmm/policy/%.c vmm/ghosts/%.c,$(PORTABLE_SOURCES))
HOST_TESTS := $(patsubst tests/host/%.c,%,$(wildcard tests/host/test_*.c))
HOST_SUPPORT := $(filter-out tests/host/test_% tests/host/explore/% tests/host/scaling.c, \
	$(wildcard tests/host/*.c tests/host/*/*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

THREAD_TESTS := $(filter %_threads,$(HOST_TESTS))

HOST_CFLAGS := -std=gnu11 -g -fno-strict-aliasing -fno-omit-frame-pointer -I. $(WARNINGS)
# Bases of the simulated memory, outside of what each sanitizer uses for itself.
BASES := -DDIRECT_MAP_BASE=0x200000000000ul -DFRAME_RECORDS_BASE=0x300000000000ul \
	-DDESCRIPTORS_BASE=0x400000000000ul
BASES_tsan := -DDIRECT_MAP_BASE=0x1000000000ul -DFRAME_RECORDS_BASE=0x4000000000ul \
	-DDESCRIPTORS_BASE=0x6000000000ul
SANITIZE := address,undefined
FLAVOUR_host := $(CLANG) -O1 -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -DPMM_JUNK=1 \
	-DLOCK_CHECKS
FLAVOUR_host-gcc := $(CC) -O2 -Wno-unused-result # clang checks it, and obeys a cast to void
FLAVOUR_fuzz := $(CLANG) -O1 -fsanitize=fuzzer-no-link,$(SANITIZE) -fno-sanitize-recover=all
FLAVOUR_tsan := $(CLANG) -O1 -fsanitize=thread -DPMM_JUNK=1

# Each access of memory becomes a call, which tests/host/explore/ answers in the sanitizer's place.
FLAVOUR_explore := $(CC) -O2 -fsanitize=thread --param tsan-distinguish-volatile=1 \
	--param tsan-instrument-func-entry-exit=0 -Wno-tsan -Wno-unused-result

# $(1) is the flavour's name and folder.
define flavour
$(B)/$(1)/%.c.o: %.c Makefile
	mkdir -p $$(@D)
	$$(call say,$(1),$$<)
	$$(FLAVOUR_$(1)) $$(HOST_CFLAGS) $$(or $$(BASES_$(1)),$$(BASES)) -MMD -MP -c -o $$@ $$<

# One object of all allocators, and one of all policies: an archive's member that only a section
# refers to is not linked.
$(B)/$(1)/pmm/alloc.o: $$(ALLOCATOR_SOURCES:%=$(B)/$(1)/%.o)
	ld -r -o $$@.part $$^
	mv $$@.part $$@

$(B)/$(1)/vmm/policies.o: $$(POLICY_SOURCES:%=$(B)/$(1)/%.o)
	ld -r -o $$@.part $$^
	mv $$@.part $$@

$(B)/$(1)/libfaultline.a: $$(patsubst %,$(B)/$(1)/%.o,$$(filter-out $$(ALLOCATOR_SOURCES) \
	$$(POLICY_SOURCES),$$(PORTABLE_SOURCES))) $(B)/$(1)/pmm/alloc.o $(B)/$(1)/vmm/policies.o
	rm -f $$@.part
	ar qcsD $$@.part $$^
	mv $$@.part $$@

$(B)/$(1)/libfake.a: $$(HOST_SUPPORT:%=$(B)/$(1)/%.o)
	rm -f $$@.part
	ar qcsD $$@.part $$^
	mv $$@.part $$@

$(B)/$(1)/test_%: $(B)/$(1)/tests/host/test_%.c.o $(B)/$(1)/libfaultline.a $(B)/$(1)/libfake.a
	$$(FLAVOUR_$(1)) -o $$@.part $$< -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group -lcmocka
	mv $$@.part $$@
endef
$(foreach name,host host-gcc fuzz tsan explore,$(eval $(call flavour,$(name))))

$(B)/fuzz/fuzz_%: $(B)/fuzz/tests/fuzz/fuzz_%.c.o $(B)/fuzz/libfaultline.a $(B)/fuzz/libfake.a
	$(CLANG) -fsanitize=fuzzer,$(SANITIZE) -o $@.part $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group
	mv $@.part $@

# Of the host's files those that write simulated memory are explored with the sources.
EXPLORED := tests/host/explore/program_operation.c tests/host/fake/mmu.c tests/host/fake/cpu.c \
	tests/host/fake/kernel_map.c
$(B)/explore/explore: $(patsubst %,$(B)/host-gcc/%.o,$(filter-out $(EXPLORED), \
		$(wildcard tests/host/explore/*.c))) \
		$(EXPLORED:%=$(B)/explore/%.o) $(B)/explore/libfaultline.a $(B)/host-gcc/libfake.a
	$(call say,LINK,$@)
	$(CC) -no-pie -Wl,--wrap=memset -o $@.part $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) \
		-Wl,--end-group
	mv $@.part $@

# Two threads over the same objects as the host tests', for make bench.
$(B)/scaling: $(B)/host-gcc/tests/host/scaling.c.o $(B)/host-gcc/libfaultline.a $(B)/host-gcc/libfake.a
	$(call say,LINK,$@)
	$(CC) -o $@.part $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group -lpthread
	mv $@.part $@

HOST_PROGRAMS := $(HOST_TESTS:%=$(B)/host/%) $(HOST_TESTS:%=$(B)/host-gcc/%) \
	$(THREAD_TESTS:%=$(B)/tsan/%) $(B)/explore/explore $(B)/scaling
FUZZ_PROGRAMS := $(FUZZERS:%=$(B)/fuzz/%)

# One stamp a source, made anew only when the source or one of its headers changed.
TIDY_STAMPS := $(patsubst %,$(B)/tidy/%.ok,$(filter %.c,$(KERNEL_SOURCES)))
$(B)/tidy/%.c.ok: %.c $(B)/kernel/%.c.o .clang-tidy
	mkdir -p $(@D)
	$(call say,TIDY,$<)
	clang-tidy --quiet $< -- $(filter-out -maccumulate-outgoing-args,$(KERNEL_CFLAGS)) \
		$(if $(filter efi/%,$<),$(EFI_INCLUDES)) 2>$@.err || { cat $@.err; exit 1; }
	touch $@

-include $(shell find $(B)/kernel $(B)/host $(B)/host-gcc $(B)/fuzz $(B)/tsan $(B)/explore -name '*.d' 2>/dev/null)

# ---- targets -------------------------------------------------------------------------------------

.PHONY: all run report answers picture policies compare sweep release screenshot run-bochs test explore check bench debug image mutants fuzz soak clean help tidy \
	core-objects everything check-needs nothing

all: $(B)/faultline.efi $(B)/faultline.img $(B)/swap.img $(B)/read-log $(B)/prepare-files ## the application, the stick's image, a prepared swap disk

image: $(B)/faultline.img ## the image for a USB stick, for dd

OPTIONS :=
LOG :=
run: $(B)/faultline.efi $(B)/swap.img ## boot in QEMU with a swap disk [OPTIONS="run=cow seed=7", LOG=1 shows the log]
	ovmf/qemu.py $(if $(LOG),,--summary) --log $(B)/run.log --efi $(B)/faultline.efi \
		--swap $(B)/swap.img --append "$(OPTIONS)" $(QEMU_ARGS)

report: $(B)/faultline.efi $(B)/swap.img ## boot with counted instructions, bench: build/report.html [LOG=file OPTIONS="run=cow"]
	tests/report/run $(if $(LOG),--log "$(LOG)") $(if $(OPTIONS),--options "$(OPTIONS)")

answers: $(B)/faultline.efi $(B)/swap.img ## boot with counted instructions: docs/answers.md
	tests/report/run --answers

picture: ## docs/report.png, from the page that make report has made
	tests/report/picture

policies: $(B)/faultline.efi $(B)/swap.img ## boot the experiment `policy`: the tables of docs/policies.md
	tests/report/policies

run-bochs: $(B)/faultline.efi $(B)/bochs-loader.efi ## boot in Bochs [OPTIONS="run=cow" BOCHS_ARGS="--smp 2"]
	ovmf/bochs.py --efi $(B)/faultline.efi --append "$(OPTIONS)" $(BOCHS_ARGS)

everything: $(B)/bochs-loader.efi all $(HOST_PROGRAMS) $(FUZZ_PROGRAMS)

nothing:

# T= runs one test, and builds only what that one needs.
ifneq ($(and $(T),$(filter test,$(GOALS))),)
TEST_NEEDS := $(or $(shell tests/run --needs $(T)),$(error no such test))
else
TEST_NEEDS := everything
endif
test: $(TEST_NEEDS) ## all tests, or one of them with T=name (T=list names them)
	prove --timer $(if $(T),--verbose) --jobs $(JOBS) --exec tests/run $(or $(T),$$(tests/run --list))

SCHEDULE :=
explore: $(B)/explore/explore ## interleavings on the host [T="cow write fork" SCHEDULE=0:141]
	$(if $(T),,$(error T= names a list, or says SET-UP PROGRAM PROGRAM))
	$(if $(SCHEDULE),$< --schedule $(SCHEDULE) "$(T)",\
		$(if $(word 2,$(T)),echo "one: $(T)" | $< --lines -,$< $(T)))

check: $(KERNEL_OBJECTS) ## layers, the seam, assembly, format, clang-tidy, shape of the sources
	tests/check/run

check-needs: $(KERNEL_OBJECTS)

tidy: $(TIDY_STAMPS)

core-objects:
	echo $(patsubst %,$(B)/kernel/%.o,$(PORTABLE_SOURCES))

bench: $(B)/faultline.efi $(B)/swap.img $(B)/scaling ## figures in instructions, beside Linux's; build/bench.jsonl [COMPARE=old.jsonl]
	$(if $(COMPARE),cp "$(COMPARE)" $(B)/bench-before.jsonl)
	tests/bench/run
	$(if $(COMPARE),tests/report/compare $(B)/bench-before.jsonl $(B)/bench.jsonl)

SWEEP := run=fork-ways memory=512/1024/1536
FIGURE := fork-ways.all_levels.fork.16m
sweep: $(B)/faultline.efi ## a matrix of runs: table and plot in build/sweep/ [SWEEP="run=cow seed=1/2" FIGURE=cow.fork HOSTS=file]
	tests/report/sweep $(if $(HOSTS),--hosts "$(HOSTS)") $(FIGURE:%=--figure %) $(SWEEP)

SHOTS := 2/6/12
SIZE := 1280x800
screenshot: all $(B)/draw-screen $(FONT_FILES) ## pictures of the screen: build/screen-*.png [OPTIONS="run=swap" SIZE=1024x768 SHOTS=2/6]
	ovmf/screenshot --size $(SIZE) --at $(SHOTS) --append "$(OPTIONS)"

release: all report ## image, application, report and checksums in build/release/ [KEY=name signs them]
	rm -rf $(B)/release && mkdir $(B)/release
	cp $(B)/faultline.efi $(B)/faultline.img $(B)/report.html $(B)/bench.jsonl LICENSE $(B)/release/
	cd $(B)/release && sha256sum * > SHA256SUMS
	$(if $(KEY),gpg --batch --yes --local-user "$(KEY)" --armor --detach-sign $(B)/release/SHA256SUMS)
	ls $(B)/release

compare: ## what changed between two logs, or files of make bench, beyond noise [A=old.log B=new.log]
	tests/report/compare "$(A)" "$(NEW_LOG)"

debug: $(B)/faultline.efi $(B)/swap.img ## QEMU stopped at its first instruction, with gdb attached
	ovmf/debug

MUTANTS :=
mutants: all ## each deliberate bug in tests/mutants must turn its test red [MUTANTS=--ci or names]
	tests/mutants/run $(MUTANTS)

FUZZ_SECONDS := 60
fuzz: $(FUZZ_PROGRAMS) ## each fuzzer for FUZZ_SECONDS (60)
	for program in $(FUZZERS); do tests/run --fuzz $$program $(FUZZ_SECONDS) || exit 1; done

SOAK :=
soak: all $(HOST_PROGRAMS) ## the random models at length, minutes a round [SOAK="--rounds 3 --seed 7"]
	$(MAKE) B=$(B)/checked CHECKS=1 $(B)/checked/faultline.efi
	tests/soak $(SOAK)
	tests/mutants/run

clean: ## remove build/
	rm -rf $(B)

help: ## this list
	sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'
