// Contiguous numbers as one stream of bits in shared memory, from which a block makes its rows.
#define IN_FLIGHT (PER_NEURON || BITS == 64 ? 2 : BITS == 8 ? 8 : 4)  // reads of eight numbers

DEVICE u32 pack_some(const number *numbers, i32 begin, i32 end, i32 skew, const Neurons &of, TEST) {
    u32 bits = 0;
    for (i32 i = begin; i < end; i++) {
        i64 neuron = PER_NEURON ? of.first + (i - skew) / of.run % of.neurons : 0;
        bits |= (u32)fires(numbers[i - skew], neuron, GIVEN_TEST) << (i % 8);
    }
    return bits;
}

// Packs ``total`` numbers, by all threads of a block. The first is bit ``skew`` of the stream, of 0 to
// 7: the address of ``numbers - skew`` is a multiple of what read_eight() needs.
DEVICE void pack_stream(u8 *stream, const number *numbers, i32 total, i32 skew, const Neurons &of, TEST) {
    i32 end = skew + total, whole = end / 8, byte = (skew > 0) + (i32)threadIdx.x;
    const number *aligned = numbers - skew;
    for (; byte + (IN_FLIGHT - 1) * 256 < whole; byte += IN_FLIGHT * 256) {
        Eight eight[IN_FLIGHT];
#pragma unroll
        for (int i = 0; i < IN_FLIGHT; i++) eight[i] = read_eight(aligned + 8 * (byte + 256 * i));
#pragma unroll
        for (int i = 0; i < IN_FLIGHT; i++) {
            i32 index = 8 * (byte + 256 * i) - skew;
            stream[byte + 256 * i] = (u8)pack_eight(eight[i], index, of, GIVEN_TEST);
        }
    }
    for (; byte < whole; byte += 256) {
        Eight eight = read_eight(aligned + 8 * byte);
        stream[byte] = (u8)pack_eight(eight, 8 * byte - skew, of, GIVEN_TEST);
    }
    if (threadIdx.x == 0 && skew) {
        stream[0] = (u8)pack_some(numbers, skew, end < 8 ? end : 8, skew, of, GIVEN_TEST);
    }
    if (threadIdx.x == 32 && end % 8 && (whole || !skew)) {
        stream[whole] = (u8)pack_some(numbers, 8 * whole, end, skew, of, GIVEN_TEST);
    }
}
