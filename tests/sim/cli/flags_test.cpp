#include "sim/cli/flags.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

CommandLine example() {
  CommandLine command;
  command.name = "simulate";
  command.purpose = "predicts";
  command.example = "mmoe simulate --job job.json";
  command.add_job();
  command.options.add_options()("steps", po::value<int64_t>()->default_value(10), "steps")(
      "list", po::value<std::vector<std::string>>()->composing()->multitoken(), "words");
  return command;
}

std::string error_of(const CommandLine& command, const std::vector<std::string>& words) {
  try {
    std::ostringstream out;
    parse(command, words, out);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(Flags, ReadsValuesDefaultsAndJobKeys) {
  const Flags flags = parse(example(), {"--job", "a.json", "--parallelism.tensor", "4", "--elastic.budget=auto"});
  EXPECT_EQ(flags.get("job"), "a.json");
  EXPECT_EQ(flags.get<int64_t>("steps"), 10);
  EXPECT_FALSE(flags.json());
  EXPECT_FALSE(flags.has("list"));
  EXPECT_EQ(flags.overrides, (Overrides{{"parallelism.tensor", "4"}, {"elastic.budget", "auto"}}));
}

TEST(Flags, HelpHasTheExampleAndNeedsNothingElse) {
  std::ostringstream out;
  const Flags flags = parse(example(), {"--help"}, out);
  EXPECT_TRUE(flags.help_printed);
  for (const char* part :
       {"mmoe simulate: predicts", "mmoe simulate --job job.json", "--steps", "--config", "parallelism", "k_max"}) {
    EXPECT_NE(out.str().find(part), std::string::npos) << part << " is missing in\n" << out.str();
  }
}

TEST(Flags, MistakesAreOneLine) {
  EXPECT_EQ(error_of(example(), {"--jbo", "a"}),
            "simulate: unknown flag --jbo; did you mean --job? see mmoe simulate --help");
  EXPECT_EQ(error_of(example(), {}), "simulate: --job is missing; see mmoe simulate --help");
  EXPECT_EQ(error_of(example(), {"--job"}), "simulate: --job needs a value; see mmoe simulate --help");
  EXPECT_EQ(error_of(example(), {"--json=yes", "--job", "a"}),
            "simulate: --json takes no value; see mmoe simulate --help");
  EXPECT_NE(error_of(example(), {"--job", "a", "--job", "b"}).find("given twice"), std::string::npos);
  EXPECT_NE(error_of(example(), {"--job", "a", "--steps", "many"}).find("--steps cannot take the value \"many\""),
            std::string::npos);
  EXPECT_NE(error_of(example(), {"--tensor", "2", "--job", "a"}).find("--parallelism.tensor"), std::string::npos);
}

TEST(Flags, NothingIsGuessedFromAPrefix) {
  EXPECT_NE(error_of(example(), {"--jo", "a.json"}).find("unknown flag --jo;"), std::string::npos);
}

TEST(Flags, StrayWordsAreErrors) {
  EXPECT_NE(error_of(example(), {"--job", "a.json", "b.json"}).find("unexpected word \"b.json\""), std::string::npos);
}

TEST(Flags, WordsFillPositionalOptions) {
  CommandLine command;
  command.name = "presets";
  command.positional = {"action", "name"};
  command.options.add_options()("action", po::value<std::string>(), "")("name", po::value<std::string>(), "");
  const Flags flags = parse(command, {"show", "demo", "--json"});
  EXPECT_EQ(flags.get("action"), "show");
  EXPECT_EQ(flags.get("name"), "demo");
  EXPECT_TRUE(flags.json());
  EXPECT_NE(error_of(command, {"show", "a", "b"}).find("unexpected word \"b\""), std::string::npos);
}

TEST(Flags, TheLastPositionalOptionMayBeAList) {
  CommandLine command;
  command.name = "calibrate";
  command.positional = {"profile"};
  command.options.add_options()("profile", po::value<std::vector<std::string>>()->composing(), "");
  EXPECT_EQ(parse(command, {"a", "b", "c"}).get<std::vector<std::string>>("profile").size(), 3u);
}

TEST(Flags, ListsTakeSeveralWords) {
  EXPECT_EQ(parse(example(), {"--job", "j", "--list", "a", "b"}).get<std::vector<std::string>>("list").size(), 2u);
}

TEST(Flags, NegativeNumbersAreValues) {
  EXPECT_EQ(parse(example(), {"--job", "a", "--steps", "-3"}).get<int64_t>("steps"), -3);
}

class ConfigFile : public testing::Test {
 protected:
  void write(const std::string& text) { std::ofstream(path_) << text; }
  ~ConfigFile() override { std::filesystem::remove(path_); }
  std::string path_ = testing::TempDir() + "/flags_test_" + std::to_string(::getpid()) + ".cfg";
};

TEST_F(ConfigFile, HoldsFlagsAndLosesToTheCommandLine) {
  write("job = file.json\nsteps = 3  # comment\njson = true\n[parallelism]\ntensor = 2\n");
  const Flags flags = parse(example(), {"--config", path_, "--steps", "5"});
  EXPECT_EQ(flags.get("job"), "file.json");
  EXPECT_EQ(flags.get<int64_t>("steps"), 5);
  EXPECT_TRUE(flags.json());
  EXPECT_EQ(flags.overrides, (Overrides{{"parallelism.tensor", "2"}}));
}

TEST_F(ConfigFile, MistakesNameTheFile) {
  write("jbo = file.json\n");
  EXPECT_NE(error_of(example(), {"--config", path_}).find(path_ + ": unknown flag jbo; did you mean --job?"),
            std::string::npos)
      << error_of(example(), {"--config", path_});
  write("nonsense\n");
  EXPECT_NE(error_of(example(), {"--config", path_}).find("flag = value"), std::string::npos);
  EXPECT_NE(error_of(example(), {"--config", path_ + ".missing"}).find("cannot be read"), std::string::npos);
}

TEST(FlagValues, Bytes) {
  EXPECT_EQ(parse_bytes("1024", "limit"), Bytes{1024});
  EXPECT_EQ(parse_bytes("8GiB", "limit"), gib(8));
  EXPECT_EQ(parse_bytes("1.5 GB", "limit"), Bytes{1.5e9});
  for (const char* bad : {"", "GiB", "-1", "0", "8 gigs", "nan"})
    EXPECT_THROW(parse_bytes(bad, "limit"), ConfigError) << bad;
}

TEST(FlagValues, Numbers) {
  EXPECT_EQ(parse_numbers("1,2.5,6", "k"), (std::vector<double>{1, 2.5, 6}));
  for (const char* bad : {"", "1,", "1,x", "1;2"}) EXPECT_THROW(parse_numbers(bad, "k"), ConfigError) << bad;
}

}  // namespace
}  // namespace mmoe
