// How many bits differ between two rows, or are set in both, for each pair of rows.
#include "device.h"

// With -DEACH=1 to 4, a thread has EACH x EACH pairs.
#define TILE (16 * EACH)  // rows of each side that a block compares
#define STRIP 16          // words of them at a time

struct Differing {
    DEVICE u32 of(u32 one, u32 other) { return one ^ other; }
};
struct Both {
    DEVICE u32 of(u32 one, u32 other) { return one & other; }
};

DEVICE void read_strip(u32 (*strip)[TILE + 1], const u32 *rows, i64 first, i64 count, i32 from, i32 words) {
#pragma unroll
    for (i32 i = 0; i < EACH; i++) {
        i32 at = threadIdx.x + 256 * i, row = at / STRIP, word = at % STRIP;
        bool there = first + row < count && from + word < words;
        strip[word][row] = there ? rows[(first + row) * words + from + word] : 0;
    }
}

template <class Bits>
DEVICE void add_strips(i32 (*sums)[EACH], u32 (*left)[TILE + 1], u32 (*right)[TILE + 1], i32 y, i32 x) {
#pragma unroll
    for (i32 word = 0; word < STRIP; word++) {
#pragma unroll
        for (i32 i = 0; i < EACH; i++) {
#pragma unroll
            for (i32 j = 0; j < EACH; j++) {
                sums[i][j] += __popc(Bits::of(left[word][y + 16 * i], right[word][x + 16 * j]));
            }
        }
    }
}

// Writes the bits that differ, for each row of one and each of other.
KERNEL distances(const u32 *one, const u32 *other, i32 *result, i64 rows, i64 columns, i32 words) {
    SHARED u32 left[STRIP][TILE + 1], right[STRIP][TILE + 1];
    i64 row = (i64)blockIdx.y * TILE, column = (i64)blockIdx.x * TILE;
    i32 y = threadIdx.x / 16, x = threadIdx.x % 16;
    i32 differing[EACH][EACH] = {};
    for (i32 from = 0; from < words; from += STRIP) {
        read_strip(left, one, row, rows, from, words);
        read_strip(right, other, column, columns, from, words);
        __syncthreads();
        add_strips<Differing>(differing, left, right, y, x);
        __syncthreads();
    }
#pragma unroll
    for (i32 i = 0; i < EACH; i++) {
#pragma unroll
        for (i32 j = 0; j < EACH; j++) {
            i64 at = row + y + 16 * i, to = column + x + 16 * j;
            if (at < rows && to < columns) result[at * columns + to] = differing[i][j];
        }
    }
}

// Adds the bits that are set in both to sums[i, j] and sums[j, i], for each two rows, which may be the same. Few
// rows are few tiles, and long: ``parts`` blocks share each, of which one compares ``share`` words, a multiple of
// STRIP.
KERNEL add_both(const u32 *rows, u64 *sums, i64 count, i32 words, i32 parts, i32 share) {
    SHARED u32 left[STRIP][TILE + 1], right[STRIP][TILE + 1];
    i64 row = (i64)blockIdx.y * TILE, column = (i64)(blockIdx.x / parts) * TILE;
    if (column < row) return;
    i32 y = threadIdx.x / 16, x = threadIdx.x % 16;
    i32 first = (i32)(blockIdx.x % parts) * share, end = first + share < words ? first + share : words;
    i32 both[EACH][EACH] = {};
    for (i32 from = first; from < end; from += STRIP) {
        read_strip(left, rows, row, count, from, words);
        read_strip(right, rows, column, count, from, words);
        __syncthreads();
        add_strips<Both>(both, left, right, y, x);
        __syncthreads();
    }
#pragma unroll
    for (i32 i = 0; i < EACH; i++) {
#pragma unroll
        for (i32 j = 0; j < EACH; j++) {
            i64 at = row + y + 16 * i, to = column + x + 16 * j;
            if (at > to || to >= count || !both[i][j]) continue;
            atomicAdd(sums + at * count + to, (u64)both[i][j]);
            if (at < to) atomicAdd(sums + to * count + at, (u64)both[i][j]);
        }
    }
}
