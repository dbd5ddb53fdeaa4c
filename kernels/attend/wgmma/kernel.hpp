#pragma once
// The attention kernel for Hopper (sm_90a); a row of the table of kernels.

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>

#include "kernels/attend/attention.hpp"

namespace draft::gpu {

/// "", or one line that says why attend_wgmma cannot carry out `call` on a GPU of this compute capability (90: 9.0):
/// it needs 9.0 exactly, head_dim 64 or 128, and regions of 128 tokens in token order, of at most 128 in region order.
std::string attend_wgmma_unsupported(const Attention& call, int capability);

/// Bytes of device scratch: counters, 8 for each block row of each head, and what a remainder needs (remainder.hpp).
std::size_t attend_wgmma_workspace(const Attention& call);

/// Enqueues the attention of `call`: dense or block-sparse, token or region order. The same input gives the same bits.
/// `workspace`: attend_wgmma_workspace(call) bytes on the device, aligned to 16 bytes, used by no other call until this
/// one is done; it need not be cleared. Throws std::invalid_argument if the call is not valid or not supported, and
/// Error if CUDA reports one.
void attend_wgmma(const Attention& call, void* workspace, cudaStream_t stream);

}  // namespace draft::gpu
