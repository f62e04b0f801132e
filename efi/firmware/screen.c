/* The screen: a linear framebuffer of 32-bit pixels, from one of the firmware's graphics outputs.
 */
#include "efi/firmware/firmware.h"

/* Returns whether the console can write this pixel format; sets the order of its colours. */
static bool usable_format(const EFI_GRAPHICS_OUTPUT_MODE_INFORMATION *mode, bool *red_first)
{
    const EFI_PIXEL_BITMASK *mask = &mode->PixelInformation;

    switch (mode->PixelFormat) {
    case PixelRedGreenBlueReserved8BitPerColor: *red_first = true; return true;
    case PixelBlueGreenRedReserved8BitPerColor: *red_first = false; return true;
    case PixelBitMask:
        *red_first = mask->RedMask == 0xff;
        return mask->GreenMask == 0xff00 &&
               ((mask->RedMask == 0xff && mask->BlueMask == 0xff0000) ||
                (mask->BlueMask == 0xff && mask->RedMask == 0xff0000));
    default: return false;
    }
}

/* Takes a graphics output in its current mode; no mode is ever set. Returns the reason if it cannot
 * be used. */
static const char *take_screen(EFI_GRAPHICS_OUTPUT_PROTOCOL *output, struct framebuffer *screen)
{
    const EFI_GRAPHICS_OUTPUT_PROTOCOL_MODE *mode = output->Mode;
    bool red_first;

    if (mode == NULL || mode->Info == NULL)
        return "a graphics output without a mode";
    if (mode->Info->PixelFormat == PixelBltOnly)
        return "a graphics output without a framebuffer";
    if (!usable_format(mode->Info, &red_first))
        return "a graphics output with a pixel format that is not 32 bits";
    if (mode->FrameBufferBase == 0 || mode->Info->HorizontalResolution == 0 ||
        mode->Info->PixelsPerScanLine < mode->Info->HorizontalResolution)
        return "a graphics output with inconsistent fields";
    *screen = (struct framebuffer){.base = {mode->FrameBufferBase},
                                   .size = mode->FrameBufferSize,
                                   .width = mode->Info->HorizontalResolution,
                                   .height = mode->Info->VerticalResolution,
                                   .pitch = mode->Info->PixelsPerScanLine,
                                   .red_first = red_first};
    return NULL;
}

/* Tries the output of the firmware's console first: with several screens, it is the active one, or
 * a union of all without a framebuffer. */
const char *firmware_find_screen(const struct firmware *firmware, struct framebuffer *screen)
{
    EFI_GUID guid = EFI_GRAPHICS_OUTPUT_PROTOCOL_GUID;
    EFI_BOOT_SERVICES *services = firmware->services;
    EFI_HANDLE *handles = NULL;
    const char *words = "no graphics output";
    UINTN count = 0;
    void *output;

    screen->width = 0;
    if (firmware->table->ConsoleOutHandle != NULL &&
        !EFI_ERROR(services->HandleProtocol(firmware->table->ConsoleOutHandle, &guid, &output))) {
        words = take_screen(output, screen);
        if (words == NULL)
            return "found";
    }
    if (EFI_ERROR(services->LocateHandleBuffer(ByProtocol, &guid, NULL, &count, &handles)))
        return words;
    for (UINTN i = 0; i < count && screen->width == 0; i++) {
        if (!EFI_ERROR(services->HandleProtocol(handles[i], &guid, &output)))
            words = take_screen(output, screen);
    }
    services->FreePool(handles);
    return screen->width != 0 ? "found" : words;
}
