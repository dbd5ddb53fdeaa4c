#include "experiments/timing/latency.hpp"

#include <CLI/CLI.hpp>
#include <memory>

namespace draft {

std::vector<MaskChoice> mask_choices(const LatencyOptions& options, RegionSize region) {
  std::vector<double> sparsities = chosen_or(options.sparsities, {0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95});
  std::erase(sparsities, 0.0);
  std::vector<MaskChoice> choices;
  for (const Policy policy : parsed_once(options.policies, parse_timed_policy)) {
    if (policy != Policy::draft) {
      for (const double sparsity : sparsities) {
        choices.push_back({.policy = policy, .region = region, .sparsity = sparsity});
      }
      continue;
    }
    for (const Pool pool : chosen_or(options.pools, {Pool::average})) {
      for (const Rule rule : chosen_or(options.rules, {Rule::softmax})) {
        for (const double sparsity : sparsities) choices.push_back({policy, pool, rule, region, sparsity});
      }
    }
  }
  return choices;
}

Json call_config(const std::string& kernel, Element element, TokenOrder order, const MaskChoice& mask,
                 std::uint64_t seed) {
  Json config{{"device", "cuda"}, {"kernel", kernel}, {"element", to_string(element)}, {"order", to_string(order)}};
  config.update(config_of(mask));
  add_seed(config, mask.policy, seed);
  return config;
}

Json metrics_of(const KeptCounts& counts) {
  return {{"kept_blocks", counts.kept_blocks},           {"total_blocks", counts.total_blocks()},
          {"kept_with_text", counts.kept_with_text()},   {"all_blocks", counts.all_blocks()},
          {"kept_share", counts.kept_share()},           {"empty_rows", counts.empty_rows},
          {"row_blocks_mean", counts.row_blocks_mean()}, {"row_blocks_max", counts.row_blocks_max}};
}

double kept_flops(const KeptCounts& counts, RegionSize region, Index head_dim) {
  const auto side = static_cast<double>(region.height * region.width);
  return 4.0 * side * side * static_cast<double>(head_dim) * static_cast<double>(counts.kept_with_text());
}

Action latency_command(CLI::App& command) {
  const auto options = std::make_shared<LatencyOptions>();
  add_timed_options(command, *options);
  add_text_list(command, "--order", options->orders, "Order of the tokens: token (default), region, gather",
                {"token", "region", "gather"});
  add_text_list(command, "--policy", options->policies, "What keeps blocks: draft (default), random, uneven, worst",
                {"draft", "random", "uneven", "worst"});
  CLI::Option* sustain =
      command.add_option("--sustain", options->sustain_ms,
                         "Milliseconds that a sample lasts at least, of calls in a row (default 0: one call a sample)");
  require_number(sustain->type_name("MS"), 0.0, 60'000.0);
  return [options] { return latency(*options); };
}

}  // namespace draft
