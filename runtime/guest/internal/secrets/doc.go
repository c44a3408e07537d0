// Package secrets takes the secrets of a virtual machine when it starts: over HTTP, over vsock, from a file or
// block device, or from the credentials of systemd. All of them come from outside the measured image, so each is
// held against its schema, whatever way it came. What passes is written to a tmpfs that only root reads, from
// where the services take it; what does not is refused without a word about its value.
//
// The protocol is described in docs/secrets.md.
package secrets
