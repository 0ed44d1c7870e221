// The assertions of the C++ tests: they count, report where they fail, and make the exit code.
#pragma once

#include <cmath>
#include <cstdio>

namespace klqp_test {

inline int passed = 0;
inline int failed = 0;

inline bool record(bool good, const char* file, int line, const char* text) {
  ++(good ? passed : failed);
  if (!good) std::printf("%s:%d: failed: %s\n", file, line, text);
  return good;
}

// |a - b| <= tolerance (1 + |b|); equal infinities and two NaNs are close.
inline bool close(double a, double b, double tolerance) {
  return a == b || (std::isnan(a) && std::isnan(b)) || std::fabs(a - b) <= tolerance * (1.0 + std::fabs(b));
}

inline void record_close(double a, double b, double tolerance, const char* file, int line, const char* text) {
  if (!record(close(a, b, tolerance), file, line, text)) {
    std::printf("    %.17g against %.17g, tolerance %g\n", a, b, tolerance);
  }
}

// The last line of main: return klqp_test::summary();
inline int summary() {
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace klqp_test

#define CHECK(condition) klqp_test::record(static_cast<bool>(condition), __FILE__, __LINE__, #condition)
#define CHECK_CLOSE(a, b, tolerance) klqp_test::record_close(a, b, tolerance, __FILE__, __LINE__, #a " close to " #b)
