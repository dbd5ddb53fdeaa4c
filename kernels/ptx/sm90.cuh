#pragma once
// Thin wrappers of sm_90's instructions for warp-specialised kernels: barriers in shared memory, the copy engine,
// register hand-over, named barriers. Addresses are 32-bit shared-memory addresses. Matrix products: wgmma.cuh.

#include <cuda.h>

#include <cstdint>

namespace draft::gpu {

// --- barriers in shared memory: 8 bytes; a phase ends when `count` threads and all expected bytes have arrived ---

__device__ inline void barrier_init(std::uint32_t barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}
/// Makes the initialised barriers known to the copy engine; then a __syncthreads() for the other threads.
__device__ inline void barrier_init_done() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ inline void arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/// Arrives, and holds the phase open for `bytes` from the copy engine.
__device__ inline void arrive_and_expect(std::uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
/// Waits for the end of the phase of this parity: 0 for the first phase, 1 for the second, ... A fresh barrier lets
/// parity 1 pass.
__device__ inline void wait_for_phase(std::uint32_t barrier, std::uint32_t parity) {
  std::uint32_t done;
  do {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
  } while (done == 0);
}

// --- the copy engine ---

/// What L2 should do with the lines of a copy.
__device__ inline std::uint64_t keep_in_l2() {
  std::uint64_t policy;
  asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ inline std::uint64_t drop_from_l2() {
  std::uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

/// Copies a box to shared memory; its bytes, those outside the map included, arrive at `barrier`.
__device__ inline void load_box(std::uint32_t to, const CUtensorMap* map, int channel, int x, int y, int z, int head,
                                std::uint32_t barrier, std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3, %4, %5, %6}], [%7], %8;" ::"r"(to),
      "l"(map), "r"(channel), "r"(x), "r"(y), "r"(z), "r"(head), "r"(barrier), "l"(policy)
      : "memory");
}
/// The same box to the same place of both CTAs of a pair; its bytes arrive at the same barrier of each.
__device__ inline void load_box_for_pair(std::uint32_t to, const CUtensorMap* map, int channel, int x, int y, int z,
                                         int head, std::uint32_t barrier, std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
      ".L2::cache_hint [%0], [%1, {%2, %3, %4, %5, %6}], [%7], %9, %8;" ::"r"(to),
      "l"(map), "r"(channel), "r"(x), "r"(y), "r"(z), "r"(head), "r"(barrier), "l"(policy),
      "h"(static_cast<std::uint16_t>(3))
      : "memory");
}
/// Copies a box from shared memory; what lies outside the map is left out.
__device__ inline void store_box(const CUtensorMap* map, int channel, int x, int y, int z, int head,
                                 std::uint32_t from) {
  asm volatile(
      "cp.async.bulk.tensor.5d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3, %4, %5}], [%6];" ::"l"(map),
      "r"(channel), "r"(x), "r"(y), "r"(z), "r"(head), "r"(from)
      : "memory");
}
__device__ inline void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// Until this thread's stores have read shared memory.
__device__ inline void wait_for_store_reads() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
/// This thread's ordinary writes to shared memory come before what the copy engine does after a barrier.
__device__ inline void publish_to_copy_engine() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// --- clusters of CTAs ---

/// The address that `address` of this CTA has in the CTA of this rank.
__device__ inline std::uint32_t address_in_cluster(std::uint32_t address, int rank) {
  std::uint32_t mapped;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
}
/// At a barrier of any CTA: `mapped` comes from address_in_cluster().
__device__ inline void arrive_in_cluster(std::uint32_t mapped) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(mapped) : "memory");
}
/// Waits until every thread of the cluster has come here or ended; what they wrote before is seen after.
__device__ inline void meet_cluster() {
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

// --- warps and their registers ---

/// By all four warps of a warpgroup.
template <int kRegisters>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// Named barrier: ends when `threads` have come, by sync (which waits) or by arrive (which does not).
__device__ inline void named_sync(int barrier, int threads) {
  asm volatile("barrier.cta.sync.aligned %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ inline void named_arrive(int barrier, int threads) {
  asm volatile("barrier.cta.arrive.aligned %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/// Four 8 x 8 matrices of 2-byte elements; lane l gives the address of row l % 8 of matrix l / 8.
__device__ inline void store_matrices(std::uint32_t address, std::uint32_t a, std::uint32_t b, std::uint32_t c,
                                      std::uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(a), "r"(b),
               "r"(c), "r"(d)
               : "memory");
}

}  // namespace draft::gpu
