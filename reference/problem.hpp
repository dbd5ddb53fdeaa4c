#pragma once
// The core types: the token grid of a video latent and one head's attention problem on it.

#include <Eigen/Dense>
#include <algorithm>
#include <cstdint>
#include <string>

namespace draft {

/// Row-major, because tokens are rows: a token's head_dim numbers are contiguous, as in the dump.
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;
using Index = std::int64_t;

/// The latent token grid: video tokens row-major in (frame, row, column), then the text tokens.
/// The one place that turns (frame, row, column) into a token index, and that knows which keys a query may attend to.
struct Grid {
  Index frames = 0;
  Index height = 0;
  Index width = 0;
  Index text = 0;
  bool causal = false;  // a language model's: one row of tokens, each attends to itself and to those before it

  [[nodiscard]] Index frame_tokens() const { return height * width; }
  [[nodiscard]] Index video() const { return frames * frame_tokens(); }
  [[nodiscard]] Index tokens() const { return video() + text; }
  [[nodiscard]] Index token(Index frame, Index row, Index column) const {
    return frame * frame_tokens() + row * width + column;
  }
  /// Of the tokens [first, first + size), how many of the first ones `query` may attend to.
  [[nodiscard]] Index seen(Index query, Index first, Index size) const {
    return causal ? std::clamp<Index>(query + 1 - first, 0, size) : size;
  }
  bool operator==(const Grid&) const = default;
};

/// Throws std::invalid_argument that names the axis unless frames, height, width >= 1 and text >= 0, and a causal grid
/// is one row of tokens.
void require_valid(const Grid& grid);

/// "8 x 32 x 48 + 16 text", "1 x 1 x 2048 + 0 text, causal".
std::string to_string(const Grid& grid);

/// One head of one captured attention call.
struct Problem {
  Grid grid;
  Matrix q;            // [tokens, head_dim], after QK-norm and RoPE
  Matrix k;            // [tokens, head_dim]
  Matrix v;            // [tokens, head_dim]
  double scale = 0.0;  // softmax scale, 1/sqrt(head_dim) unless the model says otherwise
  std::string source;  // where the numbers come from, for messages: "file.h5:/captures/name head 2"

  [[nodiscard]] Index head_dim() const { return q.cols(); }
};

/// Throws std::invalid_argument that names the tensor, the wanted and the found shape unless Q, K, V
/// are [grid.tokens(), head_dim] and the scale is finite and positive.
void require_valid(const Problem& problem);

}  // namespace draft
