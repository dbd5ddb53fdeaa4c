#pragma once
// Attention on the GPU, dense and block-sparse: one call's description and the kernels that can carry it out.
// Conventions: kernels.hpp.

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/core/blas.hpp"
#include "kernels/core/strided.hpp"
#include "kernels/draft/draft.hpp"

namespace draft::gpu {

/// The strides of a call's tensors; a tensor without any is contiguous.
struct CallStrides {
  std::optional<Strides> q{}, k{}, v{}, o{};
};

/// One attention call. Without lists every block is kept.
struct Attention {
  Layout layout;
  Element element = Element::bfloat16;
  float scale = 0.0F;         // softmax scale
  bool region_order = false;  // the tensors stand in region order, else in token order
  const void* q = nullptr;    // [heads, tokens, head_dim]
  const void* k = nullptr;    // [heads, tokens, head_dim]
  const void* v = nullptr;    // [heads, tokens, head_dim]
  void* o = nullptr;          // [heads, tokens, head_dim], element type; rows that keep nothing are 0
  float* lse = nullptr;       // [heads, tokens], natural logarithm; -inf where a row keeps nothing
  BlockLists lists{};         // only read; without columns and counts dense, without an order rows start in theirs
  // The pooled remainder (remainder.hpp): means of K and V over each region, [heads, regions, head_dim], element type,
  // as pool_elements() makes them. Both null: dropped blocks have no weight. Without lists nothing is dropped.
  const void* pooled_k = nullptr;
  const void* pooled_v = nullptr;
  CallStrides strides{};  // of q, k, v and o alone

  [[nodiscard]] Strides q_strides() const { return strides_of(layout, strides.q); }
  [[nodiscard]] Strides k_strides() const { return strides_of(layout, strides.k); }
  [[nodiscard]] Strides v_strides() const { return strides_of(layout, strides.v); }
  [[nodiscard]] Strides o_strides() const { return strides_of(layout, strides.o); }
  /// Whether q, k, v and o are, whether or not strides are given.
  [[nodiscard]] bool contiguous() const;
  [[nodiscard]] DRAFT_HOST_DEVICE bool dense() const { return lists.counts == nullptr; }
  [[nodiscard]] DRAFT_HOST_DEVICE bool has_remainder() const { return pooled_k != nullptr && !dense(); }
};

/// What a kernel may use beside the call's tensors.
struct Resources {
  const Blas& blas;
  void* workspace;  // as many bytes as the kernel's `workspace` says, aligned to 256
};

/// One row of the table of attention kernels, kernels.inc. A kernel's file defines these three functions and a
/// function that returns its row. `draftbench verify --kernel NAME` then compares it with the reference.
struct AttentionKernel {
  std::string name;     // the value of --kernel
  std::string summary;  // one line
  /// "" if the kernel can run this valid call on a GPU of this compute capability (80, 90, ...), else the reason.
  std::string (*unsupported)(const Attention& call, int capability);
  /// Bytes of scratch on the device; what they hold before does not matter.
  std::size_t (*workspace)(const Attention& call);
  /// Enqueues the work; the same input gives the same bits. Throws std::invalid_argument or Error.
  void (*launch)(const Attention& call, const Resources& resources, cudaStream_t stream);
  /// launch() in two steps, for a kernel that multiplies INT8 and E4M3 numbers as reference/rounding/eight_bit.hpp has
  /// them: quantise() writes these to the workspace, attend() reads them there and not q, k and v. Null for kernels
  /// that multiply numbers of the element type.
  void (*quantise)(const Attention& call, const Resources& resources, cudaStream_t stream) = nullptr;
  void (*attend)(const Attention& call, const Resources& resources, cudaStream_t stream) = nullptr;
  [[nodiscard]] bool eight_bit() const { return quantise != nullptr; }
};

/// Every kernel of this build, in the order of kernels.inc.
const std::vector<AttentionKernel>& attention_kernels();

/// Throws std::invalid_argument that names the field unless the layout is valid, the element is of 16 bits, the tensors
/// are there, aligned to 16 bytes and of strides as in strided.hpp, the scale is finite and positive, and columns and
/// counts are both there or both not, as are the pooled rows.
void require_valid(const Attention& call);

}  // namespace draft::gpu
