// Packing with any strides, counted in bytes: a thread packs one byte of one state.
//
// Compiled with -DINDEX=32 or 64, the bits of an index: divisions by 64-bit numbers are several times
// slower.
#include "device.h"
#include "firing.h"

#if INDEX == 32
typedef u32 uindex;
#else
typedef u64 uindex;
#endif

// ``shape_i`` and ``stride_i`` are those of the ``axes`` outer axes, the last axis first.
DEVICE i64 outer_offset(uindex at, i32 axes, const uindex *shape, const i64 *strides) {
    i64 offset = 0;
#pragma unroll
    for (int axis = 0; axis < 6; axis++) {
        if (axis == axes) break;
        offset += (i64)(at % shape[axis]) * strides[axis];
        at /= shape[axis];
    }
    return offset;
}

KERNEL pack_strided(const u8 *numbers, u8 *packed, uindex states, uindex run, i64 run_stride,
                    i64 neurons, i64 neuron_stride, i32 axes, uindex shape_0, uindex shape_1,
                    uindex shape_2, uindex shape_3, uindex shape_4, uindex shape_5, i64 stride_0, i64 stride_1,
                    i64 stride_2, i64 stride_3, i64 stride_4, i64 stride_5, TEST) {
    uindex row_bytes = (uindex)((neurons + 7) / 8), thread = (uindex)blockIdx.x * 256 + threadIdx.x;
    uindex state = thread / row_bytes;
    i64 first = (i64)(thread % row_bytes) * 8;
    if (state >= states) return;
    const uindex shape[6] = {shape_0, shape_1, shape_2, shape_3, shape_4, shape_5};
    const i64 strides[6] = {stride_0, stride_1, stride_2, stride_3, stride_4, stride_5};
    const u8 *source = numbers + (i64)(state % run) * run_stride + first * neuron_stride;
    source += outer_offset(state / run, axes, shape, strides);
    u32 byte = 0;
    for (i64 i = 0; i < 8 && first + i < neurons; i++) {
        number bits = *(const number *)(source + i * neuron_stride);
        byte |= (u32)fires(bits, first + i, GIVEN_TEST) << i;
    }
    packed[thread] = (u8)byte;
}
