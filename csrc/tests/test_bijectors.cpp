// Bijectors: every row of the registry is its inverse's inverse, has the gradient of its values, and gives the same
// bits from several threads.
#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include "core/errors.hpp"
#include "model/bijectors/registry.hpp"
#include "tests/check.hpp"

namespace {

using klqp::Bijector;
using klqp::BijectorConfig;
using klqp::BijectorMaker;
using klqp::EventShape;
using klqp::Index;
using Values = std::vector<double>;

Values zeros(Index n) { return Values(static_cast<std::size_t>(n), 0.0); }

// Fixed numbers between -1 and 1 without a pattern.
Values numbers(Index n, double seed) {
  Values out = zeros(n);
  for (Index i = 0; i < n; ++i) out[i] = std::sin(12.9898 * static_cast<double>(i) + seed);
  return out;
}

struct Result {
  explicit Result(const Bijector& b)
      : z(zeros(b.n_constrained())), log_jacobian(zeros(b.n_events())), cot_u(zeros(b.n_unconstrained())) {}
  Values z, log_jacobian, cot_u;
};

Result evaluate(const Bijector& b, const Values& u, const Values& cot_z, const Values& cot_log) {
  Result result(b);
  b.forward(u.data(), result.z.data(), result.log_jacobian.data());
  b.add_pullback(u.data(), result.z.data(), cot_z.data(), cot_log.data(), result.cot_u.data());
  return result;
}

double weigh(const Result& result, const Values& cot_z, const Values& cot_log) {
  double sum = 0.0;
  for (std::size_t i = 0; i < cot_z.size(); ++i) sum += cot_z[i] * result.z[i];
  for (std::size_t i = 0; i < cot_log.size(); ++i) sum += cot_log[i] * result.log_jacobian[i];
  return sum;
}

void test_row(const klqp::Row<BijectorMaker>& row, Index n_events, Index size) {
  BijectorConfig config{n_events, row.make.shape == EventShape::number ? 1 : size, {}, {}};
  if (row.make.takes_lower) config.lower = {-2.0};
  if (row.make.takes_upper) config.upper = {3.0};
  const auto bijector = klqp::make_bijector(row.name, config);
  CHECK(std::string(bijector->name()) == row.name);

  const Values u = numbers(bijector->n_unconstrained(), 0.1), direction = numbers(bijector->n_unconstrained(), 0.2);
  const Values cot_z = numbers(bijector->n_constrained(), 0.3), cot_log = numbers(n_events, 0.4);
  const Result result = evaluate(*bijector, u, cot_z, cot_log);

  Values back = zeros(bijector->n_unconstrained());
  bijector->inverse(result.z.data(), back.data());
  if (size < 10) {  // larger symmetric matrices are too close to singular ones
    for (std::size_t i = 0; i < u.size(); ++i) CHECK_CLOSE(back[i], u[i], 1e-9);
  }

  const double step = 1e-5;
  Values up = u, down = u;
  double expected = 0.0, norm = 1.0;
  for (std::size_t i = 0; i < u.size(); ++i) {
    up[i] += step * direction[i];
    down[i] -= step * direction[i];
    expected += result.cot_u[i] * direction[i];
    norm += std::abs(result.cot_u[i]);
  }
  const double actual = (weigh(evaluate(*bijector, up, cot_z, cot_log), cot_z, cot_log) -
                         weigh(evaluate(*bijector, down, cot_z, cot_log), cot_z, cot_log)) /
                        (2.0 * step);
  CHECK(std::abs(actual - expected) <= 1e-7 * norm);

  std::vector<Result> results(3, Result(*bijector));
  std::vector<std::thread> threads;
  for (auto& own : results) threads.emplace_back([&] { own = evaluate(*bijector, u, cot_z, cot_log); });
  for (auto& thread : threads) thread.join();
  for (const auto& own : results) {
    CHECK(own.z == result.z && own.log_jacobian == result.log_jacobian && own.cot_u == result.cot_u);
  }
}

void test_refusals() {
  bool refused = false;
  try {
    (void)klqp::make_bijector("interval", {2, 1, {0.0}, {1.0, -1.0}});
  } catch (const klqp::ConfigError&) {
    refused = true;
  }
  CHECK(refused);
}

}  // namespace

int main() {
  for (const auto& row : klqp::kBijectors) {
    for (const Index n_events : {1, 5, 300}) {
      for (const Index size : {1, 2, 3, 5}) test_row(row, n_events, size);
    }
    for (const Index size : {30, 60}) test_row(row, 2, size);
  }
  test_refusals();
  return klqp_test::summary();
}
