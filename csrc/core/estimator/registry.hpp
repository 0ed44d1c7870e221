// The estimators by name.
#pragma once

#include <memory>

#include "core/estimator/adaptive.hpp"
#include "core/estimator/reparameterised.hpp"
#include "core/estimator/score.hpp"
#include "core/registry.hpp"

namespace klqp {

struct EstimatorConfig {
  Entropy entropy = Entropy::sticking;
  Baseline baseline = Baseline::mean;
};

using EstimatorFactory = std::unique_ptr<Estimator> (*)(const EstimatorConfig&, const Family&, const Noise&);

inline std::unique_ptr<Estimator> make_reparameterised(const EstimatorConfig& config, const Family& family,
                                                       const Noise&) {
  if (!family.pathwise()) {
    throw ConfigError("draws of a mixture have no derivative in its weights: use score-function gradients");
  }
  if (config.entropy == Entropy::adaptive) return std::make_unique<AdaptiveEntropy>(family.n_params());
  if (config.entropy == Entropy::proximal && !family.proximal()) {
    throw ConfigError("proximal entropy steps need a mean-field or full-rank family with scale='linear'");
  }
  return std::make_unique<Reparameterised>(config.entropy);
}

inline std::unique_ptr<Estimator> make_score(const EstimatorConfig& config, const Family& family, const Noise& draws) {
  if (config.entropy == Entropy::closed_form && !family.has_entropy()) {
    throw ConfigError("the entropy of a mixture has no formula: use entropy='monte_carlo'");
  }
  return std::make_unique<ScoreFunction>(config.entropy, config.baseline, draws, family.n_params());
}

inline constexpr Row<EstimatorFactory> kEstimators[] = {
    {"reparameterised", make_reparameterised},
    {"score", make_score},
};

inline std::unique_ptr<Estimator> make_estimator(const std::string& name, const EstimatorConfig& config,
                                                 const Family& family, const Noise& draws) {
  return find_row(kEstimators, "estimator", name)(config, family, draws);
}

}  // namespace klqp
