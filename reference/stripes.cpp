#include "reference/stripes.hpp"

namespace draft {
namespace {

// A row chunk of 128 keeps a matrix product's inner loops long; 512 columns of it are half a megabyte
// of logits, which with K and V's rows fits a second-level cache of one megabyte and more.
constexpr Index kRowChunk = 128;
constexpr Index kColumnSegment = 512;

std::vector<Run> runs(const Stripes& stripes, Index atoms, Index most) {
  std::vector<Run> out;
  for (Index atom = 0; atom < atoms; ++atom) {
    const Index size = stripes.atom_size(atom);
    const bool joins = !out.empty() && out.back().size + size <= most;
    if (!joins) out.push_back({atom, atom, stripes.atom_first(atom), 0});
    out.back().last_atom = atom + 1;
    out.back().size += size;
  }
  return out;
}

}  // namespace

Stripes::Stripes(const Problem& problem, const Partition& finest)
    : grid(problem.grid),
      atoms(finest),
      scale(problem.scale),
      q(reorder(problem.q, finest)),
      k(reorder(problem.k, finest)),
      v(reorder(problem.v, finest)),
      rows(runs(*this, atom_count(), kRowChunk)),
      columns(runs(*this, column_atoms(), kColumnSegment)) {}

}  // namespace draft
