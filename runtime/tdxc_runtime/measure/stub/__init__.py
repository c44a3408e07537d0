"""systemd-stub: what each version measures of a UKI, and what it hands to the kernel."""
