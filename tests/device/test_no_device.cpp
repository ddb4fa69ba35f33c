// What is said where no device can be used, as the emulated runtime reports it.
#include "tensor/stream.h"
#include "tests/catch.h"
#include "tests/device/device.h"

#if __has_include(<simt/simt.h>)
#include "tests/simt/runtime.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// With a machine of that many devices and that driver.
std::string why_not(int devices, int driver, Device device) {
  const simt::RuntimeConfig kept = simt::runtime_config;
  simt::runtime_config.devices = devices;
  simt::runtime_config.driver_version = driver;
  const std::string text = Stream::why_not(device);
  simt::runtime_config = kept;
  return text;
}

}  // namespace

TEST_CASE("a machine without a driver, with one that is too old, and with too few devices says so in one line") {
  CHECK(why_not(0, 0, kCudaDevice) == "the machine has no CUDA driver");
  CHECK(why_not(1, 12040, kCudaDevice) == "the driver is for CUDA 12.4, this program needs 13.0");
  CHECK(why_not(1, 13000, {Device::Kind::cuda, 1}) == "no device 1: the machine has 1");
}
#endif
