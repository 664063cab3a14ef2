// The reader against hand-written bytes and hostile files, the writer against bytes of the reference implementation.
#include "train/checkpoint/safetensors.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>
#include <cstring>
#include <numeric>
#include <random>
#include <system_error>

#include "tests/train/checkpoint/checkpoint_testing.h"

namespace mmoe {
namespace {

using Safetensors = FolderTest;

std::string length_prefix(std::uint64_t length) {
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(length >> (8 * i) & 0xFF);
  return bytes;
}

std::string file_of(const std::string& json, const std::string& data) {
  return length_prefix(json.size()) + json + data;
}

std::string bytes_of(const SafetensorsView& view) { return {reinterpret_cast<const char*>(view.data), view.bytes}; }

TEST_F(Safetensors, ReadsHandWrittenBytes) {
  // 1.0f is 3f800000 and -2.0f is c0000000, little-endian; the header is deliberately in another order than the data.
  const std::string json = R"({"b":{"dtype":"F32","shape":[1,2],"data_offsets":[3,11]},"__metadata__":{"format":"pt"},)"
                           R"("a":{"shape":[3],"data_offsets":[0,3],"dtype":"U8"},)"
                           R"("scalar":{"dtype":"I16","shape":[],"data_offsets":[11,13]}}  )";
  const std::string data("\x07\x08\x09\x00\x00\x80\x3f\x00\x00\x00\xc0\xfe\xff", 13);
  const SafetensorsFile file(write("x.safetensors", file_of(json, data)));

  EXPECT_EQ(file.names(), (std::vector<std::string>{"a", "b", "scalar"}));
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  EXPECT_EQ(bytes_of(file.at("a")), "\x07\x08\x09");
  const SafetensorsView& b = file.at("b");
  EXPECT_EQ(b.dtype, SafetensorsDtype::kF32);
  EXPECT_EQ(b.shape, (std::vector<std::int64_t>{1, 2}));
  float values[2];
  ASSERT_EQ(b.bytes, sizeof values);
  std::memcpy(values, b.data, sizeof values);
  EXPECT_EQ(values[0], 1.0f);
  EXPECT_EQ(values[1], -2.0f);
  EXPECT_TRUE(file.at("scalar").shape.empty());
  EXPECT_EQ(file.at("scalar").bytes, 2u);
  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_NE(config_error([&] { file.at("c"); }).find("has no tensor \"c\""), std::string::npos);
}

TEST_F(Safetensors, WritesProducedTensorsAsGivenOnes) {
  const float values[3] = {1, 2, 3};
  write_safetensors(folder_ / "given", {{"x", SafetensorsDtype::kF32, {3}, values}});
  const auto pieces = [&](std::size_t number) {
    return [&values, number](const ByteSink& sink) {
      for (std::size_t i = 0; i < number; ++i) sink(&values[i], sizeof(float));
    };
  };
  write_produced_safetensors(folder_ / "produced", {{"x", SafetensorsDtype::kF32, {3}, pieces(3)}});
  EXPECT_EQ(read_bytes(folder_ / "given"), read_bytes(folder_ / "produced"));
  // A producer that gives more or fewer bytes than the shape says is our mistake, and leaves no file.
  EXPECT_THROW(write_produced_safetensors(folder_ / "few", {{"x", SafetensorsDtype::kF32, {3}, pieces(2)}}),
               std::logic_error);
  EXPECT_THROW(write_produced_safetensors(folder_ / "many", {{"x", SafetensorsDtype::kF32, {2}, pieces(3)}}),
               std::logic_error);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "few") || std::filesystem::exists(folder_ / "many"));
}

TEST_F(Safetensors, TellsWhetherDataIsAligned) {
  const std::string json = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  const std::size_t pad = (8 - json.size() % 8) % 8;
  EXPECT_TRUE(SafetensorsFile(write("a", file_of(json + std::string(pad, ' '), "1234"))).at("a").is_aligned());
  EXPECT_FALSE(SafetensorsFile(write("b", file_of(json + std::string(pad + 1, ' '), "1234"))).at("a").is_aligned());
}

// What `safetensors.numpy.save` of the Python package 0.8.0 gives for the same tensors, byte for byte.
TEST_F(Safetensors, WritesAsTheReferenceImplementation) {
  const std::int64_t wide[] = {-1};
  const float values[] = {1.0f, -2.0f};
  const unsigned char small[] = {1, 2, 3};
  write_safetensors(folder_ / "x",
                    {{"z", SafetensorsDtype::kU8, {3}, small},
                     {"b", SafetensorsDtype::kF32, {2, 1}, values},
                     {"a\t\xc3\xa9/\"\x7f", SafetensorsDtype::kF32, {0, 3}, nullptr},
                     {"y", SafetensorsDtype::kI64, {}, wide}},
                    {{"k", "1\n"}});
  const std::string json = R"({"__metadata__":{"k":"1\n"},"y":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                           "\"a\\t\xc3\xa9/\\\"\x7f\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[8,8]},"
                           R"("b":{"dtype":"F32","shape":[2,1],"data_offsets":[8,16]},)"
                           R"("z":{"dtype":"U8","shape":[3],"data_offsets":[16,19]}})";
  const std::string padding((8 - json.size() % 8) % 8, ' ');
  const std::string data("\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x80\x3f\x00\x00\x00\xc0\x01\x02\x03", 19);
  EXPECT_EQ(read_bytes(folder_ / "x"), file_of(json + padding, data));
  EXPECT_EQ(listing(), std::vector<std::string>{"x"});
}

