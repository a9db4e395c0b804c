// Packing: one bit for each neuron that fires. Each activation is read once, in its own layout.
//
// Compiled with -DBITS=8, 16, 32 or 64 (the width of a number), -DTRANSFORMED=0 or 1 (whether keys
// differ from the bits themselves) and -DPER_NEURON=0 or 1. A number fires if low <= key <= high, with
// key = bits ^ bias ^ ((bits >> (BITS - 1)) & flip), as in tensorstate_gpu/_arrays/thresholds.py.
// With -DHALVES=1 (float16) or 2 (bfloat16) it fires if, as a float, it is greater than the number
// whose bits are ``low``: the GPU compares two of them at a time.
#include "device.h"

#if BITS == 8
typedef i8 number;
#elif BITS == 16
typedef i16 number;
#elif BITS == 32
typedef i32 number;
#else
typedef i64 number;
#endif

#ifndef HALVES
#define HALVES 0
#endif
#if HALVES == 1
#define GREATER_PAIR(pair) greater_float16(pair, (u16)low * 0x10001u)
#else
#define GREATER_PAIR(pair) greater_bfloat16(pair, (u16)low * 0x10001u)
#endif

#define TEST number low, number high, number bias, number flip, const number *lows, const number *highs
#define GIVEN_TEST low, high, bias, flip, lows, highs

DEVICE bool fires(number bits, i64 neuron, TEST) {
#if HALVES
    return GREATER_PAIR((u16)bits) & 1;
#else
    number key = bits;
#if TRANSFORMED
    key = bits ^ bias ^ ((bits >> (BITS - 1)) & flip);
#endif
#if PER_NEURON
    return lows[neuron] <= key && key <= highs[neuron];
#else
    return low <= key && key <= high;
#endif
#endif
}

// ---- contiguous rows ---------------------------------------------------------------------------

// Eight neighbouring numbers: BITS bytes, at an address that is a multiple of min(BITS, 16).
union Eight {
    number numbers[8];
#if BITS == 8
    u64 whole;
#else
    uint4 quarters[BITS / 16];
#endif
};

DEVICE Eight read_eight(const number *numbers) {
    Eight eight;
#if BITS == 8
    eight.whole = *(const u64 *)numbers;
#else
#pragma unroll
    for (int i = 0; i < BITS / 16; i++) eight.quarters[i] = read_once((const uint4 *)numbers + i);
#endif
    return eight;
}

DEVICE u32 pack_eight(const Eight &eight, i64 neuron, TEST) {
#if HALVES
    const uint4 &pairs = eight.quarters[0];
    u32 bits = GREATER_PAIR(pairs.x) & 0x00020001u;
    bits |= GREATER_PAIR(pairs.y) & 0x00080004u;
    bits |= GREATER_PAIR(pairs.z) & 0x00200010u;
    bits |= GREATER_PAIR(pairs.w) & 0x00800040u;
    return (bits | bits >> 16) & 255;
#else
    u32 byte = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) byte |= (u32)fires(eight.numbers[i], neuron + i, GIVEN_TEST) << i;
    return byte;
#endif
}

// Packs contiguous rows of whole bytes: byte i of the result is computed from numbers 8 * i on.
#define BYTES_PER_THREAD 4
KERNEL pack_whole_bytes(const number *numbers, u8 *packed, i64 bytes, i64 row_bytes, TEST) {
    i64 first = (i64)blockIdx.x * (BYTES_PER_THREAD * 256) + threadIdx.x;
    Eight eight[BYTES_PER_THREAD];
#pragma unroll
    for (int i = 0; i < BYTES_PER_THREAD; i++) {
        i64 byte = first + 256 * i;
        if (byte < bytes) eight[i] = read_eight(numbers + 8 * byte);
    }
#pragma unroll
    for (int i = 0; i < BYTES_PER_THREAD; i++) {
        i64 byte = first + 256 * i;
        i64 neuron = PER_NEURON ? byte % row_bytes * 8 : 0;
        if (byte < bytes) packed[byte] = (u8)pack_eight(eight[i], neuron, GIVEN_TEST);
    }
}

