// The module draftattention._kernels: kernels.hpp as Python functions. Tensors come as DLPack capsules of CUDA memory
// and are not copied: row-major but for Rows, whose heads and tokens may be of any strides. The caller allocates
// outputs and scratch. Streams are CUDA handles as integers. This file checks types; the package, its only caller,
// checks shapes (draftattention/_checks.py). No function waits for a stream. std::invalid_argument becomes ValueError,
// every other error RuntimeError.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/core/blas_library.hpp"
#include "kernels/core/cuda_check.hpp"
#include "kernels/kernels.hpp"

namespace draft::gpu {
namespace {

namespace nb = nanobind;
using nb::literals::operator""_a;

template <typename T, std::size_t kDimensions>
using Tensor = nb::ndarray<T, nb::ndim<kDimensions>, nb::device::cuda, nb::c_contig>;
using Rows = nb::ndarray<nb::ndim<3>, nb::device::cuda>;  // bf16 or fp16 [heads, tokens, head_dim], any strides
using WholeRows = nb::ndarray<nb::ndim<3>, nb::device::cuda, nb::c_contig>;  // the same, contiguous
using Map = Tensor<float, 3>;  // [heads, regions, regions], or pooled rows [heads, regions, head_dim]
using Scratch = Tensor<std::uint8_t, 1>;
using Handle = std::uintptr_t;  // a cudaStream_t

/// The choice called `name`. Throws std::invalid_argument with all words if there is none.
template <typename Choice, std::size_t kSize>
Choice choose(const char* what, const Word<Choice> (&words)[kSize], const std::string& name) {
  if (const auto choice = choice_of(words, name)) return *choice;
  std::string names;
  for (const auto& known : words) names += (names.empty() ? "" : ", ") + std::string(known.word);
  throw std::invalid_argument(std::string(what) + ": wanted one of " + names + ", found " + name);
}

Pool pool_of(const std::string& name) { return choose("pool", kPools, name); }
Rule rule_of(const std::string& name) { return choose("rule", kRules, name); }

const AttentionKernel& kernel_of(const std::string& name) {
  std::string names;
  for (const AttentionKernel& kernel : attention_kernels()) {
    if (kernel.name == name) return kernel;
    names += (names.empty() ? "" : ", ") + kernel.name;
  }
  throw std::invalid_argument("kernel: wanted one of " + names + ", found " + name);
}

template <typename Array>
Element element_of(const Array& rows) {
  const nb::dlpack::dtype type = rows.dtype();
  const auto is = [&](nb::dlpack::dtype_code code) {
    return type.code == static_cast<std::uint8_t>(code) && type.bits == 16 && type.lanes == 1;
  };
  if (is(nb::dlpack::dtype_code::Bfloat)) return Element::bfloat16;
  if (is(nb::dlpack::dtype_code::Float)) return Element::float16;
  throw std::invalid_argument("tensor: wanted bfloat16 or float16, found DLPack type code " +
                              std::to_string(type.code) + " of " + std::to_string(type.bits) + " bits");
}

/// The strides of a tensor [heads, tokens, head_dim]. DLPack leaves open what the stride of an axis of size 1 is: it is
/// taken as a contiguous tensor's. Throws std::invalid_argument unless each row is contiguous.
Strides row_strides(const char* name, const Rows& rows, const Layout& layout) {
  if (rows.shape(2) > 1 && rows.stride(2) != 1) {
    throw std::invalid_argument(std::string(name) + ": wanted rows of consecutive numbers, found " +
                                std::to_string(rows.stride(2)) + " elements from one to the next");
  }
  const Strides whole = Strides::contiguous(layout);
  return {rows.shape(0) > 1 ? rows.stride(0) : whole.head, rows.shape(1) > 1 ? rows.stride(1) : whole.token};
}

/// Makes the tensor's GPU the current one. PyTorch's CUDA runtime and this module's each have a current device of their
/// own, so that PyTorch's setting does not count here.
template <typename Array>
void use_device(const Array& tensor) {
  check(cudaSetDevice(tensor.device_id()), "cudaSetDevice of " + std::to_string(tensor.device_id()));
}

cudaStream_t stream_of(Handle handle) { return reinterpret_cast<cudaStream_t>(handle); }

/// The device's cuBLAS handle, made at its first use. Never destroyed, since at the end of a process CUDA may shut down
/// before static objects do. Python's global lock is held during calls, so one thread at a time uses it.
const Blas& blas_of(int device) {
  static auto& handles = *new std::map<int, Blas>;
  return handles.try_emplace(device).first->second;
}

Layout make_layout(int heads, int frames, int height, int width, int text, int head_dim, int region_height,
                   int region_width) {
  const Layout layout{.heads = heads,
                      .frames = frames,
                      .height = height,
                      .width = width,
                      .text = text,
                      .head_dim = head_dim,
                      .region_height = region_height,
                      .region_width = region_width};
  require_valid(layout);
  return layout;
}

/// One attention call; it keeps its tensors alive.
class Call {
 public:
  using Shorts = std::optional<Tensor<std::int16_t, 3>>;
  using Counts = std::optional<Tensor<std::int32_t, 2>>;
  using Order = std::optional<Tensor<std::int16_t, 2>>;

