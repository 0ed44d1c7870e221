// The kernel tables: known answers of Philox, special values, places in the array, agreement of the tables.
#include "kernels/kernels.hpp"

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "check.hpp"

namespace {

using klqp::Index;
using klqp::KernelTable;
using Elementwise = void (*KernelTable::*)(Index, const double*, double*);

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr Elementwise kFunctions[] = {&KernelTable::exp,     &KernelTable::log,     &KernelTable::log1p,
                                      &KernelTable::expm1,   &KernelTable::sigmoid, &KernelTable::softplus,
                                      &KernelTable::lgamma,  &KernelTable::digamma, &KernelTable::trigamma,
                                      &KernelTable::norm_ppf};

bool same(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b) || (a != a && b != b);
}

double at(const KernelTable& table, Elementwise function, double x) {
  double y = 0;
  (table.*function)(1, &x, &y);
  return y;
}

// Values of every size and sign, deterministic.
std::vector<double> wild_values(std::size_t n) {
  std::vector<double> x = {0.0, -0.0, 1.0, -1.0, 2.0, 0.5, kInf, -kInf, kNaN, 5e-324, -5e-324, 1e-310, 1e308, -1e308};
  std::uint64_t state = 1;
  while (x.size() < n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const double unit = static_cast<double>(state >> 11) * 0x1p-53;
    x.push_back(x.size() % 3 ? 20.0 * unit - 10.0 : std::exp(1400.0 * unit - 700.0));
  }
  x.resize(n);
  return x;
}

