package config

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// How a device is chosen.
const (
	// DevicePath is one device by its path; a link below /dev/disk is followed.
	DevicePath = "path"
	// DeviceGlob is the one device that a pattern matches; none and several are refused.
	DeviceGlob = "pathglob"
	// DeviceLargest is the largest whole disk that nothing uses and that is empty or already ours.
	DeviceLargest = "largest"
)

// When a disk is formatted.
const (
	// FormatOnInitialize formats a disk that is empty.
	FormatOnInitialize = "on_initialize"
	// FormatAlways formats on each boot.
	FormatAlways = "always"
	// FormatNever does not format.
	FormatNever = "never"
	// FormatOnFail formats a disk that is empty, or that was formatted here and whose header or file system is damaged beyond
	// repair; a wrong key, a header that was tampered with and a tool that fails never lead to it.
	FormatOnFail = "on_fail"
)

// Integrity of the encrypted sectors.
const (
	// IntegrityNone is encryption alone.
	IntegrityNone = "none"
	// IntegrityHMAC has an HMAC-SHA-256 tag for each sector, by dm-integrity.
	IntegrityHMAC = "hmac-sha256"
)

// Disk is one encrypted disk.
type Disk struct {
	// Name is the name of the mapping: /dev/mapper/NAME.
	Name   string `json:"name"`
	Device Device `json:"device"`
	// Format is one of on_initialize, always, never, on_fail.
	Format string `json:"format"`
	// Key is the name of one of the keys.
	Key string `json:"key"`
	// Cipher is aes-xts-plain64.
	Cipher string `json:"cipher"`
	// KeyBits is the length of the volume key without that of the integrity: 256 or 512.
	KeyBits int `json:"key_bits"`
	// Integrity is none or hmac-sha256.
	Integrity string `json:"integrity"`
	// SectorBytes is 512 or 4096.
	SectorBytes int `json:"sector_bytes"`
	// FS is ext4.
	FS string `json:"fs"`
	// MountAt is the directory that the file system is mounted at; it is made where it is missing.
	MountAt string `json:"mount_at"`
	// MountOptions are given to mount(2) beside nodev and nosuid, which are always there.
	MountOptions []string `json:"mount_options,omitempty"`
	// Grow lets the file system grow when the device has.
	Grow bool `json:"grow,omitempty"`
}

// Device says which device a disk is.
type Device struct {
	// Strategy is one of path, pathglob, largest.
	Strategy string `json:"strategy"`
	// Path is the device, or the pattern for pathglob; empty for largest.
	Path string `json:"path,omitempty"`
	// WaitS is how long to wait for the device to appear, in seconds.
	WaitS int `json:"wait_s,omitempty"`
}

// mountOptions are those that a disk may have beside nodev and nosuid.
var mountOptions = []string{"noexec", "noatime", "relatime", "ro", "sync"}

func (d *Disk) check() error {
	errs := []error{
		checkName(d.Name),
		within("device", d.Device.check()),
		oneOf("format", d.Format, FormatOnInitialize, FormatAlways, FormatNever, FormatOnFail),
		oneOf("cipher", d.Cipher, "aes-xts-plain64"),
		oneOf("integrity", d.Integrity, IntegrityNone, IntegrityHMAC),
		oneOf("fs", d.FS, "ext4"),
		checkPath("mount_at", d.MountAt),
	}
	if d.KeyBits != 256 && d.KeyBits != 512 {
		errs = append(errs, fmt.Errorf("key_bits is %d and must be 256 or 512", d.KeyBits))
	}
	if d.SectorBytes != 512 && d.SectorBytes != 4096 {
		errs = append(errs, fmt.Errorf("sector_bytes is %d and must be 512 or 4096", d.SectorBytes))
	}
	for index, option := range d.MountOptions {
		errs = append(errs, within(fmt.Sprintf("mount_options[%d]", index), oneOf("option", option, mountOptions...)))
	}
	return errors.Join(errs...)
}

func (d *Device) check() error {
	errs := []error{oneOf("strategy", d.Strategy, DevicePath, DeviceGlob, DeviceLargest), inRange("wait_s", d.WaitS, 0, 600)}
	switch d.Strategy {
	case DeviceLargest:
		if d.Path != "" {
			errs = append(errs, fmt.Errorf("strategy %q takes no path", d.Strategy))
		}
	default:
		errs = append(errs, checkPath("path", d.Path))
		if !strings.HasPrefix(d.Path, "/dev/") {
			errs = append(errs, fmt.Errorf("path %q must be below /dev", d.Path))
		}
		if _, err := path.Match(d.Path, ""); err != nil {
			errs = append(errs, fmt.Errorf("path %q is no pattern: %w", d.Path, err))
		}
	}
	return errors.Join(errs...)
}
