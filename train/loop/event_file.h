#pragma once
// TensorBoard's event files: TFRecords (length and payload, each with a masked CRC-32C) of Event protocol buffers.
// Sources: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto, framework/summary.proto.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mmoe {

// CRC-32C (Castagnoli: reflected, polynomial 0x1EDC6F41) as in RFC 3720, appendix B.4.
uint32_t crc32c(std::string_view bytes);

struct Scalar {
  std::string tag;   // "train/loss"; TensorBoard groups by what stands before the slash
  double value = 0;  // written as float, TensorBoard's own type
};

class EventFile {
 public:
  // A new file events.out.tfevents.* in `folder`, made if need be, that sorts behind those already there. It tells
  // TensorBoard to forget what they hold of steps from `first_step` on. Throws std::system_error.
  EventFile(const std::filesystem::path& folder, int64_t first_step);

  // Appends and flushes one event. Throws std::system_error on a full disk.
  void add(int64_t step, std::span<const Scalar> scalars);

 private:
  void write_record(std::string_view event);

  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace mmoe