// Packs contiguous rows of any number of neurons. A block packs ``block_rows`` rows, a multiple of 8,
// as one stream of bits in shared memory, and extracts the rows from it.
#define STREAM_BYTES 4096
KERNEL pack_rows(const number *numbers, u8 *packed, i64 states, i32 neurons, i32 block_rows, TEST) {
    SHARED u8 stream[STREAM_BYTES + 1];
    i64 first = (i64)blockIdx.x * block_rows;
    i32 rows = (i32)(states - first < block_rows ? states - first : block_rows);
    i32 total = rows * neurons;
    const number *tile = numbers + first * neurons;
#pragma unroll 4
    for (i32 byte = threadIdx.x; byte < total / 8; byte += 256) {
        stream[byte] = (u8)pack_eight(read_eight(tile + 8 * byte), 0, GIVEN_TEST);
    }
    if (threadIdx.x == 0 && total % 8) {
        u32 bits = 0;
        for (i32 i = total / 8 * 8; i < total; i++) {
            bits |= (u32)fires(tile[i], 0, GIVEN_TEST) << (i % 8);
        }
        stream[total / 8] = (u8)bits;
    }
    __syncthreads();
    i32 row_bytes = (neurons + 7) / 8;
    u8 *target = packed + first * row_bytes;
    for (i32 byte = threadIdx.x; byte < rows * row_bytes; byte += 256) {
        i32 row = byte / row_bytes, neuron = byte % row_bytes * 8;
        i32 bit = row * neurons + neuron, left = neurons - neuron;
        u32 bits = stream[bit / 8] | (u32)stream[bit / 8 + 1] << 8;
        target[byte] = (u8)(bits >> (bit % 8) & (left < 8 ? (1u << left) - 1 : 255u));
    }
}

// ---- neurons apart in memory: NCHW and similar layouts -----------------------------------------

// Stores up to 64 bits of a row; with one write if rows are a multiple of 8 bytes.
DEVICE void store_word(u8 *row, i64 row_bytes, i64 byte, u64 word) {
    if (row_bytes % 8 == 0) {
        *(u64 *)(row + byte) = word;
        return;
    }
    for (i64 i = byte; i < row_bytes && i < byte + 8; i++, word >>= 8) row[i] = (u8)word;
}

// States are positions: ``run`` neighbouring numbers in each of ``outer`` images. The next neuron is
// ``neuron_stride`` further, the next image ``outer_stride`` (both counted in numbers). A thread packs
// 64 neurons of LANES neighbouring positions, which it reads with one instruction: 16 bytes with
// -DLANES=128/BITS, if all addresses are multiples of 16; otherwise one number, with -DLANES=1.
#ifndef LANES
#define LANES 1
#endif
#define READS (LANES > 4 ? 4 : 8)  // in flight: more reads of 8 or 16 lanes need too many registers

union Lanes {
    number numbers[LANES];
#if LANES > 1
    uint4 whole;
#endif
};

DEVICE Lanes read_lanes(const number *numbers) {
    Lanes lanes;
#if LANES > 1
    lanes.whole = read_once((const uint4 *)numbers);
#else
    lanes.numbers[0] = *numbers;
#endif
    return lanes;
}

