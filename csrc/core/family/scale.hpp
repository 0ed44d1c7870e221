// ScaleLink: how an unconstrained parameter rho gives a positive scale s.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "core/errors.hpp"
#include "core/view.hpp"

namespace klqp {

enum class ScaleLink {
  exp,       // s = exp(rho)
  softplus,  // s = log(1 + exp(rho))
  linear,    // s = rho, kept >= kSmallestScale by projection
};

inline constexpr double kSmallestScale = 1e-5;

inline ScaleLink parse_scale_link(const std::string& name) {
  if (name == "exp") return ScaleLink::exp;
  if (name == "softplus") return ScaleLink::softplus;
  if (name == "linear") return ScaleLink::linear;
  throw ConfigError("scale must be 'exp', 'softplus' or 'linear', not '" + name + "'");
}

inline const char* scale_link_name(ScaleLink link) noexcept {
  return link == ScaleLink::exp ? "exp" : link == ScaleLink::softplus ? "softplus" : "linear";
}

inline double scale_to_rho(ScaleLink link, double s) noexcept {
  switch (link) {
    case ScaleLink::exp:
      return std::log(s);
    case ScaleLink::softplus:
      return s + std::log(-std::expm1(-s));
    default:
      return s;
  }
}

// Positive scales of one parameter vector with what the gradients need, computed once a step.
struct Scales {
  explicit Scales(Index n) : value(static_cast<std::size_t>(n)), inverse(value), derivative(value), log_value(value) {}

  // rho (n)
  void prepare(ScaleLink link, const double* rho) noexcept {
    const auto n = static_cast<Index>(value.size());
    switch (link) {
      case ScaleLink::exp:
        kernels().exp(n, rho, value.data());
        derivative = value;
        log_value.assign(rho, rho + n);
        break;
      case ScaleLink::softplus:
        kernels().softplus(n, rho, value.data());
        kernels().sigmoid(n, rho, derivative.data());
        kernels().log(n, value.data(), log_value.data());
        break;
      case ScaleLink::linear:
        value.assign(rho, rho + n);
        derivative.assign(value.size(), 1.0);
        kernels().log(n, value.data(), log_value.data());
        break;
    }
    for (Index i = 0; i < n; ++i) inverse[i] = 1.0 / value[i];
    sum_log = kernels().sum(n, log_value.data());
  }

  std::vector<double> value, inverse, derivative, log_value;  // s, 1/s, ds/drho, log s
  double sum_log = 0.0;
};

// Keeps linear scales positive: s <- max(s, smallest).
inline void project_scales(ScaleLink link, Span rho) noexcept {
  if (link != ScaleLink::linear) return;
  for (double& s : rho) s = std::max(s, kSmallestScale);
}

// Proximal step of the entropy term -log s with step size gamma (Domke 2020): s <- (s + sqrt(s^2 + 4 gamma)) / 2.
inline void proximal_scales(double gamma, Span rho) noexcept {
  for (double& s : rho) s = 0.5 * (s + std::sqrt(s * s + 4.0 * gamma));
}

// Multiplies the scales by `factor`.
inline void contract_scales(ScaleLink link, double factor, Span rho) noexcept {
  Scales scales(static_cast<Index>(rho.size()));
  scales.prepare(link, rho.data());
  for (std::size_t i = 0; i < rho.size(); ++i) {
    rho[i] = link == ScaleLink::exp ? rho[i] + std::log(factor) : scale_to_rho(link, scales.value[i] * factor);
  }
}

}  // namespace klqp
