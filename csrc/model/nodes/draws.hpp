// Draws of latent variables from noise: by location and scale, or by a ready-made family.
#pragma once

#include <memory>

#include "core/family/family.hpp"
#include "model/node.hpp"

namespace klqp {

// z (n) = loc + scale * noise; loc and scale of n numbers or of one. Inputs: loc, scale, noise.
class LocationScaleDraw final : public Node {
 public:
  LocationScaleDraw(std::vector<Slot*> inputs, Slot* output) : Node(std::move(inputs), output) {
    require_inputs(3);
    for (std::size_t k = 0; k < 2; ++k) {
      if (in(k).size != 1 && in(k).size != output->size) throw ConfigError("loc and scale must have the draw's size");
    }
    if (in(2).size != output->size) throw ConfigError("the noise must have the draw's size");
  }

  void forward(Index n_draws, Team& team) override {
    const Index step_loc = in(0).size == 1 ? 0 : 1, step_scale = in(1).size == 1 ? 0 : 1;
    for_pieces(team, 0, n_draws, output_->size, kGrain, [&](Index s, Index begin, Index end) {
      const double *const loc = in(0).at(s), *const scale = in(1).at(s), *const noise = in(2).at(s);
      double* const z = output_->at(s);
      if (step_loc == 1 && step_scale == 1 && end - begin > kShort) {
        kernels().affine(end - begin, loc + begin, scale + begin, noise + begin, z + begin);
      } else {
        for (Index i = begin; i < end; ++i) z[i] = loc[i * step_loc] + scale[i * step_scale] * noise[i];
      }
    });
  }

  void backward(const Sweep& sweep) override {
    if (!(in(0).active || in(1).active)) return;
    const Index n = output_->size;
    if (n > kShort && is_array(in(0)) && is_array(in(1))) return pull_arrays(sweep);
    sweep.for_rows(true, [&](Index first, Index rows) {
      if (n == 1) {  // the draws take the place of the elements
        const double *const cot = output_->adjoint_at(first), *const noise = in(2).at(first);
        if (in(0).active) pull_scalars(in(0), first, rows, cot, nullptr);
        if (in(1).active) pull_scalars(in(1), first, rows, cot, noise);
        return;
      }
      for (Index s = first; s < first + rows; ++s) {
        const double *const cot = output_->adjoint_at(s), *const noise = in(2).at(s);
        if (in(0).active) pull_row(in(0), s, cot, nullptr);
        if (in(1).active) pull_row(in(1), s, cot, noise);
      }
    });
  }

 private:
  static constexpr Index kGrain = 4096;
  static constexpr Index kShort = 16;  // loops that are not worth the call of a kernel

  bool is_array(const Slot& x) const noexcept { return x.active && x.size == output_->size; }

  // Location and scale of the draw's size: each element is one thread's, over all draws.
  void pull_arrays(const Sweep& sweep) const {
    sweep.team.for_range(output_->size, kGrain, [&](Index begin, Index end) {
      sweep.for_each_row(true, [&](Index s) {
        kernels().location_scale_pullback(end - begin, output_->adjoint_at(s) + begin, in(2).at(s) + begin,
                                          in(0).adjoint_at(s) + begin, in(1).adjoint_at(s) + begin);
      });
    });
  }

  // A draw of one number: cot (rows) times factor (rows), or 1, to x.
  static void pull_scalars(const Slot& x, Index first, Index rows, const double* cot, const double* factor) noexcept {
    if (!x.per_draw) {
      *x.adjoint += factor == nullptr ? kernels().sum(rows, cot) : kernels().dot(rows, cot, factor);
      return;
    }
    double* const to = x.adjoint + first;
    for (Index s = 0; s < rows; ++s) to[s] += factor == nullptr ? cot[s] : cot[s] * factor[s];
  }

  // One draw: cot (n) times factor (n), or 1, to x or, where that is one number, their sum.
  void pull_row(const Slot& x, Index s, const double* cot, const double* factor) const noexcept {
    const Index n = output_->size;
    double* const to = x.adjoint_at(s);
    if (x.size == 1) {
      *to += factor == nullptr ? kernels().sum(n, cot) : kernels().dot(n, cot, factor);
    } else if (factor == nullptr) {
      for (Index i = 0; i < n; ++i) to[i] += cot[i];
    } else {
      for (Index i = 0; i < n; ++i) to[i] += cot[i] * factor[i];
    }
  }
};

// u (D) ~ a member of a family, from its parameters (P) and noise (E), both inputs.
class FamilyDraw final : public Node {
 public:
  FamilyDraw(std::unique_ptr<Family> family, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), family_(std::move(family)) {
    if (in(0).size != family_->n_params() || in(1).size != family_->noise_dim() || output->size != family_->dim()) {
      throw ConfigError("the sizes of a family's draw do not fit together");
    }
  }

