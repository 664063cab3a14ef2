#include "train/interchange/export_model.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/accumulate.h>

#include <cmath>
#include <numeric>

#include "profiles/store/atomic_file.h"
#include "sim/config/job.h"
#include "sim/units/errors.h"
#include "train/checkpoint/checkpoint_directory.h"
#include "train/checkpoint/checkpoint_tensors.h"
#include "train/checkpoint/durable_file.h"
#include "train/checkpoint/model_checkpoint.h"
#include "train/checkpoint/safetensors.h"
#include "train/checkpoint/tensor_elements.h"
#include "train/interchange/foreign_config.h"
#include "train/interchange/k_plan_loader.h"
#include "train/interchange/tokenizer_files.h"
#include "train/model/transformer.h"

namespace mmoe {
namespace {

// All foreign tensors in the order of the model, each a piece of one of ours. `weights` must outlive them.
std::vector<ProducedTensor> foreign_pieces(const CheckpointTensors& weights, const ForeignModel& foreign,
                                           at::ScalarType type) {
  std::vector<ProducedTensor> tensors;
  for (const ParameterSpec& spec : parameter_specs(foreign.model)) {
    const bool zero = foreign.zero_shared_expert && spec.name.find(".shared_expert.") != std::string::npos;
    const at::ScalarType stored_type = zero ? type : weights.type_of(spec.name);
    TensorPiece piece = whole_tensor(spec.shape);
    int64_t first = 0;
    for (const ForeignTensor& tensor : foreign_tensors(foreign.model, foreign.naming, spec)) {
      const int64_t count = c10::multiply_integers(tensor.shape);
      piece.elements = {first, first + count};
      first += count;
      tensors.push_back(
          {tensor.name, safetensors_dtype(type), tensor.shape,
           [&weights, piece, zero, type, stored_type, name = spec.name, shape = tensor.shape](const ByteSink& sink) {
             const auto options = at::TensorOptions().dtype(stored_type);
             const at::Tensor values = zero ? at::zeros(shape, options) : at::empty(shape, options);
             if (!zero) weights.read(name, piece, values);
             write_elements(values, type, sink);
           }});
    }
  }
  return tensors;
}

int64_t bytes_of(const ProducedTensor& tensor) { return *tensor_bytes(tensor.dtype, tensor.shape); }

// One file, or several of at most `limit` bytes with an index. Returns the number of files.
int64_t write_shards(const std::filesystem::path& folder, std::vector<ProducedTensor> tensors, int64_t limit) {
  std::vector<std::vector<ProducedTensor>> shards(1);
  int64_t filled = 0, total = 0;
  for (ProducedTensor& tensor : tensors) {
    const int64_t bytes = bytes_of(tensor);
    total += bytes;
    if (filled > 0 && filled + bytes > limit) {
      shards.emplace_back();
      filled = 0;
    }
    filled += bytes;
    shards.back().push_back(std::move(tensor));
  }
  const std::map<std::string, std::string> metadata = {{"format", "pt"}};
  if (shards.size() == 1) {
    write_produced_safetensors(folder / "model.safetensors", shards[0], metadata);
    return 1;
  }
  nlohmann::ordered_json index;
  index["metadata"]["total_size"] = total;
  for (size_t i = 0; i < shards.size(); ++i) {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
    for (const ProducedTensor& tensor : shards[i]) index["weight_map"][tensor.name] = name;
    write_produced_safetensors(folder / name, shards[i], metadata);
  }
  write_file_atomically((folder / "model.safetensors.index.json").string(), index.dump(2) + "\n");
  return static_cast<int64_t>(shards.size());
}

// The folder under a name of its own until it is whole.
class NewFolder {
 public:
  explicit NewFolder(const std::filesystem::path& path)
      : path_(path.has_filename() ? path : path.parent_path()), staging_(staging_folder(path_)) {
    std::error_code error;
    if (std::filesystem::exists(path_, error) && !std::filesystem::is_empty(path_, error)) {
      throw ConfigError(path_.string() + ": exists and is not empty; name a new folder");
    }
    std::filesystem::remove_all(staging_, error);
    if (!std::filesystem::create_directories(staging_, error)) {
      throw ConfigError(staging_.string() + ": cannot be made (" + error.message() +
                        "); name a folder where you may write");
    }
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;
  ~NewFolder() {
    std::error_code ignored;
    if (!is_whole_) std::filesystem::remove_all(staging_, ignored);
  }
  const std::filesystem::path& staging() const { return staging_; }
  void commit() {
    std::filesystem::remove(path_);  // an empty folder
    std::filesystem::rename(staging_, path_);
    is_whole_ = true;
    sync_to_disk(parent_folder(path_));
  }

 private:
  std::filesystem::path path_, staging_;
  bool is_whole_ = false;
};

}  // namespace

ExportSummary export_model(const std::filesystem::path& checkpoint, const std::filesystem::path& out,
                           const ExportOptions& options) {
  const Job job = checkpoint_job(checkpoint);
  const nlohmann::json state = read_checkpoint_state(checkpoint);
  MMOE_CHECK(static_cast<int64_t>(options.k_per_layer.size()) == job.model.num_moe_layers()) << "one k a MoE layer";
  ExportSummary summary;
  if (!options.k_per_layer.empty()) {
    const double sum = std::accumulate(options.k_per_layer.begin(), options.k_per_layer.end(), 0.0);
    summary.num_experts_per_tok = static_cast<int>(std::lround(sum / static_cast<double>(options.k_per_layer.size())));
  }
  ForeignModel foreign = foreign_model(job, summary.num_experts_per_tok, options.type,
                                       state.value("foreign_config", nlohmann::json::object()));
  summary.model_type = foreign.model_type;
  const CheckpointTensors weights(checkpoint, "weights");
  std::vector<ProducedTensor> tensors = foreign_pieces(weights, foreign, options.type);
  for (const ProducedTensor& tensor : tensors) summary.bytes += bytes_of(tensor);

  NewFolder folder(out);
  if (!options.k_per_layer.empty()) {
    foreign.config["moe_k_plan"] = options.k_per_layer;  // a key that stock software keeps and does not read
    const nlohmann::ordered_json plan = {{"k_per_layer", options.k_per_layer},
                                         {"num_experts_per_tok", summary.num_experts_per_tok}};
    write_file_atomically((folder.staging() / "k_plan.json").string(), plan.dump(2) + "\n");
    write_file_atomically((folder.staging() / "k_plan.py").string(), kKPlanLoader);
  }
  write_file_atomically((folder.staging() / "config.json").string(), foreign.config.dump(2) + "\n");
  copy_tokenizer_files(checkpoint, folder.staging());
  summary.num_files = write_shards(folder.staging(), std::move(tensors), options.max_shard_bytes);
  folder.commit();
  return summary;
}

}  // namespace mmoe
