// The GIL, for threads that may be at work when the interpreter shuts down.
//
// A daemon thread that asks for the GIL then is ended by CPython before 3.14 with pthread_exit, which unwinds its
// stack. In C++ that is std::terminate at the first noexcept function, such as a destructor, and the destructors before
// it would touch Python objects without the GIL. So the unwinding is caught where it enters C++, and the thread sleeps
// until the process is gone, which is what CPython itself does from 3.14 on.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <memory>
#include <thread>
#include <utility>

namespace klqp {

// Calls a function of CPython's C interface, which throws nothing: what arrives as an exception is the end of the
// thread.
template <class Call>
auto or_sleep_at_exit(const Call& call) {
  try {
    return call();
  } catch (...) {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

// Gives the GIL back for a scope.
class GilRelease {
 public:
  GilRelease() : state_(PyEval_SaveThread()) {}
  ~GilRelease() {
    or_sleep_at_exit([this] { PyEval_RestoreThread(state_); });
  }
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  PyThreadState* state_;
};

// Holds the GIL for a scope, whoever has it now.
class GilAcquire {
 public:
  GilAcquire() : state_(or_sleep_at_exit([] { return PyGILState_Ensure(); })) {}
  ~GilAcquire() { PyGILState_Release(state_); }
  GilAcquire(const GilAcquire&) = delete;
  GilAcquire& operator=(const GilAcquire&) = delete;

 private:
  PyGILState_STATE state_;
};

// Keeps a Python object alive, and frees it with the GIL wherever the last owner goes.
inline std::shared_ptr<pybind11::object> keep_alive(pybind11::object object) {
  return {new pybind11::object(std::move(object)), [](pybind11::object* kept) {
            const GilAcquire gil;
            delete kept;
          }};
}

// function(*args), with the GIL, which other threads may have meanwhile. Throws what Python raises.
template <class... Args>
pybind11::object call_python(const pybind11::handle& function, const Args&... args) {
  PyObject* const stack[] = {nullptr, args.ptr()...};
  PyObject* const result = or_sleep_at_exit([&] {
    return PyObject_Vectorcall(function.ptr(), stack + 1, sizeof...(args) | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
  });
  if (result == nullptr) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::object>(result);
}

}  // namespace klqp
