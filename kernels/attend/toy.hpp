#pragma once
// The least that an attention kernel needs to be held to the reference: what the README's section on one's own kernel
// shows, and what the tests of `verify` register.

#include "kernels/attend/attention.hpp"

namespace draft::gpu {

/// attend_toy as a row of the table of kernels.
AttentionKernel toy_kernel();

}  // namespace draft::gpu
