// Counting rows of more than 8 bytes in a hash table: open addressing, linear probing.
//
// Compiled with -DUNIT=1..16, the largest power of two that divides the width of a row: what can be read
// at once; and with -DLANES=1..32, the threads that share a row.
// A slot is 0, or the high half of its row's hash << 32 | where the row is: KEPT if the table stores it, in
// ``kept``, at the number of the slot; or, until it has been copied there, its number in the batch + 1.
// Neither changes while a kernel runs, so the row of a slot that is set can be read and compared. Rows are
// compared byte by byte: counts are exact.
#include "device.h"
#include "hash_table.h"

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
};

// An entry is 0, or the tag of a row | CLAIMED, and READY instead when its bytes are in ``rows``: there
// with zeros up to ``stride``, a multiple of 16.
struct Cache {
    u32 size, stride;
    u8 *rows;
    u64 *tagged;
    u32 *slots, *counts;
};

struct Rows {
    const u8 *bytes;
    i32 width;
};

// The lanes that share a row: their mask, the first of them, and which of them this one is.
struct Group {
    u32 lanes, first, part;
};

DEVICE Group group_of_lane() {
    u32 lane = threadIdx.x % 32, part = lane % LANES;
    return {(~0u >> (32 - LANES)) << (lane - part), lane - part, part};
}

template <class Value>
DEVICE Value of_first(const Group &group, Value value) {
    return LANES == 1 ? value : __shfl_sync(group.lanes, value, group.first);
}

DEVICE bool all_of(const Group &group, bool vote) {
    return LANES == 1 ? vote : __all_sync(group.lanes, vote);
}

struct alignas(16) Sixteen {
    u64 low, high;
};

#if UNIT == 16
typedef uint4 Unit;
#elif UNIT == 8
typedef u64 Unit;
#elif UNIT == 4
typedef u32 Unit;
#elif UNIT == 2
typedef u16 Unit;
#else
typedef u8 Unit;
#endif

// ``CHANGING``: other blocks may be writing beside this, so it is read where all blocks see the same.
template <bool CHANGING>
DEVICE Unit read(const Unit *unit) {
    return CHANGING ? read_now(unit) : read_constant(unit);
}

// Returns sixteen bytes of a row, with zeros beyond its end.
template <bool CHANGING>
DEVICE Sixteen sixteen(const u8 *row, i32 width, i32 number) {
    const Unit *units = (const Unit *)(row + 16 * number);
#if UNIT == 16
    Unit unit = read<CHANGING>(units);
    return {(u64)unit.y << 32 | unit.x, (u64)unit.w << 32 | unit.z};
#else
    Sixteen bytes = {0, 0};
    i32 left = (width - 16 * number) / UNIT;
#pragma unroll (UNIT < 4 ? 2 : 16 / UNIT)
    for (i32 i = 0; i < 16 / UNIT; i++) {
        if (i >= left) break;
        u64 unit = read<CHANGING>(units + i);
        (8 * UNIT * i < 64 ? bytes.low : bytes.high) |= unit << 8 * UNIT * i % 64;
    }
    return bytes;
#endif
}

DEVICE u64 mix(Sixteen bytes, i32 number) {
    u64 low = bytes.low ^ (0xA0761D6478BD642Full + (u64)number * 0x9E3779B97F4A7C15ull);
    return multiply_and_fold(low, bytes.high ^ 0xE7037ED1A0B428DBull) ^ bytes.low;
}

// A hash is the sum over the row's parts, mixed once more.
DEVICE u64 finish(u64 sum) {
    return multiply_and_fold(sum ^ 0xC2B2AE3D27D4EB4Full, 0x9E3779B97F4A7C15ull);
}

DEVICE u64 hash_row(const u8 *row, i32 width, const Group &group) {
    u64 sum = 0;
    for (i32 i = group.part; 16 * i < width; i += LANES) {
        sum += mix(sixteen<false>(row, width, i), i);
    }
#pragma unroll
    for (u32 distance = LANES / 2; distance; distance /= 2) {
        sum += __shfl_xor_sync(group.lanes, sum, distance);
    }
    return finish(sum);
}

template <bool CHANGING>
DEVICE bool equal_rows(const u8 *row, const u8 *other, i32 width, const Group &group) {
    bool equal = true;
#pragma unroll 2
    for (i32 i = group.part; 16 * i < width; i += LANES) {
        Sixteen one = sixteen<false>(row, width, i), two = sixteen<CHANGING>(other, width, i);
        equal &= one.low == two.low && one.high == two.high;
    }
    return all_of(group, equal);
}

DEVICE void copy_row(const u8 *row, u8 *target, i32 width, const Group &group) {
    for (i32 i = group.part; i * UNIT < width; i += LANES) {
        ((Unit *)target)[i] = ((const Unit *)row)[i];
    }
}

DEVICE u64 tag(u64 hash) { return hash >> 32 << 32; }
DEVICE bool same_tag(u64 tagged, u64 hash) { return tagged && tagged >> 32 == hash >> 32; }
DEVICE const u8 *row_of_batch(const Rows &batch, u64 tagged) {
    return batch.bytes + (u64)((u32)tagged - 1) * batch.width;
}

// Stores the row of a slot that this group has just taken.
DEVICE void keep(const Table &table, u64 at, const u8 *row, u64 hash, i32 width, const Group &group) {
    copy_row(row, table.kept + at * width, width, group);
    __threadfence();  // the row first, then the reference to it
    __syncwarp(group.lanes);
    if (group.part == 0) write_now(&table.slots[at].tagged, tag(hash) | KEPT);
}

