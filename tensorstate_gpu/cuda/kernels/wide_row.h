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
#elif UNIT == 2
typedef u16 Unit;
#else
typedef u8 Unit;
#endif

#define FEW (UNIT < 8 ? 2 : 16 / UNIT)

// ``CHANGING``: other blocks may be writing beside this, so it is read where all blocks see the same.
template <bool CHANGING>
DEVICE Unit read(const Unit *unit) {
    return CHANGING ? read_now(unit) : read_constant(unit);
}

// Returns sixteen bytes of a row, with zeros beyond its end. Reads AT_ONCE units at the same time.
template <bool CHANGING, int AT_ONCE>
DEVICE Sixteen sixteen(const u8 *row, i32 width, i32 number) {
    const Unit *units = (const Unit *)(row + 16 * number);
#if UNIT == 16
    Unit unit = read<CHANGING>(units);
    return {(u64)unit.y << 32 | unit.x, (u64)unit.w << 32 | unit.z};
#else
    Sixteen bytes = {0, 0};
    i32 left = (width - 16 * number) / UNIT;
#pragma unroll (AT_ONCE)
    for (i32 i = 0; i < 16 / UNIT; i++) {
        if (i >= left) break;
        u64 unit = read<CHANGING>(units + i);
        (8 * UNIT * i < 64 ? bytes.low : bytes.high) |= unit << 8 * UNIT * i % 64;
    }
    return bytes;
#endif
}

// Writes sixteen bytes of a row, but none beyond its end.
DEVICE void write_sixteen(u8 *row, i32 width, i32 number, Sixteen bytes) {
    Unit *units = (Unit *)(row + 16 * number);
#if UNIT == 16
    u64 low = bytes.low, high = bytes.high;
    *units = make_uint4((u32)low, (u32)(low >> 32), (u32)high, (u32)(high >> 32));
#else
    i32 left = (width - 16 * number) / UNIT;
#pragma unroll (FEW)
    for (i32 i = 0; i < 16 / UNIT; i++) {
        if (i >= left) break;
        units[i] = (Unit)((8 * UNIT * i < 64 ? bytes.low : bytes.high) >> 8 * UNIT * i % 64);
    }
#endif
}

// The row of a group. A lane has every LANES-th of its parts, of sixteen bytes each, the first HELD of them
// in registers. Only rows that 32 lanes share have more, which are read whenever they are needed.
struct Row {
    const u8 *bytes;
    i32 width;
    Sixteen held[HELD];
};

DEVICE Row read_row(const u8 *bytes, i32 width, const Group &group) {
    Row row = {bytes, width};
#pragma unroll
    for (i32 i = 0; i < HELD; i++) {
        i32 number = group.part + LANES * i;
        row.held[i] = {0, 0};
        if (16 * number < width) row.held[i] = sixteen<false, 16 / UNIT>(bytes, width, number);
    }
    return row;
}

// Calls ``use`` with the number and the sixteen bytes of each part that this lane has.
template <class Use>
DEVICE void each_part(const Row &row, const Group &group, Use use) {
#pragma unroll
    for (i32 i = 0; i < HELD; i++) {
        i32 number = group.part + LANES * i;
        if (16 * number < row.width) use(number, row.held[i]);
    }
    if (LANES < 32) return;
#pragma unroll 1
    for (i32 number = group.part + LANES * HELD; 16 * number < row.width; number += LANES) {
        use(number, sixteen<false, FEW>(row.bytes, row.width, number));
    }
}

DEVICE u64 mix(Sixteen bytes, i32 number) {
    u64 low = bytes.low ^ (0xA0761D6478BD642Full + (u64)number * 0x9E3779B97F4A7C15ull);
    return multiply_and_fold(low, bytes.high ^ 0xE7037ED1A0B428DBull) ^ bytes.low;
}

// A hash is the sum over the row's parts, mixed once more.
DEVICE u64 finish(u64 sum) {
    return multiply_and_fold(sum ^ 0xC2B2AE3D27D4EB4Full, 0x9E3779B97F4A7C15ull);
}

DEVICE u64 hash_of(const Row &row, const Group &group) {
    u64 sum = 0;
    each_part(row, group, [&](i32 number, Sixteen bytes) { sum += mix(bytes, number); });
#pragma unroll
    for (u32 distance = LANES / 2; distance; distance /= 2) {
        sum += __shfl_xor_sync(group.lanes, sum, distance);
    }
    return finish(sum);
}

// ``other`` returns the sixteen bytes with a number of another row.
template <class Other>
DEVICE bool equal_parts(const Row &row, const Group &group, Other other) {
    bool equal = true;
    each_part(row, group, [&](i32 number, Sixteen bytes) {
        Sixteen others = other(number);
        equal &= bytes.low == others.low && bytes.high == others.high;
    });
    return all_of(group, equal);
}

template <bool CHANGING>
DEVICE bool equal_rows(const Row &row, const u8 *other, const Group &group) {
    return equal_parts(row, group, [&](i32 number) {
        return sixteen<CHANGING, FEW>(other, row.width, number);
    });
}

DEVICE void write_row(u8 *target, const Row &row, const Group &group) {
    each_part(row, group, [&](i32 number, Sixteen bytes) {
        write_sixteen(target, row.width, number, bytes);
    });
}
