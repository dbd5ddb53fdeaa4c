// How fast is attend_mma, dense and at the given sparsities? HunyuanVideo 768p's call: 24 heads of 33 x 48 x 80
// tokens and 256 text tokens, head_dim 128, bfloat16, random normal Q, K and V; lists by rule softmax.
// Usage: attend_bench [sparsity ...]. Prints one JSON line each: milliseconds (median and all samples, CUDA
// events, 1 warm-up), TFLOP/s over kept blocks, each 4 * queries * keys * head_dim.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "kernels/cuda_check.hpp"
#include "kernels/kernels.hpp"
#include "kernels/random.cuh"

namespace draft::gpu {
namespace {

constexpr int kSamples = 5;
constexpr Layout kHunyuan{.heads = 24, .frames = 33, .height = 48, .width = 80, .text = 256};
constexpr float kScale = 0.08838834764831845F;  // 1 / sqrt(128)

struct Tensors {
  std::size_t size = static_cast<std::size_t>(kHunyuan.offset(kHunyuan.heads, 0));
  std::size_t lines = static_cast<std::size_t>(kHunyuan.heads) * kHunyuan.blocks();
  DeviceBuffer<__nv_bfloat16> q{size}, k{size}, v{size}, o{size};
  DeviceBuffer<float> lse{static_cast<std::size_t>(kHunyuan.heads) * kHunyuan.tokens()};
  DeviceBuffer<std::int32_t> counts{lines};
  DeviceBuffer<std::uint16_t> columns{lines * kHunyuan.blocks()}, order{lines};
};

void make_lists(Tensors& tensors, double sparsity, cudaStream_t stream) {
  const auto pooled = static_cast<std::size_t>(kHunyuan.heads) * kHunyuan.regions() * kHunyuan.head_dim;
  const DeviceBuffer<float> q(pooled), k(pooled), map(static_cast<std::size_t>(kHunyuan.map_offset(kHunyuan.heads)));
  const DeviceBuffer<std::uint8_t> workspace(workspace_bytes(kHunyuan));
  const DeviceBuffer<std::int32_t> status(static_cast<std::size_t>(kHunyuan.heads));
  const Blas blas;
  pool(kHunyuan, Element::bfloat16, Pool::average, tensors.q.data(), q.data(), stream);
  pool(kHunyuan, Element::bfloat16, Pool::average, tensors.k.data(), k.data(), stream);
  draft_logits(blas, kHunyuan, q.data(), k.data(), map.data(), stream);
  softmax_rows(kHunyuan, kScale, map.data(), map.data(), stream);
  find_thresholds(kHunyuan, Rule::softmax, sparsity, map.data(), workspace.data(), status.data(), stream);
  write_lists(kHunyuan, Rule::softmax, map.data(), workspace.data(),
              {tensors.columns.data(), tensors.counts.data(), tensors.order.data(), nullptr}, stream);
  check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

void measure(Tensors& tensors, double sparsity, bool region_order, const std::string& device) {
  const Stream stream;
  const bool dense = sparsity == 0.0;
  double kept = static_cast<double>(tensors.lines) * kHunyuan.blocks();
  if (!dense) {
    make_lists(tensors, sparsity, stream.get());
    kept = 0.0;
    for (const std::int32_t count : tensors.counts.download()) kept += count;
  }
  const Attention call{.layout = kHunyuan,
                       .element = Element::bfloat16,
                       .scale = kScale,
                       .region_order = region_order,
                       .q = tensors.q.data(),
                       .k = tensors.k.data(),
                       .v = tensors.v.data(),
                       .o = tensors.o.data(),
                       .lse = tensors.lse.data(),
                       .columns = dense ? nullptr : tensors.columns.data(),
                       .counts = dense ? nullptr : tensors.counts.data(),
                       .order = dense ? nullptr : tensors.order.data()};
  std::vector<float> samples;
  const Event before, after;
  for (int i = 0; i <= kSamples; ++i) {
    before.record(stream.get());
    attend_mma(call, stream.get());
    after.record(stream.get());
    stream.wait();
    if (i > 0) samples.push_back(after.since(before));
  }
  std::string all;
  for (const float sample : samples) {
    if (!all.empty()) all += ',';
    all += std::to_string(sample);
  }
  std::sort(samples.begin(), samples.end());
  const double median = samples[kSamples / 2];
  const double flops = 4.0 * 128.0 * 128.0 * 128.0 * kept;
  std::printf(
      "{\"bench\":\"attend\",\"kernel\":\"attend_mma\",\"device\":\"%s\",\"heads\":24,\"tokens\":126976,\"head_dim\":128,"
      "\"sparsity\":%g,\"order\":\"%s\",\"kept_blocks\":%.0f,\"samples_ms\":[%s],\"median_ms\":%.4f,\"tflops_kept\":%.1f}\n",
      device.c_str(), sparsity, region_order ? "region" : "token", kept, all.c_str(), median, flops / median * 1e-9);
}

}  // namespace
}  // namespace draft::gpu

int main(int argc, char** argv) {
  using namespace draft::gpu;
  try {
    cudaDeviceProp device{};
    check(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
    Tensors tensors;
    std::uint64_t seed = 1;
    for (DeviceBuffer<__nv_bfloat16>* tensor : {&tensors.q, &tensors.k, &tensors.v}) {
      fill_normal<<<2048, 256>>>(tensor->data(), static_cast<std::int64_t>(tensors.size), seed++);
      check_launch("fill_normal");
    }
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    for (const bool region_order : {false, true}) {
      measure(tensors, 0.0, region_order, device.name);
      for (int i = 1; i < argc; ++i) measure(tensors, std::strtod(argv[i], nullptr), region_order, device.name);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "attend_bench: %s\n", error.what());
    return 2;
  }
  return 0;
}
