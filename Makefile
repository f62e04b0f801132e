# Faultline: build, run, test. `make help` lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

B := build
CC := gcc
HOSTCC ?= clang
OBJCOPY := objcopy

VERSION := $(shell git describe --always --dirty --tags 2>/dev/null || echo unknown)

# ---- the image -----------------------------------------------------------------------------------

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
	-Wundef -Wvla -Wpointer-arith -Wwrite-strings

KERNEL_CFLAGS := -std=gnu11 -O2 -g -ffreestanding -fpic -fshort-wchar -mno-red-zone \
	-mgeneral-regs-only -maccumulate-outgoing-args -fno-stack-protector -fno-strict-aliasing \
	-fno-asynchronous-unwind-tables -fno-omit-frame-pointer -fno-common -ffunction-sections \
	-fdata-sections -DGNU_EFI_USE_MS_ABI -I. -include lib/hidden.h $(WARNINGS)
EFI_INCLUDES := -isystem /usr/include/efi -isystem /usr/include/efi/x86_64

KERNEL_SOURCES := $(sort $(wildcard lib/*.c cpu/*.c pmm/*.c paging/*.c vmm/*.c swapdisk/*.c efi/*.c \
	tests/*.c)) $(sort $(wildcard cpu/*.S efi/*.S))
KERNEL_OBJECTS := $(patsubst %,$(B)/kernel/%.o,$(KERNEL_SOURCES))

LINK := ld -nostdlib -znocombreloc -shared -Bsymbolic -znoexecstack --gc-sections --no-undefined \
	-T efi/faultline.lds --build-id=none

$(B)/kernel/%.c.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(KERNEL_CFLAGS) $(if $(filter efi/%,$<),$(EFI_INCLUDES)) -MMD -MP -c -o $@ $<

$(B)/kernel/%.S.o: %.S Makefile
	@mkdir -p $(@D)
	$(CC) -g -I. -MMD -MP -c -o $@ $<

-include $(KERNEL_OBJECTS:.o=.d)
