#include "train/checkpoint/checkpoint_tensors.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "sim/units/errors.h"
#include "train/checkpoint/tensor_elements.h"

namespace mmoe {
namespace {

constexpr const char* kSuffix = ".safetensors";

[[noreturn]] void refuse(const SafetensorsFile& file, const std::string& name, const std::string& what) {
  throw ConfigError(file.path().string() + ": tensor " + name + " " + what);
}

int64_t checked(const nlohmann::json& value, int64_t most) {
  const auto number = value.get<int64_t>();
  if (number < 0 || number > most) throw std::out_of_range("index");
  return number;
}

// What stored_piece wrote. Throws std::exception for anything else.
TensorPiece parse_piece(const nlohmann::json& json) {
  constexpr int64_t kMost = int64_t{1} << 48;
  TensorPiece piece;
  int64_t elements = 1;
  for (const nlohmann::json& size : json.at("full_shape")) piece.full_shape.push_back(checked(size, kMost));
  for (size_t dim = 0; dim < piece.full_shape.size(); ++dim) {
    const nlohmann::json& range = json.at("ranges").at(dim);
    IndexRange index{checked(range.at(0), piece.full_shape[dim]), 0};
    index.count = checked(range.at(1), piece.full_shape[dim] - index.begin);
    piece.ranges.push_back(index);
    if (index.count > 0 && elements > kMost / index.count) throw std::out_of_range("size");
    elements *= index.count;
  }
  piece.elements.begin = checked(json.at("elements").at(0), elements);
  piece.elements.end = piece.elements.begin + checked(json.at("elements").at(1), elements - piece.elements.begin);
  return piece;
}

}  // namespace

std::string tensor_file_name(std::string_view kind, int64_t rank, int64_t world_size) {
  if (world_size == 1) return std::string(kind) + kSuffix;
  char number[32];
  std::snprintf(number, sizeof number, "-%05ld", static_cast<long>(rank));
  return std::string(kind) + number + kSuffix;
}

StoredPiece stored_piece(const std::string& name, const TensorPiece& piece) {
  if (piece.is_whole()) return {name, piece.full_shape, ""};
  nlohmann::ordered_json json;
  json["tensor"] = name;
  json["full_shape"] = piece.full_shape;
  json["ranges"] = nlohmann::ordered_json::array();
  for (const IndexRange& range : piece.ranges) json["ranges"].push_back({range.begin, range.count});
  json["elements"] = {piece.elements.begin, piece.elements.size()};
  // Pieces of one tensor differ in their first element.
  const int64_t first = runs_of(piece).front().whole;
  return {name + "@" + std::to_string(first), {piece.elements.size()}, json.dump()};
}

CheckpointTensors::CheckpointTensors(const std::filesystem::path& folder, std::string_view kind) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(std::string(kind) + "-") && name.ends_with(kSuffix)) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  if (paths.empty()) paths.push_back(folder / tensor_file_name(kind, 0, 1));
  for (const std::filesystem::path& path : paths) {
    const SafetensorsFile& file = files_.emplace_back(path);
    for (const std::string& name : file.names()) {
      const SafetensorsView& view = file.at(name);
      const auto metadata = file.metadata().find(name);
      if (metadata == file.metadata().end()) {
        tensors_[name].push_back({&file, &view, whole_tensor(view.shape)});
        continue;
      }
      try {
        const nlohmann::json json = nlohmann::json::parse(metadata->second);
        const TensorPiece piece = parse_piece(json);
        if (view.shape != std::vector<int64_t>{piece.elements.size()}) throw std::out_of_range("shape");
        tensors_[json.at("tensor").get<std::string>()].push_back({&file, &view, piece});
      } catch (const std::exception&) {
        refuse(file, quote_for_message(name),
               "says in the file's metadata what it cannot be a piece of; copy the checkpoint again");
      }
    }
  }
}

const std::vector<CheckpointTensors::Stored>& CheckpointTensors::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) files_.front().at(name);  // throws
  return found->second;
}

at::ScalarType CheckpointTensors::type_of(const std::string& name) const {
  return scalar_type(find(name).front().view->dtype);
}

void CheckpointTensors::read(const std::string& name, const TensorPiece& piece, at::Tensor out) const {
  MMOE_CHECK(out.is_contiguous() && out.is_cpu() && out.numel() == piece.elements.size()) << name;
  const std::vector<PieceRun> wanted = runs_of(piece);
  int64_t copied = 0;
  const std::vector<Stored>& pieces = find(name);
  for (const Stored& stored : pieces) {
    if (stored.view->dtype != safetensors_dtype(out.scalar_type()) || stored.piece.full_shape != piece.full_shape) {
      refuse(*stored.file, name,
             "has another shape or type than the job's model; use the job file of the checkpoint's run");
    }
    const std::vector<PieceRun> runs = runs_of(stored.piece);
    if (runs.empty() || wanted.empty() || runs.back().whole + runs.back().length <= wanted.front().whole ||
        wanted.back().whole + wanted.back().length <= runs.front().whole) {
      continue;
    }
    copied += copy_common(runs, stored.view->data, wanted, static_cast<std::byte*>(out.data_ptr()), out.element_size());
    const bool used_up = wanted.back().whole + wanted.back().length >= runs.back().whole + runs.back().length;
    if (used_up) SafetensorsFile::release(*stored.view);
  }
  if (copied != piece.elements.size()) {
    refuse(*pieces.front().file, name,
           "is not whole: its pieces hold " + std::to_string(copied) + " of " + std::to_string(piece.elements.size()) +
               " elements; copy the checkpoint again");
  }
}

}  // namespace mmoe
