// Loops over the elementwise densities of densities/, and the rows of the table of densities.
//
// A density is a struct with
//
//   name, n_args               as in DensityKernel
//   prepare(parameters...)     everything that depends on the parameters alone; unused parts are optimised away.
//                              At least three numbers: GCC moves two as one block, which stops vectorisation
//   invalid                    0 for legal parameters, NaN for others
//   supports(x)                for finite x
//   log_prob(x), gradient(x)   for x in the support and legal parameters; any number elsewhere
//   base_args, log_base(...)   if it has one: 0 outside the support
//
// Where all parameters are scalars prepare() runs once; otherwise in the loop, and scalars among the arguments are
// spread over a tile. Both run the same operations and give the same bits.
#pragma once

#include "kernels/densities/bernoulli.inl"
#include "kernels/densities/beta.inl"
#include "kernels/densities/beta_binomial.inl"
#include "kernels/densities/binomial.inl"
#include "kernels/densities/cauchy.inl"
#include "kernels/densities/chi2.inl"
#include "kernels/densities/exponential.inl"
#include "kernels/densities/gamma.inl"
#include "kernels/densities/geometric.inl"
#include "kernels/densities/gumbel.inl"
#include "kernels/densities/half_cauchy.inl"
#include "kernels/densities/half_normal.inl"
#include "kernels/densities/inverse_gamma.inl"
#include "kernels/densities/laplace.inl"
#include "kernels/densities/log_normal.inl"
#include "kernels/densities/logistic.inl"
#include "kernels/densities/negative_binomial.inl"
#include "kernels/densities/normal.inl"
#include "kernels/densities/poisson.inl"
#include "kernels/densities/student_t.inl"
#include "kernels/densities/uniform.inl"
#include "kernels/densities/von_mises.inl"
#include "kernels/densities/weibull.inl"

namespace klqp {
namespace {

constexpr Index kDensityTile = 256;
constexpr int kMaxDensityArgs = 4;

// The arguments of one tile after another as arrays; scalars are spread once, over one tile.
template <int Count>
class ArgTiles {
 public:
  KLQP_INLINE ArgTiles(Index n, const double* const* args, unsigned scalars) {
    for (int k = 0; k < Count; ++k) {
      const bool spread = n > 1 && (scalars >> k & 1u) != 0;
      moves_[k] = spread ? 0 : 1;
      begin_[k] = args[k];
      if (!spread) continue;
      const double value = *args[k];
      const Index filled = n < kDensityTile ? n : kDensityTile;
      for (Index i = 0; i < filled; ++i) values_[k][i] = value;
      begin_[k] = values_[k];
    }
  }
  // Argument k of the tile from element `start` on; any argument where there are fewer.
  KLQP_INLINE const double* at(int k, Index start) const {
    const int existing = k < Count ? k : 0;
    return begin_[existing] + moves_[existing] * start;
  }

