#pragma once
// safetensors files (https://github.com/huggingface/safetensors): a reader that survives hostile files, and a writer.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "train/checkpoint/safetensors_header.h"

namespace mmoe {

// One tensor inside an open file: row-major, little-endian. Valid as long as its SafetensorsFile.
struct SafetensorsView {
  SafetensorsDtype dtype = SafetensorsDtype::kF32;
  std::vector<std::int64_t> shape;
  const std::byte* data = nullptr;
  std::size_t bytes = 0;

  // False in files of other writers that pad their header otherwise: such data must be copied, not used in place.
  bool is_aligned() const;
};

// A safetensors file, memory-mapped read-only: tensors are read from disk when touched, and the system may drop them
// again. A file that someone shortens while it is mapped ends the process (SIGBUS); replacing it by rename is harmless.
class SafetensorsFile {
 public:
  // Checks the whole header before anything is used. Throws ConfigError (one line: file, tensor, what is wrong, what to
  // do), or std::system_error when the machine fails.
  explicit SafetensorsFile(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  // In the order of their bytes in the file.
  const std::vector<std::string>& names() const { return names_; }
  // Null when the file has no such tensor.
  const SafetensorsView* find(std::string_view name) const;
  // As find, but throws ConfigError naming the file and the tensor when there is none.
  const SafetensorsView& at(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // Says that a tensor has been used up: its pages need not stay in memory. It can still be read, from disk.
  static void release(const SafetensorsView& view);

 private:
  struct Unmap {
    std::size_t bytes;
    void operator()(const std::byte* start) const;
  };

  std::filesystem::path path_;
  std::unique_ptr<const std::byte, Unmap> mapping_;
  std::vector<std::string> names_;
  std::map<std::string, SafetensorsView, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
};

// A tensor in host memory, row-major and contiguous, to be written.
struct SafetensorsTensor {
  std::string name;
  SafetensorsDtype dtype = SafetensorsDtype::kF32;
  std::vector<std::int64_t> shape;
  const void* data = nullptr;
};

// Writes a file that the reference implementation would write from the same tensors, byte for byte: sorted by type
// (widest first, so that each tensor is aligned) and then by name, header padded with spaces to 8 bytes, metadata in
// order of keys. The file appears when it is whole and on disk; an earlier one stays until then. Throws ConfigError
// when `path` cannot be created, std::system_error naming it on a full disk; names must be unique UTF-8, and not
// "__metadata__".
void write_safetensors(const std::filesystem::path& path, const std::vector<SafetensorsTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

// Takes the next bytes of a tensor.
using ByteSink = std::function<void(const void* data, std::size_t bytes)>;

// A tensor whose bytes are made while the file is written, so that a model need not lie in memory twice: `produce`
// hands all of them to the sink, in order.
struct ProducedTensor {
  std::string name;
  SafetensorsDtype dtype = SafetensorsDtype::kF32;
  std::vector<std::int64_t> shape;
  std::function<void(const ByteSink&)> produce;
};

// As above. What `produce` throws leaves no file behind.
void write_produced_safetensors(const std::filesystem::path& path, const std::vector<ProducedTensor>& tensors,
                                const std::map<std::string, std::string>& metadata = {});

}  // namespace mmoe
