#pragma once
// Where the numbers of a timed attention call come from: the chosen heads of a dump, one after the other, or random
// numbers in a named shape.

#include <functional>
#include <memory>
#include <vector>

#include "experiments/input/heads.hpp"
#include "experiments/input/shape.hpp"
#include "experiments/input/timed_options.hpp"
#include "harness/numbers/element.hpp"

namespace draft {

class CallSource {
 public:
  /// Takes a head's place in the call, and its q, k and v, [tokens, head_dim] each.
  using Visit = std::function<void(Index place, const std::vector<std::uint16_t>& q,
                                   const std::vector<std::uint16_t>& k, const std::vector<std::uint16_t>& v)>;

  /// options.dump is a file, or a shape's name. Throws UsageError if it is neither, if a capture or head is not there,
  /// or if the chosen captures have different softmax scales (they share the dump's grid), so that they are no one
  /// call; DumpError if the dump is refused.
  static CallSource open(const TimedOptions& options);

  [[nodiscard]] const CallShape& shape() const { return shape_; }
  [[nodiscard]] Element element() const { return element_; }
  [[nodiscard]] double scale() const { return scale_; }
  /// The records' `input`.
  [[nodiscard]] const Json& input() const { return input_; }

  /// Head by head; one is in memory at a time. Throws DumpError on numbers that cannot be read, UsageError on those
  /// that are too large for the element type.
  void load(const Visit& visit) const;

 private:
  CallSource() = default;
  static CallSource of_dump(const TimedOptions& options);
  static CallSource of_shape(const TimedOptions& options);

  CallShape shape_;
  Element element_ = Element::bfloat16;
  double scale_ = 0.0;
  Json input_;
  std::uint64_t seed_ = 0;
  std::shared_ptr<const Dump> dump_;  // null: random numbers
  std::vector<HeadTask> tasks_;
};

}  // namespace draft
