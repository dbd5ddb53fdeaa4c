#include "experiments/policies/policy.hpp"

#include <fmt/format.h>

#include <stdexcept>

#include "reference/parallel.hpp"

namespace draft {

#define POLICY(name) PolicyRow name##_policy();
#include "experiments/policies/policies.inc"
#undef POLICY

namespace {

constexpr Word<Policy> kPolicies[] = {
#define POLICY(name) {Policy::name, #name},
#include "experiments/policies/policies.inc"
#undef POLICY
};

PolicyRow checked(const char* name, PolicyRow row) {
  if ((row.rank == nullptr) == (row.mask == nullptr)) {
    throw std::invalid_argument(fmt::format("policy {}: wanted either rank or mask in its row, found {}", name,
                                            row.rank == nullptr ? "neither" : "both"));
  }
  return row;
}

}  // namespace

const PolicyRow& row_of(Policy policy) {
  static const std::vector<PolicyRow> rows{
#define POLICY(name) checked(#name, name##_policy()),
#include "experiments/policies/policies.inc"
#undef POLICY
  };
  return rows.at(static_cast<std::size_t>(policy));
}

const std::vector<Policy>& all_policies() {
  static const auto policies = choices_of(kPolicies);
  static const std::vector<Policy> all(policies.begin(), policies.end());
  return all;
}

std::string to_string(Policy policy) { return word_of(kPolicies, policy); }
Policy parse_policy(const std::string& text) { return parse_choice("policy", kPolicies, text); }

double bytes_of_q_and_k(const ChoiceSize& size) { return 2 * 2 * size.tokens * size.head_dim; }

ChoiceCost cost_of_pooled_maps(const ChoiceSize& size) {
  const double map = size.blocks * size.blocks;
  return {.flops = 2 * size.tokens * size.head_dim + 2 * map * size.head_dim,
          .bytes = bytes_of_q_and_k(size) + 2 * 4 * map};
}

ChoiceCost cost_of_all_logits(const ChoiceSize& size) {
  return {.flops = 2 * size.tokens * size.tokens * size.head_dim, .bytes = bytes_of_q_and_k(size)};
}

Ranking ranking_of(const PolicyRow& row, const PolicyInput& input) {
  return input.causal ? causal_ranking(row.rank(input)) : row.rank(input);
}

Index cut_of(const PolicyRow& row, const PolicyInput& input, double sparsity) {
  require_sparsity(sparsity);
  if (row.cut != nullptr) return row.cut(input, sparsity);
  return kept_count(sparsity, block_count(input.regions, input.causal));
}

BlockMask mask_of(Policy policy, const PolicyInput& input, double sparsity) {
  require_sparsity(sparsity);
  const PolicyRow& row = row_of(policy);
  if (row.mask != nullptr) return row.mask(input, sparsity);
  return {ranking_of(row, input), cut_of(row, input, sparsity)};
}

std::vector<BlockMask> policy_masks(Policy policy, Index heads, Index regions, double sparsity, std::uint64_t seed) {
  if (row_of(policy).reads != Reads::nothing) {
    throw std::invalid_argument("policy_masks: wanted a policy that reads no head, found " + to_string(policy));
  }
  require_sparsity(sparsity);
  std::vector<BlockMask> masks(static_cast<std::size_t>(heads), BlockMask(0, false));
  parallel_for(heads, 0, [&] {
    return [&](Index head) {
      const PolicyInput input{.regions = regions, .seed = seed, .stream = static_cast<std::uint64_t>(head)};
      masks[static_cast<std::size_t>(head)] = mask_of(policy, input, sparsity);
    };
  });
  return masks;
}

}  // namespace draft
