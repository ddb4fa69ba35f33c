// The emulator in the place of CUDA's header, for host code that is compiled for the tests.
#pragma once
#include "tests/simt/cudart.h"
