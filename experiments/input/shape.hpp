#pragma once
// One attention call's shape by name: the three calls of the paper's models, or any other.

#include <optional>
#include <string>

#include "experiments/input/models.hpp"
#include "reference/problem.hpp"

namespace draft {

struct CallShape {
  Index heads = 1;
  Grid grid;
  Index head_dim = 128;
  bool operator==(const CallShape&) const = default;
};

/// wan_512p, wan_768p, hunyuan_768p (with its 256 text tokens), or HEADSxFRAMESxHEIGHTxWIDTH[+TEXT]. Throws
/// std::invalid_argument that names these and the found text.
CallShape parse_call_shape(const std::string& text, Index head_dim);

/// The paper's name of a call with its heads, grid and head_dim, whatever its text; else
/// "HEADSxFRAMESxHEIGHTxWIDTH+TEXT".
std::string to_string(const CallShape& shape);

/// The model that makes calls of this shape, by to_string's name; none for other shapes than the paper's.
std::optional<TransformerShape> paper_model(const std::string& shape);

}  // namespace draft