  using Pooled = std::optional<WholeRows>;  // [heads, regions, head_dim]

  Call(const Layout& layout, float scale, bool region_order, const Rows& q, const Rows& k, const Rows& v, const Rows& o,
       const Tensor<float, 2>& lse, const Shorts& columns, const Counts& counts, const Order& order,
       const Pooled& pooled_k, const Pooled& pooled_v)
      : q_(q),
        k_(k),
        v_(v),
        o_(o),
        lse_(lse),
        columns_(columns),
        counts_(counts),
        order_(order),
        pooled_k_(pooled_k),
        pooled_v_(pooled_v) {
    call_ = {.layout = layout,
             .element = element_of(q),
             .scale = scale,
             .region_order = region_order,
             .q = q.data(),
             .k = k.data(),
             .v = v.data(),
             .o = o.data(),
             .lse = lse.data()};
    // The tensors are int16. Block numbers are below kMostBlocks < 2^15, so signed and unsigned bits are the same.
    if (columns.has_value()) call_.lists.columns = reinterpret_cast<std::uint16_t*>(columns->data());
    if (counts.has_value()) call_.lists.counts = counts->data();
    if (order.has_value()) call_.lists.order = reinterpret_cast<std::uint16_t*>(order->data());
    call_.strides = {.q = row_strides("q", q, layout),
                     .k = row_strides("k", k, layout),
                     .v = row_strides("v", v, layout),
                     .o = row_strides("o", o, layout)};
    if (pooled_k.has_value()) call_.pooled_k = pooled_k->data();
    if (pooled_v.has_value()) call_.pooled_v = pooled_v->data();
  }

  [[nodiscard]] std::size_t workspace(const std::string& kernel) const { return kernel_of(kernel).workspace(call_); }

  void launch(const std::string& name, const Scratch& workspace, Handle stream) const {
    run(name, kernel_of(name).launch, workspace, stream);
  }
  /// The two steps of a kernel of 8-bit operands.
  void quantise(const std::string& name, const Scratch& workspace, Handle stream) const {
    run(name, kernel_of(name).quantise, workspace, stream);
  }
  void attend_quantised(const std::string& name, const Scratch& workspace, Handle stream) const {
    run(name, kernel_of(name).attend, workspace, stream);
  }

 private:
  using Step = void (*)(const Attention& call, const Resources& resources, cudaStream_t stream);
  void run(const std::string& name, Step step, const Scratch& workspace, Handle stream) const {
    if (step == nullptr) throw std::invalid_argument("attention: kernel " + name + " does not quantise");
    use_device(q_);
    const int device = q_.device_id();
    int major = 0, minor = 0;
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
    check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "cudaDeviceGetAttribute");
    if (const std::string why = kernel_of(name).unsupported(call_, major * 10 + minor); !why.empty()) {
      throw std::invalid_argument("attention: kernel " + name + " " + why);
    }
    step(call_, {blas_of(device), workspace.data()}, stream_of(stream));
  }

  Rows q_, k_, v_, o_;
  Tensor<float, 2> lse_;
  Shorts columns_;
  Counts counts_;
  Order order_;
  Pooled pooled_k_, pooled_v_;
  Attention call_;
};

/// (name, summary, whether it multiplies 8-bit numbers)
std::vector<std::tuple<std::string, std::string, bool>> kernel_names() {
  std::vector<std::tuple<std::string, std::string, bool>> names;
  for (const AttentionKernel& kernel : attention_kernels()) {
    names.emplace_back(kernel.name, kernel.summary, kernel.eight_bit());
  }
  return names;
}

std::string unsupported(const std::string& kernel, const Layout& layout, bool region_order, int capability,
                        bool remainder, bool strided) {
  Attention call;
  // Any strides but a contiguous tensor's.
  if (strided) call.strides.q = Strides{layout.head_dim, std::int64_t{layout.heads} * layout.head_dim + 8};
  if (remainder) call.pooled_k = call.pooled_v = &call;  // that they are there counts
  call.layout = layout;
  call.region_order = region_order;
  return kernel_of(kernel).unsupported(call, capability);
}

}  // namespace
}  // namespace draft::gpu

