// Packing neurons that are apart in memory: NCHW and similar layouts.
#include "device.h"
#include "firing.h"

// Stores up to 64 bits of a row, in as few writes as its alignment allows.
DEVICE void store_word(u8 *row, i64 row_bytes, i64 byte, u64 word) {
    if (row_bytes % 8 == 0) {
        *(u64 *)(row + byte) = word;
    } else if (row_bytes % 4 == 0) {
        *(u32 *)(row + byte) = (u32)word;
        if (byte + 4 < row_bytes) *(u32 *)(row + byte + 4) = (u32)(word >> 32);
    } else {
        for (i64 i = byte; i < row_bytes && i < byte + 8; i++, word >>= 8) row[i] = (u8)word;
    }
}

// States are positions: ``run`` neighbouring numbers in each of ``outer`` images. The next neuron is
// ``neuron_stride`` further, the next image ``outer_stride`` (both counted in numbers). A thread packs
// 64 neurons of LANES neighbouring positions, which it reads with one instruction: 8 or 16 bytes, if
// all addresses are multiples of that; otherwise one number, with -DLANES=1.
#define READS (LANES > 4 ? 4 : 8)  // in flight: more reads of 8 or 16 lanes need too many registers

union Lanes {
    number numbers[LANES];
#if LANES * BITS == 128
    uint4 whole;
#elif LANES * BITS == 64 && LANES > 1
    u64 whole;
#endif
#if HALVES && LANES > 1
    u32 pairs[LANES / 2];
#endif
};

DEVICE Lanes read_lanes(const number *numbers) {
    Lanes lanes;
#if LANES * BITS == 128
    lanes.whole = read_once((const uint4 *)numbers);
#elif LANES > 1
    lanes.whole = *(const u64 *)numbers;
#else
    lanes.numbers[0] = *numbers;
#endif
    return lanes;
}

// Adds the bits of READS neurons, from bit ``begin`` on, to the word of each lane.
DEVICE void add_reads(u64 *words, const Lanes *read, i32 begin, i64 neuron, TEST) {
#if HALVES && LANES > 1
    u32 pairs[LANES / 2] = {};
#pragma unroll
    for (int i = 0; i < READS; i++) {
#pragma unroll
        for (int pair = 0; pair < LANES / 2; pair++) {
            pairs[pair] |= GREATER_PAIR(read[i].pairs[pair]) & 0x10001u << i;
        }
    }
#pragma unroll
    for (int i = 0; i < LANES; i++) words[i] |= (u64)(pairs[i / 2] >> (i % 2 * 16) & 0xffff) << begin;
#else
#pragma unroll
    for (int lane = 0; lane < LANES; lane++) {
        u32 bits = 0;
#pragma unroll
        for (int i = 0; i < READS; i++) {
            bits |= (u32)fires(read[i].numbers[lane], neuron + i, GIVEN_TEST) << i;
        }
        words[lane] |= (u64)bits << begin;
    }
#endif
}

// The groups of 64 neurons of the same positions are neighbouring blocks: those write to the same
// sectors of the result, which then leave the cache as a whole.
KERNEL pack_planes(const number *numbers, u8 *packed, i64 outer, i64 run, i64 outer_stride,
                   i64 neurons, i64 neuron_stride, i32 groups, TEST) {
    i64 thread = (i64)(blockIdx.x / groups) * 256 + threadIdx.x, per_image = run / LANES;
    i64 image = thread / per_image, position = thread % per_image * LANES;
    i64 first = (i64)(blockIdx.x % groups) * 64, row_bytes = (neurons + 7) / 8;
    if (image >= outer) return;
    const number *source = numbers + image * outer_stride + first * neuron_stride + position;
    i32 count = (i32)(neurons - first < 64 ? neurons - first : 64);
    u64 words[LANES] = {};
    i32 whole = count / READS * READS;
    for (i32 begin = 0; begin < whole; begin += READS) {
        Lanes read[READS];
#pragma unroll
        for (int i = 0; i < READS; i++) read[i] = read_lanes(source + (begin + i) * neuron_stride);
        add_reads(words, read, begin, first + begin, GIVEN_TEST);
    }
    for (i32 i = whole; i < count; i++) {
        Lanes read = read_lanes(source + i * neuron_stride);
#pragma unroll
        for (int lane = 0; lane < LANES; lane++) {
            words[lane] |= (u64)fires(read.numbers[lane], first + i, GIVEN_TEST) << i;
        }
    }
    u8 *row = packed + (image * run + position) * row_bytes;
#pragma unroll
    for (int lane = 0; lane < LANES; lane++) {
        store_word(row + lane * row_bytes, row_bytes, first / 8, words[lane]);
    }
}
