// Packing rows of neighbouring neurons that have gaps between them, or begin anywhere: slices of wider
// arrays, rows of odd widths, rows of which each neuron has a threshold of its own.
//
// With -DALIGNED=1, all rows begin where eight numbers can be read at once. With -DALIGNED=0 a thread reads
// the eight around the first number of its byte, and has the bits that are still missing from the next lane.
// -DAXES=0, 1 or 2 is the number of axes further out than the rows.
#include "device.h"
#include "divide.h"
#include "firing.h"

#define BYTES_PER_THREAD 4
#define READ (BITS < 16 ? BITS : 16)  // bytes, of which the address of a read is a multiple

// Row r is number r % run of image r / run. Strides are counted in numbers.
struct Rows {
    i32 neurons;
    Divisor bytes, run, images;  // of a row, of an image, of each of the images further out
    i32 run_stride, image_stride, outer_stride;
};

// A byte of the result: of the neurons ``first`` to 7 more, if as many are left of its row. ``begin`` numbers
// of the eight at ``numbers`` are those before.
struct Byte {
    const number *numbers;
    i32 first, left, begin;
};

DEVICE Byte byte_at(const number *numbers, u32 byte, const Rows &rows) {
    u32 row = divide(byte, rows.bytes), image = AXES > 0 ? divide(row, rows.run) : 0;
    u32 outer = AXES > 1 ? divide(image, rows.images) : 0;
    i32 first = (i32)(byte - row * rows.bytes.by) * 8;
    i64 offset = first + (i64)(i32)(row - image * rows.run.by) * rows.run_stride;
    if (AXES > 0) offset += (i64)(i32)(image - outer * rows.images.by) * rows.image_stride;
    if (AXES > 1) offset += (i64)(i32)outer * rows.outer_stride;
    i32 begin = ALIGNED ? 0 : (i32)((u64)(numbers + offset) % READ / sizeof(number));
    return {numbers + offset - begin, first, rows.neurons - first, begin};
}

// Packs eight numbers, of which the first is that of neuron ``first``; it may be of another row.
DEVICE u32 pack_of_row(const Eight &eight, i32 first, i32 neurons, TEST) {
#if PER_NEURON
    u32 byte = 0;
#if ALIGNED
    Eight least = read_again(lows + first), most = read_again(highs + first);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        number key = key_of(eight.numbers[i], GIVEN_TEST);
        byte |= (u32)(least.numbers[i] <= key && key <= most.numbers[i]) << i;
    }
#else
#pragma unroll
    for (int i = 0; i < 8; i++) {
        i32 neuron = min(max(first + i, 0), neurons - 1);
        byte |= (u32)fires(eight.numbers[i], neuron, GIVEN_TEST) << i;
    }
#endif
    return byte;
#else
    return pack_eight(eight, first, Neurons{1, neurons, 0}, GIVEN_TEST);
#endif
}

// The bits of the next eight numbers, as far as the row has them.
DEVICE u32 pack_next(const Byte &of, const Rows &rows, TEST) {
    Eight eight = read_some(of.numbers + 8, of.begin + of.left - 8);
    return pack_of_row(eight, of.first - of.begin + 8, rows.neurons, GIVEN_TEST);
}

KERNEL pack_pitched(const number *numbers, u8 *packed, u32 bytes, i32 neurons, u32 row_bytes,
                    u32 row_multiplier, u32 row_shift, u32 run, u32 run_multiplier, u32 run_shift, u32 images,
                    u32 images_multiplier, u32 images_shift, i32 run_stride, i32 image_stride,
                    i32 outer_stride, TEST) {
    Rows rows = {neurons, {row_bytes, row_multiplier, row_shift}, {run, run_multiplier, run_shift},
                 {images, images_multiplier, images_shift}, run_stride, image_stride, outer_stride};
    u32 lane = threadIdx.x % 32;
    u32 byte = blockIdx.x * (BYTES_PER_THREAD * 256) + threadIdx.x / 32 * (BYTES_PER_THREAD * 32) + lane;
    Byte of[BYTES_PER_THREAD];
    Eight eight[BYTES_PER_THREAD];
#pragma unroll
    for (int i = 0; i < BYTES_PER_THREAD; i++) {
        of[i] = {numbers, 0, 0, 0};
        if (byte + 32 * i >= bytes) continue;
        of[i] = byte_at(numbers, byte + 32 * i, rows);
        i32 end = of[i].begin + of[i].left;
        eight[i] = end >= 8 ? read_eight(of[i].numbers) : read_some(of[i].numbers, end);
    }
    u32 bits[BYTES_PER_THREAD + 1] = {};
#pragma unroll
    for (int i = 0; i < BYTES_PER_THREAD; i++) {
        if (of[i].left) bits[i] = pack_of_row(eight[i], of[i].first - of[i].begin, neurons, GIVEN_TEST);
    }
#pragma unroll
    for (int i = 0; i < BYTES_PER_THREAD; i++) {
        u32 mine = bits[i];
#if !ALIGNED
        u32 next = __shfl_sync(~0u, lane == 0 ? bits[i + 1] : bits[i], (lane + 1) % 32);
        bool last = of[i].left <= 8 || (lane == 31 && i == BYTES_PER_THREAD - 1);
        if (last && of[i].begin + of[i].left > 8) next = pack_next(of[i], rows, GIVEN_TEST);
        mine = (mine | next << 8) >> of[i].begin;
#endif
        u32 mask = of[i].left < 8 ? (1u << of[i].left) - 1 : 255u;
        if (of[i].left) packed[byte + 32 * i] = (u8)(mine & mask);
    }
}
