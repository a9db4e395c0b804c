// The kernels' device.h, for a CPU: one fiber per thread of a block, so that barriers and warp
// operations really wait for the others, and the compiler's sanitizers watch every access.
//
// Threads of a block run sequentially, each until it must wait. If a barrier is missing, a thread reads
// data that is not written yet. Blocks run sequentially, or two at a time: then their threads take
// turns, and before some atomic operations others go on.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <tuple>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#include <sanitizer/common_interface_defs.h>

typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define KERNEL extern "C" void
#define LARGE_KERNEL KERNEL
#define DEVICE static inline
#define SHARED static
#define SHARED_BYTES(name) u8 *name = (u8 *)simt::machine().block->shared.data()

struct alignas(16) uint4 {
    u32 x, y, z, w;
};
struct dim3 {
    u32 x = 1, y = 1, z = 1;
};

namespace simt {

const u32 WARP = 32, STACK = 1 << 16, MOST_THREADS = 1024, MOST_BLOCKS = 2;

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK]};
    void *fake_stack = nullptr;
    u32 number = 0;
    bool done = false, at_barrier = false, at_warp = false;
};

struct Rendezvous {
    u32 arrived = 0;
    u64 values[WARP] = {}, all[WARP] = {};
    u64 generation = 0;
};

struct Block {
    dim3 index;
    std::vector<Fiber> fibers;  // one for each thread
    std::map<u32, Rendezvous> warps[MOST_THREADS / WARP];
    std::vector<u64> shared;  // of the size that the launch says
};

struct Machine {
    Block blocks[MOST_BLOCKS];
    Block *block = nullptr;  // the current one
    ucontext_t scheduler;
    void *scheduler_fake = nullptr;
    const void *scheduler_stack = nullptr;
    size_t scheduler_size = 0;
    Fiber *current = nullptr;
    void (*body)(void *) = nullptr;
    void *argument = nullptr;
    dim3 grid;
    u32 chance = 1;
};

inline Machine &machine() {
    static Machine instance;
    return instance;
}

[[noreturn]] inline void fail(const char *why) {
    std::fprintf(stderr, "simt: %s\n", why);
    std::abort();
}

// Returns to the scheduler, until it resumes this fiber.
inline void yield(bool finished = false) {
    Machine &m = machine();
    Fiber *self = m.current;
    __sanitizer_start_switch_fiber(finished ? nullptr : &self->fake_stack, m.scheduler_stack,
                                   m.scheduler_size);
    swapcontext(&self->context, &m.scheduler);
    __sanitizer_finish_switch_fiber(self->fake_stack, nullptr, nullptr);
}

inline void entry() {
    Machine &m = machine();
    __sanitizer_finish_switch_fiber(nullptr, &m.scheduler_stack, &m.scheduler_size);
    m.body(m.argument);
    m.current->done = true;
    yield(true);
}

inline void resume(Fiber &fiber) {
    Machine &m = machine();
    m.current = &fiber;
    __sanitizer_start_switch_fiber(&m.scheduler_fake, fiber.stack.get(), STACK);
    swapcontext(&m.scheduler, &fiber.context);
    __sanitizer_finish_switch_fiber(m.scheduler_fake, nullptr, nullptr);
}

inline void start(Block &block, dim3 index, u32 threads, u32 shared) {
    block.index = index;
    block.fibers.resize(threads);
    block.shared.assign((shared + 7) / 8, 0xA5A5A5A5A5A5A5A5ull);
    for (u32 i = 0; i < threads; i++) {
        Fiber &fiber = block.fibers[i];
        fiber.number = i;
        fiber.done = fiber.at_barrier = fiber.at_warp = false;
        fiber.fake_stack = nullptr;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, entry, 0);
    }
}

