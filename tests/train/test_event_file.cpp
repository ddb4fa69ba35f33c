// Event files for TensorBoard, byte for byte.
#include <fmt/format.h>

#include <cstring>
#include <filesystem>

#include "tests/catch.h"
#include "tests/support.h"
#include "train/event_file.h"

namespace {

namespace fs = std::filesystem;
using namespace lathe;
using namespace lathe::test;

std::string hexadecimal(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) out += fmt::format("{:02x}", static_cast<uint8_t>(byte));
  return out;
}

// The data of a file's records; each must be whole, with its checksums.
std::vector<std::string> records(const std::string& path) {
  const std::string file = read_file(path);
  std::vector<std::string> found;
  for (size_t at = 0; at < file.size();) {
    uint64_t length = 0;
    REQUIRE(file.size() - at >= 16);
    std::memcpy(&length, file.data() + at, 8);
    REQUIRE(length <= file.size() - at - 16);
    found.push_back(file.substr(at + 12, length));
    CHECK(file.substr(at, 16 + length) == tf_record(found.back()));
    at += 16 + length;
  }
  return found;
}

}  // namespace

TEST_CASE("event_file: CRC-32C of RFC 3720's examples") {
  CHECK(crc32c("123456789") == 0xe3069283);
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aa);
  CHECK(crc32c(std::string(32, '\xff')) == 0x62a8ab43);
  CHECK(crc32c("") == 0);
}

TEST_CASE("event_file: a record has the bytes that TensorBoard's own writer gives it") {
  // tensorboard 2.21: RecordWriter.write(Event(wall_time=1700000000.25, step=300, summary={"train/loss": 1.625}))
  CHECK(hexadecimal(tf_record(scalar_event(1700000000.25, 300, "train/loss", 1.625))) ==
        "2100000000000000017becf60900001040fc54d94110ac022a130a110a0a747261696e2f6c6f7373150000d03f6f016afa");
}

TEST_CASE("event_file: a file says its version and what it replaces, then its scalars") {
  const TemporaryDirectory folder;
  const std::string path = [&] {
    EventFile events((folder.path() / "made/on/the/way").string(), 41);
    events.add_scalar("train/loss", 1.5, 41);
    return events.path();
  }();
  const std::vector<std::string> found = records(path);
  REQUIRE(found.size() == 3);
  // Behind the 9 bytes of the wall time: step 0 and the version; step 41 and SessionLog.START; step 41 and the summary.
  CHECK(hexadecimal(found[0].substr(9)) == "10001a0d" + hexadecimal("brain.Event:2"));
  CHECK(hexadecimal(found[1].substr(9)) == "10293a020801");
  CHECK(hexadecimal(found[2].substr(9)) == "10292a130a110a0a" + hexadecimal("train/loss") + "150000c03f");
}

TEST_CASE("event_file: a run that goes on begins a file behind the others and leaves them alone") {
  const TemporaryDirectory folder;
  const std::string first = EventFile(folder.path().string(), 1).path();
  const std::string half = read_file(first).substr(0, 20);  // killed while it wrote
  write_file(first, half);
  const std::string second = EventFile(folder.path().string(), 7).path();
  CHECK(second > first);
  CHECK(fs::path(second).filename().string().find("tfevents") != std::string::npos);
  CHECK(read_file(first) == half);
  CHECK(records(second).size() == 2);
}

TEST_CASE("event_file: a folder that cannot be made is named") {
  const TemporaryDirectory folder;
  write_file(folder.path() / "file", "");
  const std::string path = (folder.path() / "file/events").string();
  CHECK_THROWS_WITH(EventFile(path, 1), Catch::Matchers::ContainsSubstring(path));
}
