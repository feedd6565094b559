// Streams and events of a device through libtorch's own interface (c10/core/impl/VirtualGuardImpl.h), which the
// library that drives the device fills in when it is loaded: nothing here is linked to CUDA.
//
// Functions that can fail return false and leave the reason in `sora_stream_failure`; no exception leaves this file.

#include <ATen/core/TensorBase.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>

namespace {

thread_local std::string failure;

template <typename Body>
bool caught(Body body) {
  try {
    body();
    return true;
  } catch (const c10::Error& error) {
    failure = error.what_without_backtrace();
  } catch (const std::exception& error) {
    failure = error.what();
  } catch (...) {
    failure = "an exception of unknown type";
  }
  return false;
}

c10::Device device(int8_t type, int8_t index) {
  return c10::Device(static_cast<c10::DeviceType>(type), index);
}

c10::Stream current(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

}  // namespace

extern "C" {

// Of this thread; valid until its next failure.
const char* sora_stream_failure() { return failure.c_str(); }

// Makes another stream than the current one the current one of this thread, and gives out what was before.
bool sora_stream_leave(int8_t type, int8_t index, c10::StreamData3* before) {
  return caught([&] {
    const auto here = device(type, index);
    const c10::impl::VirtualGuardImpl guard(here.type());
    // From libtorch's pool: they are never destroyed, and what this one's work leaves in the allocator is used again.
    *before = guard.exchangeStream(guard.getNewStream(here)).pack3();
  });
}

bool sora_stream_return(const c10::StreamData3* before) {
  return caught([&] {
    const auto stream = c10::Stream::unpack3(before->stream_id, before->device_index, before->device_type);
    c10::impl::VirtualGuardImpl(stream.device_type()).exchangeStream(stream);
  });
}

// Waits until all work of the current stream is done.
bool sora_stream_synchronize(int8_t type, int8_t index) {
  return caught([&] { current(device(type, index)).synchronize(); });
}

// An event behind the work that the current stream has so far; to be freed once.
bool sora_event_record(int8_t type, int8_t index, c10::Event** event) {
  return caught([&] {
    const auto here = device(type, index);
    auto made = std::make_unique<c10::Event>(here.type());
    made->record(current(here));
    *event = made.release();
  });
}

// Has later work of the current stream wait for an event. `tensor` is used by it: its memory, if freed meanwhile, is not
// given to others before that is done.
bool sora_event_wait(int8_t type, int8_t index, const c10::Event* event, const at::TensorBase* tensor) {
  return caught([&] {
    const auto stream = current(device(type, index));
    event->block(stream);
    c10::impl::VirtualGuardImpl(stream.device_type()).recordDataPtrOnStream(tensor->storage().data_ptr(), stream);
  });
}

void sora_event_free(c10::Event* event) { delete event; }

}  // extern "C"
