// Von Mises angles around 0, and their derivative in the concentration.
#pragma once

namespace klqp {

// An angle in (-pi, pi) with density proportional to exp(concentration cos(angle)), a function of one uniform; its
// sign is that of u - 1/2. NaN where the concentration is not finite and at least 0.
double draw_von_mises(double u, double concentration) noexcept;

// The derivative of such an angle in the concentration k at a fixed level of the distribution function F, -(dF/dk) / p;
// `gap` is 1 - I1(k) / I0(k).
double von_mises_slope(double angle, double concentration, double gap) noexcept;

}  // namespace klqp
