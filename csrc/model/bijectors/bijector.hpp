// Bijector: a smooth map from unconstrained coordinates u to the values z of a variable, for the whole variable of one
// draw.
//
// A variable is n_events events, one after the other in u and in z: a number, a vector or a row-major square matrix
// each. Log-Jacobians come one per event. Where z has entries that the others determine, the Jacobian is that of the
// free ones, as Stan takes it: the density of a simplex is one over its first K - 1 entries, that of a symmetric or
// triangular matrix one over the lower triangle (without the diagonal where that is determined). maths.md 8.
#pragma once

#include <vector>

#include "core/view.hpp"

namespace klqp {

struct BijectorConfig {
  Index n_events = 1;
  Index size = 1;                    // entries of an event that is a vector, rows of one that is a matrix
  std::vector<double> lower, upper;  // one value, or one for each event; only for the bijectors that take them
};

// Immutable after construction: all methods may be called from several threads. None of them allocates. Arrays do not
// overlap. "add" means +=.
class Bijector {
 public:
  virtual ~Bijector() = default;
  Bijector(const Bijector&) = delete;
  Bijector& operator=(const Bijector&) = delete;

  const char* name() const noexcept { return name_; }
  Index n_events() const noexcept { return n_events_; }
  Index n_unconstrained() const noexcept { return n_events_ * n_free_; }
  Index n_constrained() const noexcept { return n_events_ * n_entries_; }

  // u (n_unconstrained) -> z (n_constrained), log_jacobian (n_events)
  virtual void forward(const double* u, double* z, double* log_jacobian) const noexcept = 0;
  // cot_u (n_unconstrained) += (dz/du)^T cot_z + sum_e cot_log_jacobian_e d log_jacobian_e / du, where z = forward(u).
  // Every entry of z counts as a coordinate of its own in cot_z (n_constrained): both halves of a symmetric matrix are
  // read, and what belongs to a constant entry is not.
  virtual void add_pullback(const double* u, const double* z, const double* cot_z, const double* cot_log_jacobian,
                            double* cot_u) const noexcept = 0;
  // z (n_constrained) -> u (n_unconstrained): NaN for the events outside the support, infinite on its boundary
  // (but NaN for singular symmetric matrices, which are in no one place).
  // Identities that rounding breaks (sums, symmetry) hold if they do to kSupportTolerance.
  virtual void inverse(const double* z, double* u) const noexcept = 0;

 protected:
  // n_free unconstrained coordinates and n_entries values an event
  Bijector(const char* name, Index n_events, Index n_free, Index n_entries)
      : name_(name), n_events_(n_events), n_free_(n_free), n_entries_(n_entries) {}

  Index n_free() const noexcept { return n_free_; }
  Index n_entries() const noexcept { return n_entries_; }

 private:
  const char* name_;
  Index n_events_, n_free_, n_entries_;
};

inline constexpr double kSupportTolerance = 1e-8;  // Stan's

}  // namespace klqp
