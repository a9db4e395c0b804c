// Packing neurons that are apart in memory: NCHW and similar layouts.
#include "device.h"
#include "firing.h"

// States are positions: ``run`` neighbouring numbers in each of ``outer`` images. The next neuron is
// ``neuron_stride`` further, the next image ``outer_stride`` (both counted in numbers). A thread packs
// 64 neurons of LANES neighbouring positions, which it reads with one instruction: 8 or 16 bytes, if
// all addresses are multiples of that; otherwise one number, with -DLANES=1.
// Reads in flight; more of 8 or 16 lanes need too many registers, unless four lanes share one.
#define READS (LANES > 4 && (BITS > 8 || PER_NEURON) ? 4 : 8)

union Lanes {
    number numbers[LANES];
#if LANES * BITS == 128
    uint4 whole;
#elif LANES * BITS == 64 && LANES > 1
    u64 whole;
#endif
#if HALVES && LANES > 1
    u32 pairs[LANES / 2];
#elif BITS == 8 && LANES > 1
    u32 fours[LANES / 4];
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
#elif BITS == 8 && LANES > 1 && !PER_NEURON
    u32 fours[LANES / 4] = {};
#pragma unroll
    for (int i = 0; i < READS; i++) {
#pragma unroll
        for (int four = 0; four < LANES / 4; four++) {
            fours[four] |= fires_of_four(read[i].fours[four], GIVEN_TEST) >> (7 - i);
        }
    }
#pragma unroll
    for (int i = 0; i < LANES; i++) words[i] |= (u64)(fours[i / 4] >> (i % 4 * 8) & 255) << begin;
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

// Packs the 64 neurons from ``first`` on, or as many as there are, of LANES positions.
DEVICE void pack_words(u64 *words, const number *source, i32 count, i64 neuron_stride, i64 first, TEST) {
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
}

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

// Where a word waits in shared memory: the words of a warp, which are LANES * groups apart, in
// different banks.
DEVICE i32 waiting(i32 word) { return word + word / 16; }

// A block packs ``groups`` groups of 64 neurons, 1 to 4, for the same positions. It collects the words in
// shared memory and writes the rows in one piece: each write to a part of a sector of 32 bytes costs as
// much as one to all of it, or as a read.
KERNEL pack_planes(const number *numbers, u8 *packed, i64 outer, i64 run, i64 outer_stride,
                   i64 neurons, i64 neuron_stride, i32 groups, i32 blocks_of_neurons, TEST) {
    SHARED u64 stage[256 * LANES * 17 / 16];
    i32 threads = 256 / groups, place = threadIdx.x % threads, group = threadIdx.x / threads;
    i64 states = outer * run, row_bytes = (neurons + 7) / 8;
    i64 neurons_of_block = (i64)(blockIdx.x % blocks_of_neurons) * groups * 64;
    i64 states_of_block = (i64)(blockIdx.x / blocks_of_neurons) * threads * LANES;
    i64 state = states_of_block + place * LANES, first = neurons_of_block + group * 64;
    i64 image = state / run, position = state % run;
    if (group < groups && state < states && first < neurons) {
        const number *source = numbers + image * outer_stride + first * neuron_stride + position;
        u64 words[LANES] = {};
        i32 count = (i32)(neurons - first < 64 ? neurons - first : 64);
        pack_words(words, source, count, neuron_stride, first, GIVEN_TEST);
#pragma unroll
        for (int i = 0; i < LANES; i++) stage[waiting((place * LANES + i) * groups + group)] = words[i];
    }
    __syncthreads();
    for (i32 word = threadIdx.x; word < threads * LANES * groups; word += 256) {
        i64 row = states_of_block + word / groups;
        i64 byte = neurons_of_block / 8 + word % groups * 8;
        if (row < states && byte < row_bytes) {
            store_word(packed + row * row_bytes, row_bytes, byte, stage[waiting(word)]);
        }
    }
}
