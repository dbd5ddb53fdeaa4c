#pragma once
// The public header of kernels/: draft attention on the GPU, from pooling to the output.
//
// | function            | file                     | from -> to                                                |
// | ------------------- | ------------------------ | --------------------------------------------------------- |
// | pool                | pool.cu                  | tokens -> one fp32 row a region (eq. 2)                   |
// | draft_logits        | draft_logits.cu          | pooled Q, K -> S~ (eq. 6)                                 |
// | softmax_rows        | softmax_rows.cu          | S~ -> A_draft (eq. 3)                                     |
// | draft_probabilities | draft_probabilities.cu   | pooled Q, K -> A_draft in one kernel                      |
// | find_thresholds     | select.cu, select_row.cu | scores -> the lowest kept score and its ties              |
// | write_lists         | lists.cu                 | thresholds -> kept columns of each row, rows longest first|
// | MaskPipeline        | mask_pipeline.hpp        | Q, K -> lists: all of the above in one call               |
// | reorder, restore    | reorder.cu               | token order <-> region order (Algorithms 1 and 2)         |
// | attention_kernels   | attention.cpp            | the table of: Q, K, V, lists -> O, log-sum-exp (eqs. 1, 5)|
// | attend_wgmma        | attend_wgmma.cu          | fused, wgmma and TMA: Hopper                              |
// | attend_mma          | attend_mma.cu            | fused, mma.sync: sm_80 on                                 |
// | attend_blas         | attend_blas.cu           | cuBLAS and a softmax: the plain one                       |
// | sweep_logits, ...   | sweeps.hpp               | the bounds' sweeps over all of a head's logits            |
//
// Pointers are device pointers to contiguous row-major arrays, aligned to 16 bytes, distinct unless said
// otherwise. Functions only enqueue work on `stream`; none waits, allocates or reads anything back.
// Errors: std::invalid_argument for arguments, draft::gpu::Error (cuda_check.hpp) for what CUDA reports.

#include "kernels/attention.hpp"
#include "kernels/layout.hpp"
#include "kernels/mask_pipeline.hpp"
#include "kernels/masks.hpp"
#include "kernels/sweeps.hpp"