TEST_F(Safetensors, EmptyFileHoldsNothing) {
  write_safetensors(folder_ / "x", {});
  EXPECT_EQ(read_bytes(folder_ / "x"), file_of("{}      ", ""));
  EXPECT_TRUE(SafetensorsFile(folder_ / "x").names().empty());
}

TEST_F(Safetensors, RoundTripsEveryType) {
  const char* names[] = {"BOOL", "U8",  "I8",  "F8_E5M2", "F8_E4M3", "I16", "U16", "F16",
                         "BF16", "I32", "U32", "F32",     "F64",     "I64", "U64"};
  std::string pool(4096, '\0');
  std::iota(pool.begin(), pool.end(), '\0');
  std::vector<SafetensorsTensor> tensors;
  const std::vector<std::vector<std::int64_t>> shapes = {{}, {1}, {0}, {3, 5}, {2, 0, 4}, {2, 1, 7}};
  for (const char* name : names) {
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const std::optional<SafetensorsDtype> dtype = dtype_from_name(name);
      ASSERT_TRUE(dtype) << name;
      EXPECT_EQ(dtype_name(*dtype), name);
      tensors.push_back({std::string(name) + std::to_string(i), *dtype, shapes[i], pool.data() + tensors.size()});
    }
  }
  const std::map<std::string, std::string> metadata = {
      {"", ""}, {"a", "\xe2\x82\xac"}, {"b", std::string("\0\"\\", 3)}};
  write_safetensors(folder_ / "x", tensors, metadata);

  const SafetensorsFile file(folder_ / "x");
  EXPECT_EQ(file.metadata(), metadata);
  EXPECT_EQ(file.names().size(), tensors.size());
  for (const SafetensorsTensor& tensor : tensors) {
    const SafetensorsView& view = file.at(tensor.name);
    EXPECT_EQ(view.dtype, tensor.dtype);
    EXPECT_EQ(view.shape, tensor.shape);
    ASSERT_EQ(static_cast<std::int64_t>(view.bytes), *tensor_bytes(tensor.dtype, tensor.shape));
    EXPECT_EQ(std::memcmp(view.data, tensor.data, view.bytes), 0) << tensor.name;
    EXPECT_TRUE(view.is_aligned()) << tensor.name;
  }
}

TEST_F(Safetensors, ViewsLiveAsLongAsTheFileThroughMovesAndReplacement) {
  const std::uint8_t one = 1, two = 2;
  write_safetensors(folder_ / "x", {{"a", SafetensorsDtype::kU8, {1}, &one}});
  SafetensorsFile first(folder_ / "x");
  const SafetensorsView* view = first.find("a");
  write_safetensors(folder_ / "x", {{"a", SafetensorsDtype::kU8, {1}, &two}});
  const SafetensorsFile moved = std::move(first);
  EXPECT_EQ(moved.find("a"), view);
  EXPECT_EQ(std::to_integer<int>(*view->data), 1);  // the mapping keeps the replaced file
  EXPECT_EQ(std::to_integer<int>(*SafetensorsFile(folder_ / "x").at("a").data), 2);
}

TEST_F(Safetensors, RefusesFilesByWhatTheyAre) {
  struct Case {
    const char* name;
    std::string bytes;
    const char* message;
  };
  const std::string good = file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "1234");
  const Case cases[] = {
      {"empty", "", "is truncated: holds 0 of at least 8 bytes; copy it again or use an earlier checkpoint"},
      {"seven_bytes", good.substr(0, 7), "is truncated: holds 7 of at least 8 bytes"},
      {"half_header", good.substr(0, 30), "is truncated: holds 30 of at least 61 bytes"},
      {"no_data", good.substr(0, 61), "is truncated: holds 61 of 65 bytes"},
      {"one_byte_short", good.substr(0, 64), "is truncated: holds 64 of 65 bytes; copy it again or use an earlier"},
      {"one_byte_long", good + "5", "1 bytes follow its last tensor"},
      {"header_2_64", std::string(8, '\xff') + "{}", "claims a header of 18446744073709551615 bytes"},
      {"header_above_cap", length_prefix(100'000'001) + "{}",
       "claims a header of 100000001 bytes, more than the 100000000"},
      {"header_at_cap", length_prefix(100'000'000) + "{}", "is truncated: holds 10 of at least 100000008 bytes"},
      {"no_header", length_prefix(0), "does not begin with '{'"},
      {"git_lfs", "version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"},
      {"pickle", std::string("PK\x03\x04\x00\x00\x08\x08\x00\x00", 10), "is a PyTorch pickle"},
      {"gguf", std::string("GGUF\x03\x00\x00\x00\x00\x01", 10), "is a GGUF file"},
  };
  for (const Case& c : cases) {
    const std::filesystem::path path = write(c.name, c.bytes);
    const std::string error = config_error([&] { SafetensorsFile file(path); });
    EXPECT_NE(error.find(c.message), std::string::npos) << c.name << ": " << error;
    EXPECT_EQ(error.rfind(path.string() + ": ", 0), 0u) << error;
  }
}

