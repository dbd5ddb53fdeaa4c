#pragma once
// What there is to choose from: experiments, poolings, rules, policies, devices and kernels.
// Command: draftbench list

namespace CLI {
class App;
}

namespace draft {

CLI::App* add_list(CLI::App& parent);

}  // namespace draft
