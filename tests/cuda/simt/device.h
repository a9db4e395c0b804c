// The kernels' device.h, for a CPU: fibers.cpp runs the threads.
#pragma once

#include <utility>

#include "fibers.h"

#define KERNEL extern "C" void
#define LARGE_KERNEL KERNEL
#define DEVICE static inline
#define SHARED static
#define SHARED_BYTES(name) u8 *name = simt::shared()

struct alignas(16) uint4 {
    u32 x, y, z, w;
};

namespace simt {

template <class... Parameters, std::size_t... I>
void call(void (*kernel)(Parameters...), void **arguments, std::index_sequence<I...>) {
    kernel(*(Parameters *)arguments[I]...);
}

// Calls a kernel with the arguments at some addresses.
template <class... Parameters>
void call(void (*kernel)(Parameters...), void **arguments) {
    call(kernel, arguments, std::index_sequence_for<Parameters...>{});
}

}  // namespace simt

#define blockIdx (simt::block())
#define gridDim (simt::grid())
#define blockDim (dim3{simt::threads(), 1, 1})
#define threadIdx (dim3{simt::thread(), 0, 0})

DEVICE void __syncthreads() { simt::barrier(); }
DEVICE void __syncwarp(u32 mask = ~0u) { simt::meet(mask, 0); }
DEVICE u32 __ballot_sync(u32 mask, bool vote) {
    const u64 *all = simt::meet(mask, vote);
    u32 votes = 0;
    for (u32 i = 0; i < 32; i++) votes |= (u32)((mask >> i & 1) && all[i]) << i;
    return votes;
}
DEVICE u32 __match_any_sync(u32 mask, u64 value) {
    const u64 *all = simt::meet(mask, value);
    u32 same = 0;
    for (u32 i = 0; i < 32; i++) same |= (u32)((mask >> i & 1) && all[i] == value) << i;
    return same;
}
template <class T>
T __shfl_sync(u32 mask, T value, u32 lane) {
    const u64 *all = simt::meet(mask, (u64)value);
    if (!(mask >> lane & 1)) simt::fail("a lane is asked that does not take part");
    return (T)all[lane];
}
template <class T>
T __shfl_xor_sync(u32 mask, T value, u32 distance) {
    return __shfl_sync(mask, value, threadIdx.x % 32 ^ distance);
}
DEVICE bool __all_sync(u32 mask, bool vote) { return __ballot_sync(mask, vote) == mask; }
// What comes before is written; other threads may see that before this one continues.
DEVICE void __threadfence() { simt::yield(); }
DEVICE void __threadfence_block() { simt::yield(); }
DEVICE i32 min(i32 one, i32 other) { return one < other ? one : other; }
DEVICE i32 max(i32 one, i32 other) { return one > other ? one : other; }
DEVICE int __ffs(int word) { return __builtin_ffs(word); }
DEVICE int __clz(u32 word) { return word ? __builtin_clz(word) : 32; }
DEVICE int __popc(u32 word) { return __builtin_popcount(word); }
DEVICE int __popcll(u64 word) { return __builtin_popcountll(word); }
DEVICE u32 __umulhi(u32 one, u32 other) { return (u32)((u64)one * other >> 32); }
DEVICE u64 __umul64hi(u64 one, u64 other) { return (u64)((unsigned __int128)one * other >> 64); }
DEVICE u32 __funnelshift_r(u32 low, u32 high, u32 bits) {
    return (u32)(((u64)high << 32 | low) >> bits % 32);
}
DEVICE uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return uint4{x, y, z, w}; }
// Compares as IEEE 754 does, with the bits of infinity: NaN is beyond, and -0.0 equals 0.0.
DEVICE bool greater_16(u32 one, u32 other, u32 infinity) {
    auto ordered = [](u32 bits) { return bits & 0x8000 ? -(i32)(bits & 0x7fff) : (i32)bits; };
    return (one & 0x7fff) <= infinity && ordered(one & 0xffff) > ordered(other & 0xffff);
}
DEVICE u32 greater_pair(u32 pair, u32 thresholds, u32 infinity) {
    u32 low = greater_16(pair & 0xffff, thresholds & 0xffff, infinity) ? 0xffffu : 0;
    return low | (greater_16(pair >> 16, thresholds >> 16, infinity) ? 0xffff0000u : 0);
}
DEVICE u32 greater_float16(u32 pair, u32 thresholds) {
    return greater_pair(pair, thresholds, 0x7c00);
}
DEVICE u32 greater_bfloat16(u32 pair, u32 thresholds) {
    return greater_pair(pair, thresholds, 0x7f80);
}
DEVICE u32 sign_bytes(u32 four) { return (four >> 7 & 0x01010101u) * 255; }
DEVICE uint4 read_once(const uint4 *address) { return *address; }
template <class Word>
Word read_constant(const Word *address) {
    return *address;
}
template <class Word>
Word read_now(const Word *address) {
    return *address;
}
template <class Word>
Word read_shared(const Word *address) {
    return *address;
}
DEVICE void write_now(u64 *address, u64 value) { *address = value; }

// Fibers never run at the same time: an ordinary access is atomic.
template <class T>
T atomicAdd(T *address, T value) {
    simt::perhaps_yield();
    T old = *address;
    *address += value;
    return old;
}
template <class T>
T atomicMax(T *address, T value) {
    simt::perhaps_yield();
    T old = *address;
    if (*address < value) *address = value;
    return old;
}
template <class T>
T atomicCAS(T *address, T expected, T value) {
    simt::perhaps_yield();
    T old = *address;
    if (old == expected) *address = value;
    return old;
}
