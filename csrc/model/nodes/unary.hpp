// Elementwise functions of one argument.
#pragma once

#include <cmath>

#include "model/config.hpp"
#include "model/node.hpp"

namespace klqp {

// A function and its derivative on n numbers; the derivative may use the argument x and the result y.
struct UnaryFunction {
  const char* name;
  void (*value)(Index n, const double* x, double* y, double constant);
  void (*derivative)(Index n, const double* x, const double* y, double* d, double constant);
};

template <class F>
void fill(Index n, double* out, const F& f) noexcept {
  for (Index i = 0; i < n; ++i) out[i] = f(i);
}

inline void tanh_values(Index n, const double* x, double* y) noexcept {
  // (exp(2x) - 1) / (exp(2x) + 1), 1 to the last bit from 20 on.
  for (Index i = 0; i < n; ++i) y[i] = 2.0 * std::min(20.0, std::max(-20.0, x[i]));
  kernels().expm1(n, y, y);
  for (Index i = 0; i < n; ++i) y[i] = std::isnan(x[i]) ? x[i] : y[i] / (y[i] + 2.0);
}

inline double nearer_end(double u) noexcept { return u < 0.5 ? u : 1.0 - u; }

inline constexpr double kPi = 3.1415926535897932385;
inline double wrapped_angle(double x) noexcept {
  if (std::fabs(x) <= kPi) return x;
  return std::max(-kPi, std::min(kPi, std::remainder(x, 2.0 * kPi)));
}

inline constexpr double kSmallest = 0x1p-1022, kBelow1 = 1.0 - 0x1p-53, kLargest = 0x1p1000;

using X = const double*;

// `constant` is the exponent of "power" and the number that "add" and "multiply_by" apply.
inline constexpr UnaryFunction
    kUnaryFunctions
        [] =
            {
                {"negative", [](Index n, X x, double* y, double) { fill(n, y, [&](Index i) { return -x[i]; }); },
                 [](Index n, X, X, double* d, double) { fill(n, d, [](Index) { return -1.0; }); }},
                {"add_constant",
                 [](Index n, X x, double* y, double c) { fill(n, y, [&](Index i) { return x[i] + c; }); },
                 [](Index n, X, X, double* d, double) { fill(n, d, [](Index) { return 1.0; }); }},
                {"multiply_constant",
                 [](Index n, X x, double* y, double c) { fill(n, y, [&](Index i) { return x[i] * c; }); },
                 [](Index n, X, X, double* d, double c) { fill(n, d, [&](Index) { return c; }); }},
                {"power",
                 [](Index n, X x, double* y, double c) { fill(n, y, [&](Index i) { return std::pow(x[i], c); }); },
                 [](Index n, X x, X, double* d, double c) {
                   fill(n, d, [&](Index i) { return c == 0.0 ? 0.0 : c * std::pow(x[i], c - 1.0); });
                 }},
                {"square", [](Index n, X x, double* y, double) { fill(n, y, [&](Index i) { return x[i] * x[i]; }); },
                 [](Index n, X x, X, double* d, double) { fill(n, d, [&](Index i) { return 2.0 * x[i]; }); }},
                {"reciprocal", [](Index n, X x, double* y, double) { fill(n, y, [&](Index i) { return 1.0 / x[i]; }); },
                 [](Index n, X, X y, double* d, double) { fill(n, d, [&](Index i) { return -y[i] * y[i]; }); }},
                {"sqrt", [](Index n, X x, double* y, double) { fill(n, y, [&](Index i) { return std::sqrt(x[i]); }); },
                 [](Index n, X, X y, double* d, double) { fill(n, d, [&](Index i) { return 0.5 / y[i]; }); }},
                {"exp", [](Index n, X x, double* y, double) { kernels().exp(n, x, y); },
                 [](Index n, X, X y, double* d, double) { std::copy_n(y, n, d); }},
                {"log", [](Index n, X x, double* y, double) { kernels().log(n, x, y); },
                 [](Index n, X x, X, double* d, double) { fill(n, d, [&](Index i) { return 1.0 / x[i]; }); }},
                {"log1p", [](Index n, X x, double* y, double) { kernels().log1p(n, x, y); },
                 [](Index n, X x, X, double* d, double) { fill(n, d, [&](Index i) { return 1.0 / (1.0 + x[i]); }); }},
                {"expm1", [](Index n, X x, double* y, double) { kernels().expm1(n, x, y); },
                 [](Index n, X, X y, double* d, double) { fill(n, d, [&](Index i) { return y[i] + 1.0; }); }},
                {"sigmoid", [](Index n, X x, double* y, double) { kernels().sigmoid(n, x, y); },
                 [](Index n, X, X y, double* d, double) { fill(n, d, [&](Index i) { return y[i] * (1.0 - y[i]); }); }},
                {"softplus", [](Index n, X x, double* y, double) { kernels().softplus(n, x, y); },
                 [](Index n, X x, X, double* d, double) { kernels().sigmoid(n, x, d); }},
                {"tanh", [](Index n, X x, double* y, double) { tanh_values(n, x, y); },
                 [](Index n, X, X y, double* d, double) { fill(n, d, [&](Index i) { return 1.0 - y[i] * y[i]; }); }},
                {"relu",
                 [](Index n, X x, double* y, double) { fill(n, y, [&](Index i) { return x[i] < 0.0 ? 0.0 : x[i]; }); },
                 [](Index n, X x, X, double* d, double) {
                   fill(n, d, [&](Index i) { return x[i] > 0.0 ? 1.0 : 0.0; });
                 }},
                {"abs", [](Index n, X x, double* y, double) { fill(n, y, [&](Index i) { return std::fabs(x[i]); }); },
                 [](Index n, X x, X, double* d, double) {
                   fill(n, d, [&](Index i) { return static_cast<double>((x[i] > 0.0) - (x[i] < 0.0)); });
                 }},
                {"sin", [](Index n, X x, double* y, double) { fill(n, y, [&](Index i) { return std::sin(x[i]); }); },
                 [](Index n, X x, X, double* d, double) { fill(n, d, [&](Index i) { return std::cos(x[i]); }); }},
                {"cos", [](Index n, X x, double* y, double) { fill(n, y, [&](Index i) { return std::cos(x[i]); }); },
                 [](Index n, X x, X, double* d, double) { fill(n, d, [&](Index i) { return -std::sin(x[i]); }); }},
                {"lgamma", [](Index n, X x, double* y, double) { kernels().lgamma(n, x, y); },
                 [](Index n, X x, X, double* d, double) { kernels().digamma(n, x, d); }},
                {"digamma", [](Index n, X x, double* y, double) { kernels().digamma(n, x, y); },
                 [](Index n, X x, X, double* d, double) { kernels().trigamma(n, x, d); }},
                {"norm_cdf",
                 [](Index n, X x, double* y, double) {
                   fill(n, y, [&](Index i) { return 0.5 * std::erfc(-x[i] * 0.70710678118654752440); });
                 },
                 [](Index n, X x, X, double* d, double) {
                   fill(n, d, [&](Index i) { return -0.5 * x[i] * x[i]; });
                   kernels().exp(n, d, d);
                   kernels().scale(n, 0.39894228040143267794, d, d);
                 }},
                // Inverses of distribution functions at u in (0, 1), each from the end of the interval that is nearer.
                {"exponential_ppf",
                 [](Index n, X u, double* y, double) {
                   fill(n, y, [&](Index i) { return -u[i]; });
                   kernels().log1p(n, y, y);
                   fill(n, y, [&](Index i) { return -y[i]; });
                 },
                 [](Index n, X u, X, double* d, double) { fill(n, d, [&](Index i) { return 1.0 / (1.0 - u[i]); }); }},
                {"gumbel_ppf",
                 [](Index n, X u, double* y, double) {
                   kernels().log(n, u, y);
                   fill(n, y, [&](Index i) { return -y[i]; });
                   kernels().log(n, y, y);
                   fill(n, y, [&](Index i) { return -y[i]; });
                 },
                 [](Index n, X u, X, double* d, double) {
                   kernels().log(n, u, d);
                   fill(n, d, [&](Index i) { return -1.0 / (u[i] * d[i]); });
                 }},
                {"laplace_ppf",
                 [](Index n, X u, double* y, double) {
                   fill(n, y, [&](Index i) { return 2.0 * nearer_end(u[i]); });
                   kernels().log(n, y, y);
                   fill(n, y, [&](Index i) { return u[i] > 0.5 ? -y[i] : y[i]; });
                 },
                 [](Index n, X u, X, double* d, double) {
                   fill(n, d, [&](Index i) { return 1.0 / nearer_end(u[i]); });
                 }},
                {"logit",
                 [](Index n, X u, double* y, double) {  // log((1 - u) / u) = log1p((1 - 2 u) / u) for u below 1/2
                   fill(n, y, [&](Index i) { return std::fabs(1.0 - 2.0 * u[i]) / nearer_end(u[i]); });
                   kernels().log1p(n, y, y);
                   fill(n, y, [&](Index i) { return u[i] < 0.5 ? -y[i] : y[i]; });
                 },
                 [](Index n, X u, X, double* d, double) {
                   fill(n, d, [&](Index i) { return 1.0 / (u[i] * (1.0 - u[i])); });
                 }},
                {"cauchy_ppf",
                 [](Index n, X u, double* y,
                    double) {  // the tangent of pi (u - 1/2); outside, of the angle that is left over it
                   fill(n, y, [&](Index i) {
                     const double end = nearer_end(u[i]);
                     if (end > 0.25) return std::tan(kPi * (u[i] - 0.5));
                     const double far = 1.0 / std::tan(kPi * end);
                     return u[i] < 0.5 ? -far : far;
                   });
                 },
                 [](Index n, X, X y, double* d, double) {
                   fill(n, d, [&](Index i) { return kPi * (1.0 + y[i] * y[i]); });
                 }},
                {"half_cauchy_ppf",
                 [](Index n, X u, double* y, double) {
                   fill(n, y, [&](Index i) {
                     return u[i] < 0.5 ? std::tan(0.5 * kPi * u[i]) : 1.0 / std::tan(0.5 * kPi * (1.0 - u[i]));
                   });
                 },
                 [](Index n, X, X y, double* d, double) {
                   fill(n, d, [&](Index i) { return 0.5 * kPi * (1.0 + y[i] * y[i]); });
                 }},
                {"half_normal_ppf",
                 [](Index n, X u, double* y, double) {
                   fill(n, y, [&](Index i) { return 0.5 * (1.0 - u[i]); });
                   kernels().norm_ppf(n, y, y);
                   fill(n, y, [&](Index i) { return -y[i]; });
                 },
                 [](Index n, X, X y, double* d, double) {
                   fill(n, d, [&](Index i) { return 0.5 * y[i] * y[i]; });
                   kernels().exp(n, d, d);
                   kernels().scale(n, 1.2533141373155002512, d, d);  // sqrt(pi / 2)
                 }},
                // An angle, taken back to [-pi, pi] where it is outside.
                {"wrap_angle",
                 [](Index n, X x, double* y, double) { fill(n, y, [&](Index i) { return wrapped_angle(x[i]); }); },
                 [](Index n, X, X, double* d, double) { fill(n, d, [](Index) { return 1.0; }); }},
                // Maps that do not round to the ends of their range.
                {"exp_above_0",
                 [](Index n, X x, double* y, double) {
                   kernels().exp(n, x, y);
                   fill(n, y, [&](Index i) { return y[i] < kSmallest ? kSmallest : y[i]; });
                 },
                 [](Index n, X, X y, double* d, double) { std::copy_n(y, n, d); }},
                {"exp_inside",  // with room above for products
                 [](Index n, X x, double* y, double) {
                   kernels().exp(n, x, y);
                   fill(n, y,
                        [&](Index i) { return y[i] < kSmallest ? kSmallest : (y[i] > kLargest ? kLargest : y[i]); });
                 },
                 [](Index n, X, X y, double* d, double) {
                   fill(n, d, [&](Index i) { return y[i] < kLargest ? y[i] : 0.0; });
                 }},
                {"sigmoid_inside",
                 [](Index n, X x, double* y, double) {
                   kernels().sigmoid(n, x, y);
                   fill(n, y,
                        [&](Index i) { return y[i] < kSmallest ? kSmallest : (y[i] > kBelow1 ? kBelow1 : y[i]); });
                 },
                 [](Index n, X, X y, double* d, double) { fill(n, d, [&](Index i) { return y[i] * (1.0 - y[i]); }); }},
};

class Unary final : public Node {
 public:
  Unary(const UnaryFunction& function, double constant, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), function_(function), constant_(constant) {
    require_inputs(1);
    if (in(0).size != output->size) throw ConfigError("the result must have the argument's size");
  }

  bool elementwise() const override { return true; }

  void forward(Index n_draws, Team& team) override {
    const Slot& x = in(0);
    team.for_range(output_->rows(n_draws) * output_->size, kGrain, [&](Index begin, Index end) {
      function_.value(end - begin, x.value + begin, output_->value + begin, constant_);
    });
  }

  void backward(const Sweep& sweep) override {
    const Slot& x = in(0);
    if (!x.active) return;
    sweep.for_rows(output_->per_draw, [&](Index first, Index n) {
      const Index start = first * x.size;
      sweep.team.for_range(n * x.size, kGrain, [&](Index begin, Index end) { pull(start + begin, end - begin); });
    });
  }

 private:
  static constexpr Index kGrain = 4096, kTile = 256;

  void pull(Index begin, Index n) const {
    double derivative[kTile];
    for (Index at = begin; at < begin + n; at += kTile) {
      const Index m = std::min(kTile, begin + n - at);
      function_.derivative(m, in(0).value + at, output_->value + at, derivative, constant_);
      kernels().multiply_add(m, 1.0, derivative, output_->adjoint + at, in(0).adjoint + at);
    }
  }

  const UnaryFunction& function_;
  double constant_;
};

}  // namespace klqp
