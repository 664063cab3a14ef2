#pragma once
// Tensors of a checkpoint, whichever ranks wrote which pieces of them.

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "train/checkpoint/safetensors.h"
#include "train/checkpoint/tensor_pieces.h"

namespace mmoe {

// KIND.safetensors of one process, KIND-00003.safetensors of rank 3 of several; KIND is "weights" or "optimizer".
std::string tensor_file_name(std::string_view kind, int64_t rank, int64_t world_size);

// How a piece of tensor `name` stands in a file: a whole tensor under its own name and shape; any other as a list of
// elements, with what it is of under the same name in the file's metadata.
struct StoredPiece {
  std::string name;
  std::vector<int64_t> shape;
  std::string metadata;  // empty for a whole tensor
};
StoredPiece stored_piece(const std::string& name, const TensorPiece& piece);

class CheckpointTensors {
 public:
  // Opens the files of one kind in a checkpoint folder. Throws ConfigError naming the file that is missing or damaged.
  CheckpointTensors(const std::filesystem::path& folder, std::string_view kind);

  // Type of a tensor's elements. Throws ConfigError where there is none of this name.
  at::ScalarType type_of(const std::string& name) const;

  // Fills `out` (contiguous, on the CPU) with a piece of a tensor. Throws ConfigError naming file and tensor where it
  // is missing, not whole, or of another shape or type.
  void read(const std::string& name, const TensorPiece& piece, at::Tensor out) const;

 private:
  struct Stored {
    const SafetensorsFile* file;
    const SafetensorsView* view;
    TensorPiece piece;
  };
  const std::vector<Stored>& find(const std::string& name) const;

  std::list<SafetensorsFile> files_;
  std::map<std::string, std::vector<Stored>, std::less<>> tensors_;
};

}  // namespace mmoe
