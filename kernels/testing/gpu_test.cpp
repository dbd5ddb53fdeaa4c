#include "kernels/testing/gpu_test.hpp"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <bit>

namespace draft::gpu {

double decode(Element element, std::uint16_t bits) {
  if (element == Element::bfloat16) {
    return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
  }
  return static_cast<double>(__half2float(__half(__half_raw{bits})));
}

std::uint16_t encode(Element element, float value) {
  if (element == Element::bfloat16) {
    return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);  // towards 0
  }
  return __half_raw(__float2half_rn(value)).x;
}

std::string why_no_device() {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess) return std::string("no GPU: ") + cudaGetErrorString(status) + cure(status);
  return devices == 0 ? "no GPU: CUDA counts 0 devices" : "";
}

Tensor random_tensor(const Layout& layout, Element element, std::uint32_t seed, double mean) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(mean, 1.0);
  Tensor tensor;
  for (int head = 0; head < layout.heads; ++head) {
    Matrix rows(layout.tokens(), layout.head_dim);
    for (Index i = 0; i < rows.size(); ++i) {
      tensor.bits.push_back(encode(element, static_cast<float>(normal(random))));
      rows.data()[i] = decode(element, tensor.bits.back());
    }
    tensor.heads.push_back(std::move(rows));
  }
  return tensor;
}

Grid grid_of(const Layout& layout) { return {layout.frames, layout.height, layout.width, layout.text}; }

Partition partition_of(const Layout& layout) {
  return {grid_of(layout), RegionSize{layout.region_height, layout.region_width}};
}

Layout map_layout(int heads, int regions, int text) {
  return {.heads = heads, .frames = regions, .height = 1, .width = 1, .text = text, .head_dim = 8};
}

std::vector<Layout> swept_layouts() {
  return {
      {.heads = 1, .frames = 1, .height = 1, .width = 1, .text = 0, .head_dim = 64},
      {.heads = 2, .frames = 1, .height = 1, .width = 1, .text = 1, .head_dim = 128},
      {.heads = 3, .frames = 2, .height = 8, .width = 16, .text = 129, .head_dim = 128},
      {.heads = 2, .frames = 2, .height = 7, .width = 15, .text = 77, .head_dim = 64},
      {.heads = 2, .frames = 2, .height = 9, .width = 17, .text = 77, .head_dim = 128},
      {.heads = 9, .frames = 3, .height = 30, .width = 52, .text = 1, .head_dim = 64},
      {.heads = 1, .frames = 2, .height = 45, .width = 80, .text = 129, .head_dim = 128},
      {.heads = 2, .frames = 2, .height = 33, .width = 49, .text = 0, .head_dim = 72},
      {.heads = 2, .frames = 2, .height = 33, .width = 49, .text = 5, .head_dim = 128, .region_height = 16},
      {.heads = 1,
       .frames = 1,
       .height = 70,
       .width = 90,
       .text = 3,
       .head_dim = 64,
       .region_height = 64,
       .region_width = 64},
      {.heads = 2,
       .frames = 2,
       .height = 5,
       .width = 7,
       .text = 3,
       .head_dim = 128,
       .region_height = 1,
       .region_width = 1},
  };
}

std::string to_string(const Layout& l) {
  return std::to_string(l.heads) + " heads of " + draft::to_string(grid_of(l)) + ", head_dim " +
         std::to_string(l.head_dim) + ", regions " + std::to_string(l.region_height) + "x" +
         std::to_string(l.region_width);
}

Selected select_on_gpu(const Layout& layout, Rule rule, double sparsity, const std::vector<float>& scores) {
  const auto heads = static_cast<std::size_t>(layout.heads), blocks = static_cast<std::size_t>(layout.blocks());
  const DeviceBuffer<float> device_scores{std::span(scores)};
  const Guarded<std::uint8_t> workspace(workspace_bytes(layout)), mask(scores.size());
  const Guarded<std::int32_t> status(heads), counts(heads * blocks);
  const Guarded<std::uint16_t> columns(heads * blocks * blocks), order(heads * blocks);
  const Stream stream;
  find_thresholds(layout, rule, sparsity, device_scores.data(), workspace.data(), status.data(), stream.get());
  write_lists(layout, rule, device_scores.data(), workspace.data(),
              {columns.data(), counts.data(), order.data(), mask.data()}, stream.get());
  stream.wait();
  (void)workspace.read();  // for its guards
  return {status.read(), columns.read(), counts.read(), order.read(), mask.read()};
}

ReferenceMasks::ReferenceMasks(int regions, const float* scores)
    : scores_(Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(scores, regions,
                                                                                                      regions)
                  .cast<double>()),
      by_head_(rank_blocks(scores_, false)),
      by_row_(rank_blocks(scores_, true)) {}

BlockMask ReferenceMasks::mask(Rule rule, double sparsity) const {
  if (rule == Rule::row) return {by_row_, kept_count(sparsity, scores_.rows())};
  if (rule != Rule::released) return {by_head_, kept_count(sparsity, scores_.size())};
  const auto last = static_cast<std::uint32_t>(released_kept_count(sparsity, scores_.size()) - 1);
  const auto at = std::find(by_head_.rank.begin(), by_head_.rank.end(), last) - by_head_.rank.begin();
  const double threshold = scores_.data()[at];
  return {by_head_, std::count_if(scores_.data(), scores_.data() + scores_.size(),
                                  [&](double score) { return score >= threshold; })};
}

int differences(const BlockMask& wanted, const std::uint8_t* found) {
  int count = 0;
  for (Index row = 0; row < wanted.regions(); ++row) {
    for (Index column = 0; column < wanted.regions(); ++column) {
      count += found[row * wanted.regions() + column] != (wanted.kept(row, column) ? 1 : 0);
    }
  }
  return count;
}

}  // namespace draft::gpu
