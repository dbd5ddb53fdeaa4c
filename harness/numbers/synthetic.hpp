#pragma once
// Made-up heads with known properties. They do not replace captured ones; they are edge cases for checks and kernels.
// The numbers are the same on every machine: every product and sum is exact in double.

#include <cstdint>
#include <string>
#include <vector>

#include "reference/problem.hpp"

namespace draft {

enum class SyntheticKind {
  block_smooth,  // tokens of one 8 x 16 region are nearly equal, regions differ: pooling is nearly exact
  iid,           // independent normal numbers: pooling averages everything away
  peaked,        // nearly all attention of a query is on one key, anywhere (head_dim >= 64)
  constant,      // all tokens are equal: attention is uniform, delta is 0
  adversarial,   // every logit is strongly negative: a key of zeros would take all the attention
  empty_rows,    // three of four block rows attend evenly; at 90% sparsity a threshold on the head's
                 // A_draft over 8 x 16 regions leaves them without a block
};

std::string to_string(SyntheticKind kind);  // "block-smooth", "iid", ...
/// Throws std::invalid_argument that lists the kinds.
SyntheticKind parse_synthetic_kind(const std::string& text);
const std::vector<SyntheticKind>& synthetic_kinds();

struct SyntheticSpec {
  SyntheticKind kind = SyntheticKind::iid;
  Grid grid;
  Index heads = 1;
  Index kv_heads = 1;  // a whole divisor of heads
  Index head_dim = 64;
  std::uint64_t seed = 1;
};

/// One head; heads differ, K and V are shared by the heads of a group. Softmax scale 1/sqrt(head_dim).
Problem synthetic_head(const SyntheticSpec& spec, Index head);

}  // namespace draft
