#include "train/checkpoint/model_checkpoint.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <functional>

#include "sim/units/errors.h"
#include "train/checkpoint/checkpoint_directory.h"
#include "train/checkpoint/checkpoint_tensors.h"
#include "train/checkpoint/safetensors.h"
#include "train/checkpoint/tensor_elements.h"

namespace mmoe {
namespace {

constexpr const char* kWeights = "weights";
constexpr const char* kOptimizer = "optimizer";
constexpr const char* kMoments[] = {".first_moment", ".second_moment"};

// Neighbouring ranges as one, so that tensors stay whole where they can.
std::vector<FlatRange> joined(const std::vector<FlatRange>& ranges) {
  std::vector<FlatRange> found;
  for (const FlatRange& range : ranges) {
    if (!found.empty() && found.back().end == range.begin) {
      found.back().end = range.end;
    } else {
      found.push_back(range);
    }
  }
  return found;
}

// A piece of a tensor, and where it begins in the buffer that holds it.
using PieceVisitor = std::function<void(const Parameter&, const TensorPiece&, int64_t first)>;

// What `range` of the flat buffers holds of the tensors.
void visit_weights(const ParameterStore& parameters, const FlatRange& range, const PieceVisitor& visit) {
  for (const HeldElements& held : parameters.held()) {
    const int64_t shift = held.first - held.elements.begin;  // from elements of the rank's part to those of the buffer
    int64_t box_begin = 0;
    for (TensorPiece& piece : pieces_of(held.parameter->shape, held.parameter->part)) {
      const int64_t box_end = box_begin + piece.elements.size();
      const int64_t begin = std::max({box_begin, held.elements.begin, range.begin - shift});
      const int64_t end = std::min({box_end, held.elements.end, range.end - shift});
      if (begin < end) {
        piece.elements = {begin - box_begin, end - box_begin};
        visit(*held.parameter, piece, begin + shift);
      }
      box_begin = box_end;
    }
  }
}

// The same of the optimiser's moments, which hold the elements that it owns one after another.
void visit_moments(const ParameterStore& parameters, const AdamW& optimizer, const std::vector<FlatRange>& ranges,
                   const PieceVisitor& visit) {
  int64_t moment = 0;
  for (const FlatRange& owned : joined(optimizer.owned())) {
    for (const FlatRange& range : joined(ranges)) {
      const FlatRange common{std::max(owned.begin, range.begin), std::min(owned.end, range.end)};
      if (common.size() <= 0) continue;
      visit_weights(parameters, common, [&](const Parameter& parameter, const TensorPiece& piece, int64_t first) {
        visit(parameter, piece, moment + first - owned.begin);
      });
    }
    moment += owned.size();
  }
}

// The tensors of one file, which lie in flat buffers on the CPU.
class TensorsToWrite {
 public:
  // `flat` must outlive this.
  void add(const at::Tensor& flat, int64_t first, const std::string& name, const TensorPiece& piece) {
    const StoredPiece stored = stored_piece(name, piece);
    if (!stored.metadata.empty()) metadata_[stored.name] = stored.metadata;
    tensors_.push_back({stored.name, safetensors_dtype(flat.scalar_type()), stored.shape,
                        static_cast<const std::byte*>(flat.data_ptr()) + first * flat.element_size()});
  }
  void write(const std::filesystem::path& path) const {
    if (!tensors_.empty()) write_safetensors(path, tensors_, metadata_);
  }

 private:
  std::vector<SafetensorsTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

// Into `flat` from element `first` on.
void read_piece(const CheckpointTensors& stored, const std::string& name, const TensorPiece& piece,
                const at::Tensor& flat, int64_t first) {
  at::Tensor destination = flat.narrow(0, first, piece.elements.size());
  if (destination.is_cpu()) {
    stored.read(name, piece, destination);
    return;
  }
  const at::Tensor on_cpu = at::empty(destination.sizes(), destination.options().device(at::kCPU));
  stored.read(name, piece, on_cpu);
  destination.copy_(on_cpu);
}

}  // namespace

void write_checkpoint_part(const std::filesystem::path& staging, const ParameterStore& parameters,
                           const AdamW& optimizer, const std::vector<FlatRange>& ranges, int64_t rank,
                           int64_t world_size) {
  {
    const at::Tensor master = parameters.master().cpu();
    TensorsToWrite tensors;
    for (const FlatRange& range : joined(ranges)) {
      visit_weights(parameters, range, [&](const Parameter& parameter, const TensorPiece& piece, int64_t first) {
        tensors.add(master, first, parameter.name, piece);
      });
    }
    tensors.write(staging / tensor_file_name(kWeights, rank, world_size));
  }
  const at::Tensor moments[] = {optimizer.first_moment().cpu(), optimizer.second_moment().cpu()};
  TensorsToWrite tensors;
  visit_moments(parameters, optimizer, ranges,
                [&](const Parameter& parameter, const TensorPiece& piece, int64_t first) {
                  for (int i = 0; i < 2; ++i) tensors.add(moments[i], first, parameter.name + kMoments[i], piece);
                });
  tensors.write(staging / tensor_file_name(kOptimizer, rank, world_size));
}

std::filesystem::path save_checkpoint(const std::filesystem::path& run_folder, const Job& job, int64_t step,
                                      const ParameterStore& parameters, const AdamW& optimizer,
                                      const nlohmann::json& extra) {
  const std::filesystem::path folder = checkpoint_folder(run_folder, step);
  CheckpointWriter writer(folder);
  write_checkpoint_part(writer.staging(), parameters, optimizer, {{0, parameters.master().numel()}}, 0, 1);
  writer.commit(checkpoint_state(job, step, extra));
  return folder;
}

nlohmann::json checkpoint_state(const Job& job, int64_t step, const nlohmann::json& extra) {
  nlohmann::json state = extra;
  state["step"] = step;
  state["job"] = to_json(job);
  return state;
}

Job checkpoint_job(const std::filesystem::path& folder, const Overrides& overrides) {
  const nlohmann::json state = read_checkpoint_state(folder);
  const std::string where = (folder / "state.json").string();
  if (!state.contains("job")) throw ConfigError(where + ": has no key \"job\"; this is no checkpoint of mmoe train");
  return parse_job(state["job"], where, folder.string(), overrides);
}

void load_weights(const std::filesystem::path& folder, ParameterStore& parameters) {
  const CheckpointTensors stored(folder, kWeights);
  visit_weights(parameters, {0, parameters.master().numel()},
                [&](const Parameter& parameter, const TensorPiece& piece, int64_t first) {
                  read_piece(stored, parameter.name, piece, parameters.master(), first);
                });
  parameters.refresh_compute_weights();
}

void load_optimizer(const std::filesystem::path& folder, const ParameterStore& parameters, AdamW& optimizer) {
  const CheckpointTensors stored(folder, kOptimizer);
  visit_moments(parameters, optimizer, optimizer.owned(),
                [&](const Parameter& parameter, const TensorPiece& piece, int64_t first) {
                  read_piece(stored, parameter.name + kMoments[0], piece, optimizer.first_moment(), first);
                  read_piece(stored, parameter.name + kMoments[1], piece, optimizer.second_moment(), first);
                });
}

}  // namespace mmoe
