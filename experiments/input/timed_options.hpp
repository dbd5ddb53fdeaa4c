#pragma once
// The options that the timing commands share beside those of all commands.

#include <algorithm>
#include <string>
#include <vector>

#include "harness/options.hpp"

namespace draft {

/// How a timed call's tokens lie, and what is timed.
enum class TokenOrder {
  token,   // token order; the attention
  region,  // already in region order; the attention
  gather,  // token order; reordering q, k and v, the attention in region order, restoring o
};
inline constexpr Word<TokenOrder> kTokenOrders[] = {
    {TokenOrder::token, "token"}, {TokenOrder::region, "region"}, {TokenOrder::gather, "gather"}};
inline std::string to_string(TokenOrder order) { return word_of(kTokenOrders, order); }
/// Throws std::invalid_argument that lists the orders.
inline TokenOrder parse_token_order(const std::string& text) { return parse_choice("order", kTokenOrders, text); }
/// Whether a kernel gets its tensors in region order.
inline bool wants_region_order(TokenOrder order) { return order != TokenOrder::token; }

struct TimedOptions : Options {      // `dump` is a dump or the name of a shape
  std::vector<std::string> kernels;  // --kernel; empty: the command's default
  std::string element;               // --element; empty: the dump's own, else bfloat16
  Index head_dim = 128;              // --head-dim, of a shape
  int samples = 10;                  // --samples
  int warmup = 2;                    // --warmup
};

/// The values of the texts, each once, in their order.
template <typename Value>
std::vector<Value> parsed_once(const std::vector<std::string>& texts, Value (*parse)(const std::string&)) {
  std::vector<Value> values;
  for (const std::string& text : texts) {
    if (const Value value = parse(text); std::find(values.begin(), values.end(), value) == values.end()) {
      values.push_back(value);
    }
  }
  return values;
}

/// Adds what a timing command takes: DUMP|SHAPE, --capture, --heads, --pool, --region, --rule, --sparsity, --kernel,
/// --element, --head-dim, --samples, --warmup, --out, --seed, --quiet.
void add_timed_options(CLI::App& command, TimedOptions& options);

}  // namespace draft
