#pragma once
// What two timed records say of each other before their samples are compared.

#include <string>
#include <vector>

#include "harness/record/record.hpp"

namespace draft {

/// timing.samples_ms in ms; none if there are none or one of them is no positive finite number.
std::vector<double> timing_samples(const Json& record);

/// Why the latencies of two records of one cell cannot be compared, in one line; empty if they can: same GPU (same
/// processor where config.device is "cpu"), same l2_flush, at least kFewestSamples samples each.
std::string why_not_comparable(const Json& before, const Json& after);

/// Whether the old record has enough samples and the new one, of the same GPU and l2_flush, has not: nobody watches
/// over that latency any more.
bool has_lost_samples(const Json& before, const Json& after);

/// "SM clock 1980 MHz, now 1755 MHz" if the lowest clocks that the records tell (keys sm_clock* of machine and timing)
/// differ by more than 3%; else, or where one record tells none, empty.
std::string clock_difference(const Json& before, const Json& after);

}  // namespace draft
