// DrawnGather: rows of an array by an index that is drawn.
#pragma once

#include <cmath>

#include "core/limits.hpp"
#include "model/node.hpp"

namespace klqp {

// out (n, width) = x (rows, width) at index (n), the second input, of each draw. NaN where the index is no row.
class DrawnGather final : public Node {
 public:
  DrawnGather(Index width, std::vector<Slot*> inputs, Slot* output) : Node(std::move(inputs), output), width_(width) {
    require_inputs(2);
    if (width < 1 || in(1).size * width != output->size || in(0).size % width != 0) {
      throw ConfigError("the sizes of a gather do not fit together");
    }
  }

  void forward(Index n_draws, Team& team) override {
    for_pieces(team, 0, output_->rows(n_draws), in(1).size, grain(), [&](Index s, Index begin, Index end) {
      const double *const x = in(0).at(s), *const index = in(1).at(s);
      double* const out = output_->at(s);
      for (Index i = begin; i < end; ++i) {
        const Index at = offset(index[i]);
        for (Index j = 0; j < width_; ++j) out[i * width_ + j] = at < 0 ? kNaN : x[at + j];
      }
    });
  }

  // Two elements may come from one block, so that a row is one thread's.
  void backward(const Sweep& sweep) override {
    if (!in(0).active) return;
    if (!in(0).per_draw) return sweep.for_each_row(output_->per_draw, [&](Index s) { scatter(s); });
    sweep.for_rows(true, [&](Index first, Index n) {
      sweep.team.for_range(n, std::max<Index>(1, 8192 / output_->size), [&](Index begin, Index end) {
        for (Index s = first + begin; s < first + end; ++s) scatter(s);
      });
    });
  }

 private:
  // Of the first element of a block; -1 where there is none.
  Index offset(double index) const noexcept {
    const bool inside = index >= 0.0 && index * static_cast<double>(width_) < static_cast<double>(in(0).size);
    return inside && index == std::floor(index) ? static_cast<Index>(index) * width_ : -1;
  }

  void scatter(Index s) const noexcept {
    double* const to = in(0).adjoint_at(s);
    const double *const from = output_->adjoint_at(s), *const index = in(1).at(s);
    for (Index i = 0; i < in(1).size; ++i) {
      const Index at = offset(index[i]);
      for (Index j = 0; at >= 0 && j < width_; ++j) to[at + j] += from[i * width_ + j];
    }
  }

  Index grain() const noexcept { return std::max<Index>(1, 8192 / width_); }

  Index width_;
};

}  // namespace klqp
