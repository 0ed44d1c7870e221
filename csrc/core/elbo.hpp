// Elbo: the objective of one target and one family, by one estimator.
#pragma once

#include <memory>

#include "core/estimator/estimator.hpp"
#include "core/family/family.hpp"
#include "core/objective.hpp"
#include "core/target.hpp"

namespace klqp {

// The target is shared with the posterior made from the run; the rest is owned.
class Elbo final : public Objective {
 public:
  Elbo(std::unique_ptr<Family> family, std::shared_ptr<Target> target, std::unique_ptr<Estimator> estimator,
       Index n_draws, bool proximal)
      : family_(std::move(family)), target_(std::move(target)), estimator_(std::move(estimator)), proximal_(proximal) {
    if (target_->dim() != family_->dim()) throw ConfigError("the target and the family differ in dimension");
    const auto n = static_cast<std::size_t>(n_draws);
    if (family_->standardises()) standardised_.resize(n * static_cast<std::size_t>(family_->noise_dim()));
    scratch_.resize(n * static_cast<std::size_t>(family_->dim()));
    logq_.resize(n);
  }

  Index n_params() const override { return family_->n_params(); }
  Index noise_dim() const override { return family_->noise_dim(); }
  bool native() const override { return target_->native(); }
  Index work_per_step() const override {
    return static_cast<Index>(logq_.size()) * (family_->noise_dim() + family_->dim() + family_->n_params());
  }

  void draw(ConstSpan params, ConstMatrix noise, Team& team) override {
    noise_ = noise;
    family_->prepare(params, team);
    family_->transform(noise, target_->points(noise.rows), team);
  }
  Evaluation evaluate(ConstSpan, ConstMatrix, Team& team) override {
    evaluation_ = target_->evaluate(estimator_->order(), team);
    if (estimator_->order() == Order::value) evaluation_.grad = nullptr;
    return evaluation_;
  }
  Index gradient_size() const override { return family_->dim(); }

  Estimate add_gradient(ConstSpan weights, const Noise& draws, Span grad, Team& team) override {
    ConstMatrix e = noise_;
    if (family_->standardises()) {
      family_->standardise_noise(noise_, {standardised_.data(), e.rows, e.cols}, team);
      e.data = standardised_.data();
    }
    family_->log_density(e, logq_, team);
    const Matrix scratch{scratch_.data(), e.rows, family_->dim()};
    const Batch batch{e, evaluation_.logp, evaluation_.grad, logq_, weights, draws, scratch};
    return estimator_->add_gradient(batch, *family_, grad, team);
  }
  Evaluation look_again() override { return evaluation_; }
  std::string explain(Index draw) override { return target_->explain(draw); }

  void project(Span params) const noexcept override { family_->project(params); }
  void proximal_step(double gamma, Span params) const noexcept override { family_->proximal_step(gamma, params); }
  bool proximal() const noexcept override { return proximal_; }
  void contract(double factor, Span params) const noexcept override { family_->contract(factor, params); }

  void reset() override { estimator_->reset(); }
  void visit_state(StateVisitor& visitor) override { estimator_->visit_state(visitor); }

 private:
  std::unique_ptr<Family> family_;
  std::shared_ptr<Target> target_;
  std::unique_ptr<Estimator> estimator_;
  bool proximal_;

  // The step at hand.
  ConstMatrix noise_;
  Evaluation evaluation_;
  std::vector<double> standardised_;  // (S, E), only where the family standardises
  std::vector<double> scratch_;       // (S, D)
  std::vector<double> logq_;          // (S)
};

}  // namespace klqp
