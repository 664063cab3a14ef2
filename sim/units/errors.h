#pragma once
// The kinds of failure: the user's (ConfigError, exit 2), the machine's (RunFailure, exit 1) and ours (MMOE_CHECK,
// exit 1).

#include <sstream>
#include <stdexcept>
#include <string>

namespace mmoe {

// The user's mistake in a job file, path or flag. The message is one line: what, where, why and what to do.
struct ConfigError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What the machine or another process did, no mistake of a file or flag: exit 1. One line: what, where, what to do.
struct RunFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

namespace internal {

// Collects the context streamed into MMOE_CHECK and throws std::logic_error at the end of the statement.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition) {
    text_ << file << ':' << line << ": " << condition << ' ';
  }
  [[noreturn]] ~CheckFailure() noexcept(false) { throw std::logic_error(text_.str()); }
  template <class T>
  CheckFailure& operator<<(const T& value) {
    text_ << value;
    return *this;
  }

 private:
  std::ostringstream text_;
};

}  // namespace internal
}  // namespace mmoe

// Our mistake: stops in release builds too. MMOE_CHECK(a == b) << "context";
#define MMOE_CHECK(condition) \
  if (condition) {            \
  } else                      \
    ::mmoe::internal::CheckFailure(__FILE__, __LINE__, #condition)
