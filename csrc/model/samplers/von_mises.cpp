// Best and Fisher's rejection from a wrapped Cauchy distribution, and implicit differentiation by quadrature.
#include "model/samplers/von_mises.hpp"

#include <algorithm>
#include <cmath>

#include "core/limits.hpp"
#include "model/samplers/substream.hpp"

namespace klqp {
namespace {

constexpr double kPi = 3.1415926535897932385;
constexpr int kMostAttempts = 1000;

// Gauss and Legendre's nodes and weights on (0, 1): relative errors below 1e-12 in the integrals here.
constexpr double kNodes[] = {
    0.0020571494271915354984, 0.01080727702176450445, 0.026420466669142874932, 0.048681069007846462891,
    0.077277028605750990601,  0.1118070255896605719,  0.15178636979002136757,  0.19665385349119096838,
    0.24577964258774714115,   0.29847412243825684676, 0.35399758025702155243,  0.41157058982155490802,
    0.47038495328534339645,   0.52961504671465660355, 0.58842941017844509198,  0.64600241974297844757,
    0.70152587756174315324,   0.75422035741225285885, 0.80334614650880903162,  0.84821363020997863243,
    0.8881929744103394281,    0.9227229713942490094,  0.95131893099215353711,  0.97357953333085712507,
    0.98919272297823549555,   0.9979428505728084645};
constexpr double kWeights[] = {
    0.0052756863086715035778, 0.012208925546315954395, 0.018981191647181381975, 0.025487912648573905999,
    0.03163702316478741777,   0.037342074882829872944, 0.042522947156742619605, 0.047106900177957074232,
    0.051029580547212711619,  0.054235920264288295328, 0.056680908273159833275, 0.058330221742648291022,
    0.059160707639631138258,  0.059160707639631138258, 0.058330221742648291022, 0.056680908273159833275,
    0.054235920264288295328,  0.051029580547212711619, 0.047106900177957074232, 0.042522947156742619605,
    0.037342074882829872944,  0.03163702316478741777,  0.025487912648573905999, 0.018981191647181381975,
    0.012208925546315954395,  0.0052756863086715035778};

}  // namespace

// Best and Fisher, "Efficient simulation of the von Mises distribution" (1979), with h = sin^2(angle / 2) in place of
// cos(angle), and m = k (r - 1) in place of their r, so that nothing cancels, however large or small k is.
double draw_von_mises(double u, double concentration) noexcept {
  const double k = concentration;
  if (!(k >= 0.0) || std::isinf(k)) return kNaN;
  const double m = 0.5 + 0.5 / (std::hypot(1.0, 2.0 * k) + 2.0 * k);
  Substream substream(u);
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    const Substream::Pair pair = substream.next();
    const double sine = std::sin(0.5 * kPi * pair.first), a = sine * sine;
    const double h = m * a / (m + 2.0 * k * (1.0 - a));
    const double c = m + 2.0 * k * h;
    if (c * (2.0 - c) > pair.second || std::log(c / pair.second) + 1.0 >= c) {
      return std::copysign(2.0 * std::asin(std::sqrt(std::min(1.0, h))), u - 0.5);
    }
  }
  return kNaN;
}

// exp(-k cos z) times the integral of (A(k) - cos t) exp(k cos t), from 0 to z = |angle| where cos z > A, and to pi,
// with the other sign, where it is not: the integrand has one sign in both, and from 0 to pi the integral is 0. With
// h = sin((t - z) / 2) sin((t + z) / 2), cos z - cos t is 2 h.
double von_mises_slope(double angle, double concentration, double gap) noexcept {
  const double z = std::fabs(angle), half_sine = std::sin(0.5 * z);
  const double at_z = 2.0 * half_sine * half_sine - gap;
  double from = 0.0, to = z, sign = 1.0;
  if (at_z >= 0.0) {  // as far as exp(-40)
    const double end = half_sine * half_sine + 20.0 / concentration;
    from = z;
    to = end < 1.0 ? 2.0 * std::asin(std::sqrt(end)) : kPi;
    sign = -1.0;
  }
  double sum = 0.0;
  for (std::size_t i = 0; i < std::size(kNodes); ++i) {
    const double t = from + (to - from) * kNodes[i];
    const double h = std::sin(0.5 * (t - z)) * std::sin(0.5 * (t + z));
    sum += kWeights[i] * (at_z + 2.0 * h) * std::exp(-2.0 * concentration * h);
  }
  return std::copysign(sign * (to - from) * sum, sign * sum * angle);
}

}  // namespace klqp
