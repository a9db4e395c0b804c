// What kernels call of fibers.cpp. Short, and without headers of the standard library: the compiler
// reads it once for each variant of each kernel.
#pragma once

typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

struct dim3 {
    u32 x = 1, y = 1, z = 1;
};

namespace simt {

const u32 WARP = 32;

// Of the thread that runs.
u32 thread();
dim3 block();
u32 threads();
dim3 grid();
u8 *shared();  // memory of its block, of the size that the launch says

[[noreturn]] void fail(const char *why);

// Lets other threads go on.
void yield();
// Lets other threads go on, also of another block: before some atomic operations, by chance.
void perhaps_yield();
// Waits for all threads of the block.
void barrier();
// Synchronises all threads of ``mask``; each receives the values of all of them.
const u64 *meet(u32 mask, u64 value);

// Runs ``body`` in each thread. ``together``: of how many blocks the threads take turns.
void run(void (*body)(void **), void **arguments, dim3 grid, u32 threads, u32 shared, u32 together);

}  // namespace simt
