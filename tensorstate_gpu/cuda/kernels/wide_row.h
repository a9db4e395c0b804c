// A row of more than 8 bytes, in the registers of the lanes that share it, and what is done with it.
//
// Compiled with UNIT and LANES, as in count_wide.cu.
#define HELD 4  // parts of a row, of 16 bytes each, that a lane holds in registers

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
#else
typedef u8 Unit;
#endif

// ``CHANGING``: other blocks may be writing beside this, so it is read where all blocks see the same.
template <bool CHANGING, class Word>
DEVICE Word read(const Word *word) {
    return CHANGING ? read_now(word) : read_constant(word);
}

#if UNIT == 1
// Returns sixteen bytes of a row that has ``left`` bytes from there on, with zeros beyond its end. The row is
// at any address: the aligned words that have bytes of it are read and shifted. If it is the ``last`` in its
// memory, where such a word may go on beyond the end, single bytes are read.
template <bool CHANGING>
DEVICE Sixteen sixteen(const u8 *from, i32 left, bool last) {
    Sixteen bytes = {0, 0};
    if (last) {
#pragma unroll 1
        for (i32 i = 0; i < min(left, 16); i++) {
            (i < 8 ? bytes.low : bytes.high) |= (u64)read<CHANGING>(from + i) << 8 * i % 64;
        }
        return bytes;
    }
    i32 before = (i32)((u64)from % 4);
    u32 words[5];
    const u32 *at = (const u32 *)(from - before);
#pragma unroll
    for (i32 i = 0; i < 5; i++) words[i] = 4 * i < left + before ? read<CHANGING>(at + i) : 0;
#pragma unroll
    for (i32 i = 0; i < 4; i++) words[i] = __funnelshift_r(words[i], words[i + 1], 8 * before);
    bytes = {(u64)words[1] << 32 | words[0], (u64)words[3] << 32 | words[2]};
    if (left < 8) bytes.low &= ~(~0ull << 8 * left);
    if (left < 16) bytes.high &= left > 8 ? ~(~0ull << 8 * (left - 8)) : 0;
    return bytes;
}
#else
// The same, of rows that begin at a unit and have whole ones.
template <bool CHANGING>
DEVICE Sixteen sixteen(const u8 *from, i32 left, bool) {
    const Unit *units = (const Unit *)from;
#if UNIT == 16
    Unit unit = read<CHANGING>(units);
    return {(u64)unit.y << 32 | unit.x, (u64)unit.w << 32 | unit.z};
#else
    Sixteen bytes = {0, 0};
#pragma unroll
    for (i32 i = 0; i < 16 / UNIT; i++) {
        if (UNIT * i >= left) break;
        u64 unit = read<CHANGING>(units + i);
        (8 * UNIT * i < 64 ? bytes.low : bytes.high) |= unit << 8 * UNIT * i % 64;
    }
    return bytes;
#endif
}
#endif

// Writes sixteen bytes of a row, but none beyond its end.
DEVICE void write_sixteen(u8 *to, i32 left, Sixteen bytes) {
    Unit *units = (Unit *)to;
#if UNIT == 16
    u64 low = bytes.low, high = bytes.high;
    *units = make_uint4((u32)low, (u32)(low >> 32), (u32)high, (u32)(high >> 32));
#else
#pragma unroll (UNIT == 1 ? 2 : 16 / UNIT)
    for (i32 i = 0; i < 16 / UNIT; i++) {
        if (UNIT * i >= left) break;
        units[i] = (Unit)((8 * UNIT * i < 64 ? bytes.low : bytes.high) >> 8 * UNIT * i % 64);
    }
#endif
}

// The row of a group. A lane has every LANES-th of its parts, of sixteen bytes each, the first HELD of them
// in registers. Only rows that 32 lanes share have more, which are read whenever they are needed.
// ``bytes``: the first part of this lane. ``left``: the bytes from there to the end of the row. They are all
// that says which parts there are: compared with numbers that the compiler knows, they take no registers.
// ``last``: whether it is the last row of its memory.
struct Row {
    const u8 *bytes;
    i32 left;
    bool last;
    Sixteen held[HELD];
};

DEVICE Row read_row(const u8 *bytes, i32 width, bool last, const Group &group) {
    Row row = {bytes + 16 * group.part, width - 16 * (i32)group.part, last};
#pragma unroll
    for (i32 i = 0; i < HELD; i++) {
        i32 offset = 16 * LANES * i;
        row.held[i] = {0, 0};
        if (offset < row.left) {
            row.held[i] = sixteen<false>(row.bytes + offset, row.left - offset, last);
        }
    }
    return row;
}

// Calls ``use`` with each part that this lane has: where it is, from the first on, and its bytes.
template <class Use>
DEVICE void each_part(const Row &row, Use use) {
#pragma unroll
    for (i32 i = 0; i < HELD; i++) {
        i32 offset = 16 * LANES * i;
        if (offset < row.left) use(offset, row.held[i]);
    }
    if (LANES < 32) return;
#pragma unroll 1
    for (i32 offset = 16 * LANES * HELD; offset < row.left; offset += 16 * LANES) {
        use(offset, sixteen<false>(row.bytes + offset, row.left - offset, row.last));
    }
}

DEVICE u64 mix(Sixteen bytes, i32 place) {
    u64 low = bytes.low ^ (0xA0761D6478BD642Full + (u64)place * 0x9E3779B97F4A7C15ull);
    return multiply_and_fold(low, bytes.high ^ 0xE7037ED1A0B428DBull) ^ bytes.low;
}

// A hash is the sum over the row's parts, mixed once more.
DEVICE u64 finish(u64 sum) {
    return multiply_and_fold(sum ^ 0xC2B2AE3D27D4EB4Full, 0x9E3779B97F4A7C15ull);
}

DEVICE u64 hash_of(const Row &row, const Group &group) {
    u64 sum = 0;
    each_part(row, [&](i32 offset, Sixteen bytes) {
        sum += mix(bytes, 16 * (i32)group.part + offset);
    });
#pragma unroll
    for (u32 distance = LANES / 2; distance; distance /= 2) {
        sum += __shfl_xor_sync(group.lanes, sum, distance);
    }
    return finish(sum);
}

// ``other`` returns the sixteen bytes of another row that are as far from this lane's first part.
template <class Other>
DEVICE bool equal_parts(const Row &row, const Group &group, Other other) {
    bool equal = true;
    each_part(row, [&](i32 offset, Sixteen bytes) {
        Sixteen others = other(offset);
        equal &= bytes.low == others.low && bytes.high == others.high;
    });
    return all_of(group, equal);
}

// ``last``: whether the other row is the last of its memory.
template <bool CHANGING>
DEVICE bool equal_rows(const Row &row, const u8 *other, bool last, const Group &group) {
    other += 16 * group.part;
    return equal_parts(row, group, [&](i32 offset) {
        return sixteen<CHANGING>(other + offset, row.left - offset, last);
    });
}

DEVICE void write_row(u8 *target, const Row &row, const Group &group) {
    target += 16 * group.part;
    each_part(row, [&](i32 offset, Sixteen bytes) {
        write_sixteen(target + offset, row.left - offset, bytes);
    });
}