// Finds the slot of a row and returns it in ``at``. ``open``: whether empty slots may be taken.
DEVICE Outcome find_slot(const Table &table, const Rows &batch, const u8 *row, u64 mine, u64 hash,
                         bool open, const Group &group, u64 &at) {
    at = hash & table.mask;
    for (int step = 0; step < MOST_STEPS; step++) {
        u64 there = of_first(group, read_now(&table.slots[at].tagged));
        if (there == 0) {
            if (!open) return REFUSED;
            if (group.part == 0) there = atomicCAS(&table.slots[at].tagged, 0ull, mine);
            there = of_first(group, there);
            if (there == 0) {
                keep(table, at, row, hash, batch.width, group);
                return NEW;
            }
        }
        if (same_tag(there, hash)) {
            const u8 *kept = table.kept + at * batch.width;
            bool equal = (u32)there == KEPT
                             ? equal_rows<true>(row, kept, batch.width, group)
                             : equal_rows<false>(row, row_of_batch(batch, there), batch.width, group);
            if (equal) return COUNTED;
        }
        at = (at + 1) & table.mask;
    }
    return REFUSED;
}

DEVICE u32 cache_slot(const Cache &cache, u64 hash, u32 probe) {
    u32 at = __umulhi((u32)(hash >> 32), cache.size) + probe;
    return at < cache.size ? at : at - cache.size;
}

DEVICE Sixteen *cached_row(const Cache &cache, u32 at) {
    return (Sixteen *)(cache.rows + at * cache.stride);
}

DEVICE bool is_cached_at(const Cache &cache, u32 at, const u8 *row, i32 width, const Group &group) {
    const Sixteen *cached = cached_row(cache, at);
    bool equal = true;
#pragma unroll 1
    for (i32 i = group.part; 16 * i < width; i += LANES) {
        Sixteen one = sixteen<false>(row, width, i), two = cached[i];
        equal &= one.low == two.low && one.high == two.high;
    }
    return all_of(group, equal);
}

DEVICE bool add_to_cache(const Cache &cache, const u8 *row, u64 hash, i32 width, const Group &group) {
#pragma unroll
    for (u32 probe = 0; probe < CACHE_PROBES; probe++) {
        u32 at = cache_slot(cache, hash, probe);
        u64 there = of_first(group, read_shared(cache.tagged + at));
        if (there != (tag(hash) | READY)) continue;
        if (!is_cached_at(cache, at, row, width, group)) continue;
        if (group.part == 0) atomicAdd(cache.counts + at, 1u);
        return true;
    }
    return false;
}

// From now on the block counts this row, if there is room.
DEVICE void note_in_cache(const Cache &cache, const u8 *row, u64 hash, u64 slot, i32 width,
                          const Group &group) {
    for (u32 probe = 0; probe < CACHE_PROBES; probe++) {
        u32 at = cache_slot(cache, hash, probe);
        u64 there = 0;
        if (group.part == 0) there = atomicCAS(cache.tagged + at, 0ull, tag(hash) | CLAIMED);
        there = of_first(group, there);
        if (same_tag(there, hash)) return;
        if (there) continue;
        if (group.part == 0) cache.slots[at] = (u32)slot;
        for (i32 i = group.part; 16 * i < width; i += LANES) {
            cached_row(cache, at)[i] = sixteen<false>(row, width, i);
        }
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
    Table table = {slots, mask, kept};
    Rows batch = {rows, width};
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
        const u8 *row = rows + index * width;
        Outcome outcome = COUNTED;
        if (index < states) {
            u64 hash = hash_row(row, width, group), mine = tag(hash) | (u64)(index + 1), slot;
            if (!caches || !add_to_cache(cache, row, hash, width, group)) {
                outcome = find_slot(table, batch, row, mine, hash, open, group, slot);
                if (outcome != REFUSED && leads) {
                    atomicAdd(&slots[slot].count, weights ? (u64)weights[index] : 1ull);
                }
                if (outcome != REFUSED && caches) {
                    note_in_cache(cache, row, hash, slot, width, group);
                }
            }
        }
        __syncwarp();
        u32 taken = __popc(__ballot_sync(~0u, outcome == NEW && leads));
        if (taken && threadIdx.x % 32 == 0) atomicAdd(used, (u64)taken);
        u64 place = of_first(group, place_of_refused(outcome == REFUSED && leads, refusals));
        if (outcome != REFUSED) continue;
        copy_row(row, refused + place * width, width, group);
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
    const u8 *row = old_kept + from * width;
    u64 at = hash_row(row, width, group) & mask;
    if (group.part == 0) {
        while (atomicCAS(&slots[at].tagged, 0ull, slot.tagged) != 0) at = (at + 1) & mask;
        slots[at].count = slot.count;
    }
    copy_row(row, kept + of_first(group, at) * width, width, group);
}

// Raises the registers of an estimate of the distinct rows.
LARGE_KERNEL estimate(const u8 *rows, i64 states, i32 width, u32 *registers) {
    SHARED u32 ranks[REGISTERS];
    clear_registers(ranks);
    Group group = group_of_lane();
    i64 step = (i64)gridDim.x * blockDim.x / LANES;
    i64 first = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
    for (i64 at = first; at < states; at += step) {
        note_hash(ranks, hash_row(rows + at * width, width, group));
    }
    add_registers(ranks, registers);
}
