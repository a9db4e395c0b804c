// Unpacking packed rows into bools, and counting their set bits.
#include "device.h"

// With -DINDEX=32 all bools are fewer than 2**32: divisions by 64-bit numbers are several times slower.
#if INDEX == 32
typedef u32 uindex;
#else
typedef u64 uindex;
#endif

// Returns bits 0..3 of a nibble as four bytes, 0 or 1 each: multiplying by 0x00204081 puts a copy of
// bit i at bit 8 * i.
DEVICE u32 spread(u32 nibble) { return nibble * 0x00204081u & 0x01010101u; }

DEVICE uint4 spread_16(u32 bits) {
    return make_uint4(spread(bits & 15), spread(bits >> 4 & 15), spread(bits >> 8 & 15),
                      spread(bits >> 12));
}

// Returns bits ``begin`` to ``begin + take`` of a row, at most 16; reads only bytes that have some.
DEVICE u32 bits_of_row(const u8 *row, i64 begin, i32 take) {
    const u8 *bytes = row + begin / 8;
    i32 shift = (i32)(begin % 8), last = shift + take;
    u32 bits = bytes[0];
    if (last > 8) bits |= (u32)bytes[1] << 8;
    if (last > 16) bits |= (u32)bytes[2] << 16;
    return bits >> shift & ((1u << take) - 1);
}

// Unpacks rows of any number of neurons. A thread writes 16 neighbouring bools, also across rows.
KERNEL unpack(const u8 *packed, u8 *bools, i64 states, i64 neurons) {
    uindex first = ((uindex)blockIdx.x * 256 + threadIdx.x) * 16, total = (uindex)(states * neurons);
    if (first >= total) return;
    i64 row_bytes = (neurons + 7) / 8, neuron = (i64)(first % (uindex)neurons);
    const u8 *row = packed + (i64)(first / (uindex)neurons) * row_bytes;
    u32 bits = 0;
    i32 count = total - first < 16 ? (i32)(total - first) : 16;
    for (i32 done = 0; done < count; row += row_bytes, neuron = 0) {
        i32 take = (i32)(neurons - neuron < count - done ? neurons - neuron : count - done);
        bits |= bits_of_row(row, neuron, take) << done;
        done += take;
    }
    uint4 sixteen = spread_16(bits);
    if (count == 16) {
        *(uint4 *)(bools + first) = sixteen;
        return;
    }
    for (i32 i = 0; i < count; i++) bools[first + i] = (u8)(bits >> i & 1);
}

// One thread counts one row. With -DWORDS=1 it reads 64-bit words: all rows are then aligned to 8
// bytes, and multiples of 8 bytes long.
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
