// ModelObjective: the ELBO of a program whose terms are log densities of a model and of q.
//
//   ELBO = sum of model terms - sum of log q terms - closed-form divergences - penalties
//
// A factor of q is one draw node with its log q term and, where there is a formula, its entropy term. What a factor's
// share of the gradient looks like is chosen factor by factor (maths.md 3): by reverse sweeps through the program from
// differently seeded terms.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/estimator/estimator.hpp"
#include "core/estimator/leave_one_out.hpp"
#include "core/objective.hpp"
#include "model/nodes/draws.hpp"
#include "model/program.hpp"

namespace klqp {

// `score` is log q without a scale: what score functions are the gradient of. It is no part of the ELBO.
enum class TermKind { likelihood, prior, log_q, score, entropy, kl, penalty };
TermKind parse_term_kind(const std::string& name);

// One number for each draw, or one shared by all.
struct Term {
  std::string name;  // of the random variable
  TermKind kind = TermKind::likelihood;
  Slot* slot = nullptr;
  int factor = -1;            // of q, for log_q, score and entropy
  std::vector<bool> depends;  // on the draws of which factors
};

struct Factor {
  std::string name;
  Entropy entropy = Entropy::sticking;
  Slot* draw = nullptr;          // what cotangents on the factor's draw arrive at
  FamilyDraw* family = nullptr;  // where it is a ready-made one
  Index params_begin = 0;        // of that family
  bool by_formula = false;       // its divergence from the prior is a kl term: no log q in the objective
};

// Another objective than the ELBO: from log p - log q (S) to a loss and minus its derivatives (S), the draws' weights.
using Bound = std::function<double(ConstSpan log_ratio, Span weights)>;

struct ModelOptions {
  bool score = false;  // score-function gradients; pathwise ones otherwise
  Baseline baseline = Baseline::mean;
  bool markov_blankets = false;  // score: a factor's weight has only the terms that depend on its draws
  Bound bound;                   // with pathwise gradients only; empty for the ELBO. It may need the interpreter
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
  // A control variate that adapts: see core/estimator/adaptive.hpp.
  struct Adaptive {
    std::vector<double> cfe, x, entropy, mean, covariance, variance;  // (P)
    double steps = 0.0;
  };

  double weight_of(const Term& term) const;
  double sign_in_value(const Term& term) const;
  void seed(const Term& term, double factor) noexcept;
  double apply_bound();
  void add_pathwise(Span grad, Team& team);
  void add_score(const Noise& draws, Span grad, Team& team);
  void add_adaptive(Span grad, Team& team);
  void add_adaptive_family(const Factor& factor, Team& team) noexcept;
  static bool is_adaptive(const Factor& factor) noexcept;
  bool swept_apart(const Term& term, TermKind kind) const;
  void weigh_scores(int factor, const Noise& draws);
  void optimal_scores(int factor, const Noise& draws, Span grad, Team& team);
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

  std::vector<Slot*> stops_;  // score functions: cotangents of q's draws end there
  SweepPlan base_plan_, path_plan_, entropy_plan_;
  std::vector<SweepPlan> score_plans_;  // one for each factor
  Adaptive adaptive_;

  ConstSpan weights_;              // of the step at hand
  std::vector<DrawRange> ranges_;  // accepted draws
  std::vector<DrawRange> ranges_of_one_{1};
  std::vector<Part> parts_;
  std::vector<double> bound_weights_, log_ratio_;  // (S), with a bound
  std::vector<double> log_p_, log_q_, f_, score_weights_, cotangents_;
  std::vector<double> scratch_;  // (S, D) of the largest family with an adaptive entropy
  std::vector<double> scores_;   // (S, P), optimal baseline only
  LeaveOneOut others_;
};

}  // namespace klqp
