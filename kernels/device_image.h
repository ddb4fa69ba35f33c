// What a build with CUDA runs on a device.
#pragma once
#include "kernels/device.h"

namespace lathe {

// As compute capabilities are written without their point: 90 for 9.0.
struct DeviceImage {
  int architecture = 0;  // of the device
  int compiled_for = 0;  // what the machine code is for; 0: the program has none that runs there
  int ptx = 0;           // the PTX that stands behind the code

  // The driver has compiled PTX of an older architecture for the device, which takes it minutes and may be slower.
  bool was_compiled_by_driver() const { return compiled_for == architecture && ptx != architecture; }
};

namespace kernel {

// Of the thread's current device.
DeviceImage device_image(Cuda);

}  // namespace kernel
}  // namespace lathe
