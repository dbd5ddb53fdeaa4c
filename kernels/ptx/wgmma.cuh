#pragma once
// Matrix products of a warpgroup on sm_90a (wgmma): asynchronous, issued by four warps together, sums in fp32
// registers. Warp w of the warpgroup holds rows 16 w to 16 w + 15 of a product; sums[4 n + 2 h + i] of lane l is row 16
// w + l / 4 + 8 h, column 8 n + l % 4 * 2 + i. Descriptors: wgmma_descriptor.hpp.
//
// From begin_products() until the wait for them nothing may read or write a product's sums or A registers. The waits
// take these registers as operands, so that the compiler cannot move a use ahead of the wait.

#include <cstdint>

#include "kernels/ptx/mma.cuh"
#include "reference/choices.hpp"

namespace draft::gpu {

/// Needed before the first of several products if other instructions have written their registers.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// An asm statement names each of its registers: the macros below spell out 32 and 64 of them. They end with this file.
#define DRAFT_NAMES_32                                                                                             \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
  "%24, %25, %26, %27, %28, %29, %30, %31"
#define DRAFT_NAMES_64                                                                                             \
  DRAFT_NAMES_32                                                                                                   \
  ", "                                                                                                             \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, " \
  "%54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define DRAFT_SUMS_8(sums, i)                                                                                   \
  "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]), "+f"(sums[i + 4]), "+f"(sums[i + 5]), \
      "+f"(sums[i + 6]), "+f"(sums[i + 7])
#define DRAFT_SUMS_32(sums, i) \
  DRAFT_SUMS_8(sums, i), DRAFT_SUMS_8(sums, i + 8), DRAFT_SUMS_8(sums, i + 16), DRAFT_SUMS_8(sums, i + 24)
#define DRAFT_SUMS_64(sums) DRAFT_SUMS_32(sums, 0), DRAFT_SUMS_32(sums, 32)
#define DRAFT_LEFT_8(p, n)                                                                                      \
  "r"(p[n][0]), "r"(p[n][1]), "r"(p[n][2]), "r"(p[n][3]), "r"(p[n + 1][0]), "r"(p[n + 1][1]), "r"(p[n + 1][2]), \
      "r"(p[n + 1][3])

/// Waits until at most kOpen committed groups are still running; then `sums` may be used.
template <int kOpen>
__device__ inline void wait_for_products(float (&sums)[64]) {
  asm volatile("wgmma.wait_group.sync.aligned %64;" : DRAFT_SUMS_64(sums) : "n"(kOpen) : "memory");
}
/// Waits for all groups; then `sums` may be used and `left`, the A registers, may be overwritten.
__device__ inline void wait_for_products(float (&sums)[64], const std::uint32_t (&left)[8][4]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;"
               : DRAFT_SUMS_64(sums)
               : DRAFT_LEFT_8(left, 0), DRAFT_LEFT_8(left, 2), DRAFT_LEFT_8(left, 4), DRAFT_LEFT_8(left, 6)
               : "memory");
}
__device__ inline void wait_for_products(float (&sums)[32], const std::uint32_t (&left)[8][4]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;"
               : DRAFT_SUMS_32(sums, 0)
               : DRAFT_LEFT_8(left, 0), DRAFT_LEFT_8(left, 2), DRAFT_LEFT_8(left, 4), DRAFT_LEFT_8(left, 6)
               : "memory");
}

// TURNED is 1 if the sum runs over B's rows, so that B is read transposed (V), and 0 if it runs over its channels (K).
#define DRAFT_LEFT_IN_REGISTERS(TYPE, N, NAMES, SUMS, A0, A1, A2, A3, B, ADD, TURNED)    \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " ADD                                   \
               ", 0;\n"                                                                  \
               "wgmma.mma_async.sync.aligned.m64n" N "k16.f32." TYPE "." TYPE " {" NAMES \
               "}, "                                                                     \
               "{" A0 ", " A1 ", " A2 ", " A3 "}, " B ", p, 1, 1, " TURNED ";\n}"        \
               : SUMS                                                                    \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate))

/// sums[64 x 128] (+)= A[64 x 16] B[128 x 16]^T; A in registers, B in shared memory with contiguous channels. The sums
/// are overwritten if `accumulate` is 0.
template <Element kElement>
__device__ inline void multiply_by_rows(float (&sums)[64], const std::uint32_t (&a)[4], std::uint64_t b,
                                        int accumulate) {
  if constexpr (kElement == Element::bfloat16) {
    DRAFT_LEFT_IN_REGISTERS("bf16", "128", DRAFT_NAMES_64, DRAFT_SUMS_64(sums), "%64", "%65", "%66", "%67", "%68",
                            "%69", "0");
  } else {
    DRAFT_LEFT_IN_REGISTERS("f16", "128", DRAFT_NAMES_64, DRAFT_SUMS_64(sums), "%64", "%65", "%66", "%67", "%68", "%69",
                            "0");
  }
}

