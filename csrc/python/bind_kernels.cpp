// Exposes the kernel tables to the tests, as the submodule `kernels`.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernels.hpp"
#include "python/bindings.hpp"

namespace py = pybind11;

namespace {

using klqp::Index;
using klqp::KernelTable;
using Array = py::array_t<double, py::array::c_style | py::array::forcecast>;
using Strided = py::array_t<double, 0>;
using Elementwise = void (*KernelTable::*)(Index, const double*, double*);

struct NamedFunction {
  const char* name;
  Elementwise member;
};

constexpr std::array<NamedFunction, 10> kFunctions = {{{"exp", &KernelTable::exp},
                                                       {"log", &KernelTable::log},
                                                       {"log1p", &KernelTable::log1p},
                                                       {"expm1", &KernelTable::expm1},
                                                       {"sigmoid", &KernelTable::sigmoid},
                                                       {"softplus", &KernelTable::softplus},
                                                       {"lgamma", &KernelTable::lgamma},
                                                       {"digamma", &KernelTable::digamma},
                                                       {"trigamma", &KernelTable::trigamma},
                                                       {"norm_ppf", &KernelTable::norm_ppf}}};

const KernelTable& find_table(const std::string& name) {
  for (const KernelTable* table : klqp::available_kernels()) {
    if (name == table->name) return *table;
  }
  throw py::value_error("expected the name of a kernel table this machine runs, one of kernels.tables(), got '" + name +
                        "'");
}

Elementwise find_function(std::string_view name) {
  for (const NamedFunction& function : kFunctions) {
    if (name == function.name) return function.member;
  }
  throw py::value_error("expected one of kernels.FUNCTIONS, got '" + std::string(name) + "'");
}

Index checked_size(const Array& x) {
  if (x.ndim() != 1) throw py::value_error("expected a vector, got " + std::to_string(x.ndim()) + " dimensions");
  return x.size();
}

// The common length of several vectors.
template <typename... Arrays>
Index common_size(const Array& first, const Arrays&... rest) {
  const Index n = checked_size(first);
  if (((checked_size(rest) != n) || ...)) throw py::value_error("expected vectors of one length");
  return n;
}

Array copy_of(const Array& x) { return Array(x.size(), x.data()); }

Array evaluate(const std::string& table, const std::string& function, const Array& x) {
  const Index n = checked_size(x);
  Array out(n);
  (find_table(table).*find_function(function))(n, x.data(), out.mutable_data());
  return out;
}

using Noise = void (*KernelTable::*)(klqp::NoiseKey, Index, Index, Index, double*, Index);

template <Noise member>
Array noise(const std::string& table, std::uint64_t seed, std::uint32_t stream, std::uint32_t step, std::uint32_t draw,
            Index first_block, Index n) {
  if (n < 0) throw py::value_error("expected n >= 0, got " + std::to_string(n));
  Array out(n);
  (find_table(table).*member)({seed, stream, step, draw}, first_block, 1, n, out.mutable_data(), n);
  return out;
}

std::array<std::uint32_t, 4> philox(const std::string& table, std::array<std::uint32_t, 4> counter,
                                    std::array<std::uint32_t, 2> key) {
  std::array<std::uint32_t, 4> out{};
  find_table(table).philox(counter.data(), key.data(), out.data());
  return out;
}

double sum(const std::string& table, const Array& x) { return find_table(table).sum(checked_size(x), x.data()); }

double dot(const std::string& table, const Array& x, const Array& y) {
  return find_table(table).dot(common_size(x, y), x.data(), y.data());
}

Array scale(const std::string& table, double a, const Array& x) {
  Array out(checked_size(x));
  find_table(table).scale(x.size(), a, x.data(), out.mutable_data());
  return out;
}

Array axpy(const std::string& table, double a, const Array& x, const Array& y) {
  const Index n = common_size(x, y);
  Array out = copy_of(y);
  find_table(table).axpy(n, a, x.data(), out.mutable_data());
  return out;
}

Array multiply_add(const std::string& table, double a, const Array& x, const Array& y, const Array& start) {
  const Index n = common_size(x, y, start);
  Array out = copy_of(start);
  find_table(table).multiply_add(n, a, x.data(), y.data(), out.mutable_data());
  return out;
}

Array affine(const std::string& table, const Array& loc, const Array& spread, const Array& x) {
  const Index n = common_size(loc, spread, x);
  Array out(n);
  find_table(table).affine(n, loc.data(), spread.data(), x.data(), out.mutable_data());
  return out;
}

py::tuple location_scale_pullback(const std::string& table, const Array& cot, const Array& draw_noise, const Array& loc,
                                  const Array& spread) {
  const Index n = common_size(cot, draw_noise, loc, spread);
  Array new_loc = copy_of(loc), new_spread = copy_of(spread);
  find_table(table).location_scale_pullback(n, cot.data(), draw_noise.data(), new_loc.mutable_data(),
                                            new_spread.mutable_data());
  return py::make_tuple(new_loc, new_spread);
}

py::tuple adam(const std::string& table, const Array& grad, double beta1, double beta2, double epsilon, double step,
               double correction, const Array& m, const Array& v, const Array& params) {
  const Index n = common_size(grad, m, v, params);
  Array new_m = copy_of(m), new_v = copy_of(v), new_params = copy_of(params);
  find_table(table).adam(n, grad.data(), beta1, beta2, epsilon, step, correction, new_m.mutable_data(),
                         new_v.mutable_data(), new_params.mutable_data());
  return py::make_tuple(new_m, new_v, new_params);
}

// A matrix with contiguous rows, used where it lies.
struct Matrix {
  Index rows, cols, stride;

