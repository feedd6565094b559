// libtorch's interface to an allocator (c10/core/Allocator.h) on top of the pool in pool.rs.

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <cstddef>
#include <cstring>

namespace {

// The pool's functions.
void* (*take)(size_t bytes);
void (*give_back)(void* piece);

struct PoolAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* piece = nullptr;
    if (bytes > 0) {
      piece = take(bytes);
      // In the words of libtorch's own allocator, which callers look for.
      TORCH_CHECK(piece, "can't allocate memory: you tried to allocate ", bytes, " bytes");
    }
    return {piece, piece, &give, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &give; }

  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }

  static void give(void* piece) {
    if (piece) give_back(piece);
  }
};

// Tensors outlive everything at the end of a process, and so must what frees them: this is never destroyed.
PoolAllocator& pool_allocator() {
  static PoolAllocator* const made = new PoolAllocator;
  return *made;
}

}  // namespace

extern "C" void sora_memory_install(void* (*pool_take)(size_t), void (*pool_give)(void*)) {
  take = pool_take;
  give_back = pool_give;
  // The priority of libtorch's own is 0; a later one of the same priority takes its place.
  c10::SetCPUAllocator(&pool_allocator(), 0);
}
