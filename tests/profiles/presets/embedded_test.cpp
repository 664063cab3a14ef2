#include "profiles/presets/embedded.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace mmoe {
namespace {

namespace fs = std::filesystem;

// Each data file of the source tree is in the program, byte for byte.
TEST(Embedded, HoldsEveryFileOfTheTree) {
  const fs::path root = fs::path(MMOE_SOURCE_DIR) / "profiles";
  int files = 0;
  for (const char* folder : {"hardware", "presets/models", "presets/clusters", "presets/jobs"}) {
    const std::vector<std::string> names = embedded_names(folder);
    EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
    for (const auto& entry : fs::directory_iterator(root / folder)) {
      if (entry.path().extension() != ".json") continue;
      ++files;
      std::ifstream file(entry.path(), std::ios::binary);
      std::ostringstream text;
      text << file.rdbuf();
      const std::string path = std::string(folder) + "/" + entry.path().filename().string();
      ASSERT_TRUE(embedded_file(path).has_value()) << path;
      EXPECT_EQ(*embedded_file(path), text.str()) << path;
      EXPECT_NE(std::find(names.begin(), names.end(), entry.path().stem().string()), names.end()) << path;
    }
  }
  EXPECT_GE(files, 20);
}

TEST(Embedded, UnknownNamesAreNothing) {
  EXPECT_FALSE(embedded_file("hardware/none.json").has_value());
  EXPECT_TRUE(embedded_names("no/such/folder").empty());
}

}  // namespace
}  // namespace mmoe
