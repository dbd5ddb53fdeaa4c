// quantise() against its inputs: every number within its rounding, padding 0, largest numbers kept.
#include <cmath>

#include "kernels/attend/wgmma_8bit/kernel.hpp"
#include "kernels/attend/wgmma_8bit/operands.hpp"
#include "kernels/testing/gpu_test.hpp"
#include "reference/rounding/eight_bit.hpp"

namespace draft::gpu {
namespace {

class Quantising : public GpuTest {};

double from_e4m3(std::uint8_t bits) {
  const int exponent = bits >> 3 & 15, fraction = bits & 7;
  const double size = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return (bits & 0x80) != 0 ? -size : size;
}

/// The operands of a call, copied back.
struct Read {
  std::vector<std::uint8_t> bytes;
  EightBitOperands at;
  explicit Read(const Attention& call) {
    const DeviceBuffer<std::uint8_t> workspace(attend_8bit_workspace(call));
    fill_bytes(workspace.data(), 0xab, workspace.bytes());
    const Stream stream;
    quantise_for_8bit(call, workspace.data(), stream.get());
    stream.wait();
    bytes = workspace.download();
    at = place_operands(call, bytes.data());
  }
};

/// The tokens of a block, in region order.
std::vector<int> tokens_of(const Layout& layout, int block) {
  std::vector<int> tokens;
  for (int position = 0; position < layout.tokens(); ++position) {
    const int token = layout.token_at(position);
    if (layout.block_of(token) == block) tokens.push_back(token);
  }
  return tokens;
}

// Given a ragged grid with text, keys with a large mean, and in the second head one value far above the others that the
// sample misses, claim: every number of Q, K and V is within its rounding of what it stands for, rows that are no
// tokens are 0, the second head's V follows its largest number, and what is not finite in the first one's becomes NaN
// alone.
TEST_F(Quantising, EveryNumberIsWithinItsRounding) {
  const Layout layout{.heads = 2, .frames = 2, .height = 45, .width = 80, .text = 77, .head_dim = 128};
  const int stride = layout.tokens() / kSampledTokens;
  ASSERT_EQ(stride, 3);
  Attention call;
  call.layout = layout;
  if (const std::string why = attend_8bit_unsupported(call, device_capability()); !why.empty()) GTEST_SKIP() << why;
  for (const Element element : {Element::bfloat16, Element::float16}) {
    const Tensor q = random_tensor(layout, element, 1), k = random_tensor(layout, element, 2, 5.0);
    Tensor v = random_tensor(layout, element, 3);
    const auto far = static_cast<std::size_t>(layout.offset(1, 200));  // 200 % 3 is not 0
    v.bits[far] = encode(element, 30000.0F);
    v.heads[1](200, 0) = decode(element, v.bits[far]);
    for (const int token : {300, 301}) {  // an infinity and a NaN in the first head
      const int nan = token - 300;
      const auto odd = static_cast<std::size_t>(layout.offset(0, token)) + 5;
      v.bits[odd] = static_cast<std::uint16_t>((element == Element::bfloat16 ? 0x7f80 : 0x7c00) + nan);
      v.heads[0](token, 5) = decode(element, v.bits[odd]);
    }
    const DeviceBuffer<std::uint16_t> dq{std::span(q.bits)}, dk{std::span(k.bits)}, dv{std::span(v.bits)};
    const DeviceBuffer<std::uint16_t> o(q.bits.size());
    const DeviceBuffer<float> lse(q.bits.size() / 128);
    call.element = element;
    call.scale = 0.1F;
    call.q = dq.data();
    call.k = dk.data();
    call.v = dv.data();
    call.o = o.data();
    call.lse = lse.data();
    const Read read(call);
    for (int head = 0; head < layout.heads; ++head) {
      const auto h = static_cast<std::size_t>(head);
      const HeadScales& scales = read.at.heads[head];
      for (int c = 0; c < 128; ++c) {
        double mean = 0.0, count = 0.0;
        for (int token = 0; token < layout.tokens(); token += stride, ++count) mean += k.heads[h](token, c);
        ASSERT_NEAR(static_cast<double>(scales.mean_k[c]), mean / count, 1e-4);
      }
      const double scale = static_cast<double>(scales.v_scale());
      if (head == 1) {
        EXPECT_EQ(scale, std::exp2(-7.0));  // 2^14 <= 30000 < 2^15
      } else {
        EXPECT_TRUE(scale == 1.0 || scale == 2.0) << scale;
      }
      for (int block = 0; block < layout.blocks(); ++block) {
        const std::vector<int> tokens = tokens_of(layout, block);
        const std::int64_t tile = static_cast<std::int64_t>(head) * layout.blocks() + block;
        const std::uint8_t* q8 = read.at.q + tile * kQueryBytes;
        const std::uint8_t* k8 = read.at.k + tile * kOperandBytes;
        const std::uint8_t* v8 = read.at.v + tile * kOperandBytes;
        const auto* terms = reinterpret_cast<const RowTerms*>(q8 + kOperandBytes);
        const double step = read.at.k_steps[tile];
        for (int row = 0; row < kTileSide; ++row) {
          const bool real = row < static_cast<int>(tokens.size());
          const double q_step = static_cast<double>(terms->factor[row]) / (0.1 * std::log2(std::exp(1.0)));
          double along_mean = 0.0;
          for (int c = 0; c < 128; ++c) {
            const auto at = swizzled_offset(row, c / 16) + static_cast<std::uint32_t>(c % 16);
            const double found_q = static_cast<std::int8_t>(q8[at]), found_k = static_cast<std::int8_t>(k8[at]);
            const double wanted_q = real ? q.heads[h](tokens[static_cast<std::size_t>(row)], c) : 0.0;
            const double wanted_k =
                real ? k.heads[h](tokens[static_cast<std::size_t>(row)], c) - static_cast<double>(scales.mean_k[c])
                     : 0.0;
            ASSERT_NEAR(found_q * q_step, wanted_q, 0.5001 * q_step) << head << " " << block << " " << row << " " << c;
            ASSERT_NEAR(found_k * step, wanted_k, 0.5001 * step) << head << " " << block << " " << row << " " << c;
            along_mean += wanted_q * static_cast<double>(scales.mean_k[c]);
          }
          ASSERT_NEAR(terms->lse_term[row], 0.1 * along_mean, 1e-4 * (1.0 + std::abs(along_mean)));
        }
        for (int place = 0; place < kTileSide; ++place) {
          const int row = key_at_place(place);
          for (int c = 0; c < 128; ++c) {
            const double value =
                row < static_cast<int>(tokens.size()) ? v.heads[h](tokens[static_cast<std::size_t>(row)], c) : 0.0;
            const auto at = swizzled_offset(c, place / 16) + static_cast<std::uint32_t>(place % 16);
            if (!std::isfinite(value)) {
              ASSERT_EQ(v8[at] & 0x7f, 0x7f) << "wanted NaN, found " << from_e4m3(v8[at]);
              continue;
            }
            ASSERT_EQ(from_e4m3(v8[at]), to_e4m3(value * scale))
                << head << " " << block << " " << place << " " << c << ", value " << value;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace draft::gpu