  explicit Matrix(const Strided& x) {
    constexpr Index size = sizeof(double);
    if (x.ndim() != 2) throw py::value_error("expected a matrix, got " + std::to_string(x.ndim()) + " dimensions");
    rows = x.shape(0);
    cols = x.shape(1);
    stride = rows > 1 && cols > 0 ? x.strides(0) / size : cols;
    if ((cols > 1 && rows > 0 && x.strides(1) != size) || x.strides(0) % size != 0 || stride < cols) {
      throw py::value_error("expected a matrix with contiguous rows");
    }
  }
};

using Product = void (*KernelTable::*)(Index, Index, Index, const double*, Index, const double*, Index, double*, Index);

// Adds a product into c, in place.
template <Product member, bool a_transposed, bool b_transposed>
void matmul(const std::string& table, const Strided& a, const Strided& b, Strided c) {
  const Matrix left(a), right(b), out(c);
  const Index k = a_transposed ? left.rows : left.cols;
  if ((a_transposed ? left.cols : left.rows) != out.rows || (b_transposed ? right.rows : right.cols) != out.cols ||
      (b_transposed ? right.cols : right.rows) != k) {
    throw py::value_error("expected matrices whose shapes fit");
  }
  (find_table(table).*member)(out.rows, out.cols, k, a.data(), left.stride, b.data(), right.stride, c.mutable_data(),
                              out.stride);
}

Index checked_order(const Array& x) {
  if (x.ndim() != 2 || x.shape(0) != x.shape(1)) throw py::value_error("expected a square matrix");
  return x.shape(0);
}

Array copy_of_matrix(const Array& x) { return Array({x.shape(0), x.shape(1)}, x.data()); }

template <void (*KernelTable::*member)(Index, const double*, double*)>
Array solve(const std::string& table, const Array& l, const Array& x) {
  if (checked_order(l) != checked_size(x)) throw py::value_error("expected a vector of the matrix's order");
  Array out = copy_of(x);
  (find_table(table).*member)(x.size(), l.data(), out.mutable_data());
  return out;
}

// Solves with the rows of x, in place.
template <void (*KernelTable::*member)(Index, Index, const double*, Index, double*, Index)>
void solve_right(const std::string& table, const Strided& l, Strided x) {
  const Matrix factor(l), rows(x);
  if (factor.rows != factor.cols || factor.rows != rows.cols) {
    throw py::value_error("expected a square matrix and rows of its order");
  }
  (find_table(table).*member)(rows.rows, rows.cols, l.data(), factor.stride, x.mutable_data(), rows.stride);
}

py::tuple cholesky(const std::string& table, const Array& a) {
  const Index n = checked_order(a);
  Array l = copy_of_matrix(a);
  const Index failed = find_table(table).cholesky(n, l.mutable_data());
  return py::make_tuple(l, failed);
}

Array cholesky_pullback(const std::string& table, const Array& l, const Array& lbar) {
  const Index n = checked_order(l);
  if (checked_order(lbar) != n) throw py::value_error("expected matrices of one order");
  Array out = copy_of_matrix(lbar);
  find_table(table).cholesky_pullback(n, l.data(), out.mutable_data());
  return out;
}

template <typename Function>
void def_matmul(py::module_& m, const char* name, Function function) {
  m.def(name, function, py::arg("table"), py::arg("a").noconvert(), py::arg("b").noconvert(), py::arg("c").noconvert());
}

// --- gamma draws --------------------------------------------------------------------------------------------

using GammaKernel = void (*KernelTable::*)(Index, const double*, bool, const double*, double*) noexcept;

// Concentrations are a vector of x's length, or one number, which is a 0-d array.
template <GammaKernel member>
Array gamma(const std::string& table, const Array& alpha, const Array& x) {
  const Index n = checked_size(x);
  if (alpha.ndim() != 0 && checked_size(alpha) != n) throw py::value_error("expected vectors of one length");
  Array out(n);
  (find_table(table).*member)(n, alpha.data(), alpha.ndim() == 0, x.data(), out.mutable_data());
  return out;
}

// --- elementwise distributions ----------------------------------------------------------------------------

const klqp::DensityKernel& find_density(const std::string& table, const std::string& name) {
  const klqp::DensityKernel* density = klqp::find_density(find_table(table), name);
  if (density == nullptr) throw py::value_error("expected a name of kernels.densities(), got '" + name + "'");
  return *density;
}

// Arguments of a density as its kernels want them: vectors of one length n, or scalars, which are 0-d arrays. An
// argument that is not needed may be missing from the end.
struct DensityArguments {
  std::vector<const double*> pointers;
  unsigned scalars = 0;
  Index n = 1;

