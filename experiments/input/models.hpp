#pragma once
// FLOPs of the three video diffusion transformers of Table 1, from their architectures. One multiply-add
// is two FLOPs. Counted: the transformer itself. Left out: text encoder, video autoencoder, norms,
// softmax, RoPE (together below 1% of attention).

#include <cstdint>
#include <string>
#include <vector>

namespace draft {

/// What one video costs is fixed by these numbers.
struct TransformerShape {
  std::string model;          // "HunyuanVideo", "Wan2.1-T2V-14B"
  std::string resolution;     // "768p", "720p", "512p"
  std::int64_t video_tokens;  // latent frames * height * width
  std::int64_t text_tokens;   // appended to the self-attention's sequence (HunyuanVideo); else 0
  std::int64_t cross_tokens;  // text tokens of a separate cross-attention (Wan2.1); else 0
  std::int64_t hidden;        // heads * head_dim
  std::int64_t mlp_hidden;
  std::int64_t layers;           // attention layers; HunyuanVideo: 20 dual-stream + 40 single-stream blocks
  std::int64_t modulation_rows;  // output rows of all modulation layers of one pass, in units of `hidden`
  std::int64_t steps;            // denoising steps
  std::int64_t passes;           // forward passes a step: 2 with classifier-free guidance

  [[nodiscard]] std::int64_t tokens() const { return video_tokens + text_tokens; }
};

/// frames x height x width latent tokens, 256 text tokens, 50 steps, guidance embedded.
TransformerShape hunyuan_video(std::string resolution, std::int64_t frames, std::int64_t height, std::int64_t width);
/// frames x height x width latent tokens, 50 steps, classifier-free guidance.
TransformerShape wan_14b(std::string resolution, std::int64_t frames, std::int64_t height, std::int64_t width);

/// How the multi-layer perceptron (MLP) is counted.
enum class Counting {
  architecture,  // both of its matrices
  printed,       // one of two for Wan2.1: what reproduces Table 1's figures to the last digit
};

/// PFLOPs (1e15) of one dense video.
struct FlopParts {
  double attention = 0;        // Q K^T and P V: 4 L^2 d a layer
  double projections = 0;      // Q, K, V, O: 8 d^2 a token and layer
  double mlp = 0;              // 4 d f a token and layer
  double cross_attention = 0;  // Q, O: 4 d^2 a token; K, V: 4 d^2 a text token; scores: 4 T d a token
  double other = 0;            // modulation, patch embedding, output head

  [[nodiscard]] double total() const { return attention + projections + mlp + cross_attention + other; }
  [[nodiscard]] double attention_share() const { return attention / total(); }
};
FlopParts dense_flops(const TransformerShape& shape, Counting counting);

/// Which part of the attention is computed sparsely.
enum class DenseRule {
  none,           // all of it
  first_quarter,  // the paper: the first 25% of the steps stay dense
  released,       // the released code: 15 of 50 steps, then still block 0 (Wan2.1) or blocks 0 and 1 (HunyuanVideo)
};
double sparse_share(const TransformerShape& shape, DenseRule rule);

/// PFLOPs if the sparse part of the attention is multiplied by `kept` (1 - sparsity for skipped blocks).
double sparse_flops(const FlopParts& dense, double sparse_share, double kept);

/// One printed value of Table 1's PFLOPs column.
struct PrintedFlops {
  std::string model, resolution, method;
  double sparsity;
  double pflops;
};
const std::vector<PrintedFlops>& table_1_flops();

/// Least squares of pflops = base + quadratic * (1 - sparsity)^2.
struct QuadraticFit {
  double base = 0, quadratic = 0;
  [[nodiscard]] double at(double sparsity) const { return base + quadratic * (1 - sparsity) * (1 - sparsity); }
};
/// Over all printed rows of one model and resolution. Throws std::invalid_argument below two sparsities.
QuadraticFit quadratic_fit(const std::vector<PrintedFlops>& rows, const std::string& model,
                           const std::string& resolution);

}  // namespace draft
