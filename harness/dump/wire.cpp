#include "harness/dump/wire.hpp"

#include <cmath>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "harness/dump/rules.hpp"

namespace draft {
namespace {

using nlohmann::json;

template <typename Value>
json or_null(const std::optional<Value>& value) {
  return value ? json(*value) : json();
}

template <typename Value>
std::optional<Value> if_there(const json& value) {
  return value.is_null() ? std::nullopt : std::optional(value.get<Value>());
}

void require(bool holds) {
  if (!holds) throw std::runtime_error("a structure that contradicts itself");
}

}  // namespace

std::string to_wire(const DumpInfo& info) {
  json captures = json::array();
  for (const CaptureInfo& c : info.captures) {
    captures.push_back({c.name, c.layer, c.step, c.timestep, or_null(c.steps), or_null(c.prompt), or_null(c.branch),
                        c.softmax_scale, c.model_heads, c.has_output});
  }
  const Grid& grid = info.grid;
  const json all = {
      info.version, info.model,    info.source,   {grid.frames, grid.height, grid.width, grid.text, grid.causal},
      info.heads,   info.kv_heads, info.head_dim, info.element,
      captures};
  std::string wire;
  json::to_cbor(all, wire);  // not JSON text, in which a control character takes six bytes: memory is limited
  return wire;
}

DumpInfo from_wire(std::string_view text) {
  const json all = json::from_cbor(text.begin(), text.end());
  DumpInfo info;
  info.version = all.at(0);
  info.model = all.at(1);
  info.source = all.at(2);
  const json& grid = all.at(3);
  info.grid = {grid.at(0), grid.at(1), grid.at(2), grid.at(3), grid.at(4)};
  info.heads = all.at(4);
  info.kv_heads = all.at(5);
  info.head_dim = all.at(6);
  info.element = all.at(7);
  require_valid(info.grid);
  require(info.grid.frames <= kLongestAxis && info.grid.height <= kLongestAxis && info.grid.width <= kLongestAxis &&
          info.grid.text <= kLongestAxis);
  require(info.heads >= 1 && info.heads <= kMostHeads && info.kv_heads >= 1 && info.heads % info.kv_heads == 0);
  require(info.head_dim >= 1 && info.head_dim <= kLargestHeadDim);
  for (const json& c : all.at(8)) {
    info.captures.push_back({c.at(0), c.at(1), c.at(2), c.at(3), if_there<Index>(c.at(4)),
                             if_there<std::string>(c.at(5)), if_there<std::string>(c.at(6)), c.at(7),
                             c.at(8).get<std::vector<Index>>(), c.at(9)});
    const CaptureInfo& capture = info.captures.back();
    require(std::isfinite(capture.softmax_scale) && capture.softmax_scale > 0);
    require(capture.model_heads.empty() || static_cast<Index>(capture.model_heads.size()) == info.heads);
  }
  require(!info.captures.empty());
  return info;
}

}  // namespace draft
