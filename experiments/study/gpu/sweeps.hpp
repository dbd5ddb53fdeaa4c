#pragma once
// The sweeps on the GPU (kernels/sweep/sweeps.hpp), for builds with kernels.

#include <map>

#include "experiments/study/sweeps.hpp"
#include "kernels/core/cuda_check.hpp"
#include "kernels/sweep/sweeps.hpp"
#include "reference/bounds/mask_levels.hpp"

namespace draft {

/// Device memory that grows when it must and is kept.
template <typename T>
class KeptBuffer {
 public:
  /// At least `size` elements, whose content is undefined where the buffer had to grow.
  T* at_least(std::size_t size) {
    if (buffer_.size() < size) {
      buffer_ = {};  // first free, then allocate
      buffer_ = gpu::DeviceBuffer<T>(size);
    }
    return buffer_.data();
  }
  [[nodiscard]] T* data() const { return buffer_.data(); }

 private:
  gpu::DeviceBuffer<T> buffer_;
};

/// What kernels write row by row.
using FloatRows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// fp32 on the current CUDA device. Takes heads whose bits in a 16-bit element type are given, of head_dim 64 or 128
/// and at most gpu::kMostBlocks blocks; load() throws UsageError otherwise. Beside the head's tensors it holds 4 bytes
/// a token and channel for the dense output, 72 a token and mask of the largest family, 42 regions^2 and one more for
/// each family, at most 1 GiB of the first sweep's scratch (or what one block row needs) and 64 rows of P in fp64. For
/// a pooled remainder 4 bytes more for each token and region, and for each mask, token and channel of the largest
/// family; that softmax itself is the host's, in fp64.
class GpuSweeps : public Sweeps {
 public:
  void load(const Problem& problem, const HalfHead* half, std::span<const Partition> partitions, int threads) override;
  LogitSweep logits(std::span<const MapRequest> requests, const Progress& progress) override;
  MaskSweep masks(std::vector<MaskFamily> families, const Progress& progress) override;
  [[nodiscard]] std::vector<Index> row_region(std::size_t partition) const override {
    return partitions_[partition].region_of_token();
  }
  [[nodiscard]] Slack slack() const override { return single_precision_slack(*problem_); }

 private:
  [[nodiscard]] gpu::SweepCall call(std::size_t partition) const;
  LogitStats block_stats(std::size_t partition);
  LogHistogram histogram(const MapRequest& request, const LogitStats& stats);
  std::vector<std::vector<Level>> levels_of(std::span<const MaskFamily> families);
  std::vector<MaskEffect> effects(const gpu::SweepCall& call, const gpu::NestedMasks& family, const MaskFamily& own);
  void add_remainder(const MaskFamily& family, const gpu::MaskEffects& plain, std::vector<MaskEffect>& effects);
  const FloatRows& row_masses(std::size_t partition);
  DenseSums dense();
  void check_rows(const std::vector<std::size_t>& partition, const std::vector<gpu::NestedMasks>& families,
                  std::vector<std::vector<MaskEffect>>& effects);
  /// Both wait for nothing but the stream: it does not wait for copies that do not belong to it.
  template <typename T>
  void to_device(T* to, const T* from, std::size_t size) const {
    gpu::check(cudaMemcpyAsync(to, from, size * sizeof(T), cudaMemcpyHostToDevice, stream_.get()),
               "copy to the device");
  }
  template <typename T>
  void to_host(T* to, const T* from, std::size_t size) const {
    gpu::check(cudaMemcpyAsync(to, from, size * sizeof(T), cudaMemcpyDeviceToHost, stream_.get()), "copy to the host");
    stream_.wait();
  }

  const Problem* problem_ = nullptr;
  std::span<const Partition> partitions_;
  int threads_ = 0;
  std::vector<gpu::Layout> layouts_;  // [partition]
  Element element_ = Element::bfloat16;
  gpu::Stream stream_;
  KeptBuffer<std::uint16_t> q_, k_, v_;
  KeptBuffer<double> lse_, statistics_, effects_, probabilities_, row_l1_;
  KeptBuffer<float> dense_, pooled_;
  KeptBuffer<std::uint64_t> counts_;
  KeptBuffer<std::uint8_t> scratch_, levels_;
  // Of the loaded head, where a mask has a remainder.
  KeptBuffer<float> outputs_, masses_;
  FloatRows dense_rows_;                         // dense O, [video, head_dim]
  std::map<std::size_t, FloatRows> row_masses_;  // [partition], [video, regions]
};

/// Passes on so many rows of progress in as many even steps as there are pieces of work.
class Steps {
 public:
  Steps(const Progress& progress, Index rows, std::size_t pieces)
      : progress_(progress), rows_(rows), pieces_(static_cast<Index>(pieces)) {}
  void done() {
    const Index before = rows_ * piece_ / pieces_;
    ++piece_;
    if (progress_) progress_(rows_ * piece_ / pieces_ - before);
  }

 private:
  const Progress& progress_;
  Index rows_, pieces_, piece_ = 0;
};

}  // namespace draft
