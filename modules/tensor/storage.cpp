// The pool behind Tensor::empty. Free blocks are chained through their own first bytes: the pool itself needs no
// memory.
#include "tensor/storage.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <string>

#include "tensor/errors.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define LATHE_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LATHE_ADDRESS_SANITIZER 1
#endif
#endif

namespace lathe {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

// The size class of a request: bytes rounded up to one of eight steps in its power of two, and the class's number.
struct SizeClass {
  size_t bytes;
  size_t index;
};
SizeClass size_class(size_t bytes) {
  if (bytes < kAlignment) bytes = kAlignment;
  const size_t step = bytes <= 8 * kAlignment ? kAlignment : std::bit_floor(bytes - 1) / 8;
  const size_t rounded = (bytes + step - 1) / step * step;
  const size_t log2 = static_cast<size_t>(std::bit_width(rounded)) - 1;
  return {rounded, 8 * log2 + (rounded - (size_t{1} << log2)) / (log2 >= 3 ? size_t{1} << (log2 - 3) : 1)};
}

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Whether the system grants huge pages to who asks ("[always] madvise never" says so for everybody).
bool huge_pages_granted() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string line;
  return std::getline(file, line) && line.find("[never]") == std::string::npos;
}

// From 4 MiB, blocks ask for huge pages: packed weights are streamed once a token, and their first touch faults in
// 2 MiB at a time where the system grants it.
bool wants_huge_pages(size_t bytes) { return bytes >= 2 * kHugePage; }

// From 1 MiB, blocks are mapped by themselves, so that one given back leaves the process: malloc keeps what lies
// between blocks in use. The address sanitizer watches malloc's alone.
#if defined(__linux__) && !defined(LATHE_ADDRESS_SANITIZER)
bool is_mapped(size_t bytes) { return bytes >= size_t{1} << 20; }

