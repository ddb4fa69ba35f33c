// How fast this machine reads memory: the ceiling of decoding, which reads every weight once a token.
#pragma once

namespace lathe {

// Bytes per second that the thread team reads from a block far larger than the caches: the best of several passes.
// Takes about a tenth of a second and 256 MiB.
double measure_read_bandwidth();

}  // namespace lathe
