// Appending a batch of packed rows to a stage: memory whose state only the device knows, so that a CUDA
// graph can do it each time that it is replayed. A batch is appended whole, or not at all.
#include "device.h"
#include "copy_bytes.h"

// As in tensorstate_gpu/_arrays/stage_arrays.py.
enum { ROWS, INPUTS, BATCHES, LABELLED, LOST, ACTIVE };
enum { BATCH_ROWS, BATCH_INPUTS, LABELS };

DEVICE bool takes(const i64 *status, i64 number, i64 capacity) {
    return status[ACTIVE] && status[ROWS] + number <= capacity;
}

// Copies the ``number`` rows of a batch, of ``width`` bytes each, behind those that wait.
KERNEL append_rows(const u8 *batch, i64 number, i64 width, u8 *rows, i64 capacity, const i64 *status) {
    i64 byte = BYTES_AT_ONCE * ((i64)blockIdx.x * 256 + threadIdx.x), bytes = number * width;
    if (byte >= bytes || !takes(status, number, capacity)) return;
    copy_bytes(rows + status[ROWS] * width + byte, batch + byte, bytes - byte);
}

// Notes the batch that append_rows() has copied: one block. ``inputs`` is negative if it is not known
// whose rows these are; ``labels`` is null, or has one for each input.
KERNEL note_batch(i64 number, i64 inputs, const i64 *labels, i64 capacity, i64 *status, i64 *notes) {
    if (!status[ACTIVE]) return;
    bool fits = takes(status, number, capacity);
    i64 first = status[INPUTS], batch = status[BATCHES];
    if (fits && labels) {
        for (i64 i = threadIdx.x; i < inputs; i += 256) notes[LABELS * capacity + first + i] = labels[i];
    }
    __syncthreads();  // all threads have read the status
    if (threadIdx.x != 0) return;
    if (fits) {
        notes[BATCH_ROWS * capacity + batch] = number;
        notes[BATCH_INPUTS * capacity + batch] = inputs;
        status[ROWS] += number;
        status[INPUTS] += inputs > 0 ? inputs : 0;
        status[BATCHES] += 1;
        status[LABELLED] += labels != 0;
    } else {
        status[LOST] += number;
    }
}
