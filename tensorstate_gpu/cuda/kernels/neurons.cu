// Counting in how many states each neuron fires, without unpacking.
#include "device.h"

#define EACH 8     // words that a thread reads at a time
#define GROUPS 31  // of them, so that eight bits hold the sum of each bit

// Returns four bytes as a word; those before the first and behind the last are 0, and are not read.
DEVICE u32 word_at(const u8 *bytes, i64 at, i64 total) {
    if (at >= 0 && at + 4 <= total) return *(const u32 *)(bytes + at);
    u32 word = 0;
#pragma unroll
    for (i32 i = 0; i < 4; i++) {
        if (at + i >= 0 && at + i < total) word |= (u32)bytes[at + i] << (8 * i);
    }
    return word;
}

// Adds two words to the sums of bits, of which ``sum`` is the lowest binary digit; returns what is carried.
DEVICE u32 add_two(u32 &sum, u32 one, u32 other) {
    u32 carried = (sum & one) | (sum & other) | (one & other);
    sum ^= one ^ other;
    return carried;
}

// Adds eight words to 32 sums, digit by digit: digits[0] holds the lowest digit of each.
DEVICE void add_eight(u32 *digits, const u32 *words) {
    u32 fours[2];
#pragma unroll
    for (i32 i = 0; i < 2; i++) {
        u32 twos = add_two(digits[0], words[4 * i], words[4 * i + 1]);
        fours[i] = add_two(digits[1], twos, add_two(digits[0], words[4 * i + 2], words[4 * i + 3]));
    }
    u32 carried = add_two(digits[2], fours[0], fours[1]);
#pragma unroll
    for (i32 i = 3; i < 8; i++) {
        u32 both = digits[i] & carried;
        digits[i] ^= carried;
        carried = both;
    }
}

// Adds to counts[k] the states in which neuron k fires. The rows are read as one stream of words, from
// ``skew`` bytes before the first: there a word is aligned. Of the ``stride`` threads, a multiple of
// row_bytes, each reads every so many words: always of the same neurons. Blocks add up in shared memory, if
// there is some.
KERNEL count_bits(const u8 *packed, u64 *counts, i64 total, i32 row_bytes, i64 stride, i32 skew,
                  i32 shares) {
    SHARED_BYTES(memory);
    u32 *shared = (u32 *)memory;
    i32 bits = 8 * row_bytes;
    for (i32 k = threadIdx.x; shares && k < bits; k += 256) shared[k] = 0;
    __syncthreads();
    i64 thread = (i64)blockIdx.x * 256 + threadIdx.x, first = 4 * thread - skew;
    u32 ones[32] = {};
    for (i64 at = thread < stride ? first : total; at < total;) {
        u32 digits[8] = {};
        for (i32 group = 0; group < GROUPS && at < total; group++) {
            u32 words[EACH];
#pragma unroll
            for (i32 i = 0; i < EACH; i++) words[i] = word_at(packed, at + 4 * i * stride, total);
            add_eight(digits, words);
            at += 4 * EACH * stride;
        }
#pragma unroll
        for (i32 bit = 0; bit < 32; bit++) {
#pragma unroll
            for (i32 i = 0; i < 8; i++) ones[bit] += (digits[i] >> bit & 1) << i;
        }
    }
    i32 column = (i32)((first + row_bytes * (i64)4) % row_bytes);
#pragma unroll
    for (i32 bit = 0; bit < 32; bit++) {
        if (bit && bit % 8 == 0 && ++column == row_bytes) column = 0;
        i32 neuron = 8 * column + bit % 8;
        if (!ones[bit]) continue;
        if (shares) {
            atomicAdd(shared + neuron, ones[bit]);
        } else {
            atomicAdd(counts + neuron, (u64)ones[bit]);
        }
    }
    __syncthreads();
    for (i32 k = threadIdx.x; shares && k < bits; k += 256) {
        if (shared[k]) atomicAdd(counts + k, (u64)shared[k]);
    }
}
