#pragma once
// The choices that all layers speak of, and their words on command lines and in records. Without Eigen: kernels/
// include this file, and pip builds those without the rest of reference/.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace draft {

/// How the rows of a region become one row (eq. 2).
enum class Pool { average, maximum };

/// Which blocks of a draft map are kept. `logits` and `row` read S~, `softmax` and `released` read A_draft.
enum class Rule {
  logits,    // largest S~ of the whole head: Theorem 3.5's threshold
  softmax,   // largest A_draft of the whole head: section 3.1
  released,  // as softmax, but with the released code's count, ties at the threshold all kept
  row,       // largest S~ of each block row
};

/// What stands for the blocks that a mask drops.
enum class Remainder {
  none,    // nothing: the softmax is over the kept columns
  pooled,  // each dropped block's mean key, as often as it has tokens, with its mean value
};

/// What tensors are made of. Kernels take the two of 16 bits.
enum class Element { float16, bfloat16, float32, float64 };

/// The pooling kernel's size in tokens of one frame, stride equal to size; the paper's is 8 x 16.
struct RegionSize {
  std::int64_t height = 8;
  std::int64_t width = 16;
  bool operator==(const RegionSize&) const = default;
};

/// One choice and its word.
template <typename Choice>
struct Word {
  Choice choice;
  const char* word;
};

inline constexpr Word<Pool> kPools[] = {{Pool::average, "avg"}, {Pool::maximum, "max"}};
inline constexpr Word<Rule> kRules[] = {
    {Rule::logits, "logits"}, {Rule::softmax, "softmax"}, {Rule::released, "released"}, {Rule::row, "row"}};
inline constexpr Word<Remainder> kRemainders[] = {{Remainder::none, "none"}, {Remainder::pooled, "pooled"}};
inline constexpr Word<Element> kElements[] = {{Element::float16, "float16"},
                                              {Element::bfloat16, "bfloat16"},
                                              {Element::float32, "float32"},
                                              {Element::float64, "float64"}};

/// The choices alone.
template <typename Choice, std::size_t kSize>
constexpr std::array<Choice, kSize> choices_of(const Word<Choice> (&words)[kSize]) {
  std::array<Choice, kSize> choices{};
  for (std::size_t i = 0; i < kSize; ++i) choices[i] = words[i].choice;
  return choices;
}

/// Throws std::invalid_argument on a number that is none of the choices.
template <typename Choice, std::size_t kSize>
std::string word_of(const Word<Choice> (&words)[kSize], Choice choice) {
  for (const auto& [known, word] : words) {
    if (known == choice) return word;
  }
  throw std::invalid_argument("choice " + std::to_string(static_cast<int>(choice)) + ": wanted one of " +
                              std::to_string(kSize) + ", the first is " + words[0].word);
}

/// The choice of a word, if it is one.
template <typename Choice, std::size_t kSize>
std::optional<Choice> choice_of(const Word<Choice> (&words)[kSize], std::string_view text) {
  for (const auto& [choice, word] : words) {
    if (text == word) return choice;
  }
  return std::nullopt;
}

/// The choice of a word. Throws std::invalid_argument "pool: wanted avg or max, found 'mean'".
template <typename Choice, std::size_t kSize>
Choice parse_choice(const char* what, const Word<Choice> (&words)[kSize], const std::string& text) {
  if (const auto choice = choice_of(words, text)) return *choice;
  std::string known;
  for (std::size_t i = 0; i < kSize; ++i) {
    known += (i == 0 ? "" : i + 1 < kSize ? ", " : " or ") + std::string(words[i].word);
  }
  throw std::invalid_argument(std::string(what) + ": wanted " + known + ", found '" + text + "'");
}

inline std::string to_string(Pool pool) { return word_of(kPools, pool); }
inline std::string to_string(Rule rule) { return word_of(kRules, rule); }
inline std::string to_string(Remainder remainder) { return word_of(kRemainders, remainder); }
inline std::string to_string(Element element) { return word_of(kElements, element); }
inline Pool parse_pool(const std::string& text) { return parse_choice("pool", kPools, text); }
inline Rule parse_rule(const std::string& text) { return parse_choice("rule", kRules, text); }
inline Remainder parse_remainder(const std::string& text) { return parse_choice("remainder", kRemainders, text); }
/// The element of that name, if there is one.
inline std::optional<Element> parse_element(const std::string& text) { return choice_of(kElements, text); }

std::string to_string(RegionSize size);                 // "8x16"
RegionSize parse_region_size(const std::string& text);  // throws std::invalid_argument on anything but HxW, both >= 1

}  // namespace draft
