// The boundary to the user's Python function.
#include "python/python_target.hpp"

#include <algorithm>
#include <cstring>

#include "python/gil.hpp"

namespace klqp {

namespace py = pybind11;

PythonTarget::PythonTarget(py::object fn, std::vector<py::ssize_t> shape, py::dtype dtype, py::object coerce)
    : fn_(std::move(fn)),
      coerce_(std::move(coerce)),
      shape_(std::move(shape)),
      dtype_(std::move(dtype)),
      dim_(1),
      float32_(dtype_.is(py::dtype::of<float>())) {
  for (const auto n : shape_) dim_ *= n;
}

PythonTarget::~PythonTarget() {
  const GilAcquire gil;
  z_ = {};
  result_ = primed_ = {};
  fn_ = coerce_ = {};
  dtype_ = py::dtype::of<double>();
}

// The function may keep what it gets: a new array, unless nobody but us holds the last one.
Matrix PythonTarget::points(Index n) {
  const GilAcquire gil;
#ifdef Py_GIL_DISABLED
  const bool ours = false;  // a reference count says nothing there
#else
  const bool ours = z_ && Py_REFCNT(z_.ptr()) == 1;
#endif
  if (!ours || n != n_) {
    py::array_t<double> fresh({static_cast<py::ssize_t>(n), static_cast<py::ssize_t>(dim_)});
    z_data_ = fresh.mutable_data();
    z_ = std::move(fresh);
    n_ = n;
  }
  return {z_data_, n, dim_};
}

py::object PythonTarget::argument() const {
  py::object z = float32_ ? z_.attr("astype")(dtype_) : z_;
  if (shape_.size() == 1) return z;
  std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(n_)};
  shape.insert(shape.end(), shape_.begin(), shape_.end());
  return py::reinterpret_borrow<py::array>(z).reshape(shape);
}

py::object PythonTarget::checked(py::object value, const std::vector<py::ssize_t>& shape, const char* what) {
  if (py::isinstance<py::array>(value)) {
    const auto array = py::reinterpret_borrow<py::array>(value);
    const bool plain = array.dtype().is(py::dtype::of<double>()) && (array.flags() & py::array::c_style) != 0 &&
                       array.ndim() == static_cast<py::ssize_t>(shape.size()) &&
                       std::equal(shape.begin(), shape.end(), array.shape());
    if (plain) return value;
  }
  py::tuple expected(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) expected[i] = shape[i];
  return call_python(coerce_, value, expected, py::str(what));
}

PythonTarget::Result PythonTarget::call(bool needs_gradient) {
  const py::object value = call_python(fn_, argument());
  std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(n_)};
  const bool pair = PyTuple_Check(value.ptr());
  if (pair && PyTuple_GET_SIZE(value.ptr()) != 2) {
    throw py::value_error("the log density must return logp or the pair (logp, grad), but it returned a tuple of " +
                          std::to_string(PyTuple_GET_SIZE(value.ptr())));
  }
  if (needs_gradient && !pair) {
    throw py::type_error(
        "the log density must return the pair (logp, grad) for reparameterisation gradients, but it returned one "
        "object of type " +
        py::cast<std::string>(py::type::of(value).attr("__name__")));
  }
  Result result;
  const auto tuple = py::reinterpret_borrow<py::tuple>(value);
  result.logp = checked(pair ? py::object(tuple[0]) : value, shape, "logp");
  if (pair) {
    shape.insert(shape.end(), shape_.begin(), shape_.end());
    py::object grad = tuple[1];
    // A gradient for each argument that has a draw axis may come in a tuple; here there is one such argument.
    if (PyTuple_Check(grad.ptr()) && PyTuple_GET_SIZE(grad.ptr()) == 1)
      grad = py::reinterpret_borrow<py::tuple>(grad)[0];
    result.grad = checked(grad, shape, "grad");
  }
  return result;
}

bool PythonTarget::is_primed() const noexcept {
  const auto size = static_cast<std::size_t>(n_ * dim_);
  return primed_.logp && primed_z_.size() == size && std::memcmp(primed_z_.data(), z_data_, size * sizeof(double)) == 0;
}

Evaluation PythonTarget::evaluate(Order order, Team&) {
  const GilAcquire gil;
  const bool needs_gradient = order == Order::gradient;
  if (is_primed() && (primed_.grad || !needs_gradient)) {
    result_ = primed_;
  } else {
    result_ = call(needs_gradient);
  }
  primed_ = {};
  const auto data = [](const py::object& array) {
    return array ? static_cast<const double*>(py::reinterpret_borrow<py::array>(array).data()) : nullptr;
  };
  return {data(result_.logp), data(result_.grad)};
}

bool PythonTarget::prime(py::array_t<double, py::array::c_style> z) {
  const Matrix here = points(z.shape(0));
  std::copy_n(z.data(), here.size(), here.data);
  primed_z_.assign(here.data, here.data + here.size());
  primed_ = call(false);
  // The function may be called for something else before the step, and may write to the same arrays again.
  for (py::object* array : {&primed_.logp, &primed_.grad}) {
    if (*array) *array = array->attr("copy")();
  }
  return static_cast<bool>(primed_.grad);
}

}  // namespace klqp
