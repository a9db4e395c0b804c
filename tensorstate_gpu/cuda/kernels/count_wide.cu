// Counting rows of more than 8 bytes in a hash table: open addressing, linear probing.
//
// Compiled with -DUNIT=16, 8 or 4, if that divides the width of a row: what can be read at once; otherwise
// with -DUNIT=1; and with -DLANES=1..32, the threads that share a row. With fewer than 32, each has 64 bytes of
// it at most.
// A slot is 0, or the high half of its row's hash << 32 | where the row is: KEPT if the table stores it, in
// ``kept``, at the number of the slot; or, until it has been copied there, its number in the batch + 1.
// Neither changes while a kernel runs, so the row of a slot that is set can be read and compared. Rows are
// compared byte by byte: counts are exact.
// The number of slots is a multiple of four: a word that begins in the last row of ``kept`` ends with it.
#include "device.h"
#include "hash_table.h"
#include "wide_row.h"

#define KEPT (~0u)
// A block counts frequent rows in shared memory. It takes only rows that have a slot in the table, so
// that what it has counted is never refused in the end.
#define CACHE_PROBES 2
#define CLAIMED 1ull
#define READY 2ull

struct Slot {
    u64 tagged, count;
};

struct Table {
    Slot *slots;
    u64 mask;
    u8 *kept;
    i32 width;
};

// An entry is 0, or the tag of a row | CLAIMED, and READY instead when its bytes are in ``rows``: there
// with zeros up to ``stride``, a multiple of 16.
struct Cache {
    u32 size, stride;
    u8 *rows;
    u64 *tagged;
    u32 *slots, *counts;
};

DEVICE u64 tag(u64 hash) { return hash >> 32 << 32; }
DEVICE bool same_tag(u64 tagged, u64 hash) { return tagged && tagged >> 32 == hash >> 32; }

struct Batch {
    const u8 *rows;
    u32 states;
};

DEVICE bool equal_to_slot(const Table &table, const Batch &batch, const Row &row, u64 at, u64 tagged,
                          const Group &group) {
    u32 number = (u32)tagged;
    if (number == KEPT) return equal_rows<true>(row, table.kept + at * table.width, false, group);
    const u8 *other = batch.rows + (u64)(number - 1) * table.width;
    return equal_rows<false>(row, other, number == batch.states, group);
}

// Stores the row of a slot that this group has just taken.
DEVICE void keep(const Table &table, u64 at, const Row &row, u64 hash, const Group &group) {
    write_row(table.kept + at * table.width, row, group);
    __threadfence();  // the row first, then the reference to it
    __syncwarp(group.lanes);
    if (group.part == 0) write_now(&table.slots[at].tagged, tag(hash) | KEPT);
}

// Finds the slot of a row and returns it in ``at``. ``open``: whether empty slots may be taken.
DEVICE Outcome find_slot(const Table &table, const Batch &batch, const Row &row, u64 mine, u64 hash,
                         bool open, const Group &group, u64 &at) {
    at = hash & table.mask;
    for (int step = 0; step < MOST_STEPS; step++) {
        u64 there = of_first(group, read_now(&table.slots[at].tagged));
        if (there == 0) {
            if (!open) return REFUSED;
            if (group.part == 0) there = atomicCAS(&table.slots[at].tagged, 0ull, mine);
            there = of_first(group, there);
            if (there == 0) {
                keep(table, at, row, hash, group);
                return NEW;
            }
        }
        if (same_tag(there, hash) && equal_to_slot(table, batch, row, at, there, group)) {
            return COUNTED;
        }
        at = (at + 1) & table.mask;
    }
    return REFUSED;
}

DEVICE u32 cache_slot(const Cache &cache, u64 hash, u32 probe) {
    u32 at = __umulhi((u32)(hash >> 32), cache.size) + probe;
    return at < cache.size ? at : at - cache.size;
}

// Where the first part of a lane is.
DEVICE u8 *cached_row(const Cache &cache, u32 at, const Group &group) {
    return cache.rows + at * cache.stride + 16 * group.part;
}

DEVICE bool add_to_cache(const Cache &cache, const Row &row, u64 hash, const Group &group) {
#pragma unroll
    for (u32 probe = 0; probe < CACHE_PROBES; probe++) {
        u32 at = cache_slot(cache, hash, probe);
        u64 there = of_first(group, read_shared(cache.tagged + at));
        if (there != (tag(hash) | READY)) continue;
        const u8 *cached = cached_row(cache, at, group);
        auto part = [&](i32 offset) { return *(const Sixteen *)(cached + offset); };
        if (!equal_parts(row, group, part)) continue;
        if (group.part == 0) atomicAdd(cache.counts + at, 1u);
        return true;
    }
    return false;
}

