#include "experiments/device/call.hpp"

#include <span>

namespace draft {
namespace {

std::size_t rows_of(const CallSource& source) {
  return static_cast<std::size_t>(source.shape().heads * source.shape().grid.tokens());
}

}  // namespace

GpuCall::GpuCall(const CallSource& source, bool with_region_order)
    : shape_(source.shape()),
      element_(source.element()),
      scale_(static_cast<float>(source.scale())),
      capability_(gpu::device_capability()),
      lse_(rows_of(source)) {
  const std::size_t size = rows_of(source) * static_cast<std::size_t>(source.shape().head_dim);
  o_ = gpu::DeviceBuffer<std::uint16_t>(size);
  reordered_o_ = gpu::DeviceBuffer<std::uint16_t>(with_region_order ? size : 0);
  for (std::size_t i = 0; i < 3; ++i) {
    inputs_[i] = gpu::DeviceBuffer<std::uint16_t>(size);
    reordered_[i] = gpu::DeviceBuffer<std::uint16_t>(with_region_order ? size : 0);
  }
  source.load([&](Index place, const auto& q, const auto& k, const auto& v) {
    const std::vector<std::uint16_t>* tensors[] = {&q, &k, &v};
    for (std::size_t i = 0; i < 3; ++i) {
      gpu::copy_to_device(inputs_[i].data() + static_cast<std::size_t>(place) * tensors[i]->size(),
                          std::span<const std::uint16_t>(*tensors[i]));
    }
  });
}

void GpuCall::set_region(RegionSize region) {
  layout_ = gpu_layout(shape_.grid, shape_.heads, shape_.head_dim, region);
  if (reordered_o_.size() == 0) return;
  reorder()(nullptr);
  gpu::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

gpu::Attention GpuCall::call(TokenOrder order, const DeviceLists* lists) const {
  const bool region_order = wants_region_order(order);
  const auto& inputs = region_order ? reordered_ : inputs_;
  gpu::Attention call{.layout = layout_,
                      .element = element_,
                      .scale = scale_,
                      .region_order = region_order,
                      .q = inputs[0].data(),
                      .k = inputs[1].data(),
                      .v = inputs[2].data(),
                      .o = region_order ? reordered_o_.data() : o_.data(),
                      .lse = lse_.data()};
  if (lists != nullptr) call.lists = lists->view();
  return call;
}

std::string GpuCall::unsupported(const gpu::AttentionKernel& kernel, TokenOrder order) const {
  return kernel.unsupported(call(order, nullptr), capability_);
}

GpuCall::Work GpuCall::attention(const gpu::AttentionKernel& kernel, TokenOrder order, const DeviceLists* lists) {
  const gpu::Attention own = call(order, lists);
  if (const std::size_t bytes = kernel.workspace(own); bytes > workspace_.size()) {
    workspace_ = {};  // first free, then allocate
    workspace_ = gpu::DeviceBuffer<std::uint8_t>(bytes);
  }
  const Work attend = [this, launch = kernel.launch, own](cudaStream_t stream) {
    launch(own, {blas_, workspace_.data()}, stream);
  };
  if (order != TokenOrder::gather) return attend;
  return [before = reorder(), attend, after = restore()](cudaStream_t stream) {
    before(stream);
    attend(stream);
    after(stream);
  };
}

GpuCall::Work GpuCall::reorder() const {
  return [this](cudaStream_t stream) {
    for (std::size_t i = 0; i < 3; ++i) gpu::reorder(layout_, inputs_[i].data(), reordered_[i].data(), stream);
  };
}

GpuCall::Work GpuCall::restore() const {
  return [this](cudaStream_t stream) { gpu::restore(layout_, reordered_o_.data(), o_.data(), stream); };
}

}  // namespace draft