  DensityArguments(const klqp::DensityKernel& density, const std::vector<Array>& args, std::size_t needed) {
    if (args.size() < needed || args.size() > static_cast<std::size_t>(density.n_args)) {
      throw py::value_error("expected " + std::to_string(density.n_args) + " arguments of " + density.name + ", got " +
                            std::to_string(args.size()));
    }
    bool any_vector = false;
    for (std::size_t k = 0; k < args.size(); ++k) {
      pointers.push_back(args[k].data());
      if (args[k].ndim() == 0) {
        scalars |= 1u << k;
        continue;
      }
      const Index size = checked_size(args[k]);
      if (any_vector && size != n) throw py::value_error("expected scalars and vectors of one length");
      any_vector = true;
      n = size;
    }
  }
};

py::list densities() {
  py::list rows;
  for (const klqp::DensityKernel& density : klqp::kernels().densities) {
    rows.append(py::make_tuple(density.name, density.n_args, density.base_args));
  }
  return rows;
}

Array log_density(const std::string& table, const std::string& name, const std::vector<Array>& args) {
  const klqp::DensityKernel& density = find_density(table, name);
  const DensityArguments arguments(density, args, static_cast<std::size_t>(density.n_args));
  Array out(arguments.n);
  density.log_prob(arguments.n, arguments.pointers.data(), arguments.scalars, out.mutable_data());
  return out;
}

Array log_density_base(const std::string& table, const std::string& name, const std::vector<Array>& args) {
  const klqp::DensityKernel& density = find_density(table, name);
  if (density.log_base == nullptr) throw py::value_error(name + " has no base");
  const DensityArguments arguments(density, args, density.base_args == 1 ? 1 : 2);
  Array out(arguments.n);
  density.log_base(arguments.n, arguments.pointers.data(), arguments.scalars, out.mutable_data());
  return out;
}

// The wanted derivatives, None in place of the others.
py::list log_density_gradient(const std::string& table, const std::string& name, const std::vector<Array>& args,
                              const std::vector<bool>& wanted) {
  const klqp::DensityKernel& density = find_density(table, name);
  const DensityArguments arguments(density, args, static_cast<std::size_t>(density.n_args));
  if (wanted.size() != args.size()) throw py::value_error("expected one flag for each argument");
  py::list grads;
  std::vector<double*> pointers;
  for (const bool flag : wanted) {
    if (flag) {
      Array grad(arguments.n);
      pointers.push_back(grad.mutable_data());
      grads.append(grad);
    } else {
      pointers.push_back(nullptr);
      grads.append(py::none());
    }
  }
  density.gradient(arguments.n, arguments.pointers.data(), arguments.scalars, pointers.data());
  return grads;
}

template <typename Function>
void def_noise(py::module_& m, const char* name, Function function) {
  m.def(name, function, py::arg("table"), py::arg("seed"), py::arg("stream"), py::arg("step"), py::arg("draw"),
        py::arg("first_block"), py::arg("n"));
}

}  // namespace

