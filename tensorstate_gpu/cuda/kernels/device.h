// What the kernels use beyond plain C++. The tests have a header of this name too, under which the
// same kernels run on a CPU; a kernel itself never asks which compiler builds it.
#pragma once

typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define KERNEL extern "C" __global__ void __launch_bounds__(256)
#define DEVICE static __device__ __forceinline__
#define SHARED __shared__

// Sixteen bytes that are read once: they need not stay in the caches.
DEVICE uint4 read_once(const uint4 *address) { return __ldcs(address); }