  void reserve(Index n_draws) override {
    if (family_->standardises()) e_.assign(static_cast<std::size_t>(n_draws * family_->noise_dim()), 0.0);
  }

  void forward(Index n_draws, Team& team) override {
    const ConstMatrix noise{in(1).value, n_draws, in(1).size};
    family_->prepare({in(0).value, static_cast<std::size_t>(in(0).size)}, team);
    family_->transform(noise, {output_->value, n_draws, output_->size}, team);
    if (family_->standardises()) family_->standardise_noise(noise, {e_.data(), n_draws, noise.cols}, team);
  }

  void backward(const Sweep& sweep) override {
    if (!in(0).active) return;
    sweep.for_rows(true, [&](Index first, Index n) {
      family_->add_pullback(standardised(first, n), {output_->adjoint_at(first), n, output_->size}, param_adjoint(),
                            sweep.team);
    });
  }

  // What log q and the entropy of this draw are multiplied by in the objective.
  void set_log_q_factor(double factor) noexcept { log_q_factor_ = factor; }
  double log_q_factor() const noexcept { return log_q_factor_; }

  const Family& family() const noexcept { return *family_; }
  Family& family() noexcept { return *family_; }
  // Standardised noise of draws [first, first + n).
  ConstMatrix standardised(Index first, Index n) const noexcept {
    const double* const e = family_->standardises() ? e_.data() : in(1).value;
    return {e + first * in(1).size, n, in(1).size};
  }
  Span param_adjoint() const noexcept { return {in(0).adjoint, static_cast<std::size_t>(in(0).size)}; }

 private:
  std::unique_ptr<Family> family_;
  double log_q_factor_ = 1.0;
  std::vector<double> e_;  // (S, E), only where the family standardises
};

// log q of a family's draw, times `factor`. Inputs: the draw and the parameters. As a score its cotangents go to the
// parameters, whatever the sweep says.
class FamilyLogDensity final : public Node {
 public:
  FamilyLogDensity(const FamilyDraw& draw, double factor, bool score, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), draw_(draw), factor_(factor), score_(score) {}

  void reserve(Index n_draws) override {
    weights_.assign(static_cast<std::size_t>(n_draws), 0.0);
    scratch_.assign(static_cast<std::size_t>(n_draws * draw_.family().dim()), 0.0);
  }

  void forward(Index n_draws, Team& team) override {
    draw_.family().log_density(draw_.standardised(0, n_draws), {output_->value, static_cast<std::size_t>(n_draws)},
                               team);
    if (factor_ != 1.0) kernels().scale(n_draws, factor_, output_->value, output_->value);
  }

  // grad_u log q = -Sigma^-1 (u - mu); grad_lambda log q is the score.
  void backward(const Sweep& sweep) override {
    const Family& family = draw_.family();
    sweep.for_rows(true, [&](Index first, Index n) {
      const auto weights = Span{weights_}.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(n));
      const ConstMatrix e = draw_.standardised(first, n);
      if (!score_ && sweep.log_q_to_value && in(0).active) {
        kernels().scale(n, -factor_, output_->adjoint + first, weights.data());
        family.add_precision(e, weights, {in(0).adjoint_at(first), n, family.dim()}, sweep.team);
      }
      if ((score_ || sweep.log_q_to_params) && in(1).active) {
        kernels().scale(n, factor_, output_->adjoint + first, weights.data());
        const Matrix scratch{scratch_.data() + first * family.dim(), n, family.dim()};
        family.add_score(e, weights, scratch, draw_.param_adjoint(), sweep.team);
      }
    });
  }

 private:
  const FamilyDraw& draw_;
  double factor_;
  bool score_;
  std::vector<double> weights_;  // (S)
  std::vector<double> scratch_;  // (S, D)
};

// The entropy of a family's member by its formula, times `factor`: a shared number. Input: the parameters.
class FamilyEntropy final : public Node {
 public:
  FamilyEntropy(const FamilyDraw& draw, double factor, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), draw_(draw), factor_(factor) {}

  void forward(Index, Team&) override { *output_->value = factor_ * draw_.family().entropy(); }
  void backward(const Sweep&) override {
    if (in(0).active) draw_.family().add_entropy_gradient(factor_ * *output_->adjoint, draw_.param_adjoint());
  }

 private:
  const FamilyDraw& draw_;
  double factor_;
};

}  // namespace klqp
