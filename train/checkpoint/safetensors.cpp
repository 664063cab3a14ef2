#include "train/checkpoint/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "sim/units/errors.h"
#include "train/checkpoint/durable_file.h"

namespace mmoe {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian and is used in place");

// Closes at the end of the scope; a mapping outlives its descriptor.
struct Descriptor {
  int number;
  explicit Descriptor(int n) : number(n) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
};

[[noreturn]] void cannot_open(const std::string& file, int error) {
  if (error == ENOENT || error == ENOTDIR || error == EACCES || error == ENAMETOOLONG || error == ELOOP) {
    throw ConfigError(file + ": cannot be opened (" + std::strerror(error) +
                      "); name a safetensors file that you may read");
  }
  throw std::system_error(error, std::generic_category(), "cannot open " + file);
}

// What people most often have in place of a safetensors file, told by its first bytes; empty when it is none of them.
std::string other_format(std::string_view start) {
  if (start.substr(0, 8) == "version ")
    return "is a Git LFS pointer, not the file itself; run `git lfs pull` in its folder";
  if (start.substr(0, 4) == "PK\x03\x04" || start.substr(0, 2) == "\x80\x02") {
    return "is a PyTorch pickle; convert it to safetensors first";
  }
  if (start.substr(0, 4) == "GGUF") return "is a GGUF file; use the safetensors files that it was made from";
  return {};
}

// The header's length, checked against the limit and the file's size before anyone allocates or reads by it.
std::uint64_t header_bytes(const std::byte* start, std::uint64_t file_bytes, const std::string& file) {
  std::uint64_t length = 0;
  std::memcpy(&length, start, sizeof length);
  if (length > kSafetensorsMaxHeaderBytes) {
    const std::string other = other_format({reinterpret_cast<const char*>(start), kSafetensorsLengthBytes});
    if (!other.empty()) throw ConfigError(file + ": " + other);
    throw ConfigError(file + ": claims a header of " + std::to_string(length) + " bytes, more than the " +
                      std::to_string(kSafetensorsMaxHeaderBytes) +
                      " allowed; the file is damaged or not safetensors: copy or export it again");
  }
  if (kSafetensorsLengthBytes + length > file_bytes) {
    throw ConfigError(file + ": is truncated: holds " + std::to_string(file_bytes) + " of at least " +
                      std::to_string(kSafetensorsLengthBytes + length) +
                      " bytes; copy it again or use an earlier checkpoint");
  }
  return length;
}

}  // namespace

bool SafetensorsView::is_aligned() const {
  return reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(dtype_bytes(dtype)) == 0;
}

void SafetensorsFile::Unmap::operator()(const std::byte* start) const {
  ::munmap(const_cast<std::byte*>(start), bytes);
}

SafetensorsFile::SafetensorsFile(std::filesystem::path path) : path_(std::move(path)), mapping_(nullptr, Unmap{0}) {
  const std::string file = path_.string();
  const Descriptor descriptor(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // a FIFO must not block us
  if (descriptor.number < 0) cannot_open(file, errno);
  struct stat status {};
  if (::fstat(descriptor.number, &status) != 0) cannot_open(file, errno);
  if (!S_ISREG(status.st_mode)) {
    throw ConfigError(file + ": is " + (S_ISDIR(status.st_mode) ? "a folder" : "no regular file") +
                      "; name a safetensors file");
  }
  const auto file_bytes = static_cast<std::size_t>(status.st_size);
  if (file_bytes < kSafetensorsLengthBytes) {
    throw ConfigError(file + ": is truncated: holds " + std::to_string(file_bytes) + " of at least " +
                      std::to_string(kSafetensorsLengthBytes) + " bytes; copy it again or use an earlier checkpoint");
  }
  void* start = ::mmap(nullptr, file_bytes, PROT_READ, MAP_SHARED, descriptor.number, 0);
  if (start == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "cannot map " + file);
  mapping_ = {static_cast<const std::byte*>(start), Unmap{file_bytes}};

  const std::uint64_t json_bytes = header_bytes(mapping_.get(), file_bytes, file);
  const std::byte* json = mapping_.get() + kSafetensorsLengthBytes;
  const std::byte* data = json + json_bytes;
  SafetensorsHeader header =
      parse_safetensors_header({reinterpret_cast<const char*>(json), json_bytes}, file_bytes, file);
  names_.reserve(header.tensors.size());
  for (SafetensorsEntry& tensor : header.tensors) {
    names_.push_back(tensor.name);
    tensors_.emplace(std::move(tensor.name), SafetensorsView{tensor.dtype, std::move(tensor.shape), data + tensor.begin,
                                                             static_cast<std::size_t>(tensor.end - tensor.begin)});
  }
  metadata_ = std::move(header.metadata);
}

const SafetensorsView* SafetensorsFile::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

const SafetensorsView& SafetensorsFile::at(std::string_view name) const {
  if (const SafetensorsView* view = find(name)) return *view;
  throw ConfigError(path_.string() + ": has no tensor " + quote_for_message(name) +
                    "; the file belongs to another model or is one shard of several");
}

void SafetensorsFile::release(const SafetensorsView& view) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto start = reinterpret_cast<std::uintptr_t>(view.data);
  const std::uintptr_t first = (start + page - 1) / page * page, end = (start + view.bytes) / page * page;
  if (first < end) ::madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
}

