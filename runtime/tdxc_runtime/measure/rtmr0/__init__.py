"""The first runtime register: what firmware measures of the machine and of its own configuration."""
