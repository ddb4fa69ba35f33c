// See zip.h. What counts is the directory at the end of the file; of the header before each entry's bytes only its
// length is read, and its name compared.
#include "formats/zip.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "formats/quote.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

constexpr uint32_t kLocalHeader = 0x04034b50, kDirectoryEntry = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50,
                   kEnd64Locator = 0x07064b50;
constexpr size_t kLocalHeaderBytes = 30, kDirectoryEntryBytes = 46, kEndBytes = 22, kEnd64Bytes = 56,
                 kLocatorBytes = 20;
constexpr uint32_t kIn64 = 0xffffffff;  // the value is in the Zip64 record

class Reader {
 public:
  explicit Reader(const MappedFile& file) : path_(file.path()), bytes_(file.bytes()) {}

  const std::string& path() const { return path_; }
  size_t size() const { return bytes_.size(); }
  // `count` bytes at `at`; throws where the file ends before.
  std::span<const uint8_t> part(uint64_t at, uint64_t count, const char* what) const {
    check(at <= size() && count <= size() - at, "zip",
          "{}: {} of {} bytes at offset {} reaches beyond the {} bytes "
          "of the file",
          path_, what, count, at, size());
    return bytes_.subspan(static_cast<size_t>(at), static_cast<size_t>(count));
  }
  template <class T>
  T number(uint64_t at) const {
    T value;
    std::memcpy(&value, part(at, sizeof value, "a number").data(), sizeof value);
    return value;
  }

 private:
  const std::string& path_;
  std::span<const uint8_t> bytes_;
};

struct Directory {
  uint64_t begin = 0, bytes = 0, entries = 0;
};

Directory find_directory(const Reader& r) {
  check(r.size() >= kEndBytes, "zip", "{} has {} bytes, expected at least {}", r.path(), r.size(), kEndBytes);
  // A comment of up to 2^16 - 1 bytes may follow the end record.
  const size_t last = r.size() - kEndBytes, first = last - std::min<size_t>(last, 0xffff);
  size_t end = last;
  while (r.number<uint32_t>(end) != kEnd) {
    if (end == first)
      throw Error(fmt::format("zip: {}: the directory at the end of the file is missing", r.path()),
                  "the file is probably cut; download it again");
    --end;
  }
  Directory d = {r.number<uint32_t>(end + 16), r.number<uint32_t>(end + 12), r.number<uint16_t>(end + 10)};
  const bool wide = d.begin == kIn64 || d.bytes == kIn64 || d.entries == 0xffff;
  if (wide && end >= kLocatorBytes && r.number<uint32_t>(end - kLocatorBytes) == kEnd64Locator) {
    const auto at = r.number<uint64_t>(end - kLocatorBytes + 8);
    r.part(at, kEnd64Bytes, "the Zip64 end record");
    check(r.number<uint32_t>(at) == kEnd64, "zip", "{}: no Zip64 end record at offset {}", r.path(), at);
    d = {r.number<uint64_t>(at + 48), r.number<uint64_t>(at + 40), r.number<uint64_t>(at + 32)};
  }
  r.part(d.begin, d.bytes, "the directory");
  check(d.entries <= d.bytes / kDirectoryEntryBytes, "zip", "{}: a directory of {} bytes claims {} entries", r.path(),
        d.bytes, d.entries);
  return d;
}

// What the directory says of one entry, with the values of its Zip64 field put in.
struct Place {
  uint64_t stored = 0, size = 0, header = 0;
};

Place read_place(const Reader& r, uint64_t entry, const std::string& name) {
  Place place = {r.number<uint32_t>(entry + 20), r.number<uint32_t>(entry + 24), r.number<uint32_t>(entry + 42)};
  const uint64_t extra = entry + kDirectoryEntryBytes + r.number<uint16_t>(entry + 28);
  const uint64_t extra_end = extra + r.number<uint16_t>(entry + 30);
  for (uint64_t at = extra; at + 4 <= extra_end;) {
    uint64_t value = at + 4;
    const uint64_t end = value + r.number<uint16_t>(at + 2);
    check(end <= extra_end, "zip", "{}: entry {}: a field of {} bytes reaches beyond its record", r.path(), quote(name),
          end - value);
    if (r.number<uint16_t>(at) == 1) {
      // In this order, and only those that the record itself has no room for.
      for (uint64_t* field : {&place.size, &place.stored, &place.header}) {
        if (*field != kIn64) continue;
        check(value + 8 <= end, "zip", "{}: entry {}: its Zip64 field is too short", r.path(), quote(name));
        *field = r.number<uint64_t>(value);
        value += 8;
      }
    }
    at = end;
  }
  return place;
}

