#pragma once
// Thin wrappers of sm_90's instructions for warp-specialised kernels: barriers in shared memory (mbarrier), the copy
// engine (TMA), moving registers between warpgroups (setmaxnreg), named barriers. Addresses are 32-bit shared-memory
// addresses. Matrix products: wgmma.cuh.

#include <cuda.h>

#include <cstdint>

namespace draft::gpu {

// --- mbarriers: 8 bytes of shared memory; a phase ends when `count` threads and all expected bytes have arrived ---

__device__ inline void barrier_init(std::uint32_t barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}
/// Makes initialised barriers visible to the copy engine. A __syncthreads() must follow for the other threads.
__device__ inline void barrier_init_done() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ inline void arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/// Arrives, and keeps the phase from ending until the copy engine has delivered `bytes`.
__device__ inline void arrive_and_expect(std::uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
/// Waits until the phase of this parity has ended: parity 0 for the first phase, 1 for the second, 0 for the third, ...
/// On a fresh barrier a wait for parity 1 returns at once, so a producer's first wait for an empty slot needs no
/// arrival.
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

/// L2 eviction policies for the lines of a copy: evict last, evict first.
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

/// Starts the copy of a box to shared memory. Its bytes arrive at `barrier`, zeros outside the map included.
__device__ inline void load_box(std::uint32_t to, const CUtensorMap* map, int channel, int x, int y, int z, int head,
                                std::uint32_t barrier, std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3, %4, %5, %6}], [%7], %8;" ::"r"(to),
      "l"(map), "r"(channel), "r"(x), "r"(y), "r"(z), "r"(head), "r"(barrier), "l"(policy)
      : "memory");
}
/// As load_box, into both CTAs of a pair: to the same address, with arrival at the same barrier, of each.
__device__ inline void load_box_for_pair(std::uint32_t to, const CUtensorMap* map, int channel, int x, int y, int z,
                                         int head, std::uint32_t barrier, std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
      ".L2::cache_hint [%0], [%1, {%2, %3, %4, %5, %6}], [%7], %9, %8;" ::"r"(to),
      "l"(map), "r"(channel), "r"(x), "r"(y), "r"(z), "r"(head), "r"(barrier), "l"(policy),
      "h"(static_cast<std::uint16_t>(3))
      : "memory");
}
/// Starts the copy of consecutive bytes to shared memory, both ends aligned to 16 and a multiple of 16. They arrive at
/// `barrier`.
__device__ inline void load_bytes(std::uint32_t to, const void* from, int bytes, std::uint32_t barrier,
                                  std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier), "l"(policy)
      : "memory");
}
/// Starts the copy of a box from shared memory to global memory; rows outside the map are not written.
__device__ inline void store_box(const CUtensorMap* map, int channel, int x, int y, int z, int head,
                                 std::uint32_t from) {
  asm volatile(
      "cp.async.bulk.tensor.5d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3, %4, %5}], [%6];" ::"l"(map),
      "r"(channel), "r"(x), "r"(y), "r"(z), "r"(head), "r"(from)
      : "memory");
}
__device__ inline void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// Waits until this thread's stores have read shared memory, which may then be overwritten.
__device__ inline void wait_for_store_reads() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
/// Makes this thread's writes to shared memory visible to copies that the copy engine starts after a barrier.
__device__ inline void publish_to_copy_engine() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// --- clusters of CTAs ---

/// Maps a shared-memory address of this CTA to the same variable's address in the CTA of rank `rank`.
__device__ inline std::uint32_t address_in_cluster(std::uint32_t address, int rank) {
  std::uint32_t mapped;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
}
/// Arrives at a barrier of any CTA of the cluster; `mapped` comes from address_in_cluster().
__device__ inline void arrive_in_cluster(std::uint32_t mapped) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(mapped) : "memory");
}
/// Barrier of all threads of the cluster that have not ended. Writes before it are visible after it.
__device__ inline void meet_cluster() {
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

// --- warps and their registers ---

/// Lowers (give) or raises (take) the registers of each thread; called by all four warps of a warpgroup.
template <int kRegisters>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// Named barrier of `threads` threads: named_sync arrives and waits, named_arrive arrives and goes on.
__device__ inline void named_sync(int barrier, int threads) {
  asm volatile("barrier.cta.sync.aligned %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ inline void named_arrive(int barrier, int threads) {
  asm volatile("barrier.cta.arrive.aligned %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/// Stores four 8 x 8 matrices of 2-byte elements; lane l passes the address of row l % 8 of matrix l / 8.
__device__ inline void store_matrices(std::uint32_t address, std::uint32_t a, std::uint32_t b, std::uint32_t c,
                                      std::uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(a), "r"(b),
               "r"(c), "r"(d)
               : "memory");
}

}  // namespace draft::gpu
