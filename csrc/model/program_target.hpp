// ProgramTarget: the terms of a model as one log density of the model's unconstrained coordinates.
#pragma once

#include <memory>
#include <vector>

#include "core/target.hpp"
#include "model/objective.hpp"

namespace klqp {

// log p(u) = sum of the model's terms at the input array u (D); its gradient by one reverse sweep. The terms are those
// that the model has when the target is made, and belong to the target from then on: nobody else runs the program.
class ProgramTarget final : public Target {
 public:
  ProgramTarget(std::shared_ptr<Model> model, Slot* input, std::vector<double> params)
      : model_(std::move(model)), input_(input), params_(std::move(params)) {
    Program& program = model_->program;
    if (static_cast<Index>(params_.size()) < program.n_params()) throw ConfigError("too few parameters");
    if (program.noise_dim() > 0) throw ConfigError("a log density has no noise");
    std::vector<Slot*> seeds;
    for (const Term& term : model_->terms) seeds.push_back(term.slot);
    plan_ = program.plan(seeds);
    reached_ = std::find(plan_.slots.begin(), plan_.slots.end(), input_) != plan_.slots.end();
  }

  Index dim() const override { return input_->size; }
  bool native() const override { return model_->program.native(); }
  Index work() const noexcept override { return model_->program.work_per_step(); }

  Matrix points(Index n) override {
    if (n != model_->program.n_draws()) {
      model_->program.allocate(n);
      logp_.resize(static_cast<std::size_t>(n));
      zeros_.assign(reached_ ? 0 : static_cast<std::size_t>(n * dim()), 0.0);
      all_ = {{0, n}};
    }
    return {input_->value, n, dim()};
  }

  Evaluation evaluate(Order order, Team& team) override {
    const ConstSpan params{params_};
    model_->program.forward(params, {nullptr, model_->program.n_draws(), 0}, team);
    std::fill(logp_.begin(), logp_.end(), 0.0);
    for (const Term& term : model_->terms) {
      for (std::size_t s = 0; s < logp_.size(); ++s) logp_[s] += *term.slot->at(static_cast<Index>(s));
    }
    if (order == Order::value) return {logp_.data(), nullptr};
    if (!reached_) return {logp_.data(), zeros_.data()};
    model_->program.begin_sweep(plan_, {});
    for (const Term& term : model_->terms) {
      if (!term.slot->active) continue;
      for (std::size_t s = 0; s < logp_.size(); ++s) *term.slot->adjoint_at(static_cast<Index>(s)) += 1.0;
    }
    Program::backward(plan_, {all_, team});
    return {logp_.data(), input_->adjoint};
  }

 private:
  std::shared_ptr<Model> model_;
  Slot* input_;
  std::vector<double> params_;
  SweepPlan plan_;
  bool reached_ = false;  // whether a term depends on the coordinates
  std::vector<DrawRange> all_;
  std::vector<double> logp_, zeros_;
};

}  // namespace klqp
