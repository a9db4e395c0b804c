// Unpacking packed rows into bools, and counting their set bits.
#include "device.h"

// Returns bits 0..3 of a nibble as four bytes, 0 or 1 each: multiplying by 0x00204081 puts a copy of
// bit i at bit 8 * i.
DEVICE u32 spread(u32 nibble) { return nibble * 0x00204081u & 0x01010101u; }

DEVICE uint4 spread_16(u32 bits) {
    return make_uint4(spread(bits & 15), spread(bits >> 4 & 15), spread(bits >> 8 & 15),
                      spread(bits >> 12));
}

// Unpacks rows of any number of neurons. A thread writes 16 neighbouring bools, also across rows.
KERNEL unpack(const u8 *packed, u8 *bools, i64 states, i64 neurons) {
    i64 thread = (i64)blockIdx.x * 256 + threadIdx.x, row_bytes = (neurons + 7) / 8;
    i64 first = thread * 16, total = states * neurons;
    if (first >= total) return;
    i64 state = first / neurons, neuron = first % neurons;
    u32 bits = 0;
    i32 count = (i32)(total - first < 16 ? total - first : 16), done = 0;
    while (done < count) {
        i32 shift = (i32)(neuron % 8), take = 8 - shift;
        if (take > neurons - neuron) take = (i32)(neurons - neuron);
        u32 byte = packed[state * row_bytes + neuron / 8] >> shift & ((1u << take) - 1);
        bits |= byte << done;
        done += take;
        neuron += take;
        if (neuron == neurons) neuron = 0, state++;
    }
    uint4 sixteen = spread_16(bits & 0xffff);
    if (count == 16) {
        *(uint4 *)(bools + first) = sixteen;
        return;
    }
    for (i32 i = 0; i < count; i++) bools[first + i] = (u8)(bits >> i & 1);
}

// One thread counts one row. With -DWORDS=1 it reads 64-bit words: all rows are then aligned to 8
// bytes, and multiples of 8 bytes long.
#ifndef WORDS
#define WORDS 0
#endif

KERNEL popcount(const u8 *packed, i32 *ones, i64 states, i64 row_bytes) {
    i64 state = (i64)blockIdx.x * 256 + threadIdx.x;
    if (state >= states) return;
    const u8 *row = packed + state * row_bytes;
    i32 total = 0;
#if WORDS
    for (i64 i = 0; i < row_bytes / 8; i++) total += __popcll(((const u64 *)row)[i]);
#else
    for (i64 i = 0; i < row_bytes; i++) total += __popc(row[i]);
#endif
    ones[state] = total;
}
