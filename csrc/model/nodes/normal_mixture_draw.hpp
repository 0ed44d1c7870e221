// Draws of one-dimensional mixtures of normals whose component is summed out in the derivatives.
#pragma once

#include <cmath>

#include "core/errors.hpp"
#include "model/node.hpp"
#include "model/nodes/events/categories.hpp"

namespace klqp {

// z (n) = loc + scale * norm_ppf(u) of the component that was drawn. Inputs: logits or weights of the K components,
// (K) or (n, K); locs and scales (n, K); components (S, n), numbers from 0; and uniforms u (S, n).
//
// The derivatives are those of z at a fixed level of the mixture's distribution function F, -(dF/dlambda) / q(z)
// (implicit reparameterisation; Graves 2016, "Stochastic backpropagation through mixture density distributions"). With
// r_k = p_k N(z; loc_k, scale_k) / q(z) they are r_k in loc_k, r_k (z - loc_k) / scale_k in scale_k and, with F_k the
// components' own distribution functions, -p_k (F_k - F) / q(z) in the logits.
class NormalMixtureDraw final : public Node {
 public:
  NormalMixtureDraw(Index size, bool probs, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), size_(size), probs_(probs), categories_(size, probs) {
    require_inputs(5);
    const Index n = output->size;
    bool fits = size >= 1 && (in(0).size == size || in(0).size == n * size);
    for (std::size_t k = 1; k < 3; ++k) fits = fits && in(k).size == n * size;
    for (std::size_t k = 3; k < 5; ++k) fits = fits && in(k).size == n;
    if (!fits) throw ConfigError("the sizes of a mixture's draw do not fit together");
  }

  void reserve(Index n_draws) override {
    prepared_.assign(static_cast<std::size_t>(in(0).rows(n_draws) * n_weights() * categories_.n_prepared()), 0.0);
    standard_.assign(static_cast<std::size_t>(n_draws * output_->size), 0.0);
    for (std::size_t k = 0; k < 3; ++k) {
      slopes_[k].assign(in(k).active ? standard_.size() * static_cast<std::size_t>(size_) : 0, 0.0);
    }
  }

  void forward(Index n_draws, Team& team) override {
    const Index n = output_->size;
    team.for_range(n_draws * n, kGrain, [&](Index begin, Index end) {
      kernels().norm_ppf(end - begin, in(4).value + begin, &standard_[begin]);
      for (Index t = begin; t < end; ++t) {
        const double component = in(3).value[t];
        const Index at = (t % n) * size_ + static_cast<Index>(component >= 0.0 ? component : 0.0);
        const double z = in(1).at(t / n)[at] + in(2).at(t / n)[at] * standard_[t];
        output_->value[t] = std::isnan(component) ? component : z;
      }
    });
    if (!(in(0).active || in(1).active || in(2).active)) return;
    team.for_range(in(0).rows(n_draws) * n_weights(), kGrain, [&](Index begin, Index end) {
      categories_.prepare_run(end - begin, in(0).value + begin * size_,
                              prepared_.data() + begin * categories_.n_prepared());
    });
  }

  void backward(const Sweep& sweep) override {
    const Index n = output_->size;
    sweep.for_rows(true, [&](Index first, Index rows) {
      sweep.team.for_range(rows * n, kGrain, [&](Index begin, Index end) {
        for (Index t = first * n + begin; t < first * n + end; ++t) fill(t);
      });
      for (std::size_t k = 0; k < 3; ++k) {
        if (!in(k).active) continue;
        for (Index s = first; s < first + rows; ++s) pull(k, s);
      }
    });
  }

  Index work(Index n_draws) const override { return n_draws * output_->size * (20 + 60 * size_); }

 private:
  static constexpr Index kGrain = 128;

  Index n_weights() const noexcept { return in(0).size / size_; }
  const double* prepared(Index s, Index e) const noexcept {
    const Index row = in(0).per_draw ? s : 0, event = n_weights() > 1 ? e : 0;
    return prepared_.data() + (row * n_weights() + event) * categories_.n_prepared();
  }

  // The cotangents of event t of all draws in its weights, locs and scales.
  void fill(Index t) noexcept {
    const Index n = output_->size, s = t / n, e = t % n;
    const double *const log_p = prepared(s, e), *const p = log_p + size_, total = p[size_];
    const double *const loc = in(1).at(s) + e * size_, *const scale = in(2).at(s) + e * size_;
    const double z = output_->value[t], cot = output_->adjoint[t];
    double log_q = 0.0, most = kMinusInfinity, sum = 0.0;
    for (Index k = 0; k < size_; ++k) most = std::max(most, log_term(log_p[k], z, loc[k], scale[k]));
    for (Index k = 0; k < size_; ++k) sum += std::exp(log_term(log_p[k], z, loc[k], scale[k]) - most);
    log_q = most + std::log(sum);
    for (Index k = 0; k < size_; ++k) {
      const double share = cot * std::exp(log_term(log_p[k], z, loc[k], scale[k]) - log_q);
      if (in(1).active) slopes_[1][t * size_ + k] = share;
      if (in(2).active) slopes_[2][t * size_ + k] = share * ((z - loc[k]) / scale[k]);
    }
    if (in(0).active)
      fill_weights(&slopes_[0][t * size_], p, total, loc, scale, z, cot * std::exp(kHalfLog2Pi - log_q));
  }

  // In the tail that is lighter, so that differences of distribution functions keep their digits; `factor` is the
  // cotangent over q(z), where log_term left out the constant of the normal density.
  void fill_weights(double* to, const double* p, double total, const double* loc, const double* scale, double z,
                    double factor) const noexcept {
    double below = 0.0, above = 0.0;
    for (Index k = 0; k < size_; ++k) {
      const double x = (z - loc[k]) / scale[k] * 0.70710678118654752440;
      below += p[k] * std::erfc(-x);
      above += p[k] * std::erfc(x);
    }
    const double side = below < above ? -1.0 : 1.0, tail = std::min(below, above);
    for (Index k = 0; k < size_; ++k) {
      const double x = (z - loc[k]) / scale[k] * 0.70710678118654752440;
      const double difference = side * 0.5 * (std::erfc(side * x) - tail);  // of -F_k and -F
      to[k] = factor * difference * (probs_ ? 1.0 / total : p[k]);
    }
  }

  static double log_term(double log_p, double z, double loc, double scale) noexcept {
    const double x = (z - loc) / scale;
    return log_p - std::log(scale) - 0.5 * x * x;
  }
  static constexpr double kHalfLog2Pi = 0.91893853320467274178;

  // Input k's adjoint += the cotangents of draw s.
  void pull(std::size_t k, Index s) const noexcept {
    const Index n = output_->size, width = in(k).size;
    const double* const from = &slopes_[k][s * n * size_];
    double* const to = in(k).adjoint_at(s);
    for (Index i = 0; i < n * size_; i += width) kernels().axpy(width, 1.0, from + i, to);
  }

  Index size_;
  bool probs_;
  Categories categories_;
  std::vector<double> prepared_, standard_;
  std::vector<double> slopes_[3];  // (S, n, K) each, cotangents included
};

}  // namespace klqp
