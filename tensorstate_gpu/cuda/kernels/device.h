// What the kernels use beyond plain C++.
//
// The tests have a header of the same name, with which the same kernels run on a CPU. A kernel itself
// never tests which compiler builds it.
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
#define LARGE_KERNEL extern "C" __global__ void __launch_bounds__(1024, 1)
#define DEVICE static __device__ __forceinline__
#define SHARED __shared__
// Shared memory of the size that the launch says.
#define SHARED_BYTES(name) extern __shared__ __align__(16) u8 name[]

// Compares two 16-bit floats with the two halves of the threshold: all ones where one is greater.
DEVICE u32 greater_float16(u32 pair, u32 thresholds) {
    u32 mask;
    asm("set.gt.u32.f16x2 %0, %1, %2;" : "=r"(mask) : "r"(pair), "r"(thresholds));
    return mask;
}

DEVICE u32 greater_bfloat16(u32 pair, u32 thresholds) {
#if __CUDA_ARCH__ >= 900
    u32 mask;
    asm("set.gt.u32.bf16x2 %0, %1, %2;" : "=r"(mask) : "r"(pair), "r"(thresholds));
    return mask;
#else  // The upper half of a float32 is a bfloat16. Not with >, which CuPy makes flush subnormals.
    u32 low, high;
    asm("set.gt.u32.f32 %0, %1, %2;"
        : "=r"(low) : "f"(__uint_as_float(pair << 16)), "f"(__uint_as_float(thresholds << 16)));
    asm("set.gt.u32.f32 %0, %1, %2;" : "=r"(high)
        : "f"(__uint_as_float(pair & 0xffff0000u)), "f"(__uint_as_float(thresholds & 0xffff0000u)));
    return (low & 0xffffu) | (high & 0xffff0000u);
#endif
}

// Returns all ones in each byte whose highest bit is set.
DEVICE u32 sign_bytes(u32 four) {
    u32 signs;
    asm("prmt.b32 %0, %1, 0, 0xba98;" : "=r"(signs) : "r"(four));
    return signs;
}

// Reads sixteen bytes that are read only once, so they need not stay in the caches.
DEVICE uint4 read_once(const uint4 *address) { return __ldcs(address); }

// Reads what nothing writes while the kernel runs.
template <class Word>
DEVICE Word read_constant(const Word *address) { return __ldg(address); }

// Reads what other blocks may have just written: past the cache of the multiprocessor.
template <class Word>
DEVICE Word read_now(const Word *address) { return __ldcg(address); }
// Reads shared memory that other threads of the block may be changing, with atomic operations. It is read
// at once. compute-sanitizer calls that a race all the same, unless the reads are such operations too.
template <class Word>
DEVICE Word read_shared(const Word *address) {
#ifdef ATOMIC_READS
    return atomicAdd((Word *)address, (Word)0);
#else
    return *(const volatile Word *)address;
#endif
}
DEVICE void write_now(u64 *address, u64 value) { __stcg(address, value); }
