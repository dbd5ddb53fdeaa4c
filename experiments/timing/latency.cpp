#include "experiments/timing/latency.hpp"

#include <CLI/CLI.hpp>
#include <memory>
#include <stdexcept>

#include "experiments/input/command.hpp"

namespace draft {

std::vector<MaskChoice> latency_masks(const LatencyOptions& options, RegionSize region) {
  std::vector<double> sparsities = chosen_or(options.sparsities, {0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95});
  std::erase(sparsities, 0.0);
  std::vector<MaskChoice> masks;
  for (const Policy policy : parsed_once(chosen_or(options.policies, {"draft"}), parse_policy)) {
    if (!is_timed(policy)) {
      throw std::invalid_argument("policy: wanted one whose masks can be timed, found " + to_string(policy));
    }
    for (MaskChoice choice : mask_choices(policy, region, chosen_or(options.pools, {Pool::average}),
                                          chosen_or(options.rules, {Rule::softmax}), sparsities)) {
      for (const Remainder remainder : chosen_or(options.remainders, {Remainder::none})) {
        choice.remainder = remainder;
        masks.push_back(choice);
      }
    }
  }
  return masks;
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

namespace {

Action latency_options(CLI::App& command) {
  const auto options = std::make_shared<LatencyOptions>();
  add_timed_options(command, *options);
  add_text_list(command, "--order", options->orders, "Order of the tokens: token (default), region, gather",
                {"token", "region", "gather"});
  add_remainder_option(command, *options);
  add_policy_option(command, options->policies, "Whose masks are timed (default draft; see list)", is_timed);
  CLI::Option* sustain =
      command.add_option("--sustain", options->sustain_ms,
                         "Milliseconds that a sample lasts at least, of calls in a row (default 0: one call a sample)");
  require_number(sustain->type_name("MS"), 0.0, 60'000.0);
  return [options] { return latency(*options); };
}

}  // namespace

Command latency_command() {
  return {"latency",
          "Times attention calls on the GPU, dense and block-sparse, on a dump or a shape",
          "attention calls on the GPU, dense and block-sparse",
          "data/photodit_512p.h5 --sparsity 0.75,0.9 --out latency.jsonl",
          true,
          latency_options};
}

}  // namespace draft
