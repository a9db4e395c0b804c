// Which numbers fire: what all packing kernels share. They read activations as plain bits.
//
// Compiled with -DBITS=8, 16, 32 or 64 (the width of a number), -DTRANSFORMED=0 or 1 (whether keys
// differ from the bits themselves) and -DPER_NEURON=0 or 1. A number fires if low <= key <= high, with
// key = bits ^ bias ^ ((bits >> (BITS - 1)) & flip), as in tensorstate_gpu/_arrays/thresholds.py.
// With -DHALVES=1 (float16) or 2 (bfloat16) it fires if, as a float, it is greater than the number
// whose bits are ``low``: the GPU compares two of them at a time.
#if BITS == 8
typedef i8 number;
#elif BITS == 16
typedef i16 number;
#elif BITS == 32
typedef i32 number;
#else
typedef i64 number;
#endif

#ifndef HALVES
#define HALVES 0
#endif
#if HALVES == 1
#define GREATER_PAIR(pair) greater_float16(pair, (u16)low * 0x10001u)
#else
#define GREATER_PAIR(pair) greater_bfloat16(pair, (u16)low * 0x10001u)
#endif

#define TEST number low, number high, number bias, number flip, const number *lows, const number *highs
#define GIVEN_TEST low, high, bias, flip, lows, highs

DEVICE number key_of(number bits, TEST) {
#if TRANSFORMED
    return bits ^ bias ^ ((bits >> (BITS - 1)) & flip);
#else
    return bits;
#endif
}

DEVICE bool fires(number bits, i64 neuron, TEST) {
#if HALVES
    return GREATER_PAIR((u16)bits) & 1;
#else
    number key = key_of(bits, GIVEN_TEST);
#if PER_NEURON
    return lows[neuron] <= key && key <= highs[neuron];
#else
    return low <= key && key <= high;
#endif
#endif
}

#if BITS == 8 && !PER_NEURON
DEVICE u32 of_four(number each) { return (u8)each * 0x01010101u; }

// Compares four numbers in a register: bit 7 of a byte is set if its number fires, all other bits are 0.
DEVICE u32 fires_of_four(u32 four, TEST) {
    const u32 top = 0x80808080u;
    u32 key = four, lowest = of_four(low), highest = of_four(high);
#if TRANSFORMED
    key ^= of_four(bias) ^ (sign_bytes(four) & of_four(flip));
#endif
    // Where the signs are the same, bit 7 of a difference tells which number is less. No byte borrows
    // from the next one.
    u32 from_lowest = (key | top) - (lowest & ~top), to_highest = (highest | top) - (key & ~top);
    u32 not_below = (~key & lowest) | (~(key ^ lowest) & from_lowest);
    u32 not_above = (~highest & key) | (~(highest ^ key) & to_highest);
    return not_below & not_above & top;
}
#endif

// Eight neighbouring numbers: BITS bytes, at an address that is a multiple of min(BITS, 16).
union Eight {
    number numbers[8];
#if BITS == 8
    u64 whole;
#else
    uint4 quarters[BITS / 16];
#endif
};

DEVICE Eight read_eight(const number *numbers) {
    Eight eight;
#if BITS == 8
    eight.whole = *(const u64 *)numbers;
#else
#pragma unroll
    for (int i = 0; i < BITS / 16; i++) eight.quarters[i] = read_once((const uint4 *)numbers + i);
#endif
    return eight;
}

// Reads eight numbers that other threads read too.
DEVICE Eight read_again(const number *numbers) {
    Eight eight;
#if BITS == 8
    eight.whole = read_constant((const u64 *)numbers);
#else
#pragma unroll
    for (int i = 0; i < BITS / 16; i++) eight.quarters[i] = read_constant((const uint4 *)numbers + i);
#endif
    return eight;
}

// Reads the first ``count`` of eight numbers, or all; the others are 0.
DEVICE Eight read_some(const number *numbers, i32 count) {
    Eight eight = {};
#pragma unroll
    for (i32 i = 0; i < 8; i++) {
        if (i < count) eight.numbers[i] = numbers[i];
    }
    return eight;
}

// Where the neurons of contiguous numbers are: number i belongs to neuron i / run % neurons. The
// numbers of a row have run 1; in maps of one channel after the other, run is the size of a map.
struct Neurons {
    i32 run, neurons;
    i64 first;  // of all neurons, for which the thresholds are
};

// Packs eight numbers into a byte; the first of them is number ``index``.
template <class Index>
DEVICE u32 pack_eight(const Eight &eight, Index index, const Neurons &of, TEST) {
#if HALVES
    const uint4 &pairs = eight.quarters[0];
    u32 bits = GREATER_PAIR(pairs.x) & 0x00020001u;
    bits |= GREATER_PAIR(pairs.y) & 0x00080004u;
    bits |= GREATER_PAIR(pairs.z) & 0x00200010u;
    bits |= GREATER_PAIR(pairs.w) & 0x00800040u;
    return (bits | bits >> 16) & 255;
#elif BITS == 8 && !PER_NEURON
    u32 first = fires_of_four((u32)eight.whole, GIVEN_TEST);
    u32 second = fires_of_four((u32)(eight.whole >> 32), GIVEN_TEST);
    return (first >> 4 | second) * 0x00204081u >> 24;  // moves the eight bits to the top, and adds no two
#else
    u32 byte = 0;
#if PER_NEURON
    i32 rest = (i32)(index % of.run), neuron = (i32)(index / of.run % of.neurons);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        byte |= (u32)fires(eight.numbers[i], of.first + neuron, GIVEN_TEST) << i;
        if (++rest == of.run) rest = 0, neuron = neuron + 1 == of.neurons ? 0 : neuron + 1;
    }
#else
#pragma unroll
    for (int i = 0; i < 8; i++) byte |= (u32)fires(eight.numbers[i], 0, GIVEN_TEST) << i;
#endif
    return byte;
#endif
}
