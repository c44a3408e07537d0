"""What happens after compiling, on the build host: backends, measurement, virtual machines."""
