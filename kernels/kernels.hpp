#pragma once
// The public header of kernels/: draft attention on the GPU, from pooling to the output.
//
// | function            | file                           | from -> to                                                 |
// | ------------------- | ------------------------------ | ---------------------------------------------------------- |
// | pool, pool_both,    | draft/pool.cu                  | tokens -> one row a region (eq. 2), fp32 or as the tokens  |
// | pool_elements       |                                |                                                            |
// | draft_logits        | draft/logits.cu                | pooled Q, K -> S~ (eq. 6)                                  |
// | softmax_rows        | draft/softmax_rows.cu          | S~ -> A_draft (eq. 3)                                      |
// | draft_probabilities | draft/probabilities.cu         | pooled Q, K -> A_draft in one kernel                       |
// | find_thresholds     | draft/select.cu, select_row.cu | scores -> the lowest kept score and its ties               |
// | write_lists         | draft/lists.cu                 | thresholds -> kept columns of each row, rows longest first |
// | MaskPipeline        | draft/pipeline.hpp             | Q, K -> lists: all of the above in one call                |
// | reorder, restore    | draft/reorder.cu               | token order <-> region order (Algorithms 1 and 2)          |
// | attention_kernels   | attend/kernels.inc             | the table of: Q, K, V, lists -> O, log-sum-exp (eqs. 1, 5) |
// | wgmma_kernel        | attend/wgmma/kernel.cu         | fused, wgmma and TMA: Hopper                               |
// | wgmma_8bit_kernel   | attend/wgmma_8bit/kernel.cu    | the same on INT8 and E4M3 numbers: Hopper                  |
// | mma_kernel          | attend/mma.cu                  | fused, mma.sync: sm_80 on                                  |
// | blas_kernel         | attend/blas.cu                 | cuBLAS and a softmax: the plain one                        |
// | sweep_logits, ...   | sweep/sweeps.hpp               | the bounds' sweeps over all of a head's logits             |
//
// Pointers are device pointers to contiguous row-major arrays, aligned to 16 bytes, distinct unless said
// otherwise. q, k, v, o and what is pooled may be views of larger arrays: they are then given with their strides
// (core/strided.hpp). Functions only enqueue work on `stream`; none waits, allocates or reads anything back.
// Errors: std::invalid_argument for arguments, draft::gpu::Error (cuda_check.hpp) for what CUDA reports.

#include "kernels/attend/attention.hpp"
#include "kernels/core/layout.hpp"
#include "kernels/draft/draft.hpp"
#include "kernels/draft/pipeline.hpp"
#include "kernels/sweep/sweeps.hpp"
