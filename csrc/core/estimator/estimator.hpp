// Estimator: chooses the cotangents or score weights that make an unbiased estimate of the ELBO's gradient.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "core/family/family.hpp"
#include "core/noise.hpp"
#include "core/state.hpp"
#include "core/target.hpp"
#include "core/view.hpp"

namespace klqp {

// Where the entropy term of the ELBO comes from.
enum class Entropy {
  monte_carlo,  // -log q at the draws, differentiated through z and lambda
  closed_form,  // its formula
  sticking,     // -log q at the draws, differentiated through z only (Roeder et al. 2017)
  adaptive,     // closed_form + c (sticking - closed_form), c per coordinate from past steps
  proximal,     // not here: the optimizer's proximal step takes it
};

inline Entropy parse_entropy(const std::string& name) {
  if (name == "monte_carlo") return Entropy::monte_carlo;
  if (name == "closed_form") return Entropy::closed_form;
  if (name == "sticking") return Entropy::sticking;
  if (name == "adaptive") return Entropy::adaptive;
  if (name == "proximal") return Entropy::proximal;
  throw ConfigError(
      "entropy must be 'monte_carlo', 'closed_form', 'sticking', 'adaptive' or 'proximal', not '" + name + "'");
}

// One step's draws, after screening. S draws, n_accepted of them usable.
struct Batch {
  ConstMatrix noise;      // (S, E)
  ConstMatrix e;          // (S, E) standardised draws
  const double* logp;     // (S), finite where accepted
  const double* grad;     // (S, D), finite where accepted; null when only values were asked for
  ConstSpan logq;         // (S)
  ConstSpan weights;      // (S), 1 / n_accepted for accepted draws, 0 for rejected ones
  Index n_accepted;
  const Noise& draws;     // how draws are grouped
  Matrix scratch;         // (S, D)
};

// What a step learnt about the ELBO.
struct Estimate {
  double elbo = 0.0;
  double std_error = 0.0;  // NaN where one group of draws gives none
  double log_p = 0.0;      // mean log density of the accepted draws
  double entropy = 0.0;    // of q: its formula, or -mean log q
};

// Weighted mean of values over the accepted draws, and its standard error over independent groups.
struct MeanAndError {
  double mean = 0.0, std_error = 0.0;
};

template <class Value>
MeanAndError mean_over_groups(const Batch& batch, const Value& value) {
  const Index n_draws = batch.noise.rows, n_groups = batch.draws.n_groups();
  double mean = 0.0;
  for (Index s = 0; s < n_draws; ++s) {
    if (batch.weights[s] > 0.0) mean += batch.weights[s] * value(s);
  }
  if (n_groups < 2) return {mean, std::numeric_limits<double>::quiet_NaN()};
  std::vector<double> deviation(static_cast<std::size_t>(n_groups));
  for (Index s = 0; s < n_draws; ++s) {
    if (batch.weights[s] > 0.0) deviation[batch.draws.group(s)] += batch.weights[s] * (value(s) - mean);
  }
  double squares = 0.0;
  for (const double d : deviation) squares += d * d;
  const auto groups = static_cast<double>(n_groups);
  return {mean, std::sqrt(squares * groups / (groups - 1.0))};
}

class Estimator {
 public:
  virtual ~Estimator() = default;

  // Whether the gradient of the log density is needed.
  virtual Order order() const noexcept = 0;
  // grad (P) += gradient of the ELBO
  virtual Estimate add_gradient(const Batch& batch, const Family& family, Span grad, Team& team) = 0;
  // Forgets what past steps taught.
  virtual void reset() {}
  virtual void visit_state(StateVisitor&) {}
};

// The ELBO's value under either treatment of the entropy.
inline Estimate estimate_elbo(const Batch& batch, const Family& family, bool closed_form) {
  Estimate out;
  const auto logp = [&](Index s) { return batch.logp[s]; };
  const auto ratio = [&](Index s) { return batch.logp[s] - batch.logq[s]; };
  out.log_p = mean_over_groups(batch, logp).mean;
  const MeanAndError elbo = closed_form ? mean_over_groups(batch, logp) : mean_over_groups(batch, ratio);
  out.entropy = closed_form ? family.entropy() : elbo.mean - out.log_p;
  out.elbo = closed_form ? elbo.mean + out.entropy : elbo.mean;
  out.std_error = elbo.std_error;
  return out;
}

}  // namespace klqp
