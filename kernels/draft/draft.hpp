#pragma once
// From tokens to the blocks that attention computes: pooling, draft map, selection, kept-block lists; and the
// reordering that makes a region's tokens consecutive. Conventions: kernels.hpp.

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/core/strided.hpp"
#include "reference/choices.hpp"

namespace draft::gpu {

/// How many entries a rule keeps, per head or per block row. With `all_ties` entries equal to the last one stay too.
struct Cut {
  std::int64_t count;
  bool by_row;
  bool all_ties;
};

/// kept_count or released_kept_count of a [regions, regions] map.
/// Throws std::invalid_argument unless 0 <= sparsity < 1.
Cut rule_cut(Rule rule, double sparsity, std::int64_t regions);

/// Mean or maximum of each channel over each region's real tokens; text is left out. Sums in fp32. `strides`: those of
/// `rows`; none: contiguous. Throws std::invalid_argument unless the element is of 16 bits and the strides are as in
/// strided.hpp.
void pool(const Layout& layout, Element element, Pool kind,
          const void* rows,  // [heads, tokens, head_dim], token order
          float* pooled,     // [heads, regions, head_dim]
          cudaStream_t stream, const std::optional<Strides>& strides = std::nullopt);

/// pool() of q and of k, in one launch.
void pool_both(const Layout& layout, Element element, Pool kind,
               const void* q,    // [heads, tokens, head_dim], token order
               const void* k,    // [heads, tokens, head_dim], token order
               float* pooled_q,  // [heads, regions, head_dim]
               float* pooled_k,  // [heads, regions, head_dim]
               cudaStream_t stream, const std::optional<Strides>& q_strides = std::nullopt,
               const std::optional<Strides>& k_strides = std::nullopt);

/// As pool(), rounded to the element type: the rows of a pooled remainder (Attention::pooled_k).
void pool_elements(const Layout& layout, Element element, Pool kind,
                   const void* rows,  // [heads, tokens, head_dim], token order
                   void* pooled,      // [heads, regions, head_dim]
                   cudaStream_t stream, const std::optional<Strides>& strides = std::nullopt);

/// S~ = Q~ K~^T in fp32, unscaled.
void draft_logits(const Layout& layout,
                  const float* pooled_q,  // [heads, regions, head_dim]
                  const float* pooled_k,  // [heads, regions, head_dim]
                  float* logits,          // [heads, regions, regions]
                  cudaStream_t stream);

/// A_draft = softmax of each row of S~ * scale. `probabilities` may be `logits`.
void softmax_rows(const Layout& layout, float scale,
                  const float* logits,   // [heads, regions, regions]
                  float* probabilities,  // [heads, regions, regions]
                  cudaStream_t stream);

/// A_draft = softmax of each row of S~ * scale, directly from the pooled rows. One kernel where the GPU and the map's
/// size allow it (probabilities.cu), else draft_logits and softmax_rows; the two differ by the rounding of sums alone.
void draft_probabilities(const Layout& layout, float scale,
                         const float* pooled_q,  // [heads, regions, head_dim]
                         const float* pooled_k,  // [heads, regions, head_dim]
                         float* probabilities,   // [heads, regions, regions]
                         cudaStream_t stream);

/// Bytes of scratch through which find_thresholds passes its result to write_lists, of the same layout and rule.
std::size_t workspace_bytes(const Layout& layout);

enum Status : std::int32_t { kFine = 0, kNaNScore = 1 };

/// The exact cut of `rule` in each head or block row; of equal scores the lower row-major index is kept first,
/// and -0 equals 0. A head with a NaN score gets kNaNScore. Its lists are then some columns and not the rule's, but
/// rising, within the map and as many as counted, so that a kernel may read them before the status is known.
void find_thresholds(const Layout& layout, Rule rule, double sparsity,
                     const float* scores,   // [heads, regions, regions]: what the rule reads, S~ or A_draft
                     void* workspace,       // workspace_bytes(layout)
                     std::int32_t* status,  // [heads], Status
                     cudaStream_t stream);

/// Blocks are numbered regions first, then text blocks. Text columns are kept in every row; text rows keep all.
struct BlockLists {
  std::uint16_t* columns =
      nullptr;                     // [heads, blocks, blocks]: a row's kept columns, ascending; the rest is not written
  std::int32_t* counts = nullptr;  // [heads, blocks]: kept columns of each block row, text included
  std::uint16_t* order = nullptr;  // [heads, blocks]: block rows by falling count, equal counts by rising row
  std::uint8_t* mask = nullptr;    // [heads, regions, regions]: 1 where kept; null: not written
};

/// Writes the kept-block lists for the thresholds in `workspace`.
void write_lists(const Layout& layout, Rule rule,
                 const float* scores,  // [heads, regions, regions], those of find_thresholds
                 void* workspace,      // workspace_bytes(layout)
                 const BlockLists& lists, cudaStream_t stream);

/// Token order -> region order; text stays at the end. For any element type of 2 bytes.
void reorder(const Layout& layout,
             const void* rows,  // [heads, tokens, head_dim], token order
             void* reordered,   // [heads, tokens, head_dim], region order
             cudaStream_t stream);

/// The inverse of reorder().
void restore(const Layout& layout,
             const void* reordered,  // [heads, tokens, head_dim], region order
             void* rows,             // [heads, tokens, head_dim], token order
             cudaStream_t stream);

}  // namespace draft::gpu
