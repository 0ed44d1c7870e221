// ModelObjective: the ELBO of a program whose terms are log densities of a model and of q.
//
//   ELBO = sum of model terms - sum of log q terms - closed-form divergences - penalties
//
// A factor of q is one draw node with its log q term and, where there is a formula, its entropy term. What a factor's
// share of the gradient looks like is chosen factor by factor (maths.md 3), as for a stochastic computation graph: one
// reverse sweep from the terms, and from the scores of those factors whose draws no cotangent goes through.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/estimator/blend.hpp"
#include "core/estimator/estimator.hpp"
#include "core/objective.hpp"
#include "model/event_scores.hpp"
#include "model/nodes/draws.hpp"
#include "model/program.hpp"

namespace klqp {

enum class TermKind { likelihood, prior, log_q, entropy, kl, penalty };
TermKind parse_term_kind(const std::string& name);

// One number for each draw, or one shared by all.
struct Term {
  std::string name;  // of the random variable
  TermKind kind = TermKind::likelihood;
  Slot* slot = nullptr;
  int factor = -1;  // of q, for log_q and entropy
};

// A term as the score of a factor needs it.
struct ScoredTerm {
  std::size_t term;
  Slot* elements;  // the numbers that make up the term
  Blanket blanket;
};

struct Factor {
  std::string name;
  Entropy entropy = Entropy::sticking;
  Slot* draw = nullptr;          // what cotangents on the factor's draw arrive at
  FamilyDraw* family = nullptr;  // where it is a ready-made one
  Index params_begin = 0;        // of that family
  bool by_formula = false;       // its divergence from the prior is a kl term: no log q in the objective
  Slot* scores = nullptr;        // log q of each event, without a scale; null with pathwise gradients
  std::vector<ScoredTerm> scored;
};

// Another objective than the ELBO: from log p - log q (S) to a loss and minus its derivatives (S), the draws' weights.
using Bound = std::function<double(ConstSpan log_ratio, Span weights)>;

struct ModelOptions {
  Baseline baseline = Baseline::mean;
  Bound bound;  // with pathwise gradients only; empty for the ELBO. It may need the interpreter
};

// The program, its terms and factors, built by the caller.
struct Model {
  Program program;
  std::vector<Term> terms;
  std::vector<Factor> factors;
};

class ModelObjective final : public Objective {
 public:
  // The model is shared with whoever sets its data. Makes room for the draws.
  ModelObjective(std::shared_ptr<Model> model, ModelOptions options, const Noise& draws, Index n_params);

  Index n_params() const override { return n_params_; }
  const Ranges* touched() const override { return model_->program.touched(n_params_); }
  Index noise_dim() const override { return std::max<Index>(1, model_->program.noise_dim()); }
  bool native() const override { return model_->program.native() && !options_.bound; }
  Index work_per_step() const override { return model_->program.work_per_step(); }

  Evaluation evaluate(ConstSpan params, ConstMatrix noise, Team& team) override;
  Index gradient_size() const override { return static_cast<Index>(cotangents_.size()) / n_draws_; }
  Estimate add_gradient(ConstSpan weights, const Noise& draws, Span grad, Team& team) override;
  Evaluation look_again() override;
  Index culprit(Index draw) const override;
  std::string term_name(Index term) const override;
  std::string coordinate_name(Index coordinate) const override;
  std::string explain(Index draw) override { return model_->program.explain(draw); }

  void project(Span params) const noexcept override;
  void proximal_step(double, Span) const noexcept override {}
  bool proximal() const noexcept override { return false; }
  void contract(double factor, Span params) const noexcept override;

  void reset() override;
  void visit_state(StateVisitor& visitor) override;

  // log p (S) and log q (S) of the draws of the last evaluate().
  const std::vector<double>& log_p() const noexcept { return log_p_; }
  const std::vector<double>& log_q() const noexcept { return log_q_; }
  Program& program() noexcept { return model_->program; }

 private:
  double weight_of(const Term& term) const;
  double sign_in_value(const Term& term) const;
  void seed(const Term& term, double factor) noexcept;
  double apply_bound();
  void add_scored(const Factor& factor, const Noise& draws);
  void prepare_adaptive();
  void add_sweep(const Noise& draws, Span grad, Team& team);
  void add_adaptive(Span grad, Team& team);
  void add_adaptive_family(const Factor& factor, Team& team) noexcept;
  static bool is_adaptive(const Factor& factor) noexcept;
  bool swept_apart(const Term& term, TermKind kind) const;
  void add_optimal_scores(const Noise& draws, Span grad, Team& team);
  template <class Seed>
  void sweep_scores(Index draw, Span out, Team& team, const Seed& seed);
  Estimate estimate(const Noise& draws) const;
  template <class Choose>
  SweepPlan plan_for(const Choose& choose) const;

  // A term of the ELBO's value.
  struct Part {
    const Term* term;
    double sign;
  };

  std::shared_ptr<Model> model_;
  ModelOptions options_;
  Index n_params_, n_draws_;
  bool any_adaptive_ = false;

  std::vector<EventScores> scores_;
  std::vector<Slot*> stops_;  // draws that are scored: cotangents end there
  SweepPlan base_plan_, path_plan_, entropy_plan_;
  SweepPlan score_plan_;  // optimal baseline only
  // Adaptive entropies: cfe = energy + entropy and x = path - entropy, see core/estimator/adaptive.hpp.
  std::vector<double> cfe_, x_, entropy_;  // (P)
  Blend blend_;

  ConstSpan weights_;              // of the step at hand
  std::vector<DrawRange> ranges_;  // accepted draws
  std::vector<DrawRange> ranges_of_one_{1};
  std::vector<Part> parts_;
  std::vector<double> bound_weights_, log_ratio_;  // (S), with a bound
  std::vector<double> log_p_, log_q_, f_, cotangents_;
  std::vector<double> scratch_;  // (S, D) of the largest family with an adaptive entropy
  // (S, P) each, optimal baseline only: the draws' scores, times f and times 1.
  std::vector<double> weighted_scores_, plain_scores_;
};

}  // namespace klqp
