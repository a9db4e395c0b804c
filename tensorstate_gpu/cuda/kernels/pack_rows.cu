// Packing contiguous rows: one bit for each neuron that fires. Each activation is read once.
#include "device.h"
#include "firing.h"
#include "stream.h"

// Packs rows of whole bytes: byte i of the result is computed from numbers 8 * i on.
#define BYTES_PER_THREAD 4
KERNEL pack_whole_bytes(const number *numbers, u8 *packed, i64 bytes, i32 neurons, TEST) {
    i64 first = (i64)blockIdx.x * (BYTES_PER_THREAD * 256) + threadIdx.x;
    Eight eight[BYTES_PER_THREAD];
#pragma unroll
    for (int i = 0; i < BYTES_PER_THREAD; i++) {
        i64 byte = first + 256 * i;
        if (byte < bytes) eight[i] = read_eight(numbers + 8 * byte);
    }
    Neurons of = {1, neurons, 0};
#pragma unroll
    for (int i = 0; i < BYTES_PER_THREAD; i++) {
        i64 byte = first + 256 * i;
        if (byte < bytes) packed[byte] = (u8)pack_eight(eight[i], 8 * byte, of, GIVEN_TEST);
    }
}

// The eight bits of the stream from ``bit`` on, of which a row has only ``left``.
DEVICE u32 byte_of_row(const u8 *stream, i32 bit, i32 left) {
    u32 bits = stream[bit / 8] | (u32)stream[bit / 8 + 1] << 8;
    return bits >> (bit % 8) & (left < 8 ? (1u << left) - 1 : 255u);
}

// Packs rows of any number of neurons. A block packs ``block_rows`` rows, a multiple of 8, as one
// stream, and extracts the rows from it: a thread makes four bytes of the result.
#define STREAM_BYTES 4096
KERNEL pack_rows(const number *numbers, u8 *packed, i64 states, i32 neurons, i32 block_rows, TEST) {
    SHARED u8 stream[STREAM_BYTES + 8];
    i64 first = (i64)blockIdx.x * block_rows;
    i32 rows = (i32)(states - first < block_rows ? states - first : block_rows);
    const number *tile = numbers + first * neurons;
    pack_stream(stream, tile, rows * neurons, 0, Neurons{1, neurons, 0}, GIVEN_TEST);
    __syncthreads();
    i32 row_bytes = (neurons + 7) / 8, bytes = rows * row_bytes;
    u8 *target = packed + first * row_bytes;
    for (i32 byte = 4 * threadIdx.x; byte < bytes; byte += 4 * 256) {
        i32 row = byte / row_bytes, neuron = byte % row_bytes * 8;
        u32 four = 0;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            four |= byte_of_row(stream, row * neurons + neuron, neurons - neuron) << (8 * i);
            neuron += 8;
            if (neuron >= neurons) neuron = 0, row++;
        }
        if (byte + 4 <= bytes) {
            *(u32 *)(target + byte) = four;
        } else {
            for (; byte < bytes; byte++, four >>= 8) target[byte] = (u8)four;
        }
    }
}
