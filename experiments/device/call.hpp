#pragma once
// A timed attention call on the device: its tensors in token and in region order, and the work of a kernel on them.

#include <functional>
#include <string>
#include <vector>

#include "experiments/device/lists.hpp"
#include "experiments/input/call.hpp"

namespace draft {

class GpuCall {
 public:
  using Work = std::function<void(cudaStream_t)>;

  /// Uploads the source's tensors, and makes room for those in region order if an order wants them. Throws gpu::Error
  /// if the device has no room, and as CallSource::load.
  GpuCall(const CallSource& source, bool with_region_order);
  GpuCall(const GpuCall&) = delete;
  GpuCall& operator=(const GpuCall&) = delete;

  /// The regions of everything that follows; fills the tensors in region order. Waits. Throws UsageError if the kernels
  /// cannot have such regions. Works made before must not be used any more.
  void set_region(RegionSize region);
  [[nodiscard]] const gpu::Layout& layout() const { return layout_; }
  /// The draft of this call's q and k into `lists`.
  [[nodiscard]] gpu::MaskCall draft(Pool pool, Rule rule, double sparsity, const DeviceLists& lists) const {
    return {element_, {pool, rule, sparsity, scale_}, inputs_[0].data(), inputs_[1].data(), lists.view()};
  }

  /// Why the kernel cannot do this call, or "".
  [[nodiscard]] std::string unsupported(const gpu::AttentionKernel& kernel, TokenOrder order) const;
  /// A kernel on this call with these lists, dense without; what it stands for is TokenOrder's. Enlarges the scratch
  /// memory: works made before stay valid.
  [[nodiscard]] Work attention(const gpu::AttentionKernel& kernel, TokenOrder order, const DeviceLists* lists);
  /// q, k and v from token to region order, and o back.
  [[nodiscard]] Work reorder() const;
  [[nodiscard]] Work restore() const;
  /// The output of the last attention in token or gather order, [heads, tokens, head_dim] in token order. Waits.
  [[nodiscard]] std::vector<std::uint16_t> output() const { return o_.download(); }

 private:
  [[nodiscard]] gpu::Attention call(TokenOrder order, const DeviceLists* lists) const;

  CallShape shape_;
  Element element_;
  float scale_;
  int capability_;
  gpu::Layout layout_;
  gpu::Blas blas_;
  gpu::DeviceBuffer<std::uint16_t> inputs_[3], reordered_[3], o_, reordered_o_;
  gpu::DeviceBuffer<float> lse_;
  gpu::DeviceBuffer<std::uint8_t> workspace_;
};

}  // namespace draft
