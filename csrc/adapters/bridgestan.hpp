// A Stan model compiled by BridgeStan as a native log density.
//
// What klqp uses of the C interface (bridgestan.h of version 2; the same functions since version 1.0.2). A model that
// was compiled without STAN_THREADS has one autodiff tape for the whole process: calls of such models wait for each
// other, whichever run or thread they come from.
#pragma once

#include <string>

#include "core/view.hpp"

namespace klqp {

struct BridgeStanModel {
  using Value = int (*)(const void* model, bool propto, bool jacobian, const double* theta, double* value,
                        char** error);
  using Gradient = int (*)(const void* model, bool propto, bool jacobian, const double* theta, double* value,
                           double* grad, char** error);
  using FreeError = void (*)(char* error);

  const void* model;  // a bs_model
  Value value;        // bs_log_density
  Gradient gradient;  // bs_log_density_gradient
  FreeError free_error;
  Index dim;
  bool propto, jacobian;  // leave out constants; add the log-Jacobians of constrained parameters
  bool threads;           // compiled with STAN_THREADS
};

// A klqp_logdensity_fn; user_data is a BridgeStanModel. Rows at which Stan throws are left non-finite. Does not touch
// Python, unless the model prints and BridgeStan was asked to hand that to Python.
int bridgestan_log_density(std::int64_t n, std::int64_t d, std::int64_t order, const double* z, double* logp,
                           double* grad, void* user_data);

// What Stan says of the point z (dim); empty where it can compute the density and its gradient.
std::string bridgestan_error(const BridgeStanModel& model, const double* z);

}  // namespace klqp