 private:
  const double* begin_[Count];
  Index moves_[Count];
  double values_[Count][kDensityTile];
};

// D::prepare of as many parameters as it takes.
template <class D>
KLQP_INLINE D prepare(double first, double second, double third) {
  if constexpr (D::n_args == 2) {
    return D::prepare(first);
  } else if constexpr (D::n_args == 3) {
    return D::prepare(first, second);
  } else {
    return D::prepare(first, second, third);
  }
}

template <class D>
KLQP_INLINE D prepare_scalars(const double* const* args) {
  return prepare<D>(*args[1], D::n_args > 2 ? *args[2] : 0.0, D::n_args > 3 ? *args[3] : 0.0);
}

// Values outside the support, illegal parameters and NaN.
template <class D>
KLQP_INLINE double checked_log_prob(const D& d, double x) {
  const double y = select(all_of(d.supports(x), is_finite(x)), d.log_prob(x), -kInfinity);
  return select(x == x, y, x) + d.invalid;
}

KLQP_INLINE double checked_partial(bool inside, double partial, double x, double invalid) {
  return select(inside, partial, select(x == x, 0.0, x)) + invalid;
}

template <class D>
KLQP_INLINE Partials checked_gradient(const D& d, double x) {
  const bool inside = all_of(d.supports(x), is_finite(x));
  const Partials p = d.gradient(x);
  return {checked_partial(inside, p.value, x, d.invalid), checked_partial(inside, p.first, x, d.invalid),
          checked_partial(inside, p.second, x, d.invalid), checked_partial(inside, p.third, x, d.invalid)};
}

template <class D>
constexpr unsigned kParameterBits = (1u << D::n_args) - 2u;

// Whether the first parameter is an array and the others are single numbers, a location and its scale, and D can move:
// then what the others decide is worked out once. Without other parameters there is nothing to share.
template <class D>
constexpr bool kMoves = requires(D d) { d.at(0.0); };

template <class D>
KLQP_INLINE bool is_location(unsigned scalars) {
  const unsigned rest = kParameterBits<D> & ~2u;
  return (scalars & (kParameterBits<D> | 1u)) == rest && (kMoves<D> || D::n_args == 2);
}

// What is shared by all locations, and the density at one of them.
template <class D>
KLQP_INLINE D shared_by_locations(const double* const* args) {
  if constexpr (kMoves<D>) {
    return prepare<D>(0.0, *args[2], D::n_args > 3 ? *args[3] : 0.0);
  } else {
    return prepare<D>(*args[1], D::n_args > 2 ? *args[2] : 0.0, D::n_args > 3 ? *args[3] : 0.0);
  }
}

template <class D>
KLQP_INLINE D at_location(const D& shared, double location) {
  if constexpr (kMoves<D>) {
    return shared.at(location);
  } else {
    return prepare<D>(location, 0.0, 0.0);
  }
}

template <class D>
void log_prob_kernel(Index n, const double* const* args, unsigned scalars, double* out) noexcept {
  if ((scalars & (kParameterBits<D> | 1u)) == kParameterBits<D>) {
    const D d = prepare_scalars<D>(args);
    const double* const x = args[0];
#pragma omp simd
    for (Index i = 0; i < n; ++i) out[i] = checked_log_prob(d, x[i]);
    return;
  }
  if (is_location<D>(scalars)) {
    const double *const x = args[0], *const first = args[1];
    const D shared = shared_by_locations<D>(args);
#pragma omp simd
    for (Index i = 0; i < n; ++i) out[i] = checked_log_prob(at_location(shared, first[i]), x[i]);
    return;
  }
  ArgTiles<D::n_args> tiles(n, args, scalars);
  for (Index start = 0; start < n; start += kDensityTile) {
    const Index count = n - start < kDensityTile ? n - start : kDensityTile;
    const double *const x = tiles.at(0, start), *const first = tiles.at(1, start), *const second = tiles.at(2, start),
                        *const third = tiles.at(3, start);
    double* const y = out + start;
#pragma omp simd
    for (Index i = 0; i < count; ++i) y[i] = checked_log_prob(prepare<D>(first[i], second[i], third[i]), x[i]);
  }
}

// Whether the derivative by the first parameter is all that is wanted.
KLQP_INLINE bool only_first(double* const* grads, int n_args) {
  bool only = grads[0] == nullptr && grads[1] != nullptr;
  for (int k = 2; k < n_args; ++k) only = only && grads[k] == nullptr;
  return only;
}

template <class D>
void gradient_kernel(Index n, const double* const* args, unsigned scalars, double* const* grads) noexcept {
  const bool scalar_parameters = (scalars & (kParameterBits<D> | 1u)) == kParameterBits<D>;
  bool value_only = true;
  for (int k = 1; k < D::n_args; ++k) value_only = value_only && grads[k] == nullptr;
  if (scalar_parameters && value_only) {
    if (grads[0] == nullptr) return;
    const D d = prepare_scalars<D>(args);
    const double* const x = args[0];
    double* const out = grads[0];
#pragma omp simd
    for (Index i = 0; i < n; ++i) out[i] = checked_gradient(d, x[i]).value;
    return;
  }
  if (is_location<D>(scalars) && only_first(grads, D::n_args)) {
    const double *const x = args[0], *const first = args[1];
    const D shared = shared_by_locations<D>(args);
    double* const to = grads[1];
#pragma omp simd
    for (Index i = 0; i < n; ++i) to[i] = checked_gradient(at_location(shared, first[i]), x[i]).first;
    return;
  }
  // Unwanted derivatives are written to where nobody reads them.
  double unwanted[kMaxDensityArgs][kDensityTile];
  ArgTiles<D::n_args> tiles(n, args, scalar_parameters ? 0u : scalars);
  for (Index start = 0; start < n; start += kDensityTile) {
    const Index count = n - start < kDensityTile ? n - start : kDensityTile;
    double* to[kMaxDensityArgs];
    for (int k = 0; k < kMaxDensityArgs; ++k) {
      to[k] = k < D::n_args && grads[k] != nullptr ? grads[k] + start : unwanted[k];
    }
    double *const to_value = to[0], *const to_first = to[1], *const to_second = to[2], *const to_third = to[3];
    const auto write = [=](Index i, const Partials& p) __attribute__((always_inline)) {
      to_value[i] = p.value;
      to_first[i] = p.first;
      if constexpr (D::n_args > 2) to_second[i] = p.second;
      if constexpr (D::n_args > 3) to_third[i] = p.third;
    };
    if (scalar_parameters) {
      const D d = prepare_scalars<D>(args);
      const double* const x = args[0] + start;
#pragma omp simd
      for (Index i = 0; i < count; ++i) write(i, checked_gradient(d, x[i]));
    } else {
      const double *const x = tiles.at(0, start), *const first = tiles.at(1, start), *const second = tiles.at(2, start),
                          *const third = tiles.at(3, start);
#pragma omp simd
      for (Index i = 0; i < count; ++i) write(i, checked_gradient(prepare<D>(first[i], second[i], third[i]), x[i]));
    }
  }
}

// The log density and its derivatives in one pass, which share what they have in common; the bits are those of
// log_prob_kernel and gradient_kernel.
template <class D>
void both_kernel(Index n, const double* const* args, unsigned scalars, double* out, double* const* grads) noexcept {
  const double* const x = args[0];
  bool value_only = grads[0] != nullptr;
  for (int k = 1; k < D::n_args; ++k) value_only = value_only && grads[k] == nullptr;
  if (value_only && (scalars & (kParameterBits<D> | 1u)) == kParameterBits<D>) {
    const D d = prepare_scalars<D>(args);
    double* const to = grads[0];
#pragma omp simd
    for (Index i = 0; i < n; ++i) {
      out[i] = checked_log_prob(d, x[i]);
      to[i] = checked_gradient(d, x[i]).value;
    }
    return;
  }
  if (is_location<D>(scalars) && only_first(grads, D::n_args)) {
    const double* const first = args[1];
    const D shared = shared_by_locations<D>(args);
    double* const to = grads[1];
#pragma omp simd
    for (Index i = 0; i < n; ++i) {
      const D d = at_location(shared, first[i]);
      out[i] = checked_log_prob(d, x[i]);
      to[i] = checked_gradient(d, x[i]).first;
    }
    return;
  }
  log_prob_kernel<D>(n, args, scalars, out);
  gradient_kernel<D>(n, args, scalars, grads);
}

template <class D>
void log_base_kernel(Index n, const double* const* args, unsigned scalars, double* out) noexcept {
  constexpr int count_args = D::base_args == 1 ? 1 : 2;
  static_assert(D::base_args == 1 || D::base_args == 3);
  ArgTiles<count_args> tiles(n, args, scalars);
  for (Index start = 0; start < n; start += kDensityTile) {
    const Index count = n - start < kDensityTile ? n - start : kDensityTile;
    const double *const x = tiles.at(0, start), *const first = tiles.at(1, start);
    double* const y = out + start;
#pragma omp simd
    for (Index i = 0; i < count; ++i) {
      if constexpr (count_args == 1) {
        y[i] = D::log_base(x[i]);
      } else {
        y[i] = D::log_base(x[i], first[i]);
      }
    }
  }
}

template <class D>
constexpr DensityKernel density_row() {
  DensityKernel row = {D::name, D::n_args, 0, log_prob_kernel<D>, gradient_kernel<D>, both_kernel<D>, nullptr};
  if constexpr (requires { D::base_args; }) {
    row.base_args = D::base_args;
    row.log_base = log_base_kernel<D>;
  }
  return row;
}

constexpr DensityKernel kDensities[] = {
    density_row<NormalDensity>(),
    density_row<LogNormalDensity>(),
    density_row<LaplaceDensity>(),
    density_row<CauchyDensity>(),
    density_row<HalfCauchyDensity>(),
    density_row<LogisticDensity>(),
    density_row<HalfNormalDensity>(),
    density_row<UniformDensity>(),
    density_row<StudentTDensity>(),
    density_row<GammaDensity>(),
    density_row<InverseGammaDensity>(),
    density_row<BetaDensity>(),
    density_row<ExponentialDensity>(),
    density_row<Chi2Density>(),
    density_row<WeibullDensity>(),
    density_row<GumbelDensity>(),
    density_row<VonMisesDensity>(),
    density_row<BernoulliLogitsDensity>(),
    density_row<BernoulliProbsDensity>(),
    density_row<BinomialLogitsDensity>(),
    density_row<BinomialProbsDensity>(),
    density_row<BetaBinomialDensity>(),
    density_row<PoissonDensity>(),
    density_row<PoissonLogDensity>(),
    density_row<NegativeBinomialLogitsDensity>(),
    density_row<NegativeBinomialProbsDensity>(),
    density_row<GeometricLogitsDensity>(),
    density_row<GeometricProbsDensity>(),
};

}  // namespace
}  // namespace klqp
