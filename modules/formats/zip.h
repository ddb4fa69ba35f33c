// Zip archives whose entries are stored, not compressed (specification: PKWARE, APPNOTE.TXT 6.3, with Zip64):
// torch.save writes such, so that an entry's bytes can be read where they lie in the mapped file.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/mapped_file.h"

namespace lathe {

struct ZipEntry {
  std::string name;
  std::span<const uint8_t> bytes;  // in the mapped file
};

// All entries, in the order of the directory. Throws Error naming file and entry for one that is compressed or
// encrypted, claims sizes or places outside the file, overlaps another, or has a name that appears twice. Nothing is
// ever inflated, so an archive takes no more memory than its directory.
std::vector<ZipEntry> read_zip(const MappedFile& file);
// Whether the file begins as a zip archive does.
bool is_zip(const MappedFile& file);

}  // namespace lathe
