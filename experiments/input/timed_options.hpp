#pragma once
// The options that the timing commands share beside those of all commands.

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

/// Adds what a timing command takes: DUMP|SHAPE, --capture, --heads, --pool, --region, --rule, --sparsity, --kernel,
/// --element, --head-dim, --samples, --warmup, --out, --seed, --quiet.
void add_timed_options(CLI::App& command, TimedOptions& options);

}  // namespace draft
