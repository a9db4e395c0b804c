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

// Stores four words of a row from ``byte`` on, up to ``end``, in as few writes as its alignment allows.
DEVICE void store_words(u8 *row, i64 row_bytes, i64 byte, i64 end, const u32 *words) {
    if (row_bytes % 16 == 0 && byte % 16 == 0 && byte + 16 <= end) {
        *(uint4 *)(row + byte) = make_uint4(words[0], words[1], words[2], words[3]);
        return;
    }
#pragma unroll
    for (int word = 0; word < 4; word++, byte += 4) {
        if (row_bytes % 4 == 0) {
            if (byte < end) *(u32 *)(row + byte) = words[word];
        } else {
            for (int i = 0; i < 4 && byte + i < end; i++) row[byte + i] = (u8)(words[word] >> 8 * i);
        }
    }
}

// A block packs the maps of up to ``chunk`` neurons of one image, a multiple of 32, as one stream. Then
// each warp takes 32 positions of 128 neurons from it, and turns rows of positions into rows of
// neurons. ``run`` is the size of a map.
#define STREAM_BYTES 16384
KERNEL pack_maps(const number *numbers, u8 *packed, i32 run, i64 outer_stride, i32 neurons,
                 i32 chunk, TEST) {
    SHARED u32 stream[STREAM_BYTES / 4 + 2];
    i32 chunks = (neurons + chunk - 1) / chunk, first = (i32)(blockIdx.x % chunks) * chunk;
    i64 image = blockIdx.x / chunks, row_bytes = (neurons + 7) / 8;
    i32 count = neurons - first < chunk ? neurons - first : chunk;
    const number *source = numbers + image * outer_stride + (i64)first * run;
    i32 skew = (i32)((u64)source % (BITS < 16 ? BITS : 16) / sizeof(number));
    pack_stream((u8 *)stream, source, count * run, skew, Neurons{run, neurons, first}, GIVEN_TEST);
    __syncthreads();
    i32 lane = threadIdx.x % 32, columns = (run + 31) / 32;
    i32 tiles = columns * ((count + 127) / 128);
    for (i32 tile = threadIdx.x / 32; tile < tiles; tile += 256 / 32) {
        i32 position = tile % columns * 32, begin = tile / columns * 128;
        u32 words[4];
#pragma unroll
        for (int word = 0; word < 4; word++) {
            i32 neuron = begin + 32 * word + lane;
            u32 row = neuron < count ? window(stream, skew + neuron * run + position) : 0;
            words[word] = transposed(row);
        }
        if (position + lane < run) {
            u8 *row = packed + (image * run + position + lane) * row_bytes;
            store_words(row, row_bytes, (first + begin) / 8, (first + count + 7) / 8, words);
        }
    }
}
