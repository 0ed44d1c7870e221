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
  throw ConfigError("entropy must be 'monte_carlo', 'closed_form', 'sticking', 'adaptive' or 'proximal', not '" + name +
                    "'");
}

// One step's draws, after screening.
struct Batch {
  ConstMatrix e;       // (S, E) standardised noise of the draws
  const double* logp;  // (S), finite where accepted
  const double* grad;  // (S, D), finite where accepted; null when only values were asked for
  ConstSpan logq;      // (S)
  ConstSpan weights;   // (S), 1 / (number of accepted draws) for accepted draws, 0 for rejected ones
  const Noise& draws;  // how draws are grouped
  Matrix scratch;      // (S, D)
};

// What a step learnt about the ELBO.
struct Estimate {
  double elbo = 0.0;
  double std_error = 0.0;  // NaN where one group of draws gives none
  double log_p = 0.0;      // mean log density of the accepted draws
  double entropy = 0.0;    // of q: its formula, or -mean log q
};

template <class Value>
double weighted_mean(const Batch& batch, const Value& value) noexcept {
  double mean = 0.0;
  for (Index s = 0; s < batch.e.rows; ++s) {
    if (batch.weights[s] > 0.0) mean += batch.weights[s] * value(s);
  }
  return mean;
}

// Standard error of the weighted mean over independent groups of draws; NaN for a single group.
template <class Value>
double error_of_mean(const Batch& batch, double mean, const Value& value) {
  const Index n_groups = batch.draws.n_groups();
  if (n_groups < 2) return std::numeric_limits<double>::quiet_NaN();
  thread_local std::vector<double> deviation;
  deviation.assign(static_cast<std::size_t>(n_groups), 0.0);
  for (Index s = 0; s < batch.e.rows; ++s) {
    if (batch.weights[s] > 0.0) deviation[batch.draws.group(s)] += batch.weights[s] * (value(s) - mean);
  }
  double squares = 0.0;
  for (const double d : deviation) squares += d * d;
  const auto groups = static_cast<double>(n_groups);
  return std::sqrt(squares * groups / (groups - 1.0));
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

// The ELBO's value with the entropy by its formula, or with -log q at the draws.
inline Estimate estimate_elbo(const Batch& batch, const Family& family, bool closed_form) {
  const auto integrand = [&](Index s) { return closed_form ? batch.logp[s] : batch.logp[s] - batch.logq[s]; };
  const double mean = weighted_mean(batch, integrand);
  Estimate out;
  out.log_p = closed_form ? mean : weighted_mean(batch, [&](Index s) { return batch.logp[s]; });
  out.entropy = closed_form ? family.entropy() : mean - out.log_p;
  out.elbo = closed_form ? mean + out.entropy : mean;
  out.std_error = error_of_mean(batch, mean, integrand);
  return out;
}

}  // namespace klqp
