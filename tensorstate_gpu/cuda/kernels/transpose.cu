// The transpose of packed rows: a row of bits for each neuron.
#include "device.h"

// Returns word ``word`` of a row; bytes beyond the row are 0. With -DWORDS=1 all rows consist of aligned
// words.
DEVICE u32 word_of_row(const u8 *row, i32 word, i32 row_bytes) {
#if WORDS
    return ((const u32 *)row)[word];
#else
    u32 bits = 0;
#pragma unroll
    for (i32 i = 0; i < 4; i++) {
        if (4 * word + i < row_bytes) bits |= (u32)row[4 * word + i] << (8 * i);
    }
    return bits;
#endif
}

// Writes a row of bits for each neuron: bit i is that of state i. A block transposes 1024 states of 32
// neurons. A bitmap has ``words`` words; bits beyond the last state are 0.
KERNEL transpose(const u8 *packed, u32 *bitmaps, i64 states, i32 row_bytes, i64 words) {
    SHARED u32 tile[32][33];  // of neurons, words
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    i64 first = (i64)blockIdx.x * 32;
    for (u32 k = warp; k < 32; k += 8) {
        i64 state = (first + k) * 32 + lane;
        u32 word = 0, mine = 0;
        if (state < states) word = word_of_row(packed + state * row_bytes, (i32)blockIdx.y, row_bytes);
#pragma unroll
        for (u32 bit = 0; bit < 32; bit++) {
            u32 votes = __ballot_sync(~0u, word >> bit & 1);
            if (lane == bit) mine = votes;
        }
        tile[lane][k] = mine;
    }
    __syncthreads();
    for (u32 k = warp; k < 32; k += 8) {
        i64 neuron = 32 * (i64)blockIdx.y + k;
        if (neuron < 8 * (i64)row_bytes && first + lane < words) {
            bitmaps[neuron * words + first + lane] = tile[k][lane];
        }
    }
}