/// sums[64 x 128] += A[64 x 16] B[16 x 128]; A in registers, B in shared memory.
template <Element kElement>
__device__ inline void multiply_left(float (&sums)[64], const std::uint32_t (&a)[4], std::uint64_t b) {
  constexpr int accumulate = 1;
  if constexpr (kElement == Element::bfloat16) {
    DRAFT_LEFT_IN_REGISTERS("bf16", "128", DRAFT_NAMES_64, DRAFT_SUMS_64(sums), "%64", "%65", "%66", "%67", "%68",
                            "%69", "1");
  } else {
    DRAFT_LEFT_IN_REGISTERS("f16", "128", DRAFT_NAMES_64, DRAFT_SUMS_64(sums), "%64", "%65", "%66", "%67", "%68", "%69",
                            "1");
  }
}
/// sums[64 x 64] += A[64 x 16] B[16 x 64].
template <Element kElement>
__device__ inline void multiply_left(float (&sums)[32], const std::uint32_t (&a)[4], std::uint64_t b) {
  constexpr int accumulate = 1;
  if constexpr (kElement == Element::bfloat16) {
    DRAFT_LEFT_IN_REGISTERS("bf16", "64", DRAFT_NAMES_32, DRAFT_SUMS_32(sums, 0), "%32", "%33", "%34", "%35", "%36",
                            "%37", "1");
  } else {
    DRAFT_LEFT_IN_REGISTERS("f16", "64", DRAFT_NAMES_32, DRAFT_SUMS_32(sums, 0), "%32", "%33", "%34", "%35", "%36",
                            "%37", "1");
  }
}

// 8-bit products: 32 channels or keys at a time; B always with the summed axis contiguous, there is no transposed read.

#define DRAFT_INTEGER_SUMS_8(sums, i)                                                                           \
  "+r"(sums[i]), "+r"(sums[i + 1]), "+r"(sums[i + 2]), "+r"(sums[i + 3]), "+r"(sums[i + 4]), "+r"(sums[i + 5]), \
      "+r"(sums[i + 6]), "+r"(sums[i + 7])
#define DRAFT_INTEGER_SUMS_32(sums, i)                                                                  \
  DRAFT_INTEGER_SUMS_8(sums, i), DRAFT_INTEGER_SUMS_8(sums, i + 8), DRAFT_INTEGER_SUMS_8(sums, i + 16), \
      DRAFT_INTEGER_SUMS_8(sums, i + 24)

/// sums[64 x 128] += A[64 x 32] B[128 x 32]^T of INT8 numbers, exact; A in registers, B in shared memory.
__device__ inline void multiply_int8(std::int32_t (&sums)[64], const std::uint32_t (&a)[4], std::uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.s8 {" DRAFT_NAMES_64 "}, {%64, %65, %66, %67}, %68, 1;"
               : DRAFT_INTEGER_SUMS_32(sums, 0), DRAFT_INTEGER_SUMS_32(sums, 32)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
/// Sets sums to the bits of kIntegerBias, two at a time: products added to it by multiply_int8() are then, as a float,
/// this number plus their sum, exactly, as long as that is below 2^22. Conversions take as many instructions again.
/// `zero`: 0, which the compiler must not know to be 0.
__device__ inline void bias_sums(std::int32_t (&sums)[64], std::uint32_t zero) {
#pragma unroll
  for (int i = 0; i < 64; i += 2) {
    std::uint64_t two;
    asm volatile("mad.wide.u32 %0, %1, %1, %2;" : "=l"(two) : "r"(zero), "l"(0x4B4000004B400000ULL));
    sums[i] = static_cast<std::int32_t>(two);
    sums[i + 1] = static_cast<std::int32_t>(two >> 32);
  }
}
template <int kOpen>
__device__ inline void wait_for_products(std::int32_t (&sums)[64]) {
  asm volatile("wgmma.wait_group.sync.aligned %64;"
               : DRAFT_INTEGER_SUMS_32(sums, 0), DRAFT_INTEGER_SUMS_32(sums, 32)
               : "n"(kOpen)
               : "memory");
}

#define DRAFT_SUMS_4(sums, i) "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3])

/// sums[64 x 136] (+)= A[64 x 32] B[136 x 32]^T of E4M3 numbers; A in registers, B in shared memory. The hardware keeps
/// about 13 fraction bits of a sum.
__device__ inline void multiply_e4m3(float (&sums)[68], const std::uint32_t (&a)[4], std::uint64_t b, int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %73, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n136k32.f32.e4m3.e4m3 {" DRAFT_NAMES_64
      ", %64, %65, %66, %67}, {%68, %69, %70, %71}, %72, p, 1, 1;\n}"
      : DRAFT_SUMS_64(sums), DRAFT_SUMS_4(sums, 64)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}
/// Waits until at most kOpen groups are still running; then `sums` may be used and `left`, the A registers, may be
/// overwritten.
template <int kOpen>
__device__ inline void wait_for_products(float (&sums)[68], const std::uint32_t (&left)[4][4]) {
  asm volatile("wgmma.wait_group.sync.aligned %84;"
               : DRAFT_SUMS_64(sums), DRAFT_SUMS_4(sums, 64)
               : DRAFT_LEFT_8(left, 0), DRAFT_LEFT_8(left, 2), "n"(kOpen)
               : "memory");
}

/// sums[64 x 128] (+)= A[64 x 8] B[128 x 8]^T in TF32; A in registers, B in shared memory with contiguous channels.
__device__ inline void multiply_tf32(float (&sums)[64], const std::uint32_t (&a)[4], std::uint64_t b, int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k8.f32.tf32.tf32 {" DRAFT_NAMES_64
      "}, {%64, %65, %66, %67}, %68, p, 1, 1;\n}"
      : DRAFT_SUMS_64(sums)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}

#undef DRAFT_SUMS_4
#undef DRAFT_INTEGER_SUMS_32
#undef DRAFT_INTEGER_SUMS_8
#undef DRAFT_LEFT_IN_REGISTERS
#undef DRAFT_LEFT_8
#undef DRAFT_SUMS_64
#undef DRAFT_SUMS_32
#undef DRAFT_SUMS_8
#undef DRAFT_NAMES_64
#undef DRAFT_NAMES_32

}  // namespace draft::gpu