// Random123's known answers.
void test_philox(const KernelTable& table) {
  struct Case {
    std::uint32_t counter[4], key[2], out[4];
  };
  constexpr std::uint32_t ones = 0xFFFFFFFFu;
  const Case cases[] = {{{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
                        {{ones, ones, ones, ones}, {ones, ones}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
                        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
                         {0xa4093822, 0x299f31d0},
                         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}};
  for (const Case& c : cases) {
    std::uint32_t out[4];
    table.philox(c.counter, c.key, out);
    CHECK(std::memcmp(out, c.out, sizeof out) == 0);
  }
}

// The uniforms are the bits of the documented blocks, whichever way the blocks were computed.
void test_uniforms_against_philox(const KernelTable& table) {
  const klqp::NoiseKey key{0xFEDCBA9876543210u, 3, 0xFFFFFFFFu, 7};
  const Index n = 331, first = 0xFFFFFFF0;  // the block number wraps at 2^32
  std::vector<double> u(n);
  table.uniforms(key, first, 1, n, u.data(), n);
  bool equal = true;
  for (Index i = 0; i < n; ++i) {
    const std::uint32_t counter[4] = {static_cast<std::uint32_t>(first + i / 2), key.draw, key.step, key.stream};
    const std::uint32_t seed[2] = {0x76543210, 0xFEDCBA98};
    std::uint32_t w[4];
    table.philox(counter, seed, w);
    const std::uint64_t bits = std::uint64_t{w[2 * (i % 2) + 1]} << 32 | w[2 * (i % 2)];
    equal = equal && u[i] == (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;
  }
  CHECK(equal);
}

void test_noise_position(const KernelTable& table) {
  const klqp::NoiseKey key{1, 2, 3, 4};
  for (auto noise : {&KernelTable::uniforms, &KernelTable::normals}) {
    std::vector<double> all(400), part(400);
    (table.*noise)(key, 0, 1, 400, all.data(), 400);
    bool equal = true;
    for (Index first = 0; first < 9; ++first) {
      for (Index n = 0; n <= 150; ++n) {
        part.assign(400, -1.0);
        (table.*noise)(key, first, 1, n, part.data(), n);
        for (Index i = 0; i < n; ++i) equal = equal && same(part[i], all[2 * first + i]);
        equal = equal && part[n] == -1.0;
      }
    }
    CHECK(equal);
  }
}

// Rows are the noise of successive draws, and nothing is written between them.
void test_noise_rows(const KernelTable& table) {
  constexpr Index n_rows = 9, stride = 151;
  const klqp::NoiseKey key{1, 2, 3, 0xFFFFFFFCu};  // the draw's number wraps at 2^32
  for (auto noise : {&KernelTable::uniforms, &KernelTable::normals}) {
    std::vector<double> one(stride), rows(n_rows * stride);
    bool equal = true;
    for (Index n = 0; n <= 150; ++n) {
      rows.assign(n_rows * stride, -1.0);
      (table.*noise)(key, 0xFFFFFFF0, n_rows, n, rows.data(), stride);
      for (Index r = 0; r < n_rows; ++r) {
        one.assign(stride, -1.0);
        klqp::NoiseKey row_key = key;
        row_key.draw += static_cast<std::uint32_t>(r);
        (table.*noise)(row_key, 0xFFFFFFF0, 1, n, one.data(), stride);
        for (Index i = 0; i < stride; ++i) equal = equal && same(rows[r * stride + i], one[i]);
      }
    }
    CHECK(equal);
  }
}

// Every length and offset gives the bits of one element alone, also in place.
void test_position(const KernelTable& table) {
  const std::vector<double> x = wild_values(140);
  for (Elementwise function : kFunctions) {
    std::vector<double> alone(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) alone[i] = at(table, function, x[i]);
    bool equal = true;
    for (std::size_t offset = 0; offset < 70; ++offset) {
      for (std::size_t n = 1; n <= 70; ++n) {
        std::vector<double> y(x.begin() + offset, x.begin() + offset + n);
        (table.*function)(static_cast<Index>(n), y.data(), y.data());
        for (std::size_t i = 0; i < n; ++i) equal = equal && same(y[i], alone[offset + i]);
      }
    }
    CHECK(equal);
  }
}

void test_special_values(const KernelTable& table) {
  struct Case {
    Elementwise function;
    double x, y;
  };
  const Case cases[] = {{&KernelTable::exp, 0, 1},
                        {&KernelTable::exp, kInf, kInf},
                        {&KernelTable::exp, -kInf, 0},
                        {&KernelTable::exp, 710, kInf},
                        {&KernelTable::exp, -746, 0},
                        {&KernelTable::exp, -745, 5e-324},
                        {&KernelTable::log, 1, 0},
                        {&KernelTable::log, 0.0, -kInf},
                        {&KernelTable::log, -0.0, -kInf},
                        {&KernelTable::log, -1, kNaN},
                        {&KernelTable::log, kInf, kInf},
                        {&KernelTable::log, -kInf, kNaN},
                        {&KernelTable::log1p, -1, -kInf},
                        {&KernelTable::log1p, -0.0, -0.0},
                        {&KernelTable::log1p, kInf, kInf},
                        {&KernelTable::log1p, -2, kNaN},
                        {&KernelTable::log1p, 5e-324, 5e-324},
                        {&KernelTable::expm1, -0.0, -0.0},
                        {&KernelTable::expm1, kInf, kInf},
                        {&KernelTable::expm1, -kInf, -1},
                        {&KernelTable::expm1, 5e-324, 5e-324},
                        {&KernelTable::sigmoid, 0, 0.5},
                        {&KernelTable::sigmoid, kInf, 1},
                        {&KernelTable::sigmoid, -kInf, 0},
                        {&KernelTable::softplus, kInf, kInf},
                        {&KernelTable::softplus, -kInf, 0},
                        {&KernelTable::softplus, 1e300, 1e300},
                        {&KernelTable::lgamma, 1, 0},
                        {&KernelTable::lgamma, 2, 0},
                        {&KernelTable::lgamma, 0.0, kInf},
                        {&KernelTable::lgamma, -3, kInf},
                        {&KernelTable::lgamma, kInf, kInf},
                        {&KernelTable::lgamma, -kInf, -kInf},
                        {&KernelTable::digamma, 0.0, -kInf},
                        {&KernelTable::digamma, -0.0, kInf},
                        {&KernelTable::digamma, -3, kNaN},
                        {&KernelTable::digamma, kInf, kInf},
                        {&KernelTable::digamma, -kInf, kNaN},
                        {&KernelTable::trigamma, 0.0, kInf},
                        {&KernelTable::trigamma, -0.0, kInf},
                        {&KernelTable::trigamma, -3, kInf},
                        {&KernelTable::trigamma, kInf, 0},
                        {&KernelTable::trigamma, -kInf, kNaN},
                        {&KernelTable::norm_ppf, 0.5, 0},
                        {&KernelTable::norm_ppf, 0, -kInf},
                        {&KernelTable::norm_ppf, 1, kInf},
                        {&KernelTable::norm_ppf, 1.1, kNaN},
                        {&KernelTable::norm_ppf, -0.1, kNaN}};
  for (const Case& c : cases) CHECK(same(at(table, c.function, c.x), c.y));
  for (Elementwise function : kFunctions) CHECK(std::isnan(at(table, function, kNaN)));
}

void test_sums(const KernelTable& table) {
  for (Index n = 0; n <= 100; ++n) {
    std::vector<double> x(n), y(n);
    double sum = 0, dot = 0;
    for (Index i = 0; i < n; ++i) {
      x[i] = static_cast<double>(i * i % 37) - 11;
      y[i] = static_cast<double>(i % 5) - 1;
      sum += x[i];
      dot += x[i] * y[i];
    }
    CHECK(table.sum(n, x.data()) == sum);  // integers: exact
    CHECK(table.dot(n, x.data(), y.data()) == dot);
  }
}

// The tables differ by fused operations only.
void test_agreement(const KernelTable& table, const KernelTable& base) {
  for (Elementwise function : kFunctions) {
    bool close = true;
    for (double x : wild_values(2000)) {
      const double y = at(base, function, x);
      const double tolerance = x < 0 ? 1e-11 : 2e-15;  // a pole of the gamma functions may be near
      close = close && klqp_test::close(at(table, function, x), y, tolerance);
    }
    CHECK(close);
  }
  std::vector<double> a(1000), b(1000);
  table.normals({9, 8, 7, 6}, 5, 1, 1000, a.data(), 1000);
  base.normals({9, 8, 7, 6}, 5, 1, 1000, b.data(), 1000);
  for (std::size_t i = 0; i < a.size(); ++i) CHECK_CLOSE(a[i], b[i], 1e-15);
}

// The gradient kernels against their formulas, for a length that leaves a scalar tail.
void test_gradient_kernels(const KernelTable& table) {
  constexpr std::size_t n = 37, draws = 3;
  std::vector<double> grad(draws * n), noise(draws * n), sums(4 * n);
  const std::vector<double> weights{0.25, 0.0, 0.5};
  table.normals({1, 2, 3, 4}, 0, draws, n, grad.data(), n);
  table.normals({1, 2, 3, 9}, 0, draws, n, noise.data(), n);
  std::fill_n(grad.begin() + n, n, std::nan(""));  // of a draw without weight
  table.pathwise_sums(draws, n, weights.data(), grad.data(), n, noise.data(), n, sums.data());
  for (std::size_t i = 0; i < n; ++i) {
    const double g = 0.25 * grad[i], h = 0.5 * grad[2 * n + i], e = noise[i], f = noise[2 * n + i];
    CHECK_CLOSE(sums[i], g + h, 1e-15);
    CHECK_CLOSE(sums[n + i], g * e + h * f, 1e-15);
    CHECK_CLOSE(sums[2 * n + i], 0.25 * e + 0.5 * f, 1e-15);
    CHECK_CLOSE(sums[3 * n + i], 0.25 * e * e + 0.5 * f * f, 1e-15);
  }

  const double rate = 0.1;
  std::vector<double> mean(n, 0.3), covariance(n, -0.2), variance(n, 0.4), out(n, 1.0);
  variance[5] = 0.0;  // there the blend is the first gradient
  table.blend(n, rate, 1.0, 1.0, grad.data(), noise.data(), mean.data(), covariance.data(), variance.data(),
              out.data());
  for (std::size_t i = 0; i < n; ++i) {
    const double before = i == 5 ? 0.0 : 0.4, estimate = grad[i] + (i == 5 ? 0.0 : 0.5) * noise[i];
    CHECK_CLOSE(out[i], 1.0 + estimate, 1e-15);
    CHECK_CLOSE(covariance[i], -0.2 + rate * ((grad[i] - 0.3) * noise[i] + 0.2), 1e-15);
    CHECK_CLOSE(variance[i], before + rate * (noise[i] * noise[i] - before), 1e-15);
    CHECK_CLOSE(mean[i], 0.3 + rate * (estimate - 0.3), 1e-15);
  }
}

// The densities: the same list in every table, scalars like arrays across tiles, and derivatives by differences.
void test_densities(const KernelTable& table, const KernelTable& base) {
  constexpr Index n = 300;
  CHECK(table.densities.size() == base.densities.size());
  for (std::size_t d = 0; d < table.densities.size(); ++d) {
    const klqp::DensityKernel& density = table.densities[d];
    CHECK(std::strcmp(density.name, base.densities[d].name) == 0);
    CHECK(klqp::find_density(table, density.name) == &density);
    CHECK((density.log_base != nullptr) == (density.base_args != 0));

    // Legal for every density: a value of 1 (for beta inside its interval), parameters in (0, 1) but a first one of 1
    // and a second one below 2.
    const bool open = std::strcmp(density.name, "beta") == 0;
    const std::vector<double> x(n, open ? 0.5 : 1.0), first(n, density.n_args == 2 ? 0.75 : 1.0), second(n, 1.5),
        third(n, 0.5);
    const bool probability = std::strstr(density.name, "_probs") != nullptr;
    const double* arrays[] = {x.data(), first.data(), probability ? third.data() : second.data(), third.data()};
    const unsigned all = (1u << density.n_args) - 1u;
    std::vector<double> expected(n), out(n);
    density.log_prob(n, arrays, 0, expected.data());
    CHECK(std::isfinite(expected[0]));
    for (unsigned scalars = 0; scalars <= all; ++scalars) {
      density.log_prob(n, arrays, scalars, out.data());
      CHECK(out == expected);
    }
    std::vector<double> grads(4 * n);
    for (unsigned wanted = 0; wanted <= all; ++wanted) {
      double* to[4] = {};
      for (std::size_t k = 0; k < 4; ++k) to[k] = wanted >> k & 1u ? grads.data() + k * n : nullptr;
      density.gradient(n, arrays, wanted, to);
      for (std::size_t k = 0; k < 4; ++k) CHECK(to[k] == nullptr || std::isfinite(to[k][n - 1]));
    }
    if (density.log_base == nullptr) continue;
    for (unsigned scalars = 0; scalars <= density.base_args; ++scalars) {
      density.log_base(n, arrays, scalars, out.data());
      CHECK_CLOSE(out[n - 1], 0.0, 1e-14);  // log 1! and log C(1, 1)
    }
  }
  CHECK(klqp::find_density(table, "sine") == nullptr);
}

}  // namespace

int main() {
  const auto tables = klqp::available_kernels();
  CHECK(std::strcmp(tables[0]->name, "base") == 0);
  for (const KernelTable* table : tables) {
    test_philox(*table);
    test_uniforms_against_philox(*table);
    test_noise_position(*table);
    test_noise_rows(*table);
    test_position(*table);
    test_special_values(*table);
    test_sums(*table);
    test_agreement(*table, *tables[0]);
    test_gradient_kernels(*table);
    test_densities(*table, *tables[0]);
  }
  return klqp_test::summary();
}