NB_MODULE(_kernels, m) {
  static_cast<void>(draft::gpu::blas_library());  // loaded now, so that a missing cuBLAS fails the import, not a call
  using namespace draft::gpu;
  const auto tensor = [](const char* name) { return nb::arg(name).noconvert(); };
  const auto optional = [](const char* name) { return nb::arg(name).noconvert().none(); };

  nb::class_<Layout>(m, "Layout")
      .def(nb::new_(&make_layout), "heads"_a, "frames"_a, "height"_a, "width"_a, "text"_a, "head_dim"_a,
           "region_height"_a, "region_width"_a)
      .def_ro("heads", &Layout::heads)
      .def_ro("head_dim", &Layout::head_dim)
      .def_ro("text", &Layout::text)
      .def_prop_ro("tokens", &Layout::tokens)
      .def_prop_ro("video", &Layout::video)
      .def_prop_ro("regions", &Layout::regions)
      .def_prop_ro("blocks", &Layout::blocks)
      .def_prop_ro("selection_workspace", [](const Layout& layout) { return workspace_bytes(layout); });

  m.def("kernels", &kernel_names);
  m.def("unsupported", &unsupported, "kernel"_a, "layout"_a, "region_order"_a, "capability"_a, "remainder"_a = false,
        "strided"_a = false);

  nb::class_<Call>(m, "Call")
      .def(nb::init<const Layout&, float, bool, const Rows&, const Rows&, const Rows&, const Rows&,
                    const Tensor<float, 2>&, const Call::Shorts&, const Call::Counts&, const Call::Order&,
                    const Call::Pooled&, const Call::Pooled&>(),
           "layout"_a, "scale"_a, "region_order"_a, tensor("q"), tensor("k"), tensor("v"), tensor("o"), tensor("lse"),
           optional("columns"), optional("counts"), optional("order"), optional("pooled_k") = nb::none(),
           optional("pooled_v") = nb::none())
      .def("workspace", &Call::workspace, "kernel"_a)
      .def("launch", &Call::launch, "kernel"_a, tensor("workspace"), "stream"_a)
      .def("quantise", &Call::quantise, "kernel"_a, tensor("workspace"), "stream"_a)
      .def("attend_quantised", &Call::attend_quantised, "kernel"_a, tensor("workspace"), "stream"_a);

  m.def(
      "pool_both",
      [](const Layout& layout, const std::string& kind, const Rows& q, const Rows& k, const Map& pooled_q,
         const Map& pooled_k, Handle stream) {
        use_device(q);
        pool_both(layout, element_of(q), pool_of(kind), q.data(), k.data(), pooled_q.data(), pooled_k.data(),
                  stream_of(stream), row_strides("q", q, layout), row_strides("k", k, layout));
      },
      "layout"_a, "kind"_a, tensor("q"), tensor("k"), tensor("pooled_q"), tensor("pooled_k"), "stream"_a);
  m.def(
      "pool_elements",
      [](const Layout& layout, const std::string& kind, const Rows& rows, const WholeRows& pooled, Handle stream) {
        use_device(rows);
        pool_elements(layout, element_of(rows), pool_of(kind), rows.data(), pooled.data(), stream_of(stream),
                      row_strides("rows", rows, layout));
      },
      "layout"_a, "kind"_a, tensor("rows"), tensor("pooled"), "stream"_a);
  m.def(
      "draft_logits",
      [](const Layout& layout, const Map& pooled_q, const Map& pooled_k, const Map& logits, Handle stream) {
        use_device(logits);
        draft_logits(layout, pooled_q.data(), pooled_k.data(), logits.data(), stream_of(stream));
      },
      "layout"_a, tensor("pooled_q"), tensor("pooled_k"), tensor("logits"), "stream"_a);
  m.def(
      "draft_probabilities",
      [](const Layout& layout, float scale, const Map& pooled_q, const Map& pooled_k, const Map& probabilities,
         Handle stream) {
        use_device(probabilities);
        draft_probabilities(layout, scale, pooled_q.data(), pooled_k.data(), probabilities.data(), stream_of(stream));
      },
      "layout"_a, "scale"_a, tensor("pooled_q"), tensor("pooled_k"), tensor("probabilities"), "stream"_a);
  m.def(
      "select",
      [](const Layout& layout, const std::string& rule, double sparsity, const Map& scores, const Scratch& workspace,
         const Tensor<std::int32_t, 1>& status, const Tensor<std::int16_t, 3>& columns,
         const Tensor<std::int32_t, 2>& counts, const Tensor<std::int16_t, 2>& order, const Tensor<bool, 3>& mask,
         Handle stream) {
        static_assert(sizeof(bool) == 1);
        use_device(scores);
        const auto chosen = rule_of(rule);
        find_thresholds(layout, chosen, sparsity, scores.data(), workspace.data(), status.data(), stream_of(stream));
        write_lists(layout, chosen, scores.data(), workspace.data(),
                    {reinterpret_cast<std::uint16_t*>(columns.data()), counts.data(),
                     reinterpret_cast<std::uint16_t*>(order.data()), reinterpret_cast<std::uint8_t*>(mask.data())},
                    stream_of(stream));
      },
      "layout"_a, "rule"_a, "sparsity"_a, tensor("scores"), tensor("workspace"), tensor("status"), tensor("columns"),
      tensor("counts"), tensor("order"), tensor("mask"), "stream"_a);
  const auto move_rows = [&](const char* name, auto move) {
    m.def(
        name,
        [move](const Layout& layout, const WholeRows& from, const WholeRows& to, Handle stream) {
          use_device(from);
          move(layout, from.data(), to.data(), stream_of(stream));
        },
        "layout"_a, tensor("rows"), tensor("moved"), "stream"_a);
  };
  move_rows("reorder", reorder);
  move_rows("restore", restore);
}