void write_safetensors(const std::filesystem::path& path, const std::vector<SafetensorsTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<ProducedTensor> produced;
  for (const SafetensorsTensor& tensor : tensors) {
    const std::optional<std::int64_t> bytes = tensor_bytes(tensor.dtype, tensor.shape);
    MMOE_CHECK(bytes && (*bytes == 0 || tensor.data != nullptr)) << path << ": shape or data of " << tensor.name;
    const auto size = static_cast<std::size_t>(*bytes);
    produced.push_back({tensor.name, tensor.dtype, tensor.shape,
                        [data = tensor.data, size](const ByteSink& sink) { sink(data, size); }});
  }
  write_produced_safetensors(path, produced, metadata);
}

void write_produced_safetensors(const std::filesystem::path& path, const std::vector<ProducedTensor>& tensors,
                                const std::map<std::string, std::string>& metadata) {
  std::vector<const ProducedTensor*> order;
  for (const ProducedTensor& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const ProducedTensor* a, const ProducedTensor* b) {
    return std::tie(b->dtype, a->name) < std::tie(a->dtype, b->name);
  });

  SafetensorsHeader header{{}, metadata};
  std::int64_t end = 0;
  std::unordered_set<std::string_view> names = {"__metadata__"};
  for (const ProducedTensor* tensor : order) {
    MMOE_CHECK(names.insert(tensor->name).second) << path << ": the name is taken: " << tensor->name;
    const std::optional<std::int64_t> bytes = tensor_bytes(tensor->dtype, tensor->shape);
    MMOE_CHECK(bytes && tensor->shape.size() <= kSafetensorsMaxDimensions) << path << ": shape of " << tensor->name;
    const std::int64_t begin = end;
    MMOE_CHECK(!__builtin_add_overflow(begin, *bytes, &end)) << path << ": more than 2^63 - 1 bytes";
    header.tensors.push_back({tensor->name, tensor->dtype, tensor->shape, begin, end});
  }
  const std::string json = format_safetensors_header(header);
  const std::uint64_t length = json.size();
  MMOE_CHECK(length <= kSafetensorsMaxHeaderBytes) << path << ": header of " << length << " bytes";

  DurableFile file(path);
  file.write(&length, sizeof length);
  file.write(json.data(), json.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    auto left = static_cast<std::size_t>(header.tensors[i].end - header.tensors[i].begin);
    order[i]->produce([&](const void* data, std::size_t bytes) {
      MMOE_CHECK(bytes <= left) << path << ": more bytes than the shape of " << order[i]->name;
      file.write(data, bytes);
      left -= bytes;
    });
    MMOE_CHECK(left == 0) << path << ": " << left << " bytes missing of " << order[i]->name;
  }
  file.commit();
}

}  // namespace mmoe
