#pragma once
// An attention call on the device: its tensors in token and in region order, and what kernels get of it.

#include <functional>
#include <string>
#include <vector>

#include "experiments/device/lists.hpp"
#include "experiments/input/call.hpp"
#include "reference/attention.hpp"

namespace draft {

class DeviceCall {
 public:
  using Work = std::function<void(cudaStream_t)>;

  /// Room for q, k and v. Throws gpu::Error if the device has none.
  DeviceCall(const CallShape& shape, Element element, double scale);
  /// With the source's tensors. Throws also as CallSource::load.
  explicit DeviceCall(const CallSource& source);
  DeviceCall(const DeviceCall&) = delete;
  DeviceCall& operator=(const DeviceCall&) = delete;

  /// q, k and v of the head at a place of the call, [tokens, head_dim] each. Waits.
  void upload(Index place, const std::vector<std::uint16_t>& q, const std::vector<std::uint16_t>& k,
              const std::vector<std::uint16_t>& v);
  /// The regions of everything that follows; fills the tensors in region order if they are wanted. Waits. Throws
  /// UsageError if the kernels cannot have such regions. Works made before must not be used any more.
  void set_region(RegionSize region, bool with_region_order);

  [[nodiscard]] const CallShape& shape() const { return shape_; }
  [[nodiscard]] Element element() const { return element_; }
  [[nodiscard]] const gpu::Layout& layout() const { return layout_; }
  [[nodiscard]] const gpu::Blas& blas() const { return blas_; }

  /// The draft of this call's q and k into `lists`, and into `mask` [heads, regions, regions] unless it is null.
  [[nodiscard]] gpu::MaskCall draft(const MaskChoice& choice, const DeviceLists& lists,
                                    std::uint8_t* mask = nullptr) const {
    return {element_,
            {choice.pool, choice.rule, choice.sparsity, scale_},
            inputs_[0].data(),
            inputs_[1].data(),
            lists.view(mask)};
  }
  /// What a kernel gets with these lists, dense without, but for the outputs; with a remainder the rows of pool_rows(),
  /// which must have been made.
  [[nodiscard]] gpu::Attention inputs(bool region_order, const DeviceLists* lists,
                                      Remainder remainder = Remainder::none) const;
  /// Why the kernel cannot do this call, or "".
  [[nodiscard]] std::string unsupported(const gpu::AttentionKernel& kernel, bool region_order,
                                        Remainder remainder = Remainder::none) const;

  /// A kernel on this call with these lists, dense without; what it stands for is TokenOrder's. Enlarges the scratch
  /// memory: works made before stay valid.
  [[nodiscard]] Work attention(const gpu::AttentionKernel& kernel, TokenOrder order, const DeviceLists* lists,
                               Remainder remainder = Remainder::none);
  /// k and v of each region, for the remainder of this call.
  [[nodiscard]] Work pool_rows();
  /// What pool_rows() gave, one for each head. Waits.
  [[nodiscard]] std::vector<PooledRows> pooled_rows() const;
  /// q, k and v from token to region order, and o back.
  [[nodiscard]] Work reorder() const;
  [[nodiscard]] Work restore();
  /// The output of the last attention() in token or gather order, [heads, tokens, head_dim] in token order. Waits.
  [[nodiscard]] std::vector<std::uint16_t> output() const { return o_.download(); }

 private:
  void make_room_for_outputs(bool region_order);

  CallShape shape_;
  Element element_;
  float scale_;
  int capability_;
  gpu::Layout layout_;
  RegionSize reordered_region_{0, 0};  // of reordered_
  gpu::Blas blas_;
  gpu::DeviceBuffer<std::uint16_t> inputs_[3], reordered_[3], pooled_[2], o_, reordered_o_;
  gpu::DeviceBuffer<float> lse_;
  gpu::DeviceBuffer<std::uint8_t> workspace_;
};

}  // namespace draft
