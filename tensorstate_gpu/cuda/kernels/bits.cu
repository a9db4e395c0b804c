// The transpose of packed rows, and how many bits differ between two rows.
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

#define TILE 64   // rows of each side that a block compares
#define STRIP 16  // words of them at a time
#define EACH 4    // a thread has 4 x 4 pairs

DEVICE void read_strip(u32 (*strip)[TILE + 1], const u32 *rows, i64 first, i64 count, i32 from, i32 words) {
#pragma unroll
    for (i32 i = 0; i < EACH; i++) {
        i32 at = threadIdx.x + 256 * i, row = at / STRIP, word = at % STRIP;
        bool there = first + row < count && from + word < words;
        strip[word][row] = there ? rows[(first + row) * words + from + word] : 0;
    }
}

// Counts the bits that differ, for each pair of rows; ``above``: only where the column is greater.
KERNEL distances(const u32 *one, const u32 *other, i32 *result, i64 rows, i64 columns, i32 words,
                 i32 above) {
    SHARED u32 left[STRIP][TILE + 1], right[STRIP][TILE + 1];
    i64 row = (i64)blockIdx.y * TILE, column = (i64)blockIdx.x * TILE;
    if (above && column < row) return;
    i32 y = threadIdx.x / 16, x = threadIdx.x % 16;
    i32 differing[EACH][EACH] = {};
    for (i32 from = 0; from < words; from += STRIP) {
        read_strip(left, one, row, rows, from, words);
        read_strip(right, other, column, columns, from, words);
        __syncthreads();
#pragma unroll
        for (i32 word = 0; word < STRIP; word++) {
#pragma unroll
            for (i32 i = 0; i < EACH; i++) {
#pragma unroll
                for (i32 j = 0; j < EACH; j++) {
                    differing[i][j] += __popc(left[word][y + 16 * i] ^ right[word][x + 16 * j]);
                }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (i32 i = 0; i < EACH; i++) {
#pragma unroll
        for (i32 j = 0; j < EACH; j++) {
            i64 at = row + y + 16 * i, to = column + x + 16 * j;
            if (at < rows && to < columns && (!above || to > at)) result[at * columns + to] = differing[i][j];
        }
    }
}
