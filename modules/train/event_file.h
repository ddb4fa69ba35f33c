// EventFile: scalars of a run as TensorBoard reads them.
//
// A file is a sequence of TFRecords (TensorFlow's guide "TFRecord and tf.train.Example"): the length of the data as
// uint64, the masked CRC-32C of these 8 bytes, the data, its masked CRC-32C, all little-endian. The data are Event
// messages (TensorFlow's event.proto) in protobuf's wire format; a scalar is Summary.Value.simple_value
// (summary.proto).
#pragma once
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

namespace lathe {

// Castagnoli's polynomial (RFC 3720, appendix B.4).
uint32_t crc32c(std::string_view bytes);
// `data` between its length and its checksums.
std::string tf_record(std::string_view data);
// A serialised Event with one scalar. `wall_time`: seconds since 1970.
std::string scalar_event(double wall_time, int64_t step, std::string_view tag, double value);

class EventFile {
 public:
  // Begins a new file in `folder`, which is made where it is missing, named so that it comes behind those that are
  // there: one that a killed run left half-written is never gone on with. `next_step` is the first step that this one
  // will speak of; TensorBoard then forgets what earlier files say of it and of later steps (SessionLog.START). Throws
  // Error naming the path and the system's reason.
  EventFile(const std::string& folder, int64_t next_step);

  // Tags group charts by what stands before the slash: "train/loss". A value that is not finite is kept.
  void add_scalar(std::string_view tag, double value, int64_t step);
  // Hands on what is buffered, so that a TensorBoard that looks on sees it.
  void flush();
  const std::string& path() const { return path_; }

 private:
  void write(std::string_view event);

  std::string path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

}  // namespace lathe
