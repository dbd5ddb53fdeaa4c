#pragma once
// The attention kernel of 8-bit operands for Hopper (sm_90a); a row of the table of kernels.

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>

#include "kernels/attend/attention.hpp"
#include "kernels/attend/wgmma_8bit/operands.hpp"

namespace draft::gpu {

/// "", or one line that says why attend_8bit cannot carry out `call` on a GPU of this compute capability (90: 9.0): it
/// needs 9.0 exactly, head_dim 128 and regions of at most 128 tokens.
std::string attend_8bit_unsupported(const Attention& call, int capability);

/// Bytes of device scratch: the 8-bit operands (operands.hpp), and what a remainder needs (remainder.hpp).
std::size_t attend_8bit_workspace(const Attention& call);

/// Enqueues the writing of the call's operands to `workspace`, aligned to 128 bytes: reads q, k, v and with a remainder
/// the pooled rows. The draft's means of q and k come out of the same pass, if they are wanted. Throws
/// std::invalid_argument if the call is not valid or not supported, and Error if CUDA reports one.
void quantise_for_8bit(const Attention& call, void* workspace, cudaStream_t stream, const RegionMeans& means = {});

/// Enqueues the attention of `call` on the operands in `workspace`, which quantise_for_8bit wrote for this call; masks
/// and outputs may be others. q, k and v are not read. The same input gives the same bits. Throws as above.
void attend_8bit(const Attention& call, void* workspace, cudaStream_t stream);

}  // namespace draft::gpu
