#include "experiments/study/slack.hpp"

#include <cmath>
#include <limits>

namespace draft {
namespace {

double longest_product(const Problem& problem) { return longest_row(problem.q) * longest_row(problem.k); }

}  // namespace

Slack reference_slack(const Problem& problem) {
  constexpr double kRoundoff = std::numeric_limits<double>::epsilon();
  const double longest = longest_product(problem),
               logit = static_cast<double>(problem.head_dim()) * kRoundoff * longest;
  constexpr double kSums = 1e-10;
  // The factors that may be as large as float64 goes meet those that may be 0 first: 0 times infinity is no slack.
  const double relative = kSums + std::expm1(16.0 * kRoundoff * problem.scale * longest);
  return {.deviation = kSums,
          .relative = relative,
          .against_exact = relative + std::expm1(4.0 * (problem.scale * logit)),
          .identity = relative,
          .logit = logit,
          .probs_floor = std::sqrt(static_cast<double>(problem.grid.video())) * (problem.scale * logit),
          .output = {}};
}

Slack single_precision_slack(const Problem& problem) {
  constexpr double kRoundoff = std::numeric_limits<float>::epsilon() / 2.0;
  const double longest = longest_product(problem), scaled = problem.scale * longest;
  const double logit = (2.25 * static_cast<double>(problem.head_dim()) + 64.0) * kRoundoff * longest;
  const double relative = 2.0 * (128.0 + 2.0 * scaled) * kRoundoff;
  // exp turns a logit's error into a relative one, of P and of the sum that it is divided by; so do e^(-2 delta)'s two.
  const double against_exact = relative + std::expm1(4.0 * (problem.scale * logit));
  constexpr double kOutput = 1024.0 * kRoundoff;
  return {.deviation = relative,
          .relative = relative,
          .against_exact = against_exact,
          .identity = 2.0 * against_exact,
          .logit = logit,
          .probs_floor = 0.0,
          .output = {.ignored = kOutput, .noise = kOutput}};
}

}  // namespace draft
