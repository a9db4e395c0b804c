// Packing images of small contiguous maps, one for each neuron (7 x 7, 14 x 14), also of odd sizes.
#include "device.h"
#include "firing.h"
#include "stream.h"

// Transposes 32 x 32 bits: lane i gives row i, and gets column i. Blocks of bits change places, half as
// large each time (Warren, Hacker's Delight, 7-3).
DEVICE u32 transposed(u32 row) {
    u32 mask = 0x0000ffffu, lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 16; half; half /= 2, mask ^= mask << half) {
        u32 other = __shfl_xor_sync(~0u, row, half);
        row = lane & half ? (row & ~mask) | (other >> half & mask) : (row & mask) | (other << half & ~mask);
    }
    return row;
}

// The 32 bits of the stream from ``bit`` on.
DEVICE u32 window(const u32 *stream, i32 bit) {
    u64 words = stream[bit / 32] | (u64)stream[bit / 32 + 1] << 32;
    return (u32)(words >> (bit % 32));
}

// Puts a word of a row into shared memory, where rows are ``row_bytes`` long, up to the row's end.
DEVICE void put_word(u8 *row, i32 row_bytes, i32 byte, u32 word) {
    if (row_bytes % 4 == 0) {
        *(u32 *)(row + byte) = word;
    } else {
        for (i32 i = byte; i < row_bytes && i < byte + 4; i++, word >>= 8) row[i] = (u8)word;
    }
}

// Copies rows from shared memory to rows that are ``target_bytes`` apart, by all threads of a block.
template <class Unit>
DEVICE void copy_rows(u8 *target, i64 target_bytes, const u8 *source, i32 rows, i32 row_bytes) {
    i32 units = row_bytes / (i32)sizeof(Unit);
    for (i32 i = threadIdx.x; i < rows * units; i += 256) {
        ((Unit *)(target + i / units * target_bytes))[i % units] = ((const Unit *)source)[i];
    }
}

// A block packs the maps of up to ``chunk`` neurons of one image as one stream. Then each warp takes 32
// positions of 32 neurons from it, and turns rows of positions into rows of neurons. ``run`` is the size
// of a map, ``chunk`` a multiple of 32.
#define STREAM_BYTES 16384
KERNEL pack_maps(const number *numbers, u8 *packed, i32 run, i64 outer_stride, i32 neurons,
                 i32 chunk, TEST) {
    SHARED u32 stream[STREAM_BYTES / 4 + 2];
    SHARED uint4 stage[STREAM_BYTES / 16];
    i32 chunks = (neurons + chunk - 1) / chunk, first = (i32)(blockIdx.x % chunks) * chunk;
    i64 image = blockIdx.x / chunks, all_bytes = (neurons + 7) / 8;
    i32 count = neurons - first < chunk ? neurons - first : chunk;
    const number *source = numbers + image * outer_stride + (i64)first * run;
    i32 skew = (i32)((u64)source % (BITS < 16 ? BITS : 16) / sizeof(number));
    pack_stream((u8 *)stream, source, count * run, skew, Neurons{run, neurons, first}, GIVEN_TEST);
    __syncthreads();
    u8 *rows = (u8 *)stage;
    i32 lane = threadIdx.x % 32, columns = (run + 31) / 32, row_bytes = (count + 7) / 8;
    i32 tiles = columns * ((count + 31) / 32);
    for (i32 tile = threadIdx.x / 32; tile < tiles; tile += 256 / 32) {
        i32 position = tile % columns * 32, begin = tile / columns * 32, neuron = begin + lane;
        u32 word = neuron < count ? window(stream, skew + neuron * run + position) : 0;
        word = transposed(word);
        position += lane;
        if (position < run) put_word(rows + position * row_bytes, row_bytes, begin / 8, word);
    }
    __syncthreads();
    u8 *target = packed + image * run * all_bytes + first / 8;
    // One chunk has whole rows, and they are one piece.
    bool whole = row_bytes == all_bytes;
    i32 number_of_rows = whole ? 1 : run, bytes = whole ? run * row_bytes : row_bytes;
    u64 together = (u64)target | (u64)bytes | (whole ? 0 : (u64)all_bytes);
    if (together % 16 == 0) {
        copy_rows<uint4>(target, all_bytes, rows, number_of_rows, bytes);
    } else if (together % 4 == 0) {
        copy_rows<u32>(target, all_bytes, rows, number_of_rows, bytes);
    } else {
        copy_rows<u8>(target, all_bytes, rows, number_of_rows, bytes);
    }
}
