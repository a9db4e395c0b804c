// What both hash tables share: how they mix and refuse rows, and estimate how many are distinct.
//
// ``used`` counts the slots that rows have taken, a little late. From ``limit`` on, the table is closed to
// new rows. Rows that were already on their way may fill it further, so a search ends after MOST_STEPS
// slots. Rows without a slot are refused: they are listed, to be counted in a larger table. Every row is
// counted or refused, never both.

#define MOST_STEPS 128

enum Outcome { REFUSED, COUNTED, NEW };  // NEW: counted, in a slot that was empty

DEVICE u64 multiply_and_fold(u64 one, u64 other) { return one * other ^ __umul64hi(one, other); }

// Returns where each refused row of a warp is listed. All lanes of the warp must call this.
DEVICE u64 place_of_refused(bool refused, u64 *refusals) {
    u32 lane = threadIdx.x % 32, votes = __ballot_sync(~0u, refused);
    if (!votes) return 0;
    u64 first = 0;
    if (lane == 0) first = atomicAdd(refusals, (u64)__popc(votes));
    return __shfl_sync(~0u, first, 0) + __popc(votes & ((1u << lane) - 1));
}

// For the HyperLogLog estimate, each register holds the highest rank of the hashes that fell to it. A hash
// has rank r with probability 2**-r.
#define REGISTERS 4096

DEVICE void clear_registers(u32 *ranks) {
    for (u32 at = threadIdx.x; at < REGISTERS; at += blockDim.x) ranks[at] = 0;
    __syncthreads();
}

DEVICE void note_hash(u32 *ranks, u64 hash) {
    u64 mixed = multiply_and_fold(hash ^ 0xE7037ED1A0B428DBull, 0x9E3779B97F4A7C15ull);
    u32 at = (u32)mixed % REGISTERS, rank = 1 + __clz((u32)(mixed >> 32));
    if (read_shared(ranks + at) < rank) atomicMax(ranks + at, rank);
}

DEVICE void add_registers(const u32 *ranks, u32 *total) {
    __syncthreads();
    for (u32 at = threadIdx.x; at < REGISTERS; at += blockDim.x) {
        if (total[at] < ranks[at]) atomicMax(total + at, ranks[at]);
    }
}
