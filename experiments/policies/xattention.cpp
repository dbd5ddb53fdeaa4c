// Rule:   in each block of 128 tokens chunks of S = 8: A_uv = scale / S * sum over r of <q_(u, S-1-r), k_(v, r)>,
//         softmax over v, summed over the chunks of two blocks; in each row the largest blocks with at least tau of
//         the sum.
// Source: XAttention, arXiv 2503.16428; mit-han-lab/x-attention e379887, xattn/src/Xattention.py. Released: tau 0.9, S
//         8 (eval/HunyuanVideo).
// Ours:   the blocks are regions. At a budget all rows share one tau; the released code also keeps the first column in
//         every row, as the released mask does here. A last chunk that is shorter is filled with zeros.

#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

constexpr Index kStride = 8;
constexpr double kReleasedShare = 0.9;

/// The chunks' rows one after the other, [chunks, kStride * head_dim], zeros behind a chunk that is shorter;
/// `backwards`: the last of the kStride places first. Rows are in the blocks' order.
Matrix laid_out(const Matrix& rows, const Partition& chunks, bool backwards) {
  const Index dim = rows.cols();
  Matrix laid = Matrix::Zero(chunks.regions(), kStride * dim);
  for (Index chunk = 0; chunk < chunks.regions(); ++chunk) {
    for (Index r = 0; r < chunks.size(chunk); ++r) {
      const Index column = (backwards ? kStride - 1 - r : r) * dim;
      laid.row(chunk).segment(column, dim) = rows.row(chunks.offset(chunk) + r);
    }
  }
  return laid;
}

Matrix scores_of(const PolicyInput& input) {
  const Partition& partition = *input.partition;
  const Chunks chunks = chunks_of(partition, kStride);
  const Matrix q = laid_out(reorder(input.problem->q, partition), chunks.partition, true);
  const Matrix k = laid_out(reorder(input.problem->k, partition), chunks.partition, false);
  Matrix logits = (q * k.transpose()) * (input.problem->scale / static_cast<double>(kStride));
  if (input.causal) logits = causal_scores(std::move(logits));
  return sum_over_chunks(softmax_rows(std::move(logits)), chunks, input.regions);
}

}  // namespace

PolicyRow xattention_policy() {
  return {.summary = "sums along antidiagonals of every 8 tokens, top-p (XAttention)",
          .reads = Reads::head,
          .causal = true,
          .rank = [](const PolicyInput& input) { return rank_by_shares(scores_of(input)); },
          .released =
              [](const PolicyInput& input) {
                BlockMask first(input.regions, false);
                for (Index row = 0; row < input.regions; ++row) first.set(row, 0, true);
                return mask_above(-shares_before(scores_of(input)), -kReleasedShare, first);
              },
          .cost =
              [](const ChoiceSize& size) {
                const double map = size.tokens * size.tokens / static_cast<double>(kStride * kStride);
                return ChoiceCost{.flops = 2 * map * kStride * size.head_dim,
                                  .bytes = bytes_of_q_and_k(size) + 2 * 4 * map};
              }};
}

}  // namespace draft
