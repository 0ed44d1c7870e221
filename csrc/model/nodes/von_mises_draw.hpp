// Von Mises draws around 0, differentiable in the concentration.
#pragma once

#include "core/errors.hpp"
#include "model/node.hpp"
#include "model/nodes/shares.hpp"
#include "model/samplers/von_mises.hpp"

namespace klqp {

// z (n), angles in (-pi, pi). Inputs: concentrations (n) or (1), and uniforms (S, n).
class VonMisesDraw final : public Node {
 public:
  VonMisesDraw(std::vector<Slot*> inputs, Slot* output) : Node(std::move(inputs), output) {
    require_inputs(2);
    if (in(0).size != 1 && in(0).size != output->size) throw ConfigError("concentrations must have the draw's size");
    if (in(1).size != output->size) throw ConfigError("the noise must have the draw's size");
    density_ = find_density(kernels(), "von_mises");
  }

  void reserve(Index n_draws) override {
    if (in(0).active) shares_.assign(static_cast<std::size_t>(n_draws * output_->size), 0.0);
  }

  void forward(Index n_draws, Team& team) override {
    team.for_range(n_draws * output_->size, kGrain, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) output_->value[i] = draw_von_mises(in(1).value[i], concentration(i));
    });
  }

  void backward(const Sweep& sweep) override {
    if (!in(0).active) return;
    const Index n = output_->size;
    sweep.for_rows(true, [&](Index first, Index rows) {
      sweep.team.for_range(rows * n, kGrain, [&](Index begin, Index end) { fill(first * n + begin, first * n + end); });
      add_shares(in(0), n, first, rows, &shares_[first * n], sweep.team);
    });
  }

  Index work(Index n_draws) const override { return 1000 * n_draws * output_->size; }

 private:
  static constexpr Index kGrain = 64;

  double concentration(Index i) const noexcept {
    const Index n = output_->size;
    return in(0).at(i / n)[in(0).size == 1 ? 0 : i % n];
  }

  // The cotangents of elements [begin, end) of all draws times their derivatives, at most kGrain.
  void fill(Index begin, Index end) noexcept {
    double k[kGrain], gaps[kGrain], unused[2][kGrain];
    for (Index i = begin; i < end; ++i) k[i - begin] = concentration(i);
    const double zero = 0.0;  // at the mode the derivative of the log density in k is the gap
    const double* const args[] = {&zero, &zero, k};
    double* const grads[] = {unused[0], unused[1], gaps};
    density_->gradient(end - begin, args, 3u, grads);
    for (Index i = begin; i < end; ++i) {
      shares_[i] = output_->adjoint[i] * von_mises_slope(output_->value[i], k[i - begin], gaps[i - begin]);
    }
  }

  const DensityKernel* density_;
  std::vector<double> shares_;  // (S, n)
};

}  // namespace klqp