ZipEntry read_entry(const Reader& r, uint64_t at, const Directory& directory) {
  const auto name_bytes = r.part(at + kDirectoryEntryBytes, r.number<uint16_t>(at + 28), "a name");
  ZipEntry entry;
  entry.name.assign(reinterpret_cast<const char*>(name_bytes.data()), name_bytes.size());
  const std::string shown = quote(entry.name);
  const auto flags = r.number<uint16_t>(at + 8), method = r.number<uint16_t>(at + 10);
  check((flags & 1) == 0, "zip", "{}: entry {} is encrypted", r.path(), shown);
  const Place place = read_place(r, at, entry.name);
  check(method == 0, "zip",
        "{}: entry {} is compressed (method {}, {} bytes that claim to become {}), expected stored "
        "bytes as torch.save writes them",
        r.path(), shown, method, place.stored, place.size);
  check(place.stored == place.size, "zip", "{}: entry {} claims {} stored bytes and a size of {}, expected the same",
        r.path(), shown, place.stored, place.size);

  r.part(place.header, kLocalHeaderBytes, "an entry's header");
  check(r.number<uint32_t>(place.header) == kLocalHeader, "zip", "{}: entry {}: no header at offset {}", r.path(),
        shown, place.header);
  const uint64_t name_at = place.header + kLocalHeaderBytes, name_size = r.number<uint16_t>(place.header + 26);
  const auto local_name = r.part(name_at, name_size, "a name");
  check(std::equal(local_name.begin(), local_name.end(), name_bytes.begin(), name_bytes.end()), "zip",
        "{}: entry {} has another name in its header", r.path(), shown);
  const uint64_t begin = name_at + name_size + r.number<uint16_t>(place.header + 28);
  entry.bytes = r.part(begin, place.size, "an entry");
  check(begin + place.size <= directory.begin, "zip", "{}: entry {} reaches into the directory", r.path(), shown);
  return entry;
}

}  // namespace

bool is_zip(const MappedFile& file) {
  const auto bytes = file.bytes();
  return bytes.size() >= 4 && std::memcmp(bytes.data(), "PK\3\4", 4) == 0;
}

std::vector<ZipEntry> read_zip(const MappedFile& file) {
  const Reader r(file);
  const Directory directory = find_directory(r);
  std::vector<ZipEntry> entries;
  entries.reserve(directory.entries);
  std::unordered_set<std::string> names;
  uint64_t at = directory.begin;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    r.part(at, kDirectoryEntryBytes, "the directory");
    check(r.number<uint32_t>(at) == kDirectoryEntry, "zip", "{}: entry {} of the directory is not one", r.path(), i);
    entries.push_back(read_entry(r, at, directory));
    check(names.insert(entries.back().name).second, "zip", "{}: entry {} appears twice", r.path(),
          quote(entries.back().name));
    at +=
        kDirectoryEntryBytes + r.number<uint16_t>(at + 28) + r.number<uint16_t>(at + 30) + r.number<uint16_t>(at + 32);
    check(at <= directory.begin + directory.bytes, "zip", "{}: the directory's entries take more than its {} bytes",
          r.path(), directory.bytes);
  }
  std::vector<const ZipEntry*> by_place;
  for (const ZipEntry& entry : entries)
    if (!entry.bytes.empty()) by_place.push_back(&entry);
  std::sort(by_place.begin(), by_place.end(), [](auto* a, auto* b) { return a->bytes.data() < b->bytes.data(); });
  for (size_t i = 1; i < by_place.size(); ++i)
    check(by_place[i - 1]->bytes.data() + by_place[i - 1]->bytes.size() <= by_place[i]->bytes.data(), "zip",
          "{}: entries {} and {} overlap", r.path(), quote(by_place[i - 1]->name), quote(by_place[i]->name));
  return entries;
}

}  // namespace lathe
