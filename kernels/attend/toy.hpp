#pragma once
// The smallest attention kernel that can be compared with the reference: the README's example of a kernel of one's own,
// which the tests of `verify` add to the table.

#include "kernels/attend/attention.hpp"

namespace draft::gpu {

/// attend_toy as a row of the table of kernels.
AttentionKernel toy_kernel();

}  // namespace draft::gpu
