// Counting rows of up to 8 bytes in a hash table: open addressing, linear probing, the row as key.
//
// Compiled with -DWIDTH=1..8, the number of bytes in a row. A key is the complement of a row, and 0 marks
// an empty slot. The row of all ones, which has the key 0 if it has 8 bytes, is counted in one extra slot
// behind the others.
// Counts are 64-bit, and exact: the key of a slot never changes once it is set. A key and its count share
// a sector of memory, of 32 bytes: a row costs one access to memory where the table fits no cache.
#include "device.h"
#include "hash_table.h"

#define EMPTY 0ull
// A block counts frequent keys in shared memory. It takes only keys that have a slot in the table, so
// that what it has counted is never refused in the end.
#define CACHE_PROBES 2
#define EACH 4  // rows of a thread that are read at the same time

struct Slot {
    u64 key, count;
};

struct Table {
    Slot *slots;
    u64 mask;
};

struct Cache {
    u32 slots;  // a power of 2
    u64 *keys;
    u32 *counts;
};

DEVICE u64 read_key(const u8 *rows, i64 index, i64 states) {
#if WIDTH == 8
    return ~((const u64 *)rows)[index];
#elif WIDTH == 4
    return ~(u64)((const u32 *)rows)[index];
#elif WIDTH == 2
    return ~(u64)((const u16 *)rows)[index];
#elif WIDTH == 1
    return ~(u64)rows[index];
#else  // the aligned words that have bytes of it, shifted; of the last row, such a word may go on beyond
    const u8 *row = rows + index * WIDTH;
    u64 bytes = 0;
    if (index + 1 == states) {
#pragma unroll 1
        for (int i = 0; i < WIDTH; i++) bytes |= (u64)row[i] << 8 * i;
        return ~bytes;
    }
    i32 before = (i32)((u64)row % 4);
    u32 words[3] = {};
    const u32 *at = (const u32 *)(row - before);
#pragma unroll
    for (int i = 0; i < (WIDTH < 7 ? 2 : 3); i++) {  // rows of six bytes begin at even addresses
        if (4 * i < before + WIDTH) words[i] = at[i];
    }
    bytes = (u64)__funnelshift_r(words[1], words[2], 8 * before) << 32;
    bytes |= __funnelshift_r(words[0], words[1], 8 * before);
    return ~(bytes & ~0ull >> (64 - 8 * WIDTH));
#endif
}

DEVICE void write_row(u8 *rows, u64 index, u64 key) {
#pragma unroll
    for (int i = 0; i < WIDTH; i++) rows[index * WIDTH + i] = (u8)(~key >> (8 * i));
}

DEVICE u64 hash(u64 key) {
    return multiply_and_fold(key ^ 0xA0761D6478BD642Full, 0x9E3779B97F4A7C15ull);
}

DEVICE u64 first_slot(const Table &table, u64 key) { return hash(key) & table.mask; }

// ``there`` is the key of the first slot. ``open``: whether empty slots may be taken.
DEVICE Outcome add_to_table(const Table &table, u64 key, u64 number, u64 there, bool open,
                            u64 most_steps) {
    if (key == EMPTY) {
        atomicAdd(&table.slots[table.mask + 1].count, number);
        return COUNTED;
    }
    u64 at = first_slot(table, key);
#pragma unroll 1  // most searches end at once
    for (u64 step = 0; step < most_steps; step++) {
        Outcome outcome = COUNTED;
        if (there == EMPTY) {
            if (!open) return REFUSED;
            there = atomicCAS(&table.slots[at].key, EMPTY, key);
            if (there == EMPTY) {
                there = key;
                outcome = NEW;
            }
        }
        if (there == key) {
            atomicAdd(&table.slots[at].count, number);
            return outcome;
        }
        at = (at + 1) & table.mask;
        there = read_now(&table.slots[at].key);
    }
    return REFUSED;
}

// Adds equal keys of a warp together. ``lanes``: those that call this.
DEVICE Outcome add_equal_to_table(const Table &table, u32 lanes, u64 key, u64 there, bool open) {
    u32 equal = __match_any_sync(lanes, key), first = __ffs(equal) - 1;
    Outcome outcome = COUNTED;
    bool adds = threadIdx.x % 32 == first;
    if (adds) outcome = add_to_table(table, key, __popc(equal), there, open, MOST_STEPS);
    u32 of_all = __shfl_sync(equal, (u32)outcome, first);
    return adds || of_all == REFUSED ? (Outcome)of_all : COUNTED;
}

DEVICE u32 cache_slot(const Cache &cache, u64 key, u32 probe) {
    return ((u32)(hash(key) >> 40) + probe) & (cache.slots - 1);
}

DEVICE bool add_to_cache(const Cache &cache, u64 key) {
#pragma unroll
    for (u32 probe = 0; probe < CACHE_PROBES; probe++) {
        u32 at = cache_slot(cache, key, probe);
        if (read_shared(cache.keys + at) == key) {
            atomicAdd(cache.counts + at, 1u);
            return true;
        }
    }
    return false;
}