// Adds the bits of READS neurons, from bit ``begin`` on, to the word of each lane.
DEVICE void add_reads(u64 *words, const Lanes *read, i32 begin, i64 neuron, TEST) {
#if HALVES && LANES > 1
    u32 pairs[4] = {};
#pragma unroll
    for (int i = 0; i < READS; i++) {
        pairs[0] |= GREATER_PAIR(read[i].whole.x) & 0x10001u << i;
        pairs[1] |= GREATER_PAIR(read[i].whole.y) & 0x10001u << i;
        pairs[2] |= GREATER_PAIR(read[i].whole.z) & 0x10001u << i;
        pairs[3] |= GREATER_PAIR(read[i].whole.w) & 0x10001u << i;
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

KERNEL pack_planes(const number *numbers, u8 *packed, i64 outer, i64 run, i64 outer_stride,
                   i64 neurons, i64 neuron_stride, TEST) {
    i64 thread = (i64)blockIdx.x * 256 + threadIdx.x, per_image = run / LANES;
    i64 image = thread / per_image, position = thread % per_image * LANES;
    i64 first = (i64)blockIdx.y * 64, row_bytes = (neurons + 7) / 8;
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

// Like pack_planes, for images of contiguous maps that are too small for vectors, or whose size does
// not fit them (7 x 7): a block first copies the maps of 64 neurons of one image into shared memory.
#define MAP_BYTES 32768
KERNEL pack_maps(const number *numbers, u8 *packed, i32 run, i64 outer_stride, i64 neurons, TEST) {
    SHARED uint4 buffer[MAP_BYTES / 16 + 1];
    i64 first = (i64)blockIdx.y * 64, image = blockIdx.x, row_bytes = (neurons + 7) / 8;
    i32 count = (i32)(neurons - first < 64 ? neurons - first : 64);
    i32 total = count * run;
    const number *source = numbers + image * outer_stride + first * run;
    // Offsets from a multiple of 16 are the same in shared memory as in global memory.
    i32 skew = (i32)((u64)source % 16 / sizeof(number));
    number *maps = (number *)buffer + skew;
    const i32 each = 128 / BITS;
    i32 head = skew ? each - skew : 0;
    if (head > total) head = total;
    i32 vectors = (total - head) / each;
    for (i32 i = threadIdx.x; i < head; i += 256) maps[i] = source[i];
#pragma unroll 4
    for (i32 i = threadIdx.x; i < vectors; i += 256) {
        ((uint4 *)(maps + head))[i] = read_once((const uint4 *)(source + head) + i);
    }
    for (i32 i = head + vectors * each + threadIdx.x; i < total; i += 256) maps[i] = source[i];
    __syncthreads();
    // A thread packs 8 neurons of one position. Neighbouring threads write neighbouring bytes.
    i32 bytes = (count + 7) / 8;
    for (i32 i = threadIdx.x; i < run * bytes; i += 256) {
        i32 position = i / bytes, begin = i % bytes * 8;
        u32 byte = 0;
#pragma unroll
        for (int k = 0; k < 8; k++) {
            if (begin + k < count) {
                number bits = maps[(begin + k) * run + position];
                byte |= (u32)fires(bits, first + begin + k, GIVEN_TEST) << k;
            }
        }
        packed[(image * run + position) * row_bytes + (first + begin) / 8] = (u8)byte;
    }
}

// ---- everything else ---------------------------------------------------------------------------

// Packs with any strides (counted in bytes): a thread packs one byte of one state. ``shape_i`` and
// ``stride_i`` are those of the outer axes, the last axis first; missing axes have length 1.
DEVICE i64 outer_offset(i64 index, i64 length, i64 stride, i64 *rest) {
    *rest = index / length;
    return index % length * stride;
}

KERNEL pack_strided(const u8 *numbers, u8 *packed, i64 states, i64 run, i64 run_stride, i64 neurons,
                    i64 neuron_stride, i64 shape_0, i64 shape_1, i64 shape_2, i64 shape_3,
                    i64 shape_4, i64 shape_5, i64 stride_0, i64 stride_1, i64 stride_2,
                    i64 stride_3, i64 stride_4, i64 stride_5, TEST) {
    i64 row_bytes = (neurons + 7) / 8, thread = (i64)blockIdx.x * 256 + threadIdx.x;
    i64 state = thread / row_bytes, first = thread % row_bytes * 8;
    if (state >= states) return;
    i64 index = state / run;
    const u8 *source = numbers + state % run * run_stride + first * neuron_stride;
    source += outer_offset(index, shape_0, stride_0, &index);
    source += outer_offset(index, shape_1, stride_1, &index);
    source += outer_offset(index, shape_2, stride_2, &index);
    source += outer_offset(index, shape_3, stride_3, &index);
    source += outer_offset(index, shape_4, stride_4, &index);
    source += outer_offset(index, shape_5, stride_5, &index);
    u32 byte = 0;
    for (i64 i = 0; i < 8 && first + i < neurons; i++) {
        number bits = *(const number *)(source + i * neuron_stride);
        byte |= (u32)fires(bits, first + i, GIVEN_TEST) << i;
    }
    packed[thread] = (u8)byte;
}
