// Calls of a BridgeStan model, row by row.
#include "adapters/bridgestan.hpp"

#include <mutex>
#include <vector>

#include "core/limits.hpp"

namespace klqp {
namespace {

// Held during a call of a model without STAN_THREADS.
std::unique_lock<std::mutex> lock_tape(const BridgeStanModel& model) {
  static std::mutex tape;
  return model.threads ? std::unique_lock<std::mutex>() : std::unique_lock<std::mutex>(tape);
}

// The log density at one point, and its gradient unless grad is null. Returns Stan's code; `error` is to be freed.
int call(const BridgeStanModel& m, const double* z, double* logp, double* grad, char** error) {
  if (grad == nullptr) return m.value(m.model, m.propto, m.jacobian, z, logp, error);
  return m.gradient(m.model, m.propto, m.jacobian, z, logp, grad, error);
}

}  // namespace

int bridgestan_log_density(std::int64_t n, std::int64_t d, std::int64_t order, const double* z, double* logp,
                           double* grad, void* user_data) {
  const auto& model = *static_cast<const BridgeStanModel*>(user_data);
  if (d != model.dim) return -1;
  const auto lock = lock_tape(model);
  int worst = 0;
  for (std::int64_t s = 0; s < n; ++s) {
    char* error = nullptr;
    if (call(model, z + s * d, logp + s, order > 0 ? grad + s * d : nullptr, &error) != 0) {
      logp[s] = kNaN;  // Stan may have written before it threw
      worst = 1;
    }
    if (error != nullptr) model.free_error(error);
  }
  return worst;
}

std::string bridgestan_error(const BridgeStanModel& model, const double* z) {
  std::vector<double> grad(static_cast<std::size_t>(model.dim));
  double logp = 0.0;
  char* error = nullptr;
  const auto lock = lock_tape(model);
  std::string said;
  if (call(model, z, &logp, grad.data(), &error) != 0) said = error == nullptr ? "an error without a message" : error;
  if (error != nullptr) model.free_error(error);
  said.erase(said.find_last_not_of(" \n") + 1);
  return said;
}

}  // namespace klqp
