#include "profiles/store/json_fields.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

std::string read_error(const std::string& text) {
  const std::string path = testing::TempDir() + "json_fields." + std::to_string(getpid()) + ".json";
  std::ofstream(path) << text;
  std::string error = error_of([&] { json_from_file(path); });
  std::filesystem::remove(path);
  return error.starts_with(path) ? error.substr(path.size()) : error;
}

TEST(JsonFromFile, NamesLineAndColumn) {
  EXPECT_EQ(read_error("{\n \"a\": 1,\n \"b\" 2}"),
            ": is not valid JSON at line 3, column 6; it may be cut short: write it again");
}

TEST(JsonFromFile, RefusesEmptyCutAndHuge) {
  EXPECT_NE(read_error("").find("is empty"), std::string::npos);
  EXPECT_NE(read_error("{\"a\": [1, 2").find("is not valid JSON at line 1"), std::string::npos);
  EXPECT_NE(read_error("{\"a\": 1e999}").find("too large"), std::string::npos);
}

TEST(JsonFromFile, RefusesMissingAndFolder) {
  EXPECT_NE(
      error_of([] { json_from_file("no_such_file.json"); }).find("no_such_file.json: cannot be read: No such file"),
      std::string::npos);
  EXPECT_NE(error_of([] { json_from_file("."); }).find("is a folder"), std::string::npos);
}

TEST(JsonFields, ReadsTypes) {
  const nlohmann::json json = {{"n", 1.5}, {"i", 7}, {"t", "x"}, {"l", {1}}, {"o", nlohmann::json::object()}};
  JsonFields fields(json, "f.json", "a.b");
  EXPECT_EQ(fields.number("n", 0, 2), 1.5);
  EXPECT_EQ(fields.number("i", 0, 10), 7);
  EXPECT_EQ(fields.integer("i", 0, 10), 7);
  EXPECT_EQ(fields.text("t"), "x");
  EXPECT_EQ(fields.array("l").size(), 1u);
  EXPECT_TRUE(fields.object("o").empty());
  fields.finish();
}

TEST(JsonFields, NamesFileAndKey) {
  const nlohmann::json json = {{"n", "x"}, {"i", 1.5}, {"big", 18446744073709551615ull}, {"far", 11}};
  const auto error = [&](auto read) {
    return error_of([&] {
      JsonFields fields(json, "f.json", "a[3]");
      read(fields);
    });
  };
  EXPECT_EQ(error([](JsonFields& f) { f.number("n", 0, 1); }), "f.json: a[3].n must be a number, not \"x\"");
  EXPECT_EQ(error([](JsonFields& f) { f.number("m", 0, 1); }), "f.json: a[3].m is missing");
  EXPECT_EQ(error([](JsonFields& f) { f.number("far", 0, 1); }), "f.json: a[3].far = 11 is outside 0 .. 1");
  EXPECT_EQ(error([](JsonFields& f) { f.integer("i", 0, 9); }), "f.json: a[3].i must be a whole number, not 1.5");
  EXPECT_EQ(error([](JsonFields& f) { f.integer("big", 0, 9); }),
            "f.json: a[3].big = 18446744073709551615 is outside 0 .. 9");
  EXPECT_EQ(error([](JsonFields& f) { f.array("n"); }), "f.json: a[3].n must be a list, not \"x\"");
  EXPECT_EQ(error([](JsonFields& f) { f.finish(); }), "f.json: a[3].big is not a key of this file; remove it");
  EXPECT_EQ(error_of([] { JsonFields(nlohmann::json::array(), "f.json", ""); }),
            "f.json: the file must be an object, not a list");
}

}  // namespace
}  // namespace mmoe