// From now on the block counts this row, if there is room.
DEVICE void note_in_cache(const Cache &cache, const Row &row, u64 hash, u64 slot,
                          const Group &group) {
    for (u32 probe = 0; probe < CACHE_PROBES; probe++) {
        u32 at = cache_slot(cache, hash, probe);
        u64 there = 0;
        if (group.part == 0) there = atomicCAS(cache.tagged + at, 0ull, tag(hash) | CLAIMED);
        there = of_first(group, there);
        if (same_tag(there, hash)) return;
        if (there) continue;
        if (group.part == 0) cache.slots[at] = (u32)slot;
        u8 *cached = cached_row(cache, at, group);
        each_part(row, [&](i32 offset, Sixteen bytes) { *(Sixteen *)(cached + offset) = bytes; });
        __threadfence_block();  // the row first, then the word that it is there
        __syncwarp(group.lanes);
        if (group.part == 0) *(volatile u64 *)(cache.tagged + at) = tag(hash) | READY;
        return;
    }
}

DEVICE void empty_cache(const Cache &cache) {
    for (u32 at = threadIdx.x; at < cache.size; at += blockDim.x) {
        cache.tagged[at] = 0;
        cache.counts[at] = 0;
    }
}

DEVICE void add_cache_to_table(const Cache &cache, const Table &table) {
    for (u32 at = threadIdx.x; at < cache.size; at += blockDim.x) {
        if (!cache.counts[at]) continue;
        atomicAdd(&table.slots[cache.slots[at]].count, (u64)cache.counts[at]);
    }
}

// Counts fewer than 2**32 - 1 rows. ``weights`` is 0 if each counts once. ``refused`` receives the rows
// for which there is no room, ``refused_weights`` their weights, and ``refusals`` their number.
LARGE_KERNEL count_rows(const u8 *rows, const i64 *weights, i64 states, i32 width, Slot *slots,
                        u64 mask, u8 *kept, u64 *used, u64 limit, u8 *refused,
                        i64 *refused_weights, u64 *refusals, u32 cache_size) {
    SHARED_BYTES(memory);
    u32 stride = (width + 15) / 16 * 16;
    u64 *tagged = (u64 *)(memory + cache_size * stride);
    u32 *cached_slots = (u32 *)(tagged + cache_size);
    Cache cache = {cache_size, stride, memory, tagged, cached_slots, cached_slots + cache_size};
    Table table = {slots, mask, kept, width};
    Batch batch = {rows, (u32)states};
    empty_cache(cache);
    __syncthreads();
    Group group = group_of_lane();
    bool leads = group.part == 0, caches = !weights && cache_size;  // its counts have 32 bits
    const int at_once = 32 / LANES;
    i64 warps = (i64)gridDim.x * blockDim.x / 32;
    i64 warp = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    for (i64 start = warp * at_once; start < states; start += warps * at_once) {
        bool open = of_first(group, read_now(used)) < limit;
        i64 index = start + threadIdx.x % 32 / LANES;
        Row row = {};
        Outcome outcome = COUNTED;
        if (index < states) {
            row = read_row(rows + index * width, width, index + 1 == states, group);
            u64 hash = hash_of(row, group), mine = tag(hash) | (u64)(index + 1), slot;
            if (!caches || !add_to_cache(cache, row, hash, group)) {
                outcome = find_slot(table, batch, row, mine, hash, open, group, slot);
                if (outcome != REFUSED && leads) {
                    atomicAdd(&slots[slot].count, weights ? (u64)weights[index] : 1ull);
                }
                if (outcome != REFUSED && caches) {
                    note_in_cache(cache, row, hash, slot, group);
                }
            }
        }
        __syncwarp();
        u32 taken = __popc(__ballot_sync(~0u, outcome == NEW && leads));
        if (taken && threadIdx.x % 32 == 0) atomicAdd(used, (u64)taken);
        u64 place = of_first(group, place_of_refused(outcome == REFUSED && leads, refusals));
        if (outcome != REFUSED) continue;
        write_row(refused + place * width, row, group);
        if (weights && leads) refused_weights[place] = weights[index];
    }
    __syncthreads();
    add_cache_to_table(cache, table);
}

// Moves a table to a larger, empty one.
LARGE_KERNEL move_slots(const Slot *old, i64 old_slots, const u8 *old_kept, i32 width,
                        Slot *slots, u64 mask, u8 *kept) {
    Group group = group_of_lane();
    i64 from = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
    if (from >= old_slots) return;
    Slot slot = old[from];
    if (!slot.tagged) return;
    Row row = read_row(old_kept + from * width, width, false, group);
    u64 at = hash_of(row, group) & mask;
    if (group.part == 0) {
        while (atomicCAS(&slots[at].tagged, 0ull, slot.tagged) != 0) at = (at + 1) & mask;
        slots[at].count = slot.count;
    }
    write_row(kept + of_first(group, at) * width, row, group);
}

// Raises the registers of an estimate of the distinct rows.
LARGE_KERNEL estimate(const u8 *rows, i64 states, i32 width, u32 *registers) {
    SHARED u32 ranks[REGISTERS];
    clear_registers(ranks);
    Group group = group_of_lane();
    i64 step = (i64)gridDim.x * blockDim.x / LANES;
    i64 first = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
    for (i64 at = first; at < states; at += step) {
        Row row = read_row(rows + at * width, width, at + 1 == states, group);
        note_hash(ranks, hash_of(row, group));
    }
    add_registers(ranks, registers);
}
