#pragma once
// The bounds' sweeps over a head's n x n logits (reference/bounds/logit_sweep.hpp, reference/bounds/mask_sweep.hpp) on
// the GPU. Conventions: kernels.hpp. Rows are video tokens in token order; text rows are not swept.
//
// | function            | file           | from -> to                                                          |
// | ------------------- | -------------- | ------------------------------------------------------------------- |
// | sweep_logits        | logits.cu      | Q, K -> statistics of S by block, block mass, log-sum-exp           |
// | block_mass          | logits.cu      | Q, K -> block mass ("oracle") and log-sum-exp alone                 |
// | row_masses          | logits.cu      | Q, K -> the mass of each row in each block                          |
// | sweep_deviations    | deviations.cu  | Q, K and a pooled map -> histogram of |S_uv - S~_ij|                |
// | dense_output        | masks.cu       | Q, K, V -> dense O in fp32                                          |
// | sweep_masks         | masks.cu       | Q, K, V and a family of nested masks -> what each mask does         |
// | sum_outputs         | mask_rows.cu   | dense O -> its sums and extremes                                    |
// | checked_probabilities, check_rows | row_check.cu | step 1 of Theorem 3.5's proof, element by element, some rows |

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/core/layout.hpp"
#include "reference/choices.hpp"

namespace draft::gpu {

/// The attention call to sweep. Needs sm_80 on and head_dim 64 or 128; regions may have any size.
struct SweepCall {
  Layout layout;
  Element element = Element::bfloat16;
  double scale = 0.0;       // softmax scale
  const void* q = nullptr;  // [heads, tokens, head_dim], token order
  const void* k = nullptr;  // [heads, tokens, head_dim]
  const void* v = nullptr;  // [heads, tokens, head_dim]; may be null for functions that read only Q and K
};

/// P, the dense softmax over video and text columns, summed over blocks. The fields are those of reference LogitStats.
struct BlockMass {
  double* mass;       // [heads, regions, regions]
  double* text_mass;  // [heads, regions]; zeros without text
  double* lse;        // [heads, video], natural logarithm
};
/// Statistics of S, unscaled, in each block; each field is [heads, regions, regions].
struct BlockStats {
  double* minimum;
  double* maximum;
  double* mean;
  double* centred_square;  // sum of (S - mean)^2
};

/// Bytes of scratch of sweep_logits and block_mass: at most 1 GiB, or what one block row needs if that is more.
std::size_t logit_sweep_scratch(const Layout& layout);
void sweep_logits(const SweepCall& call, void* scratch, const BlockMass& mass, const BlockStats& stats,
                  cudaStream_t stream);
void block_mass(const SweepCall& call, void* scratch, const BlockMass& mass, cudaStream_t stream);

/// The mass of each row in each block, of which BlockMass has the sums. Scratch as of sweep_logits.
void row_masses(const SweepCall& call, void* scratch,
                double* lse,    // [heads, video]
                float* masses,  // [heads, video, regions]
                cudaStream_t stream);

/// Bins of relative width 1/256, as in reference LogHistogram, over the 32 octaves up to that of `largest`.
inline constexpr int kDeviationBins = 32 * 256;
/// Upper edge of a bin. Bin 0 holds everything up to its edge.
float deviation_edge(float largest, int bin);
/// Adds to `counts` how many |S_uv - S~_ij| are in each bin; those above the last edge are counted in the last bin.
void sweep_deviations(const SweepCall& call,
                      const float* pooled,    // S~, unscaled, [heads, regions, regions]
                      const float* largest,   // [heads], an upper bound of the deviations
                      std::uint64_t* counts,  // [heads, kDeviationBins], set to 0 by the caller
                      cudaStream_t stream);

/// O of dense attention.
void dense_output(const SweepCall& call, float* dense /* [heads, video, head_dim] */, cudaStream_t stream);

/// For each head's dense output: the sums of O^2 and of |O|, the lowest and the highest O.
std::size_t output_sums_scratch(const Layout& layout);
void sum_outputs(const Layout& layout,
                 const float* dense,  // [heads, video, head_dim]
                 void* scratch,
                 double* sums,  // [heads, 4]
                 cudaStream_t stream);

/// Nested masks as in reference/bounds/mask_levels.hpp: a block's level is the first mask that keeps it, `masks` if
/// none does.
struct NestedMasks {
  const std::uint8_t* levels;  // [heads, regions, regions]
  int masks;                   // 1 to 254
};
/// As in reference MaskEffect; a row that keeps nothing has P^M = 0 and output 0.
struct MaskEffects {
  double* dropped;        // mu_u, [heads, masks, video]
  double* kept;           // [heads, masks, video]
  double* probs_error2;   // ||P_u - P^M_u||_2^2, [heads, masks, video]
  double* output_error2;  // ||O_u - O^M_u||_2^2, [heads, masks, video]
  double* sums;           // of |O - O^M|, of O * O^M, of (O^M)^2, [heads, masks, 3]
  // What a remainder is added to. Each may be null: not wanted.
  double* sharpness = nullptr;       // sum of (P^M_u)^2, [heads, masks, video]
  double* dropped_square = nullptr;  // sum of P^2 over what is dropped, [heads, masks, video]
  float* output = nullptr;           // O^M, [heads, masks, video, head_dim]
};
/// Bytes of scratch of sweep_masks: below 4 regions^2 + 48 (masks + 1) (video + regions) a head, plus alignment.
std::size_t mask_sweep_scratch(const Layout& layout, int masks);
void sweep_masks(const SweepCall& call,
                 const double* lse,   // from block_mass
                 const float* dense,  // from dense_output
                 const NestedMasks& family, void* scratch, const MaskEffects& effects, cudaStream_t stream);

/// The identity of step 1 is checked element by element for video tokens 0, 128, 256, ...
inline constexpr int kCheckedEvery = 128;
inline int checked_rows(const Layout& layout) { return (layout.video() + kCheckedEvery - 1) / kCheckedEvery; }
/// log P in fp64 of `rows` checked rows of one head, from video token kCheckedEvery * first on.
void checked_probabilities(const SweepCall& call, int head, int first, int rows,
                           double* log_probabilities,  // [rows, tokens], token order
                           cudaStream_t stream);
/// ||P_u - P^M_u||_1 of the same rows under each mask; -1 if the row keeps nothing.
void check_rows(const Layout& layout, const NestedMasks& family, int head, int first, int rows,
                const double* log_probabilities,  // [rows, tokens], as checked_probabilities wrote them
                double* row_l1,                   // [masks, rows]
                cudaStream_t stream);

}  // namespace draft::gpu
