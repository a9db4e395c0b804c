// Counting rows of up to 8 bytes in a hash table: open addressing, linear probing, the row as key.
//
// Compiled with -DWIDTH=1..8, the number of bytes in a row. A key of all ones marks an empty slot. The row of all ones, which is possible only with 8 bytes, is
// counted in one extra slot behind the others. Counts are 64-bit, and exact: the key of a slot never
// changes once it is set. The code that launches these kernels keeps the table at most half full.
#include "device.h"

#define EMPTY (~0ull)

// A block first counts its rows in a separate small table, so that frequent states do not contend
// for one place in memory. Rows that find no slot in a few steps go to the large table directly.
#define BLOCK_SLOTS 1024
#define BLOCK_PROBES 4

DEVICE u64 read_row(const u8 *rows, i64 index) {
#if WIDTH == 8
    return ((const u64 *)rows)[index];
#elif WIDTH == 4
    return ((const u32 *)rows)[index];
#elif WIDTH == 2
    return ((const u16 *)rows)[index];
#else
    u64 key = 0;
#pragma unroll
    for (int i = 0; i < WIDTH; i++) key |= (u64)rows[index * WIDTH + i] << (8 * i);
    return key;
#endif
}

DEVICE u64 hash(u64 key) {
    u64 factor = 0x9E3779B97F4A7C15ull;
    key ^= 0xA0761D6478BD642Full;
    return key * factor ^ __umul64hi(key, factor);
}

DEVICE void add_to_table(u64 *keys, u64 *counts, u64 *used, u64 mask, u64 key, u64 number) {
    if (key == EMPTY) {
        atomicAdd(counts + mask + 1, number);
        return;
    }
    u64 slot = hash(key) & mask;
    while (true) {
        u64 there = keys[slot];
        if (there == EMPTY) {
            there = atomicCAS(keys + slot, EMPTY, key);
            if (there == EMPTY) {
                atomicAdd(used, 1ull);
                there = key;
            }
        }
        if (there == key) {
            atomicAdd(counts + slot, number);
            return;
        }
        slot = (slot + 1) & mask;
    }
}

DEVICE bool add_to_block(u64 *keys, u32 *counts, u64 key, u32 number) {
    if (key == EMPTY) return false;
    u32 slot = (u32)(hash(key) >> 32) % BLOCK_SLOTS;
    for (int probe = 0; probe < BLOCK_PROBES; probe++) {
        u64 there = atomicCAS(keys + slot, EMPTY, key);
        if (there == EMPTY || there == key) {
            atomicAdd(counts + slot, number);
            return true;
        }
        slot = (slot + 1) % BLOCK_SLOTS;
    }
    return false;
}

// Counts ``block_rows`` rows in each block, fewer than 2**32. ``each`` is 1, or -1 to subtract rows
// that were counted: their keys and slots stay.
KERNEL count_rows(const u8 *rows, i64 states, i64 block_rows, u64 *keys, u64 *counts, u64 *used,
                  u64 mask, i64 each) {
    SHARED u64 block_keys[BLOCK_SLOTS];
    SHARED u32 block_counts[BLOCK_SLOTS];
    for (int i = threadIdx.x; i < BLOCK_SLOTS; i += 256) {
        block_keys[i] = EMPTY;
        block_counts[i] = 0;
    }
    __syncthreads();
    i64 begin = (i64)blockIdx.x * block_rows;
    i64 end = begin + block_rows < states ? begin + block_rows : states;
    for (i64 first = begin; first < end; first += 256) {
        i64 index = first + threadIdx.x;
        u32 here = __ballot_sync(~0u, index < end);
        if (index >= end) continue;
        u64 key = read_row(rows, index);
        u32 equal = __match_any_sync(here, key);
        if ((int)(threadIdx.x % 32) != __ffs(equal) - 1) continue;  // another lane counts this row too
        u32 number = __popc(equal);
        if (!add_to_block(block_keys, block_counts, key, number)) {
            add_to_table(keys, counts, used, mask, key, number * (u64)each);
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < BLOCK_SLOTS; i += 256) {
        if (block_counts[i]) {
            add_to_table(keys, counts, used, mask, block_keys[i], block_counts[i] * (u64)each);
        }
    }
}

// Counts rows that have a weight each, such as the rows of a histogram; ``each`` as above.
KERNEL count_weighted(const u8 *rows, const i64 *weights, i64 states, u64 *keys, u64 *counts,
                      u64 *used, u64 mask, i64 each) {
    i64 index = (i64)blockIdx.x * 256 + threadIdx.x;
    if (index >= states) return;
    u64 number = (u64)weights[index] * (u64)each;
    add_to_table(keys, counts, used, mask, read_row(rows, index), number);
}

// Moves a table to a larger, empty one. ``old_slots`` includes the extra slot.
KERNEL move_slots(const u64 *old_keys, const u64 *old_counts, i64 old_slots, u64 *keys, u64 *counts,
                  u64 *used, u64 mask) {
    i64 slot = (i64)blockIdx.x * 256 + threadIdx.x;
    if (slot >= old_slots || !old_counts[slot]) return;
    add_to_table(keys, counts, used, mask, old_keys[slot], old_counts[slot]);
}

// Lists the rows that have been counted, in no order. ``slots`` includes the extra slot.
KERNEL entries(const u64 *keys, const u64 *counts, i64 slots, u8 *rows, i64 *numbers, u64 *found) {
    i64 slot = (i64)blockIdx.x * 256 + threadIdx.x;
    if (slot >= slots || !counts[slot]) return;
    u64 key = keys[slot], at = atomicAdd(found, 1ull);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) rows[at * WIDTH + i] = (u8)(key >> (8 * i));
    numbers[at] = (i64)counts[slot];
}
