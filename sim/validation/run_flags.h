#pragma once
// A run's own words: `flags` of a table as key and value.

#include <map>
#include <string>

namespace mmoe {

// "a;b=1;c=x y" as {a: "", b: "1", c: "x y"}.
class RunFlags {
 public:
  explicit RunFlags(const std::string& text);
  bool has(const std::string& key) const { return values_.contains(key); }
  std::string get(const std::string& key, const std::string& fallback = "") const;
  double number(const std::string& key, double fallback) const;
  const std::map<std::string, std::string>& all() const { return values_; }

 private:
  std::map<std::string, std::string> values_;
};

}  // namespace mmoe
