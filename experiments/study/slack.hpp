#pragma once
// How far rounding can take a bound's two sides apart when nothing is wrong: what each backend's sweeps allow for.

#include "reference/bounds/bounds.hpp"

namespace draft {

/// A bound counts as held if left <= right (1 + relative) + floor, where `floor` is one of those below.
struct Slack {
  double deviation;      // both sides come from the same logits' deviations, no exponential between them
  double relative;       // both sides come from the same computed logits
  double against_exact;  // the same where one side knows the exact logits (the certificates from radii)
  double identity;       // of step 1's residual, numbers of order one
  double logit;          // rounding of one unscaled logit, for data whose deviations are all rounding
  double probs_floor;    // rounding of ||P - P^M||_F
  OutputRounding output;
};

/// float64 sweeps. Both sides are sums of up to n^2 = 1e10 rounded terms, which stay below sqrt(1e10) eps = 2e-11
/// relative; a logit is off by head_dim eps m, m = max ||q|| max ||k||, and P relatively to one that knows the exact
/// logits by as much, scaled. Of the same logits, differences and exponents are taken on both sides: each rounds scale
/// m by eps.
Slack reference_slack(const Problem& problem);

/// fp32 sweeps on tensor cores, u = 2^-24, m = max ||q|| max ||k||, products of the 16-bit inputs exact:
/// - a logit: in each step of 16 channels 18 terms (16 products, and the sum twice where the step is done in halves)
///   are cut off at 2 u of the largest, 2.25 head_dim u m in all; means of 32 logits and of their parts add 64 u m;
/// - a weight relative to its logit: the exponent's rounding, 127 ln 2 u (smaller weights vanish) and that of the
///   scale, 2 u scale m; ex2's own 4 u; sums of a tile's 16 numbers a lane and of its lanes, 18 u. All together stay
///   below (128 + 2 scale m) u, and both P and the log-sum-exp that it is relative to have them;
/// - a row of the output, in max ||V_v||: a tile's P V takes 8 steps as above, 288 u, P's two halves are bf16's 16
///   bits, 64 u, sums and storage a few more; for dense and sparse outputs together below 1024 u.
/// P's own weights are the same on both sides of every bound, so that errors of P cost them nothing in absolute terms.
Slack single_precision_slack(const Problem& problem);

}  // namespace draft
