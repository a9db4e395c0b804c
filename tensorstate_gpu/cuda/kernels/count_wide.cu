// Counting rows of more than 8 bytes in a hash table whose slots hold row numbers.
//
// A slot is 0, or the high half of a row's hash << 32 | (the row's number + 1). Numbers below ``kept``
// are rows that the table stores, higher ones are rows of the current batch. Neither change while a
// kernel runs, so the row of a slot that is set can be read and compared. Rows are compared byte by
// byte. After each batch, its new rows are copied to the rows that the table stores.
// The code that launches these kernels keeps the table at most half full, and kept + states below
// 2**32 - 1.
#include "device.h"

DEVICE u64 load_bytes(const u8 *bytes, i32 count) {
    u64 word = 0;
    for (i32 i = 0; i < count; i++) word |= (u64)bytes[i] << (8 * i);
    return word;
}

// Returns eight bytes of a row. With -DWORDS=1 all rows are aligned to 8 bytes, and multiples of 8
// bytes long.
DEVICE u64 word_of(const u8 *row, i32 width, i32 word) {
#if WORDS
    return ((const u64 *)row)[word];
#else
    i32 left = width - 8 * word;
    return load_bytes(row + 8 * word, left < 8 ? left : 8);
#endif
}

DEVICE u64 hash_row(const u8 *row, i32 width) {
    u64 state = 0x9E3779B97F4A7C15ull;
    for (i32 word = 0; word < (width + 7) / 8; word++) {
        u64 value = word_of(row, width, word), mixed = value ^ 0xA0761D6478BD642Full;
        // Mixes in the value and the state too: a product with 0 would lose the state.
        state = (mixed * state ^ __umul64hi(mixed, state)) ^ value ^ (state << 23 | state >> 41);
    }
    return state * 0xC2B2AE3D27D4EB4Full ^ __umul64hi(state, 0xC2B2AE3D27D4EB4Full);
}

DEVICE bool rows_equal(const u8 *one, const u8 *other, i32 width) {
    for (i32 word = 0; word < (width + 7) / 8; word++) {
        if (word_of(one, width, word) != word_of(other, width, word)) return false;
    }
    return true;
}

// Counts a batch. ``weights`` is 0 if each row counts once. ``fresh`` receives the slots of new rows.
// ``each`` is 1, or -1 to subtract rows that were counted: the table still stores them.
KERNEL count_batch(const u8 *batch, const i64 *weights, i64 states, i32 width, const u8 *rows,
                   const u64 *kept, u64 *slots, u64 *counts, u64 *fresh, u64 *fresh_count,
                   u64 mask, i64 each) {
    i64 index = (i64)blockIdx.x * 256 + threadIdx.x;
    if (index >= states) return;
    const u8 *row = batch + index * width;
    u64 known = *kept, hashed = hash_row(row, width);
    u64 tag = hashed >> 32 << 32, mine = tag | (known + (u64)index + 1), slot = hashed & mask;
    u64 number = (weights ? (u64)weights[index] : 1) * (u64)each;
    while (true) {
        u64 there = slots[slot];
        if (there == 0) {
            there = atomicCAS(slots + slot, 0ull, mine);
            if (there == 0) {
                fresh[atomicAdd(fresh_count, 1ull)] = slot;
                there = mine;
            }
        }
        bool equal = there == mine;
        if (!equal && there >> 32 << 32 == tag) {
            u64 other = (there & 0xFFFFFFFFull) - 1;
            const u8 *its_row = other < known ? rows + other * width : batch + (other - known) * width;
            equal = rows_equal(row, its_row, width);
        }
        if (equal) {
            atomicAdd(counts + slot, number);
            return;
        }
        slot = (slot + 1) & mask;
    }
}

// Copies the new rows to the rows that the table stores; one thread for each byte.
KERNEL keep_fresh(const u8 *batch, i32 width, u8 *rows, const u64 *kept, const u64 *slots,
                  const u64 *fresh, const u64 *fresh_count) {
    i64 thread = (i64)blockIdx.x * 256 + threadIdx.x, at = thread / width, byte = thread % width;
    if ((u64)at >= *fresh_count) return;
    u64 known = *kept, index = (slots[fresh[at]] & 0xFFFFFFFFull) - 1 - known;
    rows[(known + at) * width + byte] = batch[index * width + byte];
}

// Then lets the slots refer to the copies.
KERNEL point_to_kept(const u64 *kept, u64 *slots, const u64 *fresh, const u64 *fresh_count) {
    i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    if ((u64)at >= *fresh_count) return;
    u64 slot = fresh[at];
    slots[slot] = slots[slot] >> 32 << 32 | (*kept + (u64)at + 1);
}

// Then adds their number to ``kept``. One thread.
KERNEL note_kept(u64 *kept, u64 *fresh_count) {
    if (blockIdx.x || threadIdx.x) return;
    *kept += *fresh_count;
    *fresh_count = 0;
}

// Moves the slots of a table to a larger, empty one. The rows are not moved.
KERNEL place_slots(const u64 *old_slots, const u64 *old_counts, i64 old_size, const u8 *rows,
                   i32 width, u64 *slots, u64 *counts, u64 mask) {
    i64 index = (i64)blockIdx.x * 256 + threadIdx.x;
    if (index >= old_size || !old_slots[index]) return;
    u64 mine = old_slots[index];
    u64 slot = hash_row(rows + ((mine & 0xFFFFFFFFull) - 1) * width, width) & mask;
    while (atomicCAS(slots + slot, 0ull, mine) != 0) slot = (slot + 1) & mask;
    counts[slot] = old_counts[index];
}

// Writes the counts in the order of the stored rows.
KERNEL counts_of_kept(const u64 *slots, const u64 *counts, i64 size, i64 *numbers) {
    i64 index = (i64)blockIdx.x * 256 + threadIdx.x;
    if (index < size && slots[index]) {
        numbers[(slots[index] & 0xFFFFFFFFull) - 1] = (i64)counts[index];
    }
}
