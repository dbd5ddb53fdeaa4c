#include "kernels/sweep/arguments.hpp"

#include <cmath>
#include <stdexcept>
#include <string>

namespace draft::gpu {

void require_valid(const SweepCall& call, bool with_v) {
  require_valid(call.layout);
  require_half("sweep: element", call.element);
  if (call.layout.head_dim != 64 && call.layout.head_dim != 128) {
    throw std::invalid_argument("sweep: head_dim must be 64 or 128, found " + std::to_string(call.layout.head_dim));
  }
  if (!(std::isfinite(call.scale) && call.scale > 0.0)) {
    throw std::invalid_argument("sweep: scale must be finite and positive, found " + std::to_string(call.scale));
  }
  require_aligned("sweep: q", call.q);
  require_aligned("sweep: k", call.k);
  if (with_v) require_aligned("sweep: v", call.v);
}

void require_valid(const NestedMasks& family) {
  require_aligned("nested masks: levels", family.levels);
  if (family.masks < 1 || family.masks > 254) {
    throw std::invalid_argument("nested masks: wanted 1 to 254 masks, found " + std::to_string(family.masks));
  }
}

}  // namespace draft::gpu
