/*
 * Signatures of other systems' content on a disk.
 *
 * The list gives refusals a name. Other content is refused as well, unless it is zero.
 *
 * Units: bytes from the start of the partition; from_end: bytes before its end, rounded down to
 * `align`. Owns: nothing. Included by ovmf/prepare-swap.c only.
 */
#ifndef OVMF_SIGNATURES_H
#define OVMF_SIGNATURES_H

#include <stdbool.h>
#include <stdint.h>

struct signature {
    const char *name;
    uint64_t offset;
    bool from_end;
    uint32_t align;
    uint8_t size;
    const char *bytes;
};

#define AT(offset_, bytes_, name_)                                                                 \
    {                                                                                              \
        .name = (name_), .offset = (offset_), .align = 1, .size = sizeof(bytes_) - 1,              \
        .bytes = (bytes_)                                                                          \
    }
#define BEFORE_END(offset_, align_, bytes_, name_)                                                 \
    {                                                                                              \
        .name = (name_), .offset = (offset_), .from_end = true, .align = (align_),                 \
        .size = sizeof(bytes_) - 1, .bytes = (bytes_)                                              \
    }

/* The signatures at the end of a page of swap space, for one page size. */
#define SWAP_MARKS(page_)                                                                          \
    AT((page_)-10, "SWAPSPACE2", "Linux swap space"),                                              \
        AT((page_)-10, "SWAP-SPACE", "old Linux swap space"),                                      \
        AT((page_)-10, "S1SUSPEND", "a hibernated Linux system"),                                  \
        AT((page_)-10, "S2SUSPEND", "a hibernated Linux system"),                                  \
        AT((page_)-10, "ULSUSPEND", "a hibernated Linux system"),                                  \
        AT((page_)-10, "LINHIB0001", "a hibernated Linux system"),                                 \
        AT((page_)-10, "\xed\xc3\x02\xe9\x98\x56\xe5\x0c", "a hibernated Linux system")

static const struct signature signatures[] = {
    AT(3, "-FVE-FS-", "a BitLocker volume"),
    AT(3, "NTFS    ", "an NTFS file system"),
    AT(3, "EXFAT   ", "an exFAT file system"),
    AT(3, "ReFS", "a ReFS file system"),
    AT(82, "FAT32   ", "a FAT32 file system"),
    AT(54, "FAT16   ", "a FAT16 file system"),
    AT(54, "FAT12   ", "a FAT12 file system"),
    AT(512, "EFI PART", "a GUID partition table"),
    AT(4096, "EFI PART", "a GUID partition table for sectors of 4 KiB"),
    AT(0x438, "\x53\xef", "an ext2, ext3 or ext4 file system"),
    AT(0, "XFSB", "an XFS file system"),
    AT(0x10040, "_BHRfS_M", "a Btrfs file system"),
    AT(0x400, "\x10\x20\xf5\xf2", "an F2FS file system"),
    AT(0x10034, "ReIsEr", "a ReiserFS file system"),
    AT(0x8000, "JFS1", "a JFS file system"),
    AT(0x400, "\xe2\xe1\xf5\xe0", "an EROFS file system"),
    AT(0x400, "H+", "an HFS Plus file system"),
    AT(0x400, "HX", "an HFS Plus file system"),
    AT(32, "NXSB", "an APFS container"),
    AT(0, "hsqs", "a SquashFS image"),
    AT(0, "sqsh", "a SquashFS image"),
    AT(0x8001, "CD001", "an ISO 9660 image"),
    AT(0x8001, "BEA01", "a UDF file system"),
    AT(0, "LUKS\xba\xbe", "an encrypted LUKS volume"),
    AT(0x4000, "SKUL\xba\xbe", "an encrypted LUKS volume"),
    AT(0, "LABELONE", "an LVM physical volume"),
    AT(512, "LABELONE", "an LVM physical volume"),
    AT(1024, "LABELONE", "an LVM physical volume"),
    AT(1536, "LABELONE", "an LVM physical volume"),
    AT(0, "\xfc\x4e\x2b\xa9", "a member of a Linux RAID"),
    AT(4096, "\xfc\x4e\x2b\xa9", "a member of a Linux RAID"),
    BEFORE_END(8192, 4096, "\xfc\x4e\x2b\xa9", "a member of a Linux RAID"),
    BEFORE_END(65536, 65536, "\xfc\x4e\x2b\xa9", "a member of a Linux RAID"),
    AT(0x1018, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca", "a bcache or bcachefs device"),
    SWAP_MARKS(4096),
    SWAP_MARKS(8192),
    SWAP_MARKS(16384),
    SWAP_MARKS(65536),
    AT(510, "\x55\xaa", "a boot sector or a partition table"),
};

#undef AT
#undef BEFORE_END
#undef SWAP_MARKS

#endif
