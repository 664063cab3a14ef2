// Speed of loading a checkpoint beside that of reading the same bytes with read(), both from the page cache into memory
// that has been touched before.

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "sim/units/errors.h"
#include "train/checkpoint/checkpoint_tensors.h"

namespace mmoe {
namespace {

constexpr int64_t kTensors = 64, kElements = 1 << 20;  // 4 MiB each, as an expert's matrices of a small model

// A checkpoint's weights of 256 MiB in the folder for temporary files, gone at the end.
class WeightsFile {
 public:
  WeightsFile() {
    std::string name = (std::filesystem::temp_directory_path() / "mmoe_loading_bench_XXXXXX").string();
    MMOE_CHECK(::mkdtemp(name.data()) != nullptr) << name;
    folder_ = name;
    const at::Tensor values = at::zeros({kElements}, at::kFloat);
    std::vector<SafetensorsTensor> tensors;
    for (int64_t i = 0; i < kTensors; ++i) {
      tensors.push_back({tensor_name(i), SafetensorsDtype::kF32, {kElements}, values.data_ptr()});
    }
    write_safetensors(path(), tensors);
  }
  ~WeightsFile() { std::filesystem::remove_all(folder_); }
  WeightsFile(const WeightsFile&) = delete;
  WeightsFile& operator=(const WeightsFile&) = delete;

  static std::string tensor_name(int64_t index) { return "layers." + std::to_string(index) + ".weight"; }
  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path path() const { return folder_ / "weights.safetensors"; }

 private:
  std::filesystem::path folder_;
};

const WeightsFile& weights_file() {
  static const WeightsFile file;
  return file;
}

void set_bytes(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * kTensors * kElements * static_cast<int64_t>(sizeof(float)));
}

void plain_read(benchmark::State& state) {
  const std::string path = weights_file().path().string();
  const auto size = static_cast<size_t>(std::filesystem::file_size(path));
  std::vector<char> memory(size);
  for (auto _ : state) {
    const int file = ::open(path.c_str(), O_RDONLY);
    MMOE_CHECK(file >= 0) << path;
    for (size_t done = 0; done < size;) {
      const ssize_t some = ::read(file, memory.data() + done, size - done);
      MMOE_CHECK(some > 0) << path;
      done += static_cast<size_t>(some);
    }
    ::close(file);
    benchmark::DoNotOptimize(memory.data());
  }
  set_bytes(state);
}
BENCHMARK(plain_read)->UseRealTime()->Unit(benchmark::kMillisecond);

// As `mmoe train`, `mmoe eval` and the others do: every tensor into its place in one flat buffer.
void load_checkpoint(benchmark::State& state) {
  const WeightsFile& file = weights_file();
  const at::Tensor flat = at::zeros({kTensors * kElements}, at::kFloat);
  for (auto _ : state) {
    const CheckpointTensors stored(file.folder(), "weights");
    for (int64_t i = 0; i < kTensors; ++i) {
      stored.read(WeightsFile::tensor_name(i), whole_tensor({kElements}), flat.narrow(0, i * kElements, kElements));
    }
    benchmark::DoNotOptimize(flat.data_ptr());
  }
  set_bytes(state);
}
BENCHMARK(load_checkpoint)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace mmoe

BENCHMARK_MAIN();