// Runs each thread of a block until it must wait. Returns whether the block has ended.
inline bool advance(Block &block) {
    machine().block = &block;
    u32 done = 0, waiting = 0, threads = (u32)block.fibers.size();
    bool moved = false;
    for (Fiber &fiber : block.fibers) {
        if (!fiber.done && !fiber.at_barrier && !fiber.at_warp) {
            resume(fiber);
            moved = true;
        }
        done += fiber.done;
        waiting += fiber.at_barrier;
    }
    if (done == threads) return true;
    if (done + waiting == threads) {
        for (Fiber &fiber : block.fibers) fiber.at_barrier = false;
    } else if (!moved) {
        fail("threads wait for others that never come");
    }
    return false;
}

inline void barrier() {
    machine().current->at_barrier = true;
    yield();
}

// Synchronises all threads of ``mask``; each receives the values of all of them.
inline const u64 *meet(u32 mask, u64 value) {
    Machine &m = machine();
    Fiber *self = m.current;
    u32 lane = self->number % WARP, warp = self->number / WARP;
    if (!(mask >> lane & 1)) fail("a warp operation is called by a thread outside its mask");
    Block &block = *m.block;
    Rendezvous &here = block.warps[warp][mask];
    here.values[lane] = value;
    here.arrived |= 1u << lane;
    if (here.arrived != mask) {
        self->at_warp = true;
        yield();
    } else {
        std::memcpy(here.all, here.values, sizeof here.all);
        here.arrived = 0;
        for (u32 i = 0; i < WARP; i++) {
            if (mask >> i & 1) block.fibers[warp * WARP + i].at_warp = false;
        }
    }
    return here.all;
}

// Lets other threads go on, also of another block: before some atomic operations, by chance.
inline void perhaps_yield() {
    u32 &chance = machine().chance;
    chance = chance * 1664525 + 1013904223;
    if (chance >> 29 == 0) yield();
}

// ``together``: of how many blocks the threads take turns.
template <class... Parameters>
void launch(void (*kernel)(Parameters...), dim3 grid, u32 threads, u32 shared, u32 together,
            void **arguments) {
    auto call = [&]<size_t... I>(std::index_sequence<I...>) {
        kernel(*(std::remove_const_t<Parameters> *)arguments[I]...);
    };
    auto body = [&] { call(std::index_sequence_for<Parameters...>{}); };
    Machine &m = machine();
    m.body = [](void *argument) { (*(decltype(body) *)argument)(); };
    m.argument = &body;
    m.grid = grid;
    u64 next = 0, blocks = (u64)grid.x * grid.y;
    bool runs[MOST_BLOCKS] = {};
    for (u64 ended = 0; ended < blocks;) {
        for (u32 i = 0; i < together; i++) {
            if (!runs[i] && next < blocks) {
                start(m.blocks[i], dim3{(u32)(next % grid.x), (u32)(next / grid.x), 1}, threads, shared);
                runs[i] = true;
                next++;
            }
            if (runs[i] && advance(m.blocks[i])) {
                runs[i] = false;
                ended++;
            }
        }
    }
}

}  // namespace simt

#define blockIdx (simt::machine().block->index)
#define gridDim (simt::machine().grid)
#define blockDim (dim3{(u32)simt::machine().block->fibers.size(), 1, 1})
#define threadIdx (dim3{simt::machine().current->number, 0, 0})

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
DEVICE int __ffs(int word) { return __builtin_ffs(word); }
DEVICE int __clz(u32 word) { return word ? __builtin_clz(word) : 32; }
DEVICE int __popc(u32 word) { return __builtin_popcount(word); }
DEVICE int __popcll(u64 word) { return __builtin_popcountll(word); }
DEVICE u32 __umulhi(u32 one, u32 other) { return (u32)((u64)one * other >> 32); }
DEVICE u64 __umul64hi(u64 one, u64 other) { return (u64)((unsigned __int128)one * other >> 64); }
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
DEVICE uint4 read_once(const uint4 *address) { return *address; }
template <class Word>
Word read_constant(const Word *address) {
    return *address;
}
template <class Word>
Word read_now(const Word *address) {
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
