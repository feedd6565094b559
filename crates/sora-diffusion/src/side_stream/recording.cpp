// For the tests of this folder: a device that does nothing and writes down what its streams are asked for.

#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <mutex>
#include <sstream>
#include <string>

namespace {

// The number that libtorch leaves to devices from outside.
constexpr auto kRecording = c10::DeviceType::PrivateUse1;

std::mutex lock;
std::string lines;
int64_t streams = 0;
intptr_t events = 0;
thread_local c10::StreamId current_stream = 0;

template <typename... Parts>
void note(Parts... parts) {
  std::ostringstream line;
  (line << ... << parts) << '\n';
  const std::lock_guard<std::mutex> held(lock);
  lines += line.str();
}

struct RecordingDevice final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kRecording; }
  c10::Device exchangeDevice(c10::Device) const override { return {kRecording, 0}; }
  c10::Device getDevice() const override { return {kRecording, 0}; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }

  c10::Stream getStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::UNSAFE, device, current_stream);
  }
  c10::Stream getNewStream(c10::Device device, int) const override {
    const std::lock_guard<std::mutex> held(lock);
    return c10::Stream(c10::Stream::UNSAFE, device, ++streams);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const auto before = getStream(stream.device());
    current_stream = stream.id();
    return before;
  }
  void synchronizeStream(const c10::Stream& stream) const override { note("all of ", stream.id(), " is done"); }

  void record(void** event, const c10::Stream& stream, c10::DeviceIndex, c10::EventFlag) const override {
    {
      const std::lock_guard<std::mutex> held(lock);
      *event = reinterpret_cast<void*>(++events);
    }
    note("event ", reinterpret_cast<intptr_t>(*event), " behind ", stream.id());
  }
  void block(void* event, const c10::Stream& stream) const override {
    note(stream.id(), " waits for event ", reinterpret_cast<intptr_t>(event));
  }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override {
    note("event ", reinterpret_cast<intptr_t>(event), " is freed");
  }
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream& stream) const override {
    note("memory is used by ", stream.id());
  }
};

}  // namespace

extern "C" void sora_test_install_recording_device() {
  // Never destroyed, as libtorch asks.
  static auto* const made = new RecordingDevice;
  c10::impl::registerDeviceGuard(kRecording, made);
}

// What was written down; valid until the next call.
extern "C" const char* sora_test_recorded() {
  static std::string taken;
  const std::lock_guard<std::mutex> held(lock);
  taken.swap(lines);
  lines.clear();
  return taken.c_str();
}