void bind_kernels(py::module_& module) {
  py::module_ m = module.def_submodule("kernels", "The kernel tables, for tests: see docs/kernels.md.");
  std::vector<std::string> names;
  for (const NamedFunction& function : kFunctions) names.emplace_back(function.name);
  m.attr("FUNCTIONS") = names;
  m.def("tables", [] {
    std::vector<std::string> available;
    for (const KernelTable* table : klqp::available_kernels()) available.emplace_back(table->name);
    return available;
  });
  m.def("active", [] { return std::string(klqp::kernels().name); });
  m.def("evaluate", evaluate, py::arg("table"), py::arg("function"), py::arg("x"));
  def_noise(m, "uniforms", noise<&KernelTable::uniforms>);
  def_noise(m, "normals", noise<&KernelTable::normals>);
  m.def("philox", philox, py::arg("table"), py::arg("counter"), py::arg("key"));
  m.def("sum", sum, py::arg("table"), py::arg("x"));
  m.def("dot", dot, py::arg("table"), py::arg("x"), py::arg("y"));
  m.def("scale", scale, py::arg("table"), py::arg("a"), py::arg("x"));
  m.def("axpy", axpy, py::arg("table"), py::arg("a"), py::arg("x"), py::arg("y"));
  m.def("multiply_add", multiply_add, py::arg("table"), py::arg("a"), py::arg("x"), py::arg("y"), py::arg("start"));
  m.def("affine", affine, py::arg("table"), py::arg("loc"), py::arg("scale"), py::arg("x"));
  m.def("location_scale_pullback", location_scale_pullback, py::arg("table"), py::arg("cot"), py::arg("noise"),
        py::arg("loc"), py::arg("scale"));
  m.def("adam", adam, py::arg("table"), py::arg("grad"), py::arg("beta1"), py::arg("beta2"), py::arg("epsilon"),
        py::arg("step"), py::arg("correction"), py::arg("m"), py::arg("v"), py::arg("params"));
  def_matmul(m, "matmul_nt", matmul<&KernelTable::matmul_nt, false, true>);
  def_matmul(m, "matmul_nn", matmul<&KernelTable::matmul_nn, false, false>);
  def_matmul(m, "matmul_tn", matmul<&KernelTable::matmul_tn, true, false>);
  m.def("solve_lower", solve<&KernelTable::solve_lower>, py::arg("table"), py::arg("l"), py::arg("x"));
  m.def("solve_lower_transposed", solve<&KernelTable::solve_lower_transposed>, py::arg("table"), py::arg("l"),
        py::arg("x"));
  m.def("solve_right_lower", solve_right<&KernelTable::solve_right_lower>, py::arg("table"), py::arg("l").noconvert(),
        py::arg("x").noconvert());
  m.def("solve_right_lower_transposed", solve_right<&KernelTable::solve_right_lower_transposed>, py::arg("table"),
        py::arg("l").noconvert(), py::arg("x").noconvert());
  m.def("cholesky", cholesky, py::arg("table"), py::arg("a"));
  m.def("cholesky_pullback", cholesky_pullback, py::arg("table"), py::arg("l"), py::arg("lbar"));
  m.def("gamma_log_draws", gamma<&KernelTable::gamma_log_draws>, py::arg("table"), py::arg("alpha"), py::arg("noise"));
  m.def("gamma_log_gradient", gamma<&KernelTable::gamma_log_gradient>, py::arg("table"), py::arg("alpha"),
        py::arg("log_z"));
  m.def("densities", densities);
  m.def("log_density", log_density, py::arg("table"), py::arg("name"), py::arg("args"));
  m.def("log_density_base", log_density_base, py::arg("table"), py::arg("name"), py::arg("args"));
  m.def("log_density_gradient", log_density_gradient, py::arg("table"), py::arg("name"), py::arg("args"),
        py::arg("wanted"));
}
