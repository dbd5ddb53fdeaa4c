#include "experiments/input/models.hpp"

#include <stdexcept>
#include <utility>

namespace draft {
namespace {

constexpr double kPeta = 1e15;
constexpr double kPatchChannels = 64;  // 16 latent channels x 1 x 2 x 2 patch, both models
constexpr double kReleasedDenseSteps = 15;

}  // namespace

TransformerShape hunyuan_video(std::string resolution, std::int64_t frames, std::int64_t height, std::int64_t width) {
  // Dual-stream blocks modulate both streams (6 + 6 rows), single-stream blocks one (3 rows).
  return {.model = "HunyuanVideo",
          .resolution = std::move(resolution),
          .video_tokens = frames * height * width,
          .text_tokens = 256,
          .cross_tokens = 0,
          .hidden = 24 * 128,
          .mlp_hidden = 4 * 24 * 128,
          .layers = 20 + 40,
          .modulation_rows = 20 * 12 + 40 * 3,
          .steps = 50,
          .passes = 1};
}

TransformerShape wan_14b(std::string resolution, std::int64_t frames, std::int64_t height, std::int64_t width) {
  // One time projection of 6 rows is shared by all blocks.
  return {.model = "Wan2.1-T2V-14B",
          .resolution = std::move(resolution),
          .video_tokens = frames * height * width,
          .text_tokens = 0,
          .cross_tokens = 512,
          .hidden = 40 * 128,
          .mlp_hidden = 13824,
          .layers = 40,
          .modulation_rows = 6,
          .steps = 50,
          .passes = 2};
}

FlopParts dense_flops(const TransformerShape& shape, Counting counting) {
  const auto l = static_cast<double>(shape.tokens());
  const auto t = static_cast<double>(shape.cross_tokens);
  const auto d = static_cast<double>(shape.hidden);
  const auto f = static_cast<double>(shape.mlp_hidden);
  const auto video = static_cast<double>(shape.video_tokens);
  const double forwards = static_cast<double>(shape.steps * shape.passes) / kPeta;
  const double layer_forwards = static_cast<double>(shape.layers) * forwards;
  const bool halve_mlp = counting == Counting::printed && shape.cross_tokens > 0;

  FlopParts parts;
  parts.attention = 4 * l * l * d * layer_forwards;
  parts.projections = 8 * d * d * l * layer_forwards;
  parts.mlp = (halve_mlp ? 2 : 4) * d * f * l * layer_forwards;
  if (shape.cross_tokens > 0) {
    parts.cross_attention = (4 * d * d * l + 4 * d * d * t + 4 * l * t * d) * layer_forwards;
  }
  if (counting == Counting::architecture) {
    parts.other = (2 * static_cast<double>(shape.modulation_rows) * d * d + 4 * kPatchChannels * d * video) * forwards;
  }
  return parts;
}

double sparse_share(const TransformerShape& shape, DenseRule rule) {
  const auto steps = static_cast<double>(shape.steps);
  const auto layers = static_cast<double>(shape.layers);
  switch (rule) {
    case DenseRule::none: return 1;
    case DenseRule::first_quarter: return 0.75;
    case DenseRule::released: {
      const double dense_layers = shape.cross_tokens > 0 ? 1 : 2;
      return (steps - kReleasedDenseSteps) / steps * (layers - dense_layers) / layers;
    }
  }
  throw std::invalid_argument("unknown dense rule");
}

double sparse_flops(const FlopParts& dense, double sparse_share, double kept) {
  return dense.total() - dense.attention * sparse_share * (1 - kept);
}

const std::vector<PrintedFlops>& table_1_flops() {
  static const std::vector<PrintedFlops> rows = {
      {"Wan2.1-T2V-14B", "512p", "SVG", 0.00, 145.65},  {"Wan2.1-T2V-14B", "512p", "SVG", 0.55, 99.26},
      {"Wan2.1-T2V-14B", "512p", "SVG", 0.75, 91.12},   {"Wan2.1-T2V-14B", "512p", "Ours", 0.00, 145.65},
      {"Wan2.1-T2V-14B", "512p", "Ours", 0.55, 99.26},  {"Wan2.1-T2V-14B", "512p", "Ours", 0.75, 91.12},
      {"Wan2.1-T2V-14B", "768p", "SVG", 0.00, 609.52},  {"Wan2.1-T2V-14B", "768p", "SVG", 0.55, 354.68},
      {"Wan2.1-T2V-14B", "768p", "SVG", 0.75, 309.95},  {"Wan2.1-T2V-14B", "768p", "Ours", 0.00, 609.52},
      {"Wan2.1-T2V-14B", "768p", "Ours", 0.55, 354.69}, {"Wan2.1-T2V-14B", "768p", "Ours", 0.75, 309.95},
      {"HunyuanVideo", "768p", "Dense", 0.00, 682.67},  {"HunyuanVideo", "768p", "SVG", 0.60, 343.72},
      {"HunyuanVideo", "768p", "SVG", 0.80, 295.30},    {"HunyuanVideo", "768p", "SVG", 0.90, 283.20},
      {"HunyuanVideo", "768p", "Ours", 0.60, 343.73},   {"HunyuanVideo", "768p", "Ours", 0.80, 295.31},
      {"HunyuanVideo", "768p", "Ours", 0.90, 283.20},
  };
  return rows;
}

QuadraticFit quadratic_fit(const std::vector<PrintedFlops>& rows, const std::string& model,
                           const std::string& resolution) {
  double n = 0, sum_x = 0, sum_y = 0, sum_xx = 0, sum_xy = 0;
  for (const PrintedFlops& row : rows) {
    if (row.model != model || row.resolution != resolution) continue;
    const double x = (1 - row.sparsity) * (1 - row.sparsity);
    n += 1;
    sum_x += x;
    sum_y += row.pflops;
    sum_xx += x * x;
    sum_xy += x * row.pflops;
  }
  const double determinant = n * sum_xx - sum_x * sum_x;
  if (!(determinant > 0)) {
    throw std::invalid_argument("quadratic_fit: fewer than two sparsities of " + model + " " + resolution);
  }
  QuadraticFit fit;
  fit.quadratic = (n * sum_xy - sum_x * sum_y) / determinant;
  fit.base = (sum_y - fit.quadratic * sum_x) / n;
  return fit;
}

}  // namespace draft
