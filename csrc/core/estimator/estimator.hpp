// Estimator: chooses the cotangents or score weights that make an unbiased estimate of the ELBO's gradient.
#pragma once

#include <algorithm>
#include <string>

#include "core/errors.hpp"
#include "core/estimator/means.hpp"
#include "core/family/family.hpp"
#include "core/noise.hpp"
#include "core/objective.hpp"
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
  const double mean = weighted_mean(batch.weights, integrand);
  Estimate out;
  out.log_p = closed_form ? mean : weighted_mean(batch.weights, [&](Index s) { return batch.logp[s]; });
  out.entropy = closed_form ? family.entropy() : mean - out.log_p;
  out.elbo = closed_form ? mean + out.entropy : mean;
  out.log_lik = out.log_p;
  out.std_error = error_of_mean(batch.weights, batch.draws, mean, integrand);
  return out;
}

}  // namespace klqp