// From now on the block counts this key, if there is room.
DEVICE void note_in_cache(const Cache &cache, u64 key) {
#pragma unroll
    for (u32 probe = 0; probe < CACHE_PROBES; probe++) {
        u32 at = cache_slot(cache, key, probe);
        u64 there = read_shared(cache.keys + at);
        if (there == EMPTY) there = atomicCAS(cache.keys + at, EMPTY, key);
        if (there == EMPTY || there == key) return;
    }
}

DEVICE void empty_cache(const Cache &cache) {
    for (u32 at = threadIdx.x; at < cache.slots; at += blockDim.x) {
        cache.keys[at] = EMPTY;
        cache.counts[at] = 0;
    }
}

DEVICE void add_cache_to_table(const Cache &cache, const Table &table) {
    for (u32 at = threadIdx.x; at < cache.slots; at += blockDim.x) {
        if (!cache.counts[at]) continue;
        u64 key = cache.keys[at], there = read_now(&table.slots[first_slot(table, key)].key);
        add_to_table(table, key, cache.counts[at], there, false, MOST_STEPS);
    }
}

// Counts fewer than 2**32 rows. ``refused`` receives the rows for which there is no room, and
// ``refusals`` their number.
LARGE_KERNEL count_rows(const u8 *rows, i64 states, Slot *slots, u64 mask, u64 *used, u64 limit,
                        u8 *refused, u64 *refusals, u32 cache_slots) {
    SHARED_BYTES(memory);
    u64 *keys = (u64 *)memory;
    Cache cache = {cache_slots, keys, (u32 *)(keys + cache_slots)};
    Table table = {slots, mask};
    empty_cache(cache);
    __syncthreads();
    u32 lane = threadIdx.x % 32;
    i64 warps = (i64)gridDim.x * blockDim.x / 32;
    i64 warp = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    for (i64 start = warp * 32 * EACH; start < states; start += warps * 32 * EACH) {
        bool open = read_now(used) < limit, todo[EACH];
        u64 key[EACH], there[EACH];
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            i64 index = start + 32 * i + lane;
            todo[i] = index < states;
            key[i] = todo[i] ? read_key(rows, index, states) : EMPTY;
        }
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            if (todo[i] && key[i] != EMPTY) todo[i] = !add_to_cache(cache, key[i]);
        }
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            if (todo[i]) there[i] = read_now(&slots[first_slot(table, key[i])].key);
        }
        u32 taken = 0;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            u32 lanes = __ballot_sync(~0u, todo[i]);
            if (!lanes) continue;
            Outcome outcome = COUNTED;
            if (todo[i]) {
                outcome = add_equal_to_table(table, lanes, key[i], there[i], open);
                if (outcome != REFUSED && key[i] != EMPTY) note_in_cache(cache, key[i]);
            }
            __syncwarp();
            taken += __popc(__ballot_sync(~0u, outcome == NEW));
            u64 place = place_of_refused(outcome == REFUSED, refusals);
            if (outcome == REFUSED) write_row(refused, place, key[i]);
        }
        if (taken && lane == 0) atomicAdd(used, (u64)taken);
    }
    __syncthreads();
    add_cache_to_table(cache, table);
}

// Counts rows that have a weight each, such as the rows of a histogram.
KERNEL count_weighted(const u8 *rows, const i64 *weights, i64 states, Slot *slots, u64 mask,
                      u64 *used, u64 limit, u8 *refused, i64 *refused_weights, u64 *refusals) {
    Table table = {slots, mask};
    i64 index = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    bool open = read_now(used) < limit;
    Outcome outcome = COUNTED;
    u64 key = EMPTY;
    if (index < states) {
        key = read_key(rows, index, states);
        u64 there = read_now(&slots[first_slot(table, key)].key);
        outcome = add_to_table(table, key, (u64)weights[index], there, open, MOST_STEPS);
        if (outcome == NEW) atomicAdd(used, 1ull);
    }
    __syncwarp();
    u64 place = place_of_refused(outcome == REFUSED, refusals);
    if (outcome != REFUSED) return;
    write_row(refused, place, key);
    refused_weights[place] = weights[index];
}

// Moves a table to a larger, empty one. ``old_slots`` includes the extra slot.
KERNEL move_slots(const Slot *old, i64 old_slots, Slot *slots, u64 mask) {
    Table table = {slots, mask};
    i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= old_slots || !old[at].count) return;
    u64 key = old[at].key, there = read_now(&slots[first_slot(table, key)].key);
    add_to_table(table, key, old[at].count, there, true, mask);
}

// Raises the registers of an estimate of the distinct rows.
KERNEL estimate(const u8 *rows, i64 states, u32 *registers) {
    SHARED u32 ranks[REGISTERS];
    clear_registers(ranks);
    i64 step = (i64)gridDim.x * blockDim.x;
    for (i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x; at < states; at += step) {
        note_hash(ranks, hash(read_key(rows, at, states)));
    }
    add_registers(ranks, registers);
}
