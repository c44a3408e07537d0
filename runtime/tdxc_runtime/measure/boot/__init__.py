"""The boot path after the firmware's own set-up: boot option, partition table, applications, kernel, user space."""
