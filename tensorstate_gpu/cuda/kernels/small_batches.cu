// Small batches of packed rows, joined so that one launch counts them all.
#include "device.h"
#include "copy_bytes.h"

#define MOST 8

// Copies batches to ``target``, one behind the other: batch blockIdx.y, of which n.. are the bytes. Of those
// that are missing, the address and the size are 0.
KERNEL join_batches(u8 *target, const u8 *b0, const u8 *b1, const u8 *b2, const u8 *b3, const u8 *b4,
                    const u8 *b5, const u8 *b6, const u8 *b7, u32 n0, u32 n1, u32 n2, u32 n3, u32 n4,
                    u32 n5, u32 n6, u32 n7) {
    const u8 *batches[MOST] = {b0, b1, b2, b3, b4, b5, b6, b7}, *from = b0;
    u32 sizes[MOST] = {n0, n1, n2, n3, n4, n5, n6, n7}, size = n0;
#pragma unroll
    for (u32 i = 1; i < MOST; i++) {
        if (i > blockIdx.y) continue;
        target += size;
        from = batches[i];
        size = sizes[i];
    }
    u32 byte = BYTES_AT_ONCE * (blockIdx.x * 256 + threadIdx.x);
    if (byte < size) copy_bytes(target + byte, from + byte, size - byte);
}
