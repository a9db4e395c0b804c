"""Whether 95 % intervals hold what they promise: samples of sources whose entropy is known."""
