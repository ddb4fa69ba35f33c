// Where the elements of tensors live: 64-byte aligned blocks that are kept and reused.
//
// A decoded token makes some hundred tensors of sizes that come back at the next token, and a training step does so
// with megabytes: asking the system each time costs page faults. Freed blocks wait in lists by size class (eight
// classes to a doubling, so at most an eighth is lost), under one mutex, which costs some 20 ns.
// A tensor's reference counts lie in its block as well: making a tensor calls malloc not once.
#pragma once
#include <cstddef>
#include <memory>

namespace lathe {

struct Storage {
  std::shared_ptr<const void> owner;
  void* data = nullptr;  // 64-byte aligned, never null, also for 0 bytes
};

// Throws Error when the system has no more memory.
Storage allocate_storage(size_t bytes);

// The blocks that nobody uses at the moment. At most `limit` bytes are kept, and none larger than a quarter of it (so
// 64 MiB unless changed); what exceeds goes back to the system when freed. A build with the address sanitizer keeps
// none, so that it sees every use after the end.
struct StoragePool {
  static constexpr size_t kDefaultLimit = size_t{256} << 20, kNoLimit = ~size_t{0};
  static size_t kept_bytes();
  static size_t held_bytes();  // and those in use
  static void set_limit(size_t bytes);
  // Beyond so many bytes, used and kept, a request that no kept block serves first gives kept ones back: where sizes
  // differ from step to step, each would otherwise leave its own. Without a limit unless set.
  static void set_budget(size_t bytes);
  static void trim();  // gives everything kept back to the system

  // For those who plan memory: the size of the block that serves a request, and how much of it is resident once its
  // first `touched` bytes were written: whole pages, huge ones where such a block gets them.
  static size_t block_bytes(size_t bytes);
  static size_t class_bytes(size_t bytes);  // the size class alone, without the header that a block of the host has
  static size_t resident_bytes(size_t bytes, size_t touched);
};

}  // namespace lathe