TEST_F(Safetensors, RefusesWhatIsNoFile) {
  EXPECT_NE(config_error([&] { SafetensorsFile file(folder_ / "none"); }).find("No such file"), std::string::npos);
  EXPECT_NE(config_error([&] { SafetensorsFile file(folder_); }).find("is a folder"), std::string::npos);
  ASSERT_EQ(::mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  EXPECT_NE(config_error([&] { SafetensorsFile file(folder_ / "fifo"); }).find("no regular file"), std::string::npos);
  EXPECT_NE(config_error([&] { write_safetensors(folder_ / "none" / "x", {}); }).find("cannot be created"),
            std::string::npos);
  EXPECT_NE(config_error([&] { write_safetensors(folder_, {}); }).find("is a folder"), std::string::npos);
}

TEST_F(Safetensors, WriterRefusesOurMistakesAndLeavesNoFile) {
  const std::uint8_t byte = 1;
  const auto expect_refused = [&](const std::vector<SafetensorsTensor>& tensors) {
    EXPECT_ANY_THROW(write_safetensors(folder_ / "x", tensors));
    EXPECT_TRUE(listing().empty());
  };
  expect_refused({{"a", SafetensorsDtype::kU8, {1}, &byte}, {"a", SafetensorsDtype::kU8, {1}, &byte}});
  expect_refused({{"__metadata__", SafetensorsDtype::kU8, {1}, &byte}});
  expect_refused({{"a", SafetensorsDtype::kU8, {-1}, &byte}});
  expect_refused({{"a", SafetensorsDtype::kU8, {1}, nullptr}});
  expect_refused({{"a", SafetensorsDtype::kU64, {std::int64_t{1} << 60, 8}, &byte}});
  expect_refused({{"\xff", SafetensorsDtype::kU8, {1}, &byte}});
}

// Whole files with random changes, length included: refused in one line, or every byte of every tensor can be read.
TEST_F(Safetensors, SurvivesRandomMutationsOfFiles) {
  const std::vector<char> data(64, 'x');
  write_safetensors(
      folder_ / "good",
      {{"a", SafetensorsDtype::kF32, {2, 3}, data.data()}, {"b", SafetensorsDtype::kU8, {9}, data.data()}},
      {{"format", "pt"}});
  const std::string good = read_bytes(folder_ / "good");
  std::mt19937 random(7);
  int accepted = 0, refused = 0;
  for (int i = 0; i < 2'000; ++i) {
    std::string bytes = good;
    for (std::size_t changes = 1 + random() % 3; changes > 0; --changes) {
      const std::size_t range = random() % 2 == 0 ? 16 : bytes.size();  // half of them hit the length and the first key
      char& byte = bytes[random() % range];
      const auto change = static_cast<std::uint8_t>(random());
      byte = random() % 2 == 0 ? static_cast<char>(change) : static_cast<char>(byte ^ (1 << change % 8));
    }
    if (random() % 8 == 0) bytes.resize(random() % (good.size() + 9), 'x');
    const std::filesystem::path path =
        write(std::to_string(i), bytes);  // overwriting one file would flush it each time
    try {
      const SafetensorsFile file(path);
      for (const std::string& name : file.names()) {
        const std::string copy = bytes_of(file.at(name));  // a byte outside of the mapping would end the test here
        ASSERT_EQ(copy.size(), file.at(name).bytes);
      }
      ++accepted;
    } catch (const ConfigError& error) {
      ASSERT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(accepted, 50);  // both ways are walked
  EXPECT_GT(refused, 1000);
}

// A limit on the size of files stands for a full disk: write() fails half way with an errno, as with ENOSPC.
TEST_F(Safetensors, FullDiskIsAnErrorAndTheEarlierFileStaysWhole) {
  const std::vector<char> data(1 << 20, 'x');
  const std::vector<SafetensorsTensor> tensors = {{"a", SafetensorsDtype::kU8, {1 << 20}, data.data()}};
  const std::uint8_t byte = 1;
  write_safetensors(folder_ / "x", {{"old", SafetensorsDtype::kU8, {1}, &byte}});

  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 19, 1 << 19};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(10);
    try {
      write_safetensors(folder_ / "x", tensors);
    } catch (const std::system_error& error) {
      const bool is_named = std::string(error.what()).find((folder_ / "x").string()) != std::string::npos;
      ::_exit(error.code().value() == EFBIG && is_named ? 0 : 11);
    } catch (...) {
      ::_exit(12);
    }
    ::_exit(13);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(listing(), std::vector<std::string>{"x"});
  EXPECT_EQ(SafetensorsFile(folder_ / "x").names(), std::vector<std::string>{"old"});
}

}  // namespace
}  // namespace mmoe