void* map_block(size_t bytes) {
  const size_t alignment = wants_huge_pages(bytes) ? kHugePage : 0;
  void* mapped = mmap(nullptr, bytes + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  if (alignment == 0) return mapped;
  const auto begin = reinterpret_cast<uintptr_t>(mapped);
  const size_t before = round_up(begin, alignment) - begin;
  char* block = static_cast<char*>(mapped) + before;
  if (before > 0) munmap(mapped, before);
  if (before < alignment) munmap(block + bytes, alignment - before);
  madvise(block, bytes, MADV_HUGEPAGE);
  return block;
}
void unmap_block(void* block, size_t bytes) { munmap(block, bytes); }
#else
bool is_mapped(size_t) { return false; }
void* map_block(size_t) { return nullptr; }
void unmap_block(void*, size_t) {}
#endif

void* system_allocate(size_t bytes) {
  void* block = is_mapped(bytes) ? map_block(bytes) : std::aligned_alloc(kAlignment, bytes);
  if (!block) throw Error(fmt::format("tensor: out of memory, {} bytes asked", bytes));
  return block;
}

void system_free(void* block, size_t bytes) {
  if (is_mapped(bytes))
    unmap_block(block, bytes);
  else
    std::free(block);
}

// A block in use counts as what was asked for, as the rest of it is not touched; one that is kept counts whole, as
// those who had it before may have touched more of it.
class Pool {
 public:
  void* take(size_t bytes) {
    const SizeClass size = size_class(bytes);
    {
      std::lock_guard lock(mutex_);
      if (Node* node = free_[size.index]) {
        free_[size.index] = node->next;
        kept_ -= size.bytes;
        used_ += bytes;
        return node;
      }
      give_back_until([&] { return used_ + bytes + kept_ <= budget_; });
    }
    void* block = system_allocate(size.bytes);
    std::lock_guard lock(mutex_);
    used_ += bytes;
    return block;
  }

  void give(void* block, size_t bytes) noexcept {
    const SizeClass size = size_class(bytes);
    {
      std::lock_guard lock(mutex_);
      used_ -= bytes;
      if (size.bytes <= limit_ / 4 && kept_ + size.bytes <= limit_) {
        free_[size.index] = new (block) Node{free_[size.index], size.bytes};
        kept_ += size.bytes;
        return;
      }
    }
    system_free(block, size.bytes);
  }

  size_t kept_bytes() {
    std::lock_guard lock(mutex_);
    return kept_;
  }

  size_t held_bytes() {
    std::lock_guard lock(mutex_);
    return used_ + kept_;
  }

  void set_limit(size_t bytes) {
#if !defined(LATHE_ADDRESS_SANITIZER)
    std::lock_guard lock(mutex_);
    limit_ = bytes;
#else
    static_cast<void>(bytes);
#endif
  }

  void set_budget(size_t bytes) {
    std::lock_guard lock(mutex_);
    budget_ = bytes;
  }

  void trim() {
    std::lock_guard lock(mutex_);
    give_back_until([] { return false; });
  }

 private:
  struct Node {
    Node* next;
    size_t bytes;
  };

  // The largest first.
  template <class Done>
  void give_back_until(Done done) {
    for (size_t i = free_.size(); i-- > 0;)
      while (Node* node = free_[i]) {
        if (done()) return;
        free_[i] = node->next;
        kept_ -= node->bytes;
        system_free(node, node->bytes);
      }
  }

  std::mutex mutex_;
  std::array<Node*, 8 * 64> free_{};
  size_t used_ = 0, kept_ = 0, budget_ = StoragePool::kNoLimit;
#if defined(LATHE_ADDRESS_SANITIZER)
  size_t limit_ = 0;
#else
  size_t limit_ = StoragePool::kDefaultLimit;
#endif
};

// Never destroyed: tensors in static variables may outlive every other object.
Pool& pool() {
  static Pool* instance = new Pool;
  return *instance;
}

// Gives std::allocate_shared one pool block that holds its reference counts and, from the next multiple of 64, the
// elements.
template <class T>
struct BlockAllocator {
  using value_type = T;
  size_t bytes;
  void** data;

  BlockAllocator(size_t bytes, void** data) : bytes(bytes), data(data) {}
  template <class U>
  BlockAllocator(const BlockAllocator<U>& other) : bytes(other.bytes), data(other.data) {}

  static constexpr size_t kHeader = (sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
  T* allocate(size_t) {
    void* block = pool().take(kHeader + bytes);
    *data = static_cast<char*>(block) + kHeader;
    return static_cast<T*>(block);
  }
  void deallocate(T* block, size_t) noexcept { pool().give(block, kHeader + bytes); }
  template <class U>
  bool operator==(const BlockAllocator<U>& other) const {
    return bytes == other.bytes;
  }
};

struct Nothing {};

}  // namespace

Storage allocate_storage(size_t bytes) {
  check(bytes < (size_t{1} << 62), "tensor", "out of memory, {} bytes asked", bytes);
  Storage storage;
  storage.owner = std::allocate_shared<Nothing>(BlockAllocator<Nothing>(bytes, &storage.data));
  return storage;
}

size_t StoragePool::held_bytes() { return pool().held_bytes(); }
size_t StoragePool::kept_bytes() { return pool().kept_bytes(); }
void StoragePool::set_limit(size_t bytes) {
  pool().set_limit(bytes);
  if (bytes < kept_bytes()) trim();
}
void StoragePool::set_budget(size_t bytes) { pool().set_budget(bytes); }
void StoragePool::trim() { pool().trim(); }

size_t StoragePool::block_bytes(size_t bytes) { return size_class(BlockAllocator<Nothing>::kHeader + bytes).bytes; }
size_t StoragePool::class_bytes(size_t bytes) { return size_class(bytes).bytes; }
size_t StoragePool::resident_bytes(size_t bytes, size_t touched) {
  constexpr size_t kPage = 4096;
  static const bool granted = huge_pages_granted();
  const size_t block = block_bytes(bytes), used = std::min(touched + BlockAllocator<Nothing>::kHeader, block);
  // The last part of a block that is no whole huge page comes in small ones.
  const size_t huge = granted && wants_huge_pages(block) ? block / kHugePage * kHugePage : 0;
  return round_up(used, used <= huge ? kHugePage : kPage);
}

}  // namespace lathe
