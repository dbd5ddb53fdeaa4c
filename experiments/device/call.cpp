#include "experiments/device/call.hpp"

#include <span>

namespace draft {

DeviceCall::DeviceCall(const CallShape& shape, Element element, double scale)
    : shape_(shape), element_(element), scale_(static_cast<float>(scale)), capability_(gpu::device_capability()) {
  const auto size = static_cast<std::size_t>(shape.heads * shape.grid.tokens() * shape.head_dim);
  for (auto& tensor : inputs_) tensor = gpu::DeviceBuffer<std::uint16_t>(size);
}

DeviceCall::DeviceCall(const CallSource& source) : DeviceCall(source.shape(), source.element(), source.scale()) {
  source.load([this](Index place, const auto& q, const auto& k, const auto& v) { upload(place, q, k, v); });
}

void DeviceCall::upload(Index place, const std::vector<std::uint16_t>& q, const std::vector<std::uint16_t>& k,
                        const std::vector<std::uint16_t>& v) {
  const std::vector<std::uint16_t>* tensors[] = {&q, &k, &v};
  for (std::size_t i = 0; i < 3; ++i) {
    gpu::copy_to_device(inputs_[i].data() + static_cast<std::size_t>(place) * tensors[i]->size(),
                        std::span<const std::uint16_t>(*tensors[i]));
  }
  reordered_region_ = {0, 0};
}

void DeviceCall::set_region(RegionSize region, bool with_region_order) {
  layout_ = gpu_layout(shape_.grid, shape_.heads, shape_.head_dim, region);
  if (!with_region_order || reordered_region_ == region) return;
  for (std::size_t i = 0; i < 3; ++i) {
    if (reordered_[i].size() == 0) reordered_[i] = gpu::DeviceBuffer<std::uint16_t>(inputs_[i].size());
  }
  reorder()(nullptr);
  gpu::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  reordered_region_ = region;
}

gpu::Attention DeviceCall::inputs(bool region_order, const DeviceLists* lists, Remainder remainder) const {
  const auto& tensors = region_order ? reordered_ : inputs_;
  const bool pooled = remainder == Remainder::pooled;
  return {.layout = layout_,
          .element = element_,
          .scale = scale_,
          .region_order = region_order,
          .q = tensors[0].data(),
          .k = tensors[1].data(),
          .v = tensors[2].data(),
          .lists = lists == nullptr ? gpu::BlockLists{} : lists->view(),
          .pooled_k = pooled ? pooled_[0].data() : nullptr,
          .pooled_v = pooled ? pooled_[1].data() : nullptr};
}

std::string DeviceCall::unsupported(const gpu::AttentionKernel& kernel, bool region_order, Remainder remainder) const {
  gpu::Attention call = inputs(region_order, nullptr);
  if (remainder == Remainder::pooled) call.pooled_k = call.pooled_v = inputs_[1].data();  // that they are there counts
  return kernel.unsupported(call, capability_);
}

void DeviceCall::make_room_for_outputs(bool region_order) {
  const std::size_t size = inputs_[0].size();
  if (o_.size() == 0) o_ = gpu::DeviceBuffer<std::uint16_t>(size);
  if (lse_.size() == 0) lse_ = gpu::DeviceBuffer<float>(size / static_cast<std::size_t>(shape_.head_dim));
  if (region_order && reordered_o_.size() == 0) reordered_o_ = gpu::DeviceBuffer<std::uint16_t>(size);
}

DeviceCall::Work DeviceCall::attention(const gpu::AttentionKernel& kernel, TokenOrder order, const DeviceLists* lists,
                                       Remainder remainder) {
  const bool region_order = wants_region_order(order);
  make_room_for_outputs(region_order);
  gpu::Attention own = inputs(region_order, lists, remainder);
  own.o = region_order ? reordered_o_.data() : o_.data();
  own.lse = lse_.data();
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

DeviceCall::Work DeviceCall::pool_rows() {
  const std::size_t size = static_cast<std::size_t>(layout_.heads) * static_cast<std::size_t>(layout_.regions()) *
                           static_cast<std::size_t>(layout_.head_dim);
  for (auto& tensor : pooled_) {
    if (tensor.size() != size) tensor = gpu::DeviceBuffer<std::uint16_t>(size);
  }
  return [this](cudaStream_t stream) {
    for (std::size_t i = 0; i < 2; ++i) {
      gpu::pool_elements(layout_, element_, Pool::average, inputs_[i + 1].data(), pooled_[i].data(), stream);
    }
  };
}

std::vector<PooledRows> DeviceCall::pooled_rows() const {
  const Index regions = layout_.regions(), dim = layout_.head_dim;
  std::vector<PooledRows> rows(static_cast<std::size_t>(layout_.heads), {Matrix(regions, dim), Matrix(regions, dim)});
  for (std::size_t i = 0; i < 2; ++i) {
    const std::vector<std::uint16_t> bits = pooled_[i].download();
    for (std::size_t head = 0; head < rows.size(); ++head) {
      Matrix& own = i == 0 ? rows[head].k : rows[head].v;
      const std::uint16_t* from = bits.data() + head * static_cast<std::size_t>(own.size());
      for (Index n = 0; n < own.size(); ++n) own.data()[n] = from_bits(from[n], element_);
    }
  }
  return rows;
}

DeviceCall::Work DeviceCall::reorder() const {
  return [this](cudaStream_t stream) {
    for (std::size_t i = 0; i < 3; ++i) gpu::reorder(layout_, inputs_[i].data(), reordered_[i].data(), stream);
  };
}

DeviceCall::Work DeviceCall::restore() {
  make_room_for_outputs(true);
  return [this](cudaStream_t stream) { gpu::restore(layout_, reordered_o_.data(), o_.data(), stream); };
}

}  // namespace draft
