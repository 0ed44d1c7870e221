// L-BFGS: the inverse Hessian's secant equation, a curved valley, a boundary of infinite values, guards, equal ends.
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "core/search/search.hpp"
#include "tests/check.hpp"

namespace {

using klqp::ConstSpan;
using klqp::InverseHessian;
using klqp::Search;

struct Value {
  double f;
  std::vector<double> g;
};

Value rosenbrock(const std::vector<double>& x) {
  Value out{0.0, std::vector<double>(x.size(), 0.0)};
  for (std::size_t i = 0; i + 1 < x.size(); ++i) {
    const double a = 1.0 - x[i], b = x[i + 1] - x[i] * x[i];
    out.f += a * a + 100.0 * b * b;
    out.g[i] += -2.0 * a - 400.0 * x[i] * b;
    out.g[i + 1] += 200.0 * b;
  }
  return out;
}

// log(x) - x, which has no value beyond 0.
Value half_line(const std::vector<double>& x) {
  if (x[0] <= 0.0) return {std::numeric_limits<double>::infinity(), {0.0}};
  return {x[0] - std::log(x[0]), {1.0 - 1.0 / x[0]}};
}

template <class Function>
Search run(const Function& function, std::vector<double> start, klqp::SearchConfig config, Search::Guard guard = {}) {
  Search search(start, config, std::make_shared<InverseHessian>(6, InverseHessian::Product()), std::move(guard));
  while (!search.done()) {
    const Value value = function(search.point());
    search.tell(value.f, value.g);
  }
  return search;
}

void test_secant_equation() {
  InverseHessian memory(3, [](ConstSpan v, klqp::Span out) {
    for (std::size_t i = 0; i < v.size(); ++i) out[i] = 2.0 * v[i];
  });
  std::vector<double> s{1.0, -0.5, 0.25, 2.0}, y{2.0, 0.5, 0.3, 1.0}, out(4);
  for (int k = 0; k < 5; ++k) {  // more pairs than are kept
    s[static_cast<std::size_t>(k % 4)] += 0.3;
    y[static_cast<std::size_t>((k + 1) % 4)] += 0.2;
    CHECK(memory.add(s, y));
  }
  CHECK(memory.n_pairs() == 3);
  memory.times(y, out);
  for (std::size_t i = 0; i < 4; ++i) CHECK_CLOSE(out[i], s[i], 1e-12);
  for (double& v : y) v = -v;
  CHECK(!memory.add(s, y));
}

void test_a_curved_valley() {
  const Search search = run(rosenbrock, {-1.2, 1.0, -1.2, 1.0}, {1e-12, 500, true});
  CHECK(search.converged());
  for (const double x : search.point()) CHECK_CLOSE(x, 1.0, 1e-4);
  const auto& values = search.values();
  for (std::size_t k = 1; k < values.size(); ++k) CHECK(values[k] <= values[k - 1] + 1e-12);
  CHECK(search.path().size() == 4 * values.size());
  const Search lean = run(rosenbrock, {-1.2, 1.0, -1.2, 1.0}, {1e-12, 500, false});
  CHECK(lean.path().size() == 4);
  for (std::size_t i = 0; i < 4; ++i) CHECK(lean.path()[i] == search.path()[search.path().size() - 4 + i]);
}

void test_a_boundary() {
  const Search search = run(half_line, {1e-3}, {1e-14, 100, true});
  CHECK(search.converged());
  CHECK_CLOSE(search.path().back(), 1.0, 1e-6);
  CHECK(!run(half_line, {-1.0}, {1e-14, 100, true}).converged());
}

void test_ends() {
  const Search few = run(rosenbrock, {-1.2, 1.0}, {1e-12, 3, true});
  CHECK(!few.converged());
  CHECK(few.why() == "it took all 3 iterations");
  const auto far = [](ConstSpan x) { return std::string(x[0] > 0.0 ? "far enough" : ""); };
  const Search guarded = run(rosenbrock, {-1.2, 1.0}, {1e-12, 500, true}, far);
  CHECK(!guarded.converged());
  CHECK(guarded.why() == "far enough");
}

}  // namespace

int main() {
  test_secant_equation();
  test_a_curved_valley();
  test_a_boundary();
  test_ends();
  return klqp_test::summary();
}
