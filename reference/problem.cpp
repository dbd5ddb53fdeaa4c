#include "reference/problem.hpp"

#include <fmt/format.h>

#include <cmath>
#include <stdexcept>

namespace draft {
namespace {

void require_at_least(const char* axis, Index found, Index wanted) {
  if (found < wanted) {
    throw std::invalid_argument(fmt::format("grid: {} must be at least {}, found {}", axis, wanted, found));
  }
}

void require_shape(const std::string& source, const char* name, const Matrix& found, Index rows, Index cols) {
  if (found.rows() != rows || found.cols() != cols) {
    throw std::invalid_argument(
        fmt::format("{}: {} must be [{}, {}], found [{}, {}]", source, name, rows, cols, found.rows(), found.cols()));
  }
}

}  // namespace

void require_valid(const Grid& grid) {
  require_at_least("frames", grid.frames, 1);
  require_at_least("height", grid.height, 1);
  require_at_least("width", grid.width, 1);
  require_at_least("text_tokens", grid.text, 0);
  if (grid.causal && grid.tokens() != grid.width) {
    throw std::invalid_argument("grid: causal attention wants one row of tokens, found " + to_string(grid));
  }
}

std::string to_string(const Grid& grid) {
  return fmt::format("{} x {} x {} + {} text{}", grid.frames, grid.height, grid.width, grid.text,
                     grid.causal ? ", causal" : "");
}

void require_valid(const Problem& problem) {
  require_valid(problem.grid);
  if (problem.q.cols() < 1) throw std::invalid_argument(problem.source + ": head_dim must be at least 1, found 0");
  require_shape(problem.source, "q", problem.q, problem.grid.tokens(), problem.q.cols());
  require_shape(problem.source, "k", problem.k, problem.grid.tokens(), problem.q.cols());
  require_shape(problem.source, "v", problem.v, problem.grid.tokens(), problem.q.cols());
  if (!std::isfinite(problem.scale) || problem.scale <= 0) {
    throw std::invalid_argument(
        fmt::format("{}: softmax_scale must be finite and positive, found {}", problem.source, problem.scale));
  }
}

}  // namespace draft
